/**
 * Gives workers of another image a new VM: one at a time per platform, and only those that have nothing to do. One that gets none is left alone
 * for longer and longer; it goes on with the image that it has.
 */
import { toTidemarkError } from '../../common/errors/common-errors';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import { isTidemarkError } from '../../common/errors/tidemark-error';
import type { Operation } from '../operations/operation';
import type { ConnectedWorker } from '../workers/ports';
import { report } from './flow-parts';
import { planReplacement } from './replace-flow';
import { backOff, isDue } from './timing';
import type { WorkerOperations } from './worker-operations';
import { workerEvents } from './worker-vm-errors';
import type { StoredWorker } from './worker-store';

/** A worker that was just started is about to get the work that it was started for. */
const settleMs = 60_000;

/** What became of the tries to give a worker one image. */
interface Attempts {
  readonly version: string;
  failures: number;
  /** Of the last one that failed, of the clock's elapsed time. */
  failedAt: number;
  /** Under way, or ended and not yet looked at. */
  operation: Operation | undefined;
  told: string | undefined;
}

export class ImageUpdates {
  readonly #attempts = new Map<string, Attempts>();

  constructor(private readonly operations: WorkerOperations) {}

  /** Looks at a worker that nobody is at. `planning` bounds the questions to the engine. */
  async look(worker: StoredWorker, connected: ConnectedWorker | undefined, planning: () => AbortSignal): Promise<void> {
    const { images, store, logger, patience } = this.operations.parts;
    const { workerId, platformId, phase } = worker;
    const image = images.latest;
    if (!image || image.version === worker.imageVersion) {
      this.#attempts.delete(workerId);
      return;
    }
    const attempts = this.#attemptsOf(workerId, image.version);
    this.#learn(worker, attempts);
    if (attempts.failures > 0 && patience.clock.elapsed() - attempts.failedAt < backOff(attempts.failures)) return;
    if (!isDue(worker.retryAt, patience.clock.now()) || worker.drained) return;
    const idleMs = (connected?.usedSlots === 0 ? connected.idleMs : undefined) ?? 0;
    if (phase !== 'stopped' && phase !== 'failed' && !(phase === 'ready' && idleMs >= settleMs)) return;
    const others = store.workers().filter((one) => one.platformId === platformId && one.workerId !== workerId);
    if (others.some((one) => this.operations.activityOf(one.workerId) === 'deploying')) return;
    try {
      const plan = await planReplacement(this.operations.parts, worker, { ...worker.settings, name: worker.name }, new Set(), planning());
      const why = `image ${image.version} is installed`;
      const operation = await this.operations.replace(workerId, { plan, force: false, onlyIfIdle: true, why });
      attempts.operation = operation;
      const { operationId } = operation.header;
      logger.info('a worker gets a new VM', { workerId, operationId, from: worker.imageVersion, to: image.version });
    } catch (error) {
      if (!isTidemarkError(error)) throw error;
      this.#failed(worker, attempts, error);
    }
  }

  #attemptsOf(workerId: string, version: string): Attempts {
    const known = this.#attempts.get(workerId);
    if (known?.version === version) return known;
    const attempts = { version, failures: 0, failedAt: 0, operation: undefined, told: undefined };
    this.#attempts.set(workerId, attempts);
    return attempts;
  }

  /** One that was taken back, since work came first, has not failed. */
  #learn(worker: StoredWorker, attempts: Attempts): void {
    const result = attempts.operation?.result;
    if (!result) return;
    attempts.operation = undefined;
    if (result.outcome !== 'failed') return;
    const error = toTidemarkError(result.failure, 'replacing a worker');
    // Then it was told when the worker went back to its old VM.
    if (worker.problem?.code === error.code) attempts.told = error.code;
    this.#failed(worker, attempts, error);
  }

  #failed(worker: StoredWorker, attempts: Attempts, error: TidemarkError): void {
    const { logger, patience } = this.operations.parts;
    const { workerId, name } = worker;
    attempts.failures += 1;
    attempts.failedAt = patience.clock.elapsed();
    logger.warn('a worker of another image could not be replaced; it is tried again later', { workerId, error });
    // An engine that is away is told of as such.
    if (attempts.told === error.code || ['ENGINE_UNAVAILABLE', 'CANCELLED'].includes(error.code)) return;
    attempts.told = error.code;
    const message = `Worker "${name}" could not be given a new VM, and keeps its old one: ${error.message}`;
    report(this.operations.parts, 'error', workerEvents.replacementFailed, message, worker);
  }
}
