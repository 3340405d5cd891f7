/**
 * Keeps a task's mover session while its operation runs: renews its lease and its ticket, and when its mover is gone lets the session go on at another one from what
 * was last made durable, and tells the plug-in. While there is none the task waits, with the reason; whichever comes first carries on.
 */
import { toTidemarkError } from '../../common/errors/common-errors';
import { hasCode } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import { pause } from '../../common/rpc/call';
import { HostErrors } from '../errors/host-errors';
import { longestTicketMs } from '../identity/authority-file';
import { isTransient } from '../jobs/task-context';
import type { TaskContext } from '../jobs/task-context';
import type { MoverRegistry } from '../registry/mover-registry';
import type { PluginClient } from '../registry/plugin-connections';
import type { MoverSessions } from '../repositories/mover-sessions';
import type { SessionPaths } from './session-paths';

export interface KeeperTimes {
  /** A mover session's lease lasts 5 minutes. */
  readonly renewEveryMs: number;
  /** How often leases of movers are looked at. */
  readonly lookEveryMs: number;
  /** How long a mover that keeps its lease here may not answer. */
  readonly unansweredMs: number;
  /** The same of one that lost its lease, and so was silent for 15 s before. */
  readonly lostMs: number;
  /** How old a ticket may become; the rest of its life is for a server or a plug-in that is away. */
  readonly ticketMs: number;
}

export const defaultKeeperTimes: KeeperTimes = {
  renewEveryMs: 60_000,
  lookEveryMs: 2_000,
  unansweredMs: 15_000,
  lostMs: 2_000,
  ticketMs: longestTicketMs / 3,
};

/** What a keeper remembers between two looks, in elapsed milliseconds. */
interface Watch {
  renewedAt: number;
  /** Since when its mover does not answer. */
  silentSince: number | undefined;
}

const ourReasons = /^(gateway|repository-mover)-/;

export class PathKeeper {
  constructor(
    private readonly paths: SessionPaths,
    private readonly sessions: Pick<MoverSessions, 'renew'>,
    private readonly movers: Pick<MoverRegistry, 'isConnected'>,
    private readonly logger: Logger,
    private readonly times: KeeperTimes = defaultKeeperTimes,
  ) {}

  /** Until the signal. Aborts `lost` with the error when the session cannot go on anywhere. */
  async keep(context: TaskContext, plugin: () => Promise<PluginClient>, signal: AbortSignal, lost: AbortController): Promise<void> {
    const watch: Watch = { renewedAt: context.elapsedMs(), silentSince: undefined };
    while (!lost.signal.aborted) {
      await pause(this.times.lookEveryMs, signal);
      try {
        await this.#look(context, plugin, signal, lost, watch);
      } catch (error) {
        if (signal.aborted) throw error;
        // Whatever it was: a session that nobody keeps any more would end with its lease, in minutes.
        this.logger.warn('a mover session could not be looked after; it is tried again', { sessionId: context.task.moverSessionId, error });
      }
    }
  }

