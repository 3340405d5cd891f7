/**
 * Follows an operation of a plug-in to its end, over broken streams and restarts of either side: events are taken in order and each just
 * once (the last sequence is kept with the task), the mover session is kept meanwhile, and a cancel is passed on.
 */
import { toTidemarkError } from '../../common/errors/common-errors';
import { hasCode } from '../../common/errors/tidemark-error';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import { failureError } from '../../common/rpc/failure-message';
import { bytesFromWire, timestampFromWire } from '../../common/rpc/bytes';
import { pause } from '../../common/rpc/call';
import type { Logger } from '../../common/log/logger';
import type { AwaitingCommit__Output } from '../../proto/gen/tidemark/plugin/v1/AwaitingCommit';
import type { DiskOutcome__Output } from '../../proto/gen/tidemark/plugin/v1/DiskOutcome';
import type { OperationResult__Output } from '../../proto/gen/tidemark/plugin/v1/OperationResult';
import type { WatchOperationResponse__Output } from '../../proto/gen/tidemark/plugin/v1/WatchOperationResponse';
import type { PathKeeper } from '../data-paths/path-keeper';
import { HostErrors } from '../errors/host-errors';
import type { PluginClient } from '../registry/plugin-connections';
import { countersFrom, readModeOf } from '../repositories/point-mapping';
import { isTransient, pluginReason } from './task-context';
import type { TaskContext } from './task-context';
import { mayEnter } from './task-machine';
import type { ActiveState } from './task-machine';
import { transportOf } from './transport';

export interface FollowOptions {
  /** The plug-in that has the operation; throws while it is away. */
  plugin(): Promise<PluginClient>;
  /** Everything is in the mover. Must not reject unless the server stops; its outcome is its own. */
  awaitingCommit?(event: AwaitingCommit__Output): Promise<void>;
}

export interface FollowTimes {
  readonly idleTimeoutMs: number;
  readonly retryEveryMs: number;
  /** How long a cancelled task waits for a plug-in that does not answer. */
  readonly cancelPatienceMs: number;
}

/** The plug-in sends at least every 10 s. */
export const defaultFollowTimes: FollowTimes = {
  idleTimeoutMs: 30_000,
  retryEveryMs: 1000,
  cancelPatienceMs: 60_000,
};

export type Followed =
  | { readonly end: 'result'; readonly result: OperationResult__Output; readonly moverLost: TidemarkError | undefined }
  /** The plug-in does not know the operation (any more). */
  | { readonly end: 'lost' }
  /** Cancelled, and the plug-in could not be told. */
  | { readonly end: 'unreachable' };

export class OperationFollower {
  constructor(
    private readonly keeper: Pick<PathKeeper, 'keep'>,
    private readonly logger: Logger,
    private readonly times: FollowTimes = defaultFollowTimes,
  ) {}

  /** Rejects only when the server stops, or the plug-in was away for longer than the settings allow (WAITED_TOO_LONG). */
  async follow(context: TaskContext, options: FollowOptions): Promise<Followed> {
    const over = new AbortController();
    const moverLost = new AbortController();
    const background = AbortSignal.any([over.signal, context.shutdown]);
    const beside = [
      this.keeper.keep(context, () => options.plugin(), background, moverLost),
      this.#passCancelOn(context, options, AbortSignal.any([context.cancel, moverLost.signal]), background),
    ].map((work) => work.catch(() => undefined));
    try {
      return await this.#watch(context, options, moverLost.signal);
    } finally {
      over.abort();
      await Promise.all(beside);
    }
  }

