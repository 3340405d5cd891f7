/**
 * Operations: long work that the host starts, watches and cancels. Owns their ids, events, one operation per VM or worker, and how they end;
 * knows nothing of engines or workers. Start and end are journalled, so that after a kill -9 each one still gets a final answer.
 */
import { CommonErrors, toTidemarkError } from '../../common/errors/common-errors';
import { hasCode } from '../../common/errors/tidemark-error';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import { withCorrelation } from '../../common/log/correlation';
import type { Logger } from '../../common/log/logger';
import type { Journal } from '../journal/journal';
import type { Clock } from './clock';
import type { ResultEvent } from './events';
import { Operation, restoredSequenceBase } from './operation';
import type { OperationHeader, OperationScope, VmKey } from './operation';
import { OperationErrors } from './operation-errors';

/** A flow's own result. Throwing makes the operation `failed`, or `cancelled` when it was asked to stop. */
export type FlowResult = Omit<ResultEvent, 'type' | 'failure'> & { readonly failure?: TidemarkError | undefined };

export interface StartOptions {
  readonly header: Omit<OperationHeader, 'startedAt'>;
  readonly run: (scope: OperationScope) => Promise<FlowResult>;
}

export interface RegistryLimits {
  /** How long an ended operation answers. */
  readonly keepEndedMs: number;
  readonly maxEnded: number;
  readonly maxRunning: number;
}

export const defaultRegistryLimits: RegistryLimits = { keepEndedMs: 24 * 3_600_000, maxEnded: 20_000, maxRunning: 1000 };

const busyRetryMs = 15_000;

export class OperationRegistry {
  readonly #operations = new Map<string, Operation>();
  readonly #starting = new Map<string, Promise<Operation>>();
  readonly #owners = new Map<string, string>();
  readonly #work = new Map<string, Promise<void>>();
  readonly #endListeners = new Set<(operation: Operation) => void>();
  #stopping = false;

  constructor(
    private readonly journal: Journal,
    private readonly clock: Clock,
    private readonly logger: Logger,
    private readonly limits: RegistryLimits = defaultRegistryLimits,
  ) {}