  async #look(
    context: TaskContext,
    plugin: () => Promise<PluginClient>,
    signal: AbortSignal,
    lost: AbortController,
    watch: Watch,
  ): Promise<void> {
    const { task } = context;
    if (task.moverSessionId === null || task.step !== 'started' || !task.path) return;
    const now = context.elapsedMs();
    // Tickets end by the clock; leases and silence are measured, since whoever sets the clock does not renew anything.
    const ticketMs = context.now().getTime() - Date.parse(task.path.ticketAt ?? '1970-01-01');
    if (!task.path.told || ticketMs > this.times.ticketMs) await this.#tell(context, plugin, signal);
    const connected = await this.movers.isConnected(task.path.moverId);
    if (connected && watch.silentSince === undefined && now - watch.renewedAt < this.times.renewEveryMs) return;
    try {
      const { repositoryId } = context.session;
      await this.sessions.renew(task.path.moverId, { sessionId: task.moverSessionId, repositoryId });
      watch.renewedAt = now;
      watch.silentSince = undefined;
      if (ourReasons.test(task.waitingReason ?? '')) await context.waiting(null);
    } catch (thrown) {
      const error = toTidemarkError(thrown, 'renewing a mover session');
      if (hasCode(error, 'SESSION_NOT_FOUND', 'SESSION_ENDED')) {
        if (task.state !== 'committing') lost.abort(HostErrors.MOVER_SESSION_LOST({ sessionId: task.moverSessionId }, { cause: error }));
        return;
      }
      watch.silentSince ??= now;
      const silentMs = Math.round(now - watch.silentSince);
      const elsewhere = hasCode(error, 'SESSION_ELSEWHERE');
      if (!elsewhere && !isTransient(error)) {
        this.logger.warn('a mover session could not be renewed', { sessionId: task.moverSessionId, error });
        return;
      }
      if (!elsewhere && silentMs < (connected ? this.times.unansweredMs : this.times.lostMs)) return;
      const limitMs = context.settings.current.waitLimitMs;
      if (silentMs > limitMs && task.state !== 'committing') {
        lost.abort(HostErrors.WAITED_TOO_LONG({ reason: task.waitingReason ?? 'gateway-lost', waitedMs: silentMs }, { cause: error }));
        return;
      }
      if (!(await this.#changeOver(context, elsewhere ? new Set() : new Set([task.path.moverId]), lost))) return;
      watch.renewedAt = context.elapsedMs();
      watch.silentSince = undefined;
      await this.#tell(context, plugin, signal);
    }
  }

  /** True when another mover has the session now. Tries each candidate once. */
  async #changeOver(context: TaskContext, failed: Set<string>, lost: AbortController): Promise<boolean> {
    const { task } = context;
    const from = task.path?.moverName ?? '';
    for (;;) {
      let moverId = '';
      try {
        const found = await this.paths.changeOver(context, failed);
        if (found.kind === 'chosen') {
          this.#note(context);
          this.logger.warn('a mover session goes on at another mover', { sessionId: task.moverSessionId, from, to: task.path?.moverName });
          await context.waiting(null);
          return true;
        }
        // Without any other mover it stays the one that it is.
        await context.waiting(found.kind === 'wait' ? found.reason.replace(/-failed$/, '-lost') : 'repository-mover-lost');
        return false;
      } catch (thrown) {
        const error = toTidemarkError(thrown, 'opening a mover session elsewhere');
        if (hasCode(error, 'SESSION_ENDED', 'POINT_NOT_FOUND')) {
          lost.abort(HostErrors.MOVER_SESSION_LOST({ sessionId: task.moverSessionId ?? '' }, { cause: error }));
          return false;
        }
        const found = await this.paths.resolve(context, failed);
        moverId = found.kind === 'chosen' ? found.mover.moverId : '';
        this.logger.warn('a mover could not take a session over', { sessionId: task.moverSessionId, moverId, error });
      }
      if (moverId === '' || failed.has(moverId)) return false;
      failed.add(moverId);
    }
  }

  /** Tells the plug-in where the session is now, with a new ticket; what fails is tried again at the next look. */
  async #tell(context: TaskContext, plugin: () => Promise<PluginClient>, signal: AbortSignal): Promise<void> {
    const { task } = context;
    const ticketAt = context.now().toISOString();
    try {
      const dataPath = await this.paths.pathTo(context);
      const client = await plugin();
      await client.protection.call('ChangeDataPath', { operationId: task.operationId ?? '', dataPath }, { deadlineMs: 10_000, signal });
    } catch (error) {
      if (isTransient(error)) return;
      // It ended meanwhile; or a plug-in of before cannot be told: its workers give up, and the task is tried again.
      if (!hasCode(error, 'OPERATION_NOT_FOUND')) this.logger.warn('an operation could not be told of its new data path', { error });
    }
    if (task.path) Object.assign(task.path, { told: true, ticketAt });
    await context.save();
  }

  /** One note, with all movers of the session in order. */
  #note(context: TaskContext): void {
    const { task } = context;
    const { before = [], moverName = '' } = task.path ?? {};
    task.notes = task.notes.filter(({ code }) => code !== 'mover-replaced');
    const message =
      `The session went from ${before.join(' to ')} to ${moverName}, because the former was gone; it went on from what was durable. ` +
      `${task.path?.message ?? ''}`;
    context.note({ code: 'mover-replaced', severity: 'warning', message, diskId: '' });
  }
}
