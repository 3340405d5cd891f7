/**
 * One session: a durable record, a lease, the disks being written, and the connections that work for it. Its steps are serialised; each one that
 * the caller hears of is on the disk (docs/formats/session.md).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { CommonErrors } from '../../common/errors/common-errors';
import { hasCode } from '../../common/errors/tidemark-error';
import { DataPortErrors, RepositoryErrors, SessionErrors } from '../errors/mover-errors';
import type { PointRecord } from '../format/manifest';
import type { CommittedDisk, SessionRecord } from '../format/session-record';
import type { Repository } from '../repository/repository';
import { SerialQueue } from '../../common/flow/serial-queue';
import type { DiskCommit, DiskDraft, DiskRequest } from './disk-draft';
import type { FoundDraft } from './drafts';
import type { RecordFile } from './record-file';
import { SessionDisks, type SessionSurroundings } from './session-disks';

/** A connection of the session, as the session sees it. */
export interface Lane {
  /** Tells the peer why and closes. */
  close(error: Error): void;
}

/** A point as the host names it; what the mover fills in is absent. */
export type PointDraft = Omit<PointRecord, 'repositoryId' | 'committedAt' | 'blockSizeBytes' | 'sessionId' | 'disks'> & {
  readonly disks: readonly Omit<PointRecord['disks'][number], 'indexRoot' | 'allocatedBlocks'>[];
};

export class Session {
  /** By `ticks`: a clock that is set must not end a backup, nor keep one for ever. */
  private leaseEndsAt: number;
  private readonly disks: SessionDisks;
  private readonly lanes = new Set<Lane>();
  private readonly steps = new SerialQueue();
  private elsewhere = false;
  private isKeeping = false;
  /** Set when it is let go of: who comes now would write for nobody. */
  private leaving: Error | undefined;

  constructor(
    readonly repository: Repository,
    private readonly file: RecordFile,
    private record: SessionRecord,
    /** Of earlier lives. */
    found: readonly FoundDraft[],
    private readonly around: SessionSurroundings,
  ) {
    const { sessionId, generation = 1 } = record;
    this.disks = new SessionDisks(repository, sessionId, generation, found, this.steps, around, () => this.assertOpen());
    this.leaseEndsAt = around.ticks() + record.leaseDurationMs;
  }

  get id(): string {
    return this.record.sessionId;
  }

  get state(): SessionRecord['state'] {
    return this.record.state;
  }

  get kind(): SessionRecord['kind'] {
    return this.record.kind;
  }

  get pointIds(): readonly string[] {
    return this.record.pointIds;
  }

  get committedDisks(): readonly CommittedDisk[] {
    return this.record.disks;
  }

  /** The point made by it, once committed. */
  get pointId(): string | undefined {
    return this.record.pointId;
  }

  get endedAt(): Date | undefined {
    return this.record.endedAt === undefined ? undefined : new Date(this.record.endedAt);
  }

  get leaseExpiresAt(): Date {
    return new Date(this.around.now() + this.leaseEndsAt - this.around.ticks());
  }

  get isExpired(): boolean {
    return this.record.state === 'open' && !this.elsewhere && this.around.ticks() >= this.leaseEndsAt;
  }

  /** Another mover has taken it over. */
  get isElsewhere(): boolean {
    return this.elsewhere;
  }

  /** It was another mover's before. */
  get wasTakenOver(): boolean {
    return (this.record.generation ?? 1) > 1;
  }

  get laneCount(): number {
    return this.lanes.size;
  }

  /** Extends the lease. Throws SESSION_ENDED. */
  renew(leaseDurationMs: number): void {
    this.assertOpen();
    this.record = { ...this.record, leaseDurationMs };
    this.leaseEndsAt = this.around.ticks() + leaseDurationMs;
  }

  /** The mover could not have heard of a renewal for so long. */
  excuse(asleepMs: number): void {
    this.leaseEndsAt += asleepMs;
  }

  /** Throws SESSION_ENDED. */
  attach(lane: Lane): void {
    this.assertOpen();
    this.lanes.add(lane);
  }

  detach(lane: Lane): void {
    this.lanes.delete(lane);
    this.repository.blocks.release(lane);
  }

  /** Finds out whether somebody else took it over or ended it, and lets go of it then. Throws as `Store.readWhole`. */
  async look(): Promise<void> {
    if (this.record.state === 'open' && !this.elsewhere && !(await this.file.isOurs())) await this.lose();
  }

