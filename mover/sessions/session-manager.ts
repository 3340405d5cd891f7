/** All sessions of the repositories that this mover serves: opening, finding, expiring, and loading them again after a restart. */
import { CommonErrors } from '../../common/errors/common-errors';
import { isTidemarkError } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import { RepositoryErrors, SessionErrors } from '../errors/mover-errors';
import { SESSION_PREFIX, sessionIdOf, type SessionRecord } from '../format/session-record';
import type { Repository } from '../repository/repository';
import { assertSpace } from '../repository/space';
import { listDrafts, type FoundDraft } from './drafts';
import { PageBudget } from './overlay-pages';
import { RecordFile } from './record-file';
import { Session } from './session';
import type { SessionSurroundings } from './session-disks';

/** Ended sessions answer repeated calls for this long. */
const keepEndedMs = 24 * 60 * 60 * 1000;
const sweepIntervalMs = 1_000;
/** From here on between two sweeps the mover was stopped, or its machine. */
const asleepFromMs = 5_000;
/** Between two writings of what a disk has; so much may be read again after a mover died. */
const draftIntervalMs = 5_000;
/** The mover's end does not wait longer for a storage; what is lost by it is read again. */
const suspendMs = 5_000;
/** Sessions known to be another mover's; what is forgotten is looked up in the store. */
const maxElsewhere = 10_000;

export interface SessionRequest {
  readonly sessionId: string;
  readonly kind: SessionRecord['kind'];
  readonly pointIds: readonly string[];
  readonly leaseDurationMs: number;
  /** The caller wants it here, whoever has it. */
  readonly takeOver?: boolean;
}

export interface SessionManagerOptions {
  readonly scratchFolder: string;
  /** A backup session is refused when less than this is free, whatever the repository's own mark is. */
  readonly minimumFreeBytes: number;
  /** For tests, in the place of both clocks. */
  readonly now?: () => number;
  readonly draftIntervalMs?: number;
  readonly suspendMs?: number;
}

export class SessionManager {
  private readonly sessions = new Map<string, Session>();
  private readonly opening = new Map<string, Promise<Session>>();
  /** Repositories whose sessions are loaded. */
  private readonly served = new Set<Repository>();
  /** Open sessions of other movers, as far as this one met them. */
  private readonly elsewhere = new Set<string>();
  private readonly around: SessionSurroundings;
  private timer: NodeJS.Timeout | undefined;
  private sweptAt = 0;
  /** Sessions that are being aborted, because their lease ran out. */
  private readonly ending = new Set<Session>();

  constructor(
    private readonly options: SessionManagerOptions,
    private readonly logger: Logger,
  ) {
    const { scratchFolder, now = () => Date.now() } = options;
    const ticks = options.now ?? (() => performance.now());
    this.around = {
      now,
      ticks,
      scratchFolder,
      budget: new PageBudget(),
      draftIntervalMs: options.draftIntervalMs ?? draftIntervalMs,
      suspendMs: options.suspendMs ?? suspendMs,
      logger,
    };
  }

  /** Begins to expire leases, and to write down what sessions have. */
  start(): void {
    this.sweptAt = performance.now();
    this.timer = setInterval(() => this.sweep(), sweepIntervalMs);
    this.timer.unref();
  }

  async stop(): Promise<void> {
    clearInterval(this.timer);
    // All at once: each may wait for its storage.
    await Promise.all([...this.sessions.values()].map((session) => session.suspend()));
    this.sessions.clear();
    this.served.clear();
  }

  /**
   * Loads the sessions of a repository that are this mover's: open ones get a whole lease anew, one whose manifest exists is committed. Those of other movers
   * are left to them.
   */
  async load(repository: Repository): Promise<void> {
    // Before the records: a draft that is seen has a record, unless its session has ended.
    const drafts = await listDrafts(repository.store);
    const open = new Set<string>();
    for await (const name of repository.store.list(SESSION_PREFIX)) {
      const sessionId = sessionIdOf(name);
      if (sessionId === undefined) continue;
      try {
        const found = await RecordFile.open(repository, sessionId);
        if (!found) continue;
        const { record, file } = found;
        if (record.endedAt !== undefined && this.around.now() - Date.parse(record.endedAt) > keepEndedMs) {
          await repository.store.delete(name);
          continue;
        }
        if (record.state === 'open') open.add(sessionId);
        if (record.state === 'open' && !isOwn(repository, record)) this.noteElsewhere(sessionId);
        else await this.adopt(repository, file, record, drafts);
      } catch (error) {
        if (isTidemarkError(error) && error.code === 'REPOSITORY_IO') throw error;
        // A record that cannot be read is a session that cannot go on; points do not depend on it. Whether it has drafts is not known either.
        open.add(sessionId);
        this.logger.warn('session record ignored', { name, error });
      }
    }
    for (const { name, sessionId } of drafts) if (!open.has(sessionId)) await repository.store.delete(name);
    this.served.add(repository);
  }

