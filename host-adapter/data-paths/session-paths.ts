/**
 * The mover that carries a task's session: chosen when the session is opened, and again when that mover is gone. What was chosen, and why, is written
 * down with the task before anything is asked of the mover, so that a server that starts again knows where the session is.
 */
import { hasCode } from '../../common/errors/tidemark-error';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { DataPath } from '../../proto/gen/tidemark/common/v1/DataPath';
import { HostErrors } from '../errors/host-errors';
import { isTransient } from '../jobs/task-context';
import type { TaskContext } from '../jobs/task-context';
import type { TaskPath } from '../jobs/task-record';
import type { MoverSessions, SessionTerms } from '../repositories/mover-sessions';
import type { Repositories } from '../repositories/repositories';
import type { Candidates } from './candidates';
import type { MoverLoads } from './mover-loads';
import { resolvePath } from './resolve';
import type { Resolution } from './resolve';

type Chosen = Extract<Resolution, { kind: 'chosen' }>;

/** A worker's failure that another mover may not have. */
const unreachedByWorker = ['MOVER_UNREACHABLE', 'MOVER_CONNECTION_LOST'] as const;

export class SessionPaths {
  constructor(
    private readonly repositories: Pick<Repositories, 'row'>,
    private readonly candidates: Pick<Candidates, 'of'>,
    private readonly sessions: MoverSessions,
    private readonly loads: MoverLoads,
  ) {}

  /**
   * Opens the task's session on the best mover, on the next where one is found gone. Throws DATA_PATH_UNAVAILABLE (wait), GATEWAY_MISSING,
   * and what SessionService.OpenSession says.
   */
  async open(context: TaskContext, what: Pick<TaskPath, 'kind' | 'pointIds'>): Promise<DataPath> {
    const failed = new Set<string>();
    for (let last: unknown; ;) {
      const found = await this.resolve(context, failed);
      if (found.kind !== 'chosen') throw last ?? (await this.#unresolved(context, found));
      const moverId = found.mover.moverId;
      // A try before may have opened it elsewhere, with the answer lost.
      const takeOver = context.task.path != null && context.task.path.moverId !== moverId;
      await this.#enter(context, { ...pathOf(found, what), before: [], told: true });
      try {
        return await this.sessions.open(moverId, termsOf(context), takeOver);
      } catch (error) {
        if (!isTransient(error) || context.stop.aborted) throw error;
        last = error;
        failed.add(moverId);
      }
    }
  }

  /**
   * Opens the session anew on another mover than its own one, and writes that down; false when there is none now. Throws what
   * SessionService.OpenSession says; the task's path is as it was then.
   */
  async changeOver(context: TaskContext, failed: ReadonlySet<string>): Promise<Resolution> {
    const { path } = context.task;
    const found = await this.resolve(context, failed);
    if (!path || found.kind !== 'chosen') return found;
    try {
      await this.sessions.open(found.mover.moverId, termsOf(context), true);
    } catch (error) {
      // Committed already, with the answer lost: a repeated commit says so, there as anywhere.
      if (!hasCode(error, 'SESSION_ENDED') || context.task.state !== 'committing') throw error;
    }
    await this.#enter(context, { ...pathOf(found, path), before: [...path.before, path.moverName], told: false });
    return found;
  }

  /**
   * Throws the task's session away; when its mover is gone, through another one, so that nothing of it is kept for it. Fine for one that was never
   * opened. Throws what the movers say.
   */
  async abort(context: TaskContext): Promise<void> {
    const { path, moverSessionId } = context.task;
    if (!path || moverSessionId === null) return;
    try {
      await this.sessions.abort(path.moverId, moverSessionId);
    } catch (error) {
      if (!isTransient(error)) throw error;
      const found = await this.resolve(context, new Set([path.moverId]));
      if (found.kind !== 'chosen') throw error;
      await this.sessions.open(found.mover.moverId, termsOf(context), true);
      await this.sessions.abort(found.mover.moverId, moverSessionId);
    }
  }

  /** The way to the task's session as it is now, with a new ticket. */
  pathTo(context: TaskContext): Promise<DataPath> {
    return this.sessions.pathTo(context.task.path?.moverId ?? '', termsOf(context));
  }

  /** Which mover would be taken now. */
  async resolve({ task, session }: TaskContext, failed: ReadonlySet<string>): Promise<Resolution> {
    const row = await this.repositories.row(session.repositoryId);
    const { platformId, vmId, clusterId = '', unreachedMovers: unreached = [] } = task;
    return resolvePath(await this.candidates.of(row, { platformId, vmId, clusterId, failed, unreached }));
  }

  /** A server that starts again finds a task with an open session. */
  adopt({ task }: TaskContext): void {
    if (task.path) this.loads.hold(task.id, task.path.moverId);
  }

  release({ task }: TaskContext): void {
    this.loads.release(task.id);
  }

  /** A try failed: when it was for the way to the mover, the next one prefers another. */
  learnFrom({ task }: TaskContext, error: unknown): void {
    if (!task.path || !hasCode(error, ...unreachedByWorker)) return;
    task.unreachedMovers = [...new Set([...(task.unreachedMovers ?? []), task.path.moverId])];
  }

  async #enter(context: TaskContext, path: TaskPath): Promise<void> {
    context.task.path = { ...path, ticketAt: context.now().toISOString() };
    this.loads.hold(context.task.id, path.moverId);
    await context.save();
  }

  async #unresolved({ session }: TaskContext, found: Exclude<Resolution, Chosen>): Promise<TidemarkError> {
    const { name } = await this.repositories.row(session.repositoryId);
    if (found.kind === 'missing') return HostErrors.GATEWAY_MISSING({ repository: name });
    return HostErrors.DATA_PATH_UNAVAILABLE({ repository: name, reason: found.reason, text: found.message });
  }
}

function pathOf({ mover, reason, message, passed }: Chosen, { kind, pointIds }: Pick<TaskPath, 'kind' | 'pointIds'>) {
  const others = passed.map(({ name, why }) => `${name}: ${why}`).join('; ');
  return {
    moverId: mover.moverId,
    moverName: mover.name,
    reason,
    message: others === '' ? message : `${message} Not chosen: ${others}.`,
    kind,
    pointIds,
  };
}

function termsOf({ task, session }: TaskContext): SessionTerms {
  return {
    sessionId: task.moverSessionId ?? '',
    repositoryId: session.repositoryId,
    kind: task.path?.kind ?? 'backup',
    pointIds: task.path?.pointIds ?? [],
  };
}
