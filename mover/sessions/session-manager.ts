/** All sessions of the repositories that this mover serves: opening, finding, expiring, and loading them again after a restart. */
import { CommonErrors } from '../../common/errors/common-errors';
import { isTidemarkError } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import { RepositoryErrors, SessionErrors } from '../errors/mover-errors';
import { decodeSession, SESSION_PREFIX, sessionIdOf, type SessionRecord } from '../format/session-record';
import type { Repository } from '../repository/repository';
import { assertSpace } from '../repository/space';
import { PageBudget } from './overlay-pages';
import { Session } from './session';

const maxRecordBytes = 16 * 1024 * 1024;
/** Ended sessions answer repeated calls for this long. */
const keepEndedMs = 24 * 60 * 60 * 1000;
const sweepIntervalMs = 1_000;

export interface SessionRequest {
  readonly sessionId: string;
  readonly kind: SessionRecord['kind'];
  readonly pointIds: readonly string[];
  readonly leaseDurationMs: number;
}

export interface SessionManagerOptions {
  readonly scratchFolder: string;
  /** A backup session is refused when less than this is free, whatever the repository's own mark is. */
  readonly minimumFreeBytes: number;
  readonly now?: () => number;
}

export class SessionManager {
  private readonly sessions = new Map<string, Session>();
  private readonly opening = new Map<string, Promise<Session>>();
  private readonly budget = new PageBudget();
  private readonly now: () => number;
  private timer: NodeJS.Timeout | undefined;
  private sweeping = false;

  constructor(
    private readonly options: SessionManagerOptions,
    private readonly logger: Logger,
  ) {
    this.now = options.now ?? Date.now;
  }

  /** Begins to expire leases. */
  start(): void {
    this.timer = setInterval(() => void this.sweep(), sweepIntervalMs);
    this.timer.unref();
  }

  async stop(): Promise<void> {
    clearInterval(this.timer);
    for (const session of this.sessions.values()) await session.suspend();
    this.sessions.clear();
  }

  /** Loads the sessions of a repository: open ones get a whole lease anew, one whose manifest exists is committed. */
  async load(repository: Repository): Promise<void> {
    for await (const name of repository.store.list(SESSION_PREFIX)) {
      if (sessionIdOf(name) === undefined) continue;
      try {
        const record = decodeSession(await repository.store.readWhole(name, maxRecordBytes), name, repository.keys?.document(name));
        if (record.endedAt !== undefined && this.now() - Date.parse(record.endedAt) > keepEndedMs) {
          await repository.store.delete(name);
          continue;
        }
        const session = this.construct(repository, record);
        this.sessions.set(record.sessionId, session);
        if (record.state === 'open' && record.intent && repository.points.has(record.intent.pointId))
          await session.adoptCommitted(record.intent.pointId);
      } catch (error) {
        if (isTidemarkError(error) && error.code === 'REPOSITORY_IO') throw error;
        // A record that cannot be read is a session that cannot go on; points do not depend on it.
        this.logger.warn('session record ignored', { name, error });
      }
    }
  }

  /** Forgets the sessions of a repository. Throws REPOSITORY_IN_USE while some are open. */
  async unload(repository: Repository): Promise<void> {
    const openSessions = this.openCount(repository);
    if (openSessions > 0) throw RepositoryErrors.REPOSITORY_IN_USE({ repositoryId: repository.id, openSessions }, { retryDelayMs: 30_000 });
    await this.forget(repository);
  }

  /** Lets go of the sessions of a repository, whatever their state; their records stay. */
  async forget(repository: Repository): Promise<void> {
    for (const session of [...this.sessions.values()]) {
      if (session.repository !== repository) continue;
      await session.suspend();
      this.sessions.delete(session.id);
    }
  }

  openCount(repository: Repository): number {
    let count = 0;
    for (const session of this.sessions.values()) if (session.repository === repository && session.state === 'open') count++;
    return count;
  }

  /**
   * Opens a session, or answers the one that is open under this id. Throws REQUEST_ID_REUSED, SESSION_ENDED, POINT_NOT_FOUND, REPOSITORY_FULL,
   * REPOSITORY_IO.
   */
  async open(repository: Repository, request: SessionRequest): Promise<Session> {
    const existing = this.sessions.get(request.sessionId) ?? (await this.opening.get(request.sessionId));
    if (existing) return this.reopen(existing, repository, request);
    const opening = this.create(repository, request).finally(() => this.opening.delete(request.sessionId));
    this.opening.set(request.sessionId, opening);
    return opening;
  }

  /** Throws SESSION_NOT_FOUND. */
  get(sessionId: string): Session {
    const session = this.sessions.get(sessionId);
    if (!session) throw SessionErrors.SESSION_NOT_FOUND({ sessionId });
    return session;
  }

  find(sessionId: string): Session | undefined {
    return this.sessions.get(sessionId);
  }

  private reopen(session: Session, repository: Repository, request: SessionRequest): Session {
    const same =
      session.repository === repository &&
      session.kind === request.kind &&
      [...session.pointIds].sort().join() === [...request.pointIds].sort().join();
    if (!same) throw CommonErrors.REQUEST_ID_REUSED({ requestId: request.sessionId });
    session.renew(request.leaseDurationMs);
    return session;
  }

  private async create(repository: Repository, request: SessionRequest): Promise<Session> {
    for (const pointId of request.pointIds) if (!repository.points.has(pointId)) throw RepositoryErrors.POINT_NOT_FOUND({ pointId });
    if (request.kind === 'backup') await assertSpace(repository, this.options.minimumFreeBytes);
    const session = this.construct(repository, {
      sessionId: request.sessionId,
      repositoryId: repository.id,
      kind: request.kind,
      pointIds: [...request.pointIds],
      state: 'open',
      openedAt: new Date(this.now()).toISOString(),
      leaseDurationMs: request.leaseDurationMs,
      disks: [],
    });
    await session.persist();
    this.sessions.set(session.id, session);
    return session;
  }

  private construct(repository: Repository, record: SessionRecord): Session {
    return new Session(repository, record, this.now, this.options.scratchFolder, this.budget);
  }

  private async sweep(): Promise<void> {
    if (this.sweeping) return;
    this.sweeping = true;
    await this.expire().finally(() => (this.sweeping = false));
  }

  private async expire(): Promise<void> {
    for (const session of [...this.sessions.values()]) {
      try {
        if (session.isExpired) {
          this.logger.info('session aborted: its lease ran out', { sessionId: session.id });
          await session.abort('its lease ran out');
        } else if (session.endedAt && this.now() - session.endedAt.getTime() > keepEndedMs) this.sessions.delete(session.id);
      } catch (error) {
        this.logger.warn('expiring a session failed; it is tried again', { sessionId: session.id, error });
      }
    }
  }
}