  /** Forgets the sessions of a repository. Throws REPOSITORY_IN_USE while some are open. */
  async unload(repository: Repository): Promise<void> {
    const openSessions = this.openCount(repository);
    if (openSessions > 0) throw RepositoryErrors.REPOSITORY_IN_USE({ repositoryId: repository.id, openSessions }, { retryDelayMs: 30_000 });
    await this.forget(repository);
  }

  /** Lets go of the sessions of a repository, whatever their state; their records stay. */
  async forget(repository: Repository): Promise<void> {
    this.served.delete(repository);
    const concerned = [...this.sessions.values()].filter((session) => session.repository === repository);
    await Promise.all(concerned.map((session) => session.suspend()));
    for (const session of concerned) if (this.sessions.get(session.id) === session) this.sessions.delete(session.id);
  }

  openCount(repository: Repository): number {
    let count = 0;
    for (const session of this.sessions.values())
      if (session.repository === repository && session.state === 'open' && !session.isElsewhere) count++;
    return count;
  }

  /**
   * Opens a session, or answers the one that is open under this id, also when this mover does not know it yet. Throws REQUEST_ID_REUSED, SESSION_ENDED,
   * SESSION_ELSEWHERE (another mover has it, and `takeOver` is not set), POINT_NOT_FOUND, REPOSITORY_FULL, REPOSITORY_IO.
   */
  async open(repository: Repository, request: SessionRequest): Promise<Session> {
    const { sessionId } = request;
    const before = this.opening.get(sessionId)?.catch(() => undefined);
    const opening = (before ?? Promise.resolve()).then(() => this.openNow(repository, request));
    this.opening.set(sessionId, opening);
    try {
      return await opening;
    } finally {
      if (this.opening.get(sessionId) === opening) this.opening.delete(sessionId);
    }
  }

  private async openNow(repository: Repository, request: SessionRequest): Promise<Session> {
    const known = this.sessions.get(request.sessionId);
    await known?.look();
    if (known && !known.isElsewhere) return reopen(known, repository, request);
    const found = await RecordFile.open(repository, request.sessionId);
    if (!found) return this.create(repository, request);
    const session = await this.enter(repository, found.file, found.record, request);
    return reopen(session, repository, request);
  }

  /** Serves a session that is in the store, taking it over from another mover if it has to. */
  private async enter(repository: Repository, file: RecordFile, record: SessionRecord, request: SessionRequest): Promise<Session> {
    const { sessionId } = record;
    if (record.state !== 'open' || isOwn(repository, record)) return this.adopt(repository, file, record);
    if (!isSame(record, request)) throw CommonErrors.REQUEST_ID_REUSED({ requestId: sessionId });
    if (request.takeOver !== true) {
      this.noteElsewhere(sessionId);
      throw SessionErrors.SESSION_ELSEWHERE({ sessionId });
    }
    const { leaseDurationMs } = request;
    const generation = (record.generation ?? 1) + 1;
    const own = { ...record, ...ownerOf(repository), generation, leaseDurationMs };
    // From here on the other mover writes nothing more that counts.
    if (!(await file.replace(own))) throw SessionErrors.SESSION_ELSEWHERE({ sessionId });
    this.logger.info('session taken over', { sessionId, from: record.owner, generation });
    await repository.refresh();
    // Its point may have come to be without having been announced.
    if (own.intent) await repository.points.look([own.intent.manifestName]);
    return this.adopt(repository, file, own);
  }

  private async adopt(repository: Repository, file: RecordFile, record: SessionRecord, drafts?: readonly FoundDraft[]): Promise<Session> {
    const { sessionId, state, intent } = record;
    const all = state === 'open' ? (drafts ?? (await listDrafts(repository.store, sessionId))) : [];
    const own = all.filter((draft) => draft.sessionId === sessionId);
    const session = new Session(repository, file, record, own, this.around);
    this.sessions.set(sessionId, session);
    this.elsewhere.delete(sessionId);
    if (state === 'open' && intent && repository.points.has(intent.pointId)) await session.adoptCommitted(intent.pointId);
    return session;
  }