  /** Brings back what the journal knows: ended operations answer as before, interrupted ones as failed PLUGIN_RESTARTED. */
  async restore(): Promise<void> {
    for (const known of this.journal.operations()) {
      const operation = new Operation(known.header, this.clock, restoredSequenceBase);
      if (known.end) {
        operation.end(known.end.result, known.end.at);
      } else {
        const failure = OperationErrors.PLUGIN_RESTARTED({ operationId: known.header.operationId });
        operation.end({ outcome: 'failed', failure, createdId: '', disks: [], leftForJanitor: this.#leftOf(known.header.operationId) });
        await this.journal.operationEnded(known.header.operationId, operation.result!, this.clock.now());
        this.logger.warn('operation was interrupted by a restart', { operationId: known.header.operationId });
      }
      this.#operations.set(known.header.operationId, operation);
    }
    this.#prune();
  }

  /**
   * Starts an operation, or answers the one that has this id. Resolves once the start is durable.
   * Throws REQUEST_ID_REUSED, VM_BUSY, WORKER_BUSY, PLUGIN_STOPPING, PLUGIN_BUSY.
   */
  async start(options: StartOptions): Promise<Operation> {
    const { operationId, fingerprint } = options.header;
    const starting = this.#starting.get(operationId);
    const known = starting ? await starting : this.#operations.get(operationId);
    if (known) {
      if (known.header.fingerprint !== fingerprint) throw CommonErrors.REQUEST_ID_REUSED({ requestId: operationId });
      return known;
    }
    if (this.#stopping) throw OperationErrors.PLUGIN_STOPPING({});
    if (this.#work.size >= this.limits.maxRunning) {
      throw OperationErrors.PLUGIN_BUSY({ limit: this.limits.maxRunning }, { retryDelayMs: busyRetryMs });
    }
    this.#refuseBusy(options.header);
    const begun = this.#begin(options);
    this.#starting.set(operationId, begun);
    try {
      return await begun;
    } finally {
      this.#starting.delete(operationId);
    }
  }

  find(operationId: string): Operation | undefined {
    return this.#operations.get(operationId);
  }

  /** Throws OPERATION_NOT_FOUND. */
  get(operationId: string): Operation {
    const operation = this.#operations.get(operationId);
    if (!operation) throw CommonErrors.OPERATION_NOT_FOUND({ operationId });
    return operation;
  }

  isRunning(operationId: string): boolean {
    return this.#work.has(operationId) || this.#starting.has(operationId);
  }

  /** Operations not yet final, for heartbeats to the host. */
  runningIds(): string[] {
    return [...new Set([...this.#work.keys(), ...this.#starting.keys()])];
  }

  /** True when the platform has an operation that is not final. */
  usesPlatform(platformId: string): boolean {
    return [...this.#work.keys()].some((id) => this.#operations.get(id)?.header.platformId === platformId);
  }

  /** The operation that has a VM now. */
  ownerOf(vm: VmKey): string | undefined {
    return this.#owners.get(keyOf(vm));
  }

  /** The operation that has a worker now. */
  ownerOfWorker(workerId: string): string | undefined {
    return this.#owners.get(workerKey(workerId));
  }

  /** Not yet final, and ended after `endedSince`. */
  list(endedSince: number): Operation[] {
    return [...this.#operations.values()].filter((o) => o.endedAt === undefined || o.endedAt >= endedSince);
  }

  /** Called after each end, when the VM is free again. */
  onEnded(listener: (operation: Operation) => void): void {
    this.#endListeners.add(listener);
  }

  /** Takes no new work, cancels what runs and waits for its clean-up up to the time given; the janitor has the rest. */
  async stop(timeoutMs: number): Promise<void> {
    this.#stopping = true;
    for (const id of this.#work.keys()) this.#operations.get(id)?.cancel(OperationErrors.PLUGIN_STOPPING({}));
    const late = new AbortController();
    await Promise.race([Promise.allSettled(this.#work.values()), this.clock.sleep(timeoutMs, late.signal).catch(() => undefined)]);
    late.abort();
  }

  #refuseBusy({ vm, workerId }: StartOptions['header']): void {
    const vmOwner = vm && this.ownerOf(vm);
    if (vm && vmOwner !== undefined) throw OperationErrors.VM_BUSY({ vmId: vm.vmId, operationId: vmOwner }, { retryDelayMs: busyRetryMs });
    const owner = workerId === undefined ? undefined : this.ownerOfWorker(workerId);
    if (workerId !== undefined && owner !== undefined) {
      throw OperationErrors.WORKER_BUSY({ workerId, operationId: owner }, { retryDelayMs: busyRetryMs });
    }
  }

  async #begin(options: StartOptions): Promise<Operation> {
    const header: OperationHeader = { ...options.header, startedAt: this.clock.now() };
    const operation = new Operation(header, this.clock);
    for (const key of keysOf(header)) this.#owners.set(key, header.operationId);
    try {
      await this.journal.operationStarted(header);
    } catch (error) {
      for (const key of keysOf(header)) this.#owners.delete(key);
      this.journal.forgetOperation(header.operationId);
      throw error;
    }
    this.#operations.set(header.operationId, operation);
    const correlation = { correlationId: correlationOf(header), sessionId: header.sessionId, operationId: header.operationId };
    const work = withCorrelation(correlation, () => this.#run(operation, options.run));
    this.#work.set(header.operationId, work);
    return operation;
  }

  async #run(operation: Operation, flow: StartOptions['run']): Promise<void> {
    const { operationId } = operation.header;
    let result: Omit<ResultEvent, 'type'>;
    try {
      operation.phase('preparing');
      result = await flow(operation);
    } catch (thrown) {
      result = this.#failed(operation, thrown);
    }
    try {
      await this.journal.operationEnded(operationId, result, this.clock.now());
    } catch (error) {
      // The host still gets the truth; after a restart this operation reads as interrupted, which errs on the safe side.
      this.logger.error('end of an operation could not be journalled', { operationId, error });
    }
    for (const key of keysOf(operation.header)) this.#owners.delete(key);
    this.#work.delete(operationId);
    operation.end(result);
    this.logger.info('operation ended', { operationId, outcome: result.outcome, code: result.failure?.code });
    this.#prune();
    for (const listener of this.#endListeners) listener(operation);
  }

  #failed(operation: Operation, thrown: unknown): Omit<ResultEvent, 'type'> {
    let error = toTidemarkError(thrown, `operation ${operation.header.operationId}`);
    const stopped = operation.signal.aborted && hasCode(error, 'CANCELLED', 'PLUGIN_STOPPING');
    const cancelled = stopped && hasCode(operation.signal.reason, 'CANCELLED');
    // Said by whoever asked, not by the step that heard it first. Our own stop is no wish of the user's: the host tries it again.
    if (stopped) error = toTidemarkError(operation.signal.reason, 'the plug-in');
    if (error.kind === 'bug') this.logger.error('operation failed by a defect', { error });
    return {
      outcome: cancelled ? 'cancelled' : 'failed',
      failure: error,
      createdId: '',
      disks: [],
      leftForJanitor: this.#leftOf(operation.header.operationId),
    };
  }

  #leftOf(operationId: string): string[] {
    return this.journal.openEntries(operationId).map((entry) => `${entry.kind} ${entry.objectId ?? entry.entryId}`);
  }

  #prune(): void {
    const ended = [...this.#operations.values()].filter((o) => o.endedAt !== undefined);
    ended.sort((a, b) => (a.endedAt ?? 0) - (b.endedAt ?? 0));
    const before = this.clock.now() - this.limits.keepEndedMs;
    ended.forEach((operation, index) => {
      const tooOld = (operation.endedAt ?? 0) < before;
      const tooMany = index < ended.length - this.limits.maxEnded;
      if (tooOld || tooMany) {
        this.#operations.delete(operation.header.operationId);
        this.journal.forgetOperation(operation.header.operationId);
      }
    });
  }
}

function keyOf(vm: VmKey): string {
  return `${vm.platformId}/${vm.vmId}`;
}

function workerKey(workerId: string): string {
  return `worker/${workerId}`;
}

function keysOf({ vm, workerId }: Pick<OperationHeader, 'vm' | 'workerId'>): string[] {
  return [...(vm ? [keyOf(vm)] : []), ...(workerId === undefined ? [] : [workerKey(workerId)])];
}

/** At most 36 characters of [0-9A-Za-z_-]: the engine cuts the rest. */
function correlationOf(header: OperationHeader): string {
  return `tidemark-${header.operationId.replaceAll(/[^0-9A-Za-z]/g, '').slice(0, 27)}`;
}
