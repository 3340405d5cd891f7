/**
 * Brings workers up when work waits: starts a stopped one, deploys one where the rules let it. Asked often and answers from memory; what it
 * sets going is an operation. Owns how long a cluster in which deployments fail is left alone.
 */
import { randomUUID } from 'node:crypto';
import { toTidemarkError } from '../../common/errors/common-errors';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { Operation } from '../operations/operation';
import type { Expectation, PlacementPolicy, WorkerSupply, WorkerVm } from '../workers/ports';
import type { Placement } from '../workers/tasks';
import { planDeployment } from './deployment-plan';
import { endpointsFor } from './flow-parts';
import { backOff, isDue } from './timing';
import type { WorkerOperations } from './worker-operations';
import type { StoredWorker } from './worker-store';

/** Deployments into one cluster. */
interface ClusterAttempts {
  running: boolean;
  failures: number;
  /** Of the clock's elapsed time. */
  retryAt: number;
  problem: TidemarkError | undefined;
}

export class OwnWorkerSupply implements WorkerSupply {
  readonly #attempts = new Map<string, ClusterAttempts>();
  readonly #launching = new Set<string>();
  readonly #listeners = new Set<() => void>();

  constructor(private readonly operations: WorkerOperations) {
    const { store } = operations.parts;
    store.onChanged(() => this.#notify());
  }

  policy(platformId: string): PlacementPolicy {
    return this.operations.parts.store.policy(platformId);
  }

  want({ platformId, clusterId }: Placement): Expectation {
    if (platformId === '') return none('worker-beside-server-only', 'the task can be done beside the server only');
    const { store } = this.operations.parts;
    const all = store.workers().filter((one) => one.platformId === platformId && (clusterId === '' || one.clusterId === clusterId));
    const here = all.filter((one) => !one.drained && one.phase !== 'removing');
    if (here.some((one) => this.#isComing(one))) return { kind: 'coming', reason: 'worker-starting' };
    if (here.some((one) => this.operations.activityOf(one.workerId) === 'deploying')) return { kind: 'coming', reason: 'worker-deploying' };
    const now = this.operations.parts.patience.clock.now();
    const startable = here.filter((one) => ['stopped', 'failed'].includes(one.phase) && !this.#isTaken(one.workerId));
    const ready = startable.find((one) => isDue(one.retryAt, now));
    if (ready) {
      this.launchStart(ready);
      return { kind: 'coming', reason: 'worker-starting' };
    }
    const [failing] = startable;
    if (failing)
      return none(
        'worker-failed',
        `worker "${failing.name}" could not be started: ${failing.problem?.message ?? 'it is tried again soon'}`,
      );
    // A ready one without a stream dials again (after a restart of this process all do), or is found lost and made anew.
    const isAway = (one: StoredWorker) => one.phase === 'lost' || (one.phase === 'ready' && !this.#isConnected(one.workerId));
    if (here.some(isAway)) return { kind: 'coming', reason: 'worker-starting' };
    if (here.length > 0) return none('worker-slots', 'the workers of the cluster are all busy');
    if (all.length > 0) return none('worker-drained', 'the workers of the cluster take no tasks, as an administrator wants it');
    if (clusterId === '') return none('worker-none-deployed', 'no worker is deployed on the platform');
    return this.#wantNew(platformId, clusterId);
  }

  admits(workerId: string): boolean {
    const { store } = this.operations.parts;
    const worker = store.find(workerId);
    if (worker) return worker.phase === 'ready' && this.operations.activityOf(workerId) !== 'starting';
    return !this.operations.pending.has(workerId);
  }

  vmOf(workerId: string): WorkerVm | undefined {
    const worker = this.operations.parts.store.find(workerId);
    if (!worker) return undefined;
    const { platformId, vmId, clusterId, dataCenterId } = worker;
    return { platformId, vmId, clusterId, dataCenterId: dataCenterId === '' ? undefined : dataCenterId };
  }

  onChanged(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Starts a worker that is down. Its failure is in the worker's record. */
  launchStart(worker: StoredWorker): void {
    this.#launch(worker.workerId, () => this.operations.bringUp(worker.workerId));
  }

  /** Sets an operation of the plug-in's own going, unless one has the worker already. Never throws. */
  launch(workerId: string, start: () => Promise<Operation>): void {
    if (!this.#isTaken(workerId)) this.#launch(workerId, start);
  }

  /** Whether a worker would be deployed into a cluster that has none; if so it is. */
  #wantNew(platformId: string, clusterId: string): Expectation {
    const { parts } = this.operations;
    const policy = parts.store.policy(platformId);
    const key = `${platformId}/${clusterId}`;
    const attempts = this.#attempts.get(key) ?? { running: false, failures: 0, retryAt: 0, problem: undefined };
    if (attempts.running) return { kind: 'coming', reason: 'worker-deploying' };
    // An administrator's own deployment on its way.
    if (this.operations.pending.list().some((one) => one.platformId === platformId && one.plan.cluster.id === clusterId))
      return { kind: 'coming', reason: 'worker-deploying' };
    if (!policy.deployAutomatically) return none('worker-none-in-cluster', 'the cluster has no worker, and none is deployed automatically');
    if (!parts.images.latest)
      return none('worker-image-missing', parts.images.missing?.message ?? 'the worker image was not looked for yet');
    try {
      endpointsFor(parts, platformId);
    } catch (thrown) {
      return none('worker-endpoint-local', toTidemarkError(thrown, 'endpoints').message);
    }
    if (attempts.retryAt > parts.patience.clock.elapsed())
      return none('worker-deployment-failed', attempts.problem?.message ?? 'a worker could not be deployed');
    this.#attempts.set(key, { ...attempts, running: true });
    void this.#deploy(key, platformId, clusterId);
    return { kind: 'coming', reason: 'worker-deploying' };
  }

  async #deploy(key: string, platformId: string, clusterId: string): Promise<void> {
    const { parts, pending } = this.operations;
    const before = this.#attempts.get(key);
    let problem: TidemarkError | undefined;
    try {
      const policy = parts.store.policy(platformId);
      const settings = { ...policy.automaticSettings, name: '' };
      const takenNames = pending.names(platformId);
      const plan = await planDeployment(parts.engines.of(platformId), { clusterId, settings, policy, takenNames });
      const toldBefore = (code: string) => before?.problem?.code === code;
      const order = { workerId: randomUUID(), platformId, requestedBy: 'the plug-in, as a task needed it', plan, toldBefore };
      const operation = await this.operations.deploy(order);
      await ended(operation);
      problem = operation.result?.failure;
      if (operation.outcome !== 'success') problem ??= toTidemarkError(undefined, 'deploying a worker');
    } catch (thrown) {
      problem = toTidemarkError(thrown, 'deploying a worker');
      parts.logger.warn('a worker cannot be deployed', { platformId, clusterId, code: problem.code, message: problem.message });
    }
    if (!problem) this.#attempts.delete(key);
    else {
      const failures = (before?.failures ?? 0) + 1;
      this.#attempts.set(key, { running: false, failures, retryAt: parts.patience.clock.elapsed() + backOff(failures), problem });
    }
    this.#notify();
  }

  #launch(workerId: string, start: () => Promise<Operation>): void {
    this.#launching.add(workerId);
    // Not in the turn of who asks: the registry's answers reach listeners that ask again.
    setImmediate(() => {
      void start()
        .catch((error: unknown) => {
          const { code, message } = toTidemarkError(error, 'a worker operation');
          this.operations.parts.logger.info('a worker operation could not begin', { workerId, code, message });
        })
        .finally(() => {
          this.#launching.delete(workerId);
          this.#notify();
        });
    });
  }

  #isTaken(workerId: string): boolean {
    return this.#launching.has(workerId) || this.operations.ownerOf(workerId) !== undefined;
  }

  #isComing(worker: StoredWorker): boolean {
    if (this.#launching.has(worker.workerId) && worker.phase !== 'ready') return true;
    if (worker.phase === 'starting') return this.operations.ownerOf(worker.workerId) !== undefined;
    // Being shut down for want of work: started again as soon as it is down.
    if (worker.phase === 'stopping') return this.operations.activityOf(worker.workerId) === 'stopping';
    return this.operations.activityOf(worker.workerId) === 'starting';
  }

  #isConnected(workerId: string): boolean {
    return this.operations.parts.workers.connected().some((one) => one.workerId === workerId);
  }

  #notify(): void {
    for (const listener of [...this.#listeners]) listener();
  }
}

function none(code: string, message: string): Expectation {
  return { kind: 'none', code, message };
}

/** Until its result is there. */
async function ended(operation: Operation): Promise<void> {
  const never = new AbortController().signal;
  for await (const event of operation.watch(operation.lastSequence, 60_000, never)) if (event?.event.type === 'result') return;
}