  /**
   * Opens a disk for writing, or tells that it is committed. Throws SESSION_ENDED, DISK_MISMATCH, POINT_NOT_FOUND. The base must be one of the session's
   * points: those are safe from removal.
   */
  async openDisk(request: DiskRequest): Promise<DiskDraft | 'committed'> {
    this.assertOpen();
    const done = this.record.disks.find((d) => d.diskId === request.diskId);
    if (done) {
      if (done.sizeBytes === request.sizeBytes && done.basePointId === request.basePointId && done.baseDiskId === request.baseDiskId)
        return 'committed';
      throw SessionErrors.DISK_MISMATCH({ diskId: request.diskId, problem: 'it was committed with another size or base' });
    }
    if (request.basePointId !== '' && !this.record.pointIds.includes(request.basePointId))
      throw RepositoryErrors.POINT_NOT_FOUND({ pointId: request.basePointId });
    return this.disks.open(request);
  }

  /** Makes a disk durable and notes it, or names what is missing. Repeating it after success gives the same answer. */
  commitDisk(draft: DiskDraft, missingLimit: number): Promise<DiskCommit> {
    return this.steps.run(async () => {
      this.assertOpen();
      const { diskId } = draft.request;
      const done = this.record.disks.find((d) => d.diskId === diskId);
      if (done) return { committed: done };
      const { repository } = this;
      const result = await repository.referencing(async () => {
        const committed = await draft.commit(missingLimit);
        if ('missing' in committed) return committed;
        await repository.announcePacks();
        await repository.assertWritable();
        await this.save({ ...this.record, disks: [...this.record.disks, committed.committed] });
        return committed;
      });
      if ('missing' in result) return result;
      await this.disks.drop(diskId);
      return result;
    });
  }

  /**
   * Writes down what became durable of the disks, when it is time, so that the session can go on after this mover is gone. Never rejects: what could not be
   * written is written the next time, or read again.
   */
  async keep(): Promise<void> {
    if (this.isKeeping || this.record.state !== 'open' || this.elsewhere || !this.disks.isDue) return;
    this.isKeeping = true;
    try {
      await this.steps.run(async () => {
        await this.look();
        if (this.record.state === 'open' && !this.elsewhere) await this.disks.write(false);
      });
    } catch (error) {
      this.around.logger.warn('what a session has could not be written down; it is tried again', { sessionId: this.id, error });
    } finally {
      this.isKeeping = false;
    }
  }

  /**
   * Makes the point visible, or answers the point made before. Throws SESSION_ENDED, SESSION_DISK_INCOMPLETE, REQUEST_ID_REUSED (the point id
   * belongs to another session), REPOSITORY_FULL, REPOSITORY_IO, REPOSITORY_LOCK_LOST: then it can be repeated.
   */
  commit(draft: PointDraft, configuration: string): Promise<PointRecord> {
    return this.steps.run(async () => {
      const { repository, record } = this;
      if (record.state === 'committed' && record.pointId !== undefined) {
        if (record.pointId !== draft.pointId) throw CommonErrors.REQUEST_ID_REUSED({ requestId: this.id });
        return repository.points.read(record.pointId);
      }
      this.assertOpen();
      if (record.intent && record.intent.pointId !== draft.pointId) throw CommonErrors.REQUEST_ID_REUSED({ requestId: this.id });
      if (repository.points.has(draft.pointId)) {
        const existing = await repository.points.read(draft.pointId);
        if (existing.sessionId !== this.id) throw CommonErrors.REQUEST_ID_REUSED({ requestId: draft.pointId });
        // Whoever made it may not have lived to tell.
        await repository.announce({ manifest: repository.points.nameFor(existing) });
        await this.finish(existing.pointId);
        return existing;
      }
      const point = this.completePoint(draft, new Date(this.around.now()));
      const name = record.intent?.manifestName ?? repository.points.nameFor(point);
      await this.save({ ...record, intent: { pointId: point.pointId, manifestName: name } });
      await repository.publish(point, configuration, name);
      await this.finish(point.pointId);
      return point;
    });
  }

  /** Called at attach for a record whose manifest turned out to exist. */
  async adoptCommitted(pointId: string): Promise<void> {
    await this.steps.run(async () => {
      // Whoever made it may not have lived to tell, and what nobody told of is not missed when it goes.
      if (this.record.intent) await this.repository.announce({ manifest: this.record.intent.manifestName });
      await this.finish(pointId);
    });
  }

  /** Ends the session without a point; its blocks become garbage. Nothing for an aborted one. Throws SESSION_ENDED for a committed one. */
  abort(why: string): Promise<void> {
    if (this.elsewhere) return Promise.reject(SessionErrors.SESSION_ELSEWHERE({ sessionId: this.id }));
    // Cut the lanes first: a step that waits for one of them must not hold up the abort.
    if (this.record.state === 'open') this.closeLanes(SessionErrors.SESSION_ENDED({ sessionId: this.id, state: why }));
    return this.steps.run(async () => {
      if (this.record.state === 'aborted') return;
      if (this.record.state === 'committed') throw SessionErrors.SESSION_ENDED({ sessionId: this.id, state: 'committed' });
      await this.save({ ...this.record, state: 'aborted', endedAt: new Date(this.around.now()).toISOString() });
      await this.end(SessionErrors.SESSION_ENDED({ sessionId: this.id, state: why }));
    });
  }