  async #watch(context: TaskContext, options: FollowOptions, moverLost: AbortSignal): Promise<Followed> {
    const { task } = context;
    const operationId = task.operationId ?? '';
    let lastContact = context.elapsedMs();
    for (;;) {
      try {
        const plugin = await options.plugin();
        const request = { operationId, afterSequence: String(task.watchedSequence) };
        const settings = { idleTimeoutMs: this.times.idleTimeoutMs, signal: context.shutdown };
        for await (const event of plugin.protection.stream('WatchOperation', request, settings)) {
          if (task.waitingReason === 'plugin-lost' || task.waitingReason === 'plugin-disabled') await context.waiting(null);
          const result = await this.#take(context, options, event);
          lastContact = context.elapsedMs();
          if (result) {
            return { end: 'result', result, moverLost: moverLost.aborted ? (moverLost.reason as TidemarkError) : undefined };
          }
        }
        this.logger.warn('an operation was watched to the end without a result', { operationId });
      } catch (thrown) {
        if (context.shutdown.aborted) throw thrown;
        if (hasCode(thrown, 'OPERATION_NOT_FOUND')) return { end: 'lost' };
        const error = toTidemarkError(thrown, 'watching an operation');
        const silentMs = Math.round(context.elapsedMs() - lastContact);
        if (context.cancel.aborted && silentMs > this.times.cancelPatienceMs) return { end: 'unreachable' };
        const reason = pluginReason(error) ?? 'plugin-lost';
        if (silentMs > context.settings.current.waitLimitMs) {
          throw HostErrors.WAITED_TOO_LONG({ reason, waitedMs: silentMs }, { cause: error });
        }
        if (pluginReason(error) === undefined) this.logger.warn('watching an operation failed', { operationId, error });
        await context.waiting(reason);
      }
      await pause(this.times.retryEveryMs, context.shutdown);
    }
  }

  /** Returns the result when it is the last event. */
  async #take(
    context: TaskContext,
    options: FollowOptions,
    event: WatchOperationResponse__Output,
  ): Promise<OperationResult__Output | undefined> {
    const { task } = context;
    const sequence = bytesFromWire(event.sequence, 'sequence');
    if (sequence === 0 || sequence <= task.watchedSequence) return undefined;
    if (event.awaitingCommit) {
      takeOutcomes(context, event.awaitingCommit.disks);
      await this.#nameWorkers(context, options);
      await options.awaitingCommit?.(event.awaitingCommit);
      task.watchedSequence = sequence;
      await context.save();
      return undefined;
    }
    // The next server asks for the result again where this one ends before the task does: after it nothing would come any more.
    if (!event.result) task.watchedSequence = sequence;
    if (event.state) {
      const state = phases[event.state.phase];
      // A watch that is resumed may tell of phases that this side has gone beyond.
      if (state && mayEnter(task.state, state)) await context.enter(state, event.state.waitingReason || null);
    } else if (event.progress) {
      const disk = context.disk(event.progress.diskId, event.progress.diskName);
      disk.counters = countersFrom(event.progress.counters);
      disk.mode = readModeOf(event.progress.mode);
      disk.reason = event.progress.reason;
      disk.sizeBytes = Math.max(disk.sizeBytes, bytesFromWire(event.progress.totalBytes, 'totalBytes'));
      disk.startedAt ??= timestampFromWire(event.occurredAt)?.toISOString() ?? null;
      task.totalBytes = task.disks.reduce((sum, one) => sum + one.sizeBytes, 0);
      context.touch();
    } else if (event.note) {
      const { code, message, diskId } = event.note;
      context.note({ code, message, diskId, severity: noteSeverity(event.note.severity) });
      await context.save();
    } else if (event.result) {
      takeOutcomes(context, event.result.disks);
      await this.#nameWorkers(context, options);
      task.leftForJanitor = event.result.leftForJanitor;
      if (event.result.createdId !== '') task.createdId = event.result.createdId;
      await context.save();
      return event.result;
    }
    return undefined;
  }

  /** Names of workers for people; kept, since a worker may be gone when somebody looks. */
  async #nameWorkers({ task, shutdown }: TaskContext, options: FollowOptions): Promise<void> {
    const unnamed = task.disks.filter((disk) => disk.workerId && !disk.workerName);
    if (unnamed.length === 0) return;
    try {
      const plugin = await options.plugin();
      const { workers } = await plugin.workers.call('ListWorkers', {}, { deadlineMs: 5_000, attempts: 3, signal: shutdown });
      for (const disk of unnamed) {
        const worker = workers.find(({ workerId }) => workerId === disk.workerId);
        disk.workerName = worker ? worker.name || worker.hostName : null;
      }
    } catch (error) {
      // Their ids have to do.
      this.logger.debug('names of workers could not be read', { error });
    }
  }

  async #passCancelOn(context: TaskContext, options: FollowOptions, cancel: AbortSignal, signal: AbortSignal): Promise<void> {
    await aborted(cancel, signal);
    while (!signal.aborted) {
      try {
        const plugin = await options.plugin();
        await plugin.protection.call('CancelOperation', { operationId: context.task.operationId ?? '' }, { deadlineMs: 10_000, signal });
        return;
      } catch (error) {
        if (hasCode(error, 'OPERATION_NOT_FOUND')) return;
        if (!isTransient(error)) this.logger.warn('an operation could not be cancelled', { error });
      }
      await pause(this.times.retryEveryMs, signal);
    }
  }
}

/** The error of a result that is none of success, as the retry policy sees it. */
export function resultError(result: OperationResult__Output, operationId: string): TidemarkError {
  return result.failure ? failureError(result.failure) : HostErrors.OPERATION_STOPPED({ operationId });
}

const phases: Readonly<Record<string, ActiveState>> = {
  PHASE_PREPARING: 'preparing',
  PHASE_STARTING: 'starting',
  PHASE_TRANSFERRING: 'transferring',
  PHASE_COMMITTING: 'committing',
  PHASE_CLEANING: 'cleaning',
};

export function noteSeverity(wire: string): 'info' | 'warning' | 'blocking' {
  if (wire === 'SEVERITY_WARNING') return 'warning';
  return wire === 'SEVERITY_BLOCKING' ? 'blocking' : 'info';
}

function takeOutcomes(context: TaskContext, outcomes: readonly DiskOutcome__Output[]): void {
  for (const outcome of outcomes) {
    if (!outcome.disk) continue;
    const disk = context.disk(outcome.disk.diskId, outcome.disk.name);
    disk.sizeBytes = bytesFromWire(outcome.disk.sizeBytes, 'sizeBytes');
    disk.mode = readModeOf(outcome.mode);
    disk.reason = outcome.reason;
    disk.counters = countersFrom(outcome.counters);
    disk.transport = transportOf(outcome.transport);
    if (disk.transport === 'attachment') disk.path = 'attached';
    disk.workerId = outcome.workerId || null;
    disk.workerHop = outcome.workerHop || null;
    disk.startedAt = timestampFromWire(outcome.startedAt)?.toISOString() ?? disk.startedAt;
    disk.endedAt = timestampFromWire(outcome.endedAt)?.toISOString() ?? disk.endedAt;
  }
  context.task.totalBytes = context.task.disks.reduce((sum, one) => sum + one.sizeBytes, 0);
}

/** Resolves when one of them aborts. */
export function aborted(...signals: AbortSignal[]): Promise<void> {
  return new Promise((resolve) => {
    const any = AbortSignal.any(signals);
    if (any.aborted) resolve();
    else any.addEventListener('abort', () => resolve(), { once: true });
  });
}
