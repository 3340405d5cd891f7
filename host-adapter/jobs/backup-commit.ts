/** The host's half of a commit: the mover makes the point visible, the plug-in is told, and after a crash it is found out what happened. */
import { toTidemarkError } from '../../common/errors/common-errors';
import { hasCode } from '../../common/errors/tidemark-error';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import { pause } from '../../common/rpc/call';
import type { Point__Output } from '../../proto/gen/tidemark/mover/v1/Point';
import type { AwaitingCommit__Output } from '../../proto/gen/tidemark/plugin/v1/AwaitingCommit';
import type { PointStore } from '../catalogue/point-store';
import { HostErrors } from '../errors/host-errors';
import type { Platforms } from '../inventory/platforms';
import type { MoverArrivals } from '../repositories/mover-arrivals';
import type { MoverSessions } from '../repositories/mover-sessions';
import { pointFrom } from '../repositories/point-mapping';
import { Repositories } from '../repositories/repositories';
import { describedPoint } from './described-point';
import { repositoryReason } from './repository-reason';
import { isTransient } from './task-context';
import type { TaskContext } from './task-context';

/** The plug-in gives the host 15 minutes to commit; some of it is for telling it. */
const commitPatienceMs = 12 * 60_000;
const concludePatienceMs = 10 * 60_000;

export class BackupCommit {
  constructor(
    private readonly platforms: Platforms,
    private readonly repositories: Repositories,
    private readonly moverSessions: MoverSessions,
    private readonly points: PointStore,
    private readonly arrivals: Pick<MoverArrivals, 'readAgain'>,
    private readonly logger: Logger,
    private readonly retryEveryMs = 1000,
  ) {}

  /** Makes the point visible and tells the plug-in. Returns why it could not; rejects only when the server stops. */
  async commit(context: TaskContext, event: AwaitingCommit__Output): Promise<TidemarkError | undefined> {
    const { task, session } = context;
    await context.enter('committing');
    const began = context.elapsedMs();
    let failure: TidemarkError | undefined;
    while (task.step === 'started') {
      if (context.cancel.aborted) {
        failure = HostErrors.OPERATION_STOPPED({ operationId: task.operationId ?? '' });
        break;
      }
      try {
        const content = { point: describedPoint(context, event), configuration: event.configuration };
        const at = { sessionId: task.moverSessionId ?? '', repositoryId: session.repositoryId };
        const made = await this.moverSessions.commit(task.path?.moverId ?? '', at, content, context.shutdown);
        // From here on the point is there, whatever the catalogue can take.
        task.pointId = made.pointId;
        task.step = 'committed';
        await this.#remember(session.repositoryId, made);
        await context.waiting(null);
        await context.save();
      } catch (thrown) {
        if (context.shutdown.aborted) throw thrown;
        const error = toTidemarkError(thrown, 'committing');
        // Elsewhere: the session is just going over to another mover.
        const again = error.retry === 'same-request' || error.retry === 'after-delay' || error.code === 'SESSION_ELSEWHERE';
        if (!again || context.elapsedMs() - began > commitPatienceMs) {
          failure = error;
          break;
        }
        await context.waiting(Repositories.reasonOf(error));
        await pause(Math.max(error.retryDelayMs ?? 0, this.retryEveryMs), context.shutdown);
      }
    }
    await this.#conclude(context, task.step !== 'started');
    return failure;
  }

  /** A catalogue that cannot take a point now is read from the repository later. Never rejects. */
  async #remember(repositoryId: string, made: Point__Output): Promise<void> {
    try {
      await this.points.put(pointFrom(repositoryId, made));
    } catch (error) {
      this.logger.warn('a point could not be kept in the catalogue; it is read again', { repositoryId, pointId: made.pointId, error });
      this.arrivals.readAgain(repositoryId);
    }
  }

  async #conclude(context: TaskContext, committed: boolean): Promise<void> {
    const { task } = context;
    for (const began = context.elapsedMs(); context.elapsedMs() - began < concludePatienceMs;) {
      try {
        const plugin = await this.platforms.pluginOf(task.platformId);
        const settings = { deadlineMs: 10_000, signal: context.shutdown };
        await plugin.protection.call('ConcludeBackup', { operationId: task.operationId ?? '', committed }, settings);
        break;
      } catch (error) {
        if (context.shutdown.aborted) throw error;
        if (!isTransient(error) && !hasCode(error, 'PLUGIN_DISABLED')) {
          // The operation is gone or has decided for itself; the watch tells how it ended.
          this.logger.warn('a backup could not be concluded', { operationId: task.operationId, committed, error });
          break;
        }
        await context.waiting('plugin-lost');
        await pause(this.retryEveryMs, context.shutdown);
      }
    }
    if (committed) task.step = 'concluded';
    await context.waiting(null);
  }

  /** True when the point is there although nobody told how the operation ended. */
  async wasCommitted(context: TaskContext): Promise<boolean> {
    const { task, session } = context;
    if (task.step === 'committed' || task.step === 'concluded') return true;
    if (task.moverSessionId === null) return false;
    const { moverSessionId } = task;
    const committed = await context.patiently(() => this.#isCommitted(context, moverSessionId), repositoryReason);
    if (committed) {
      task.step = 'concluded';
      await context.save();
      await this.repositories.refreshPoints(session.repositoryId).catch(() => this.arrivals.readAgain(session.repositoryId));
    }
    return committed;
  }

  /** Asks the session's mover; when that is gone, whether the repository has the point. */
  async #isCommitted({ task, session }: TaskContext, moverSessionId: string): Promise<boolean> {
    try {
      const at = { sessionId: moverSessionId, repositoryId: session.repositoryId };
      return await this.moverSessions.isCommitted(task.path?.moverId ?? '', at);
    } catch (error) {
      if (!isTransient(error)) throw error;
      return (await this.repositories.pointsOf(session.repositoryId, task.vmId)).some(({ id }) => id === task.pointId);
    }
  }
}