  /** Lets go of memory and connections, leaving the record: the mover stops, or detaches the repository. */
  async suspend(): Promise<void> {
    const stopping = (this.leaving ??= DataPortErrors.MOVER_STOPPING({ sessionId: this.id }));
    this.closeLanes(stopping);
    const last = this.steps.run(async () => {
      if (this.disks.count === 0 || this.record.state !== 'open' || this.elsewhere || this.repository.isLost) return;
      await this.repository.blocks.flush();
      await this.disks.write(true);
    });
    last.catch((error: unknown) =>
      this.around.logger.warn('a session was let go of without its newest blocks', { sessionId: this.id, error }),
    );
    await Promise.race([last.catch(() => undefined), sleep(this.around.suspendMs, undefined, { ref: false })]);
    this.release(stopping);
  }

  private assertOpen(): void {
    if (this.elsewhere) throw SessionErrors.SESSION_ELSEWHERE({ sessionId: this.id });
    if (this.record.state !== 'open') throw SessionErrors.SESSION_ENDED({ sessionId: this.id, state: this.record.state });
    if (this.leaving) throw this.leaving;
  }

  private completePoint(draft: PointDraft, committedAt: Date): PointRecord {
    const disks = draft.disks.map((disk) => {
      const committed = this.record.disks.find((d) => d.diskId === disk.diskId);
      const incomplete = (problem: string) => SessionErrors.SESSION_DISK_INCOMPLETE({ sessionId: this.id, diskId: disk.diskId, problem });
      if (!committed) throw incomplete('it was not committed on the data port');
      if (committed.sizeBytes !== disk.sizeBytes)
        throw incomplete(`it was committed with ${committed.sizeBytes} bytes, not ${disk.sizeBytes}`);
      return {
        ...disk,
        indexRoot: committed.indexRoot,
        allocatedBlocks: committed.allocatedBlocks,
        counters: {
          ...disk.counters,
          storedBytes: committed.storedBytes,
          // Not as the worker counts: what it offers again after a connection was lost is there by then, and is no deduplication.
          deduplicatedBytes: committed.deduplicatedBytes,
        },
      };
    });
    return {
      ...draft,
      repositoryId: this.repository.id,
      sessionId: this.id,
      committedAt: committedAt.toISOString(),
      blockSizeBytes: this.repository.blockSizeBytes,
      disks,
    };
  }

  private async finish(pointId: string): Promise<void> {
    await this.save({ ...this.record, state: 'committed', pointId, endedAt: new Date(this.around.now()).toISOString() });
    await this.end(SessionErrors.SESSION_ENDED({ sessionId: this.id, state: 'committed' }));
  }

  /** Throws SESSION_ELSEWHERE or SESSION_ENDED when it is not ours any more, and as `Store.swap`. */
  private async save(record: SessionRecord): Promise<void> {
    if (!(await this.file.replace(record))) throw await this.lose();
    this.record = record;
  }

  /** The record is another one than this mover left: nothing more is written for the session here. */
  private async lose(): Promise<Error> {
    const sessionId = this.id;
    // One that is damaged is of no use to anybody any more (docs/formats/session.md).
    const found = await this.file.read().catch(unlessDamaged);
    let error: Error;
    if (found && found.state !== 'aborted') {
      this.elsewhere = true;
      error = SessionErrors.SESSION_ELSEWHERE({ sessionId });
    } else {
      const endedAt = new Date(this.around.now()).toISOString();
      this.record = { ...this.record, endedAt, ...found, state: 'aborted' };
      error = SessionErrors.SESSION_ENDED({ sessionId, state: 'aborted' });
    }
    this.around.logger.warn('a session was taken over or ended by another mover', { sessionId, owner: found?.owner, state: found?.state });
    this.release(error);
    return error;
  }

  private async end(error: Error): Promise<void> {
    this.closeLanes(error);
    await this.disks.end();
  }

  private closeLanes(error: Error): void {
    for (const lane of [...this.lanes]) lane.close(error);
  }

  private release(error: Error): void {
    this.closeLanes(error);
    this.disks.release();
  }
}

function unlessDamaged(error: unknown): undefined {
  if (!hasCode(error, 'OBJECT_DAMAGED')) throw error;
}