  /** True when the sessions of a repository are known here. */
  serves(repositoryId: string): boolean {
    return [...this.served].some(({ id }) => id === repositoryId);
  }

  /** Throws SESSION_NOT_FOUND, SESSION_ELSEWHERE. */
  get(sessionId: string): Session {
    const session = this.find(sessionId);
    if (!session) throw SessionErrors.SESSION_NOT_FOUND({ sessionId });
    return session;
  }

  /** Throws SESSION_ELSEWHERE. */
  find(sessionId: string): Session | undefined {
    const session = this.sessions.get(sessionId);
    if (session?.isElsewhere || this.elsewhere.has(sessionId)) throw SessionErrors.SESSION_ELSEWHERE({ sessionId });
    return session;
  }

  private noteElsewhere(sessionId: string): void {
    this.elsewhere.add(sessionId);
    if (this.elsewhere.size > maxElsewhere) this.elsewhere.delete(this.elsewhere.values().next().value as string);
  }

  private async create(repository: Repository, request: SessionRequest): Promise<Session> {
    // Points of other movers, and removals.
    await repository.refresh();
    for (const pointId of request.pointIds) if (!repository.points.has(pointId)) throw RepositoryErrors.POINT_NOT_FOUND({ pointId });
    if (request.kind === 'backup') await assertSpace(repository, this.options.minimumFreeBytes);
    const { sessionId, kind, leaseDurationMs } = request;
    const record: SessionRecord = {
      sessionId,
      repositoryId: repository.id,
      kind,
      pointIds: [...request.pointIds],
      state: 'open',
      openedAt: new Date(this.around.now()).toISOString(),
      leaseDurationMs,
      disks: [],
      ...ownerOf(repository),
      generation: 1,
    };
    const file = RecordFile.forNew(repository, sessionId);
    // Another mover was asked at the same time.
    if (!(await file.create(record))) throw SessionErrors.SESSION_ELSEWHERE({ sessionId });
    const session = await this.adopt(repository, file, record, []);
    // Another mover may be removing one: it looks at records after it wrote the tombstone, we at tombstones after the record. One of us sees the other.
    for (const pointId of request.pointIds) {
      if (!(await repository.points.tombstones.look(pointId))) continue;
      await session.abort('a point of it was removed');
      throw RepositoryErrors.POINT_NOT_FOUND({ pointId });
    }
    return session;
  }

  /** Waits for nothing: the storage of one session may not answer, and those of other repositories must not wait with it. */
  private sweep(): void {
    // While this mover slept nobody could renew anything, and what was sent meanwhile is still to be read.
    const sinceMs = performance.now() - this.sweptAt;
    const asleepMs = sinceMs > asleepFromMs ? sinceMs : 0;
    this.sweptAt += sinceMs;
    for (const session of [...this.sessions.values()]) {
      session.excuse(asleepMs);
      void session.keep();
      if (session.isElsewhere) {
        this.sessions.delete(session.id);
        this.noteElsewhere(session.id);
      } else if (session.isExpired) void this.expire(session);
      else if (session.endedAt && this.around.now() - session.endedAt.getTime() > keepEndedMs) this.sessions.delete(session.id);
    }
  }

  private async expire(session: Session): Promise<void> {
    if (this.ending.has(session)) return;
    this.ending.add(session);
    try {
      this.logger.info('session aborted: its lease ran out', { sessionId: session.id });
      await session.abort('its lease ran out');
    } catch (error) {
      this.logger.warn('expiring a session failed; it is tried again', { sessionId: session.id, error });
    } finally {
      this.ending.delete(session);
    }
  }
}

function isOwn(repository: Repository, { owner }: SessionRecord): boolean {
  return owner === undefined || owner === repository.writerId;
}

function ownerOf(repository: Repository): { readonly owner?: string } {
  return repository.writerId === undefined ? {} : { owner: repository.writerId };
}

function isSame(session: Pick<SessionRequest, 'kind' | 'pointIds'>, request: SessionRequest): boolean {
  return session.kind === request.kind && [...session.pointIds].sort().join() === [...request.pointIds].sort().join();
}

/** Answers a session that is known. Throws REQUEST_ID_REUSED, SESSION_ENDED. */
function reopen(session: Session, repository: Repository, request: SessionRequest): Session {
  if (session.repository !== repository || !isSame(session, request))
    throw CommonErrors.REQUEST_ID_REUSED({ requestId: request.sessionId });
  session.renew(request.leaseDurationMs);
  return session;
}
