/**
 * One session: a durable record, a lease, the disks being written, and the connections that work for it. Its steps are serialised; each one that
 * the caller hears of is on the disk (docs/formats/session.md).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { CommonErrors } from '../../common/errors/common-errors';
import { DataPortErrors, RepositoryErrors, SessionErrors } from '../errors/mover-errors';
import type { PointRecord } from '../format/manifest';
import { encodeSession, sessionName, type CommittedDisk, type SessionRecord } from '../format/session-record';
import type { Repository } from '../repository/repository';
import { DiskDraft, type DiskCommit, type DiskRequest } from './disk-draft';
import type { PageBudget } from './overlay-pages';
import { SerialQueue } from '../repository/serial-queue';

const maxDisks = 1024;

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
  private leaseEndsAt: number;
  private readonly drafts = new Map<string, DiskDraft>();
  private readonly opening = new Map<string, Promise<DiskDraft>>();
  private readonly lanes = new Set<Lane>();
  private readonly steps = new SerialQueue();

  constructor(
    readonly repository: Repository,
    private record: SessionRecord,
    private readonly now: () => number,
    private readonly scratchFolder: string,
    private readonly budget: PageBudget,
  ) {
    this.leaseEndsAt = now() + record.leaseDurationMs;
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
    return new Date(this.leaseEndsAt);
  }

  get isExpired(): boolean {
    return this.record.state === 'open' && this.now() >= this.leaseEndsAt;
  }

  get laneCount(): number {
    return this.lanes.size;
  }

  /** Extends the lease. Throws SESSION_ENDED. */
  renew(leaseDurationMs: number): void {
    this.assertOpen();
    this.record = { ...this.record, leaseDurationMs };
    this.leaseEndsAt = this.now() + leaseDurationMs;
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

  /** Writes the record as it stands; for a new session. */
  async persist(): Promise<void> {
    await this.save(this.record);
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
    let draft = this.drafts.get(request.diskId);
    if (!draft) {
      if (this.opening.size + this.drafts.size >= maxDisks)
        throw CommonErrors.ARGUMENT_INVALID({ field: 'disk_id', problem: `a session has at most ${maxDisks} disks` });
      let opening = this.opening.get(request.diskId);
      if (!opening) {
        opening = DiskDraft.open(this.repository, request, this.scratchFolder, this.budget);
        this.opening.set(request.diskId, opening);
        opening.then(
          (opened) => {
            this.opening.delete(request.diskId);
            if (this.record.state === 'open') this.drafts.set(request.diskId, opened);
            else opened.dispose();
          },
          () => this.opening.delete(request.diskId),
        );
      }
      draft = await opening;
      this.assertOpen();
    }
    draft.assertSame(request);
    return draft;
  }

  /** Makes a disk durable and notes it, or names what is missing. Repeating it after success gives the same answer. */
  commitDisk(draft: DiskDraft, missingLimit: number): Promise<DiskCommit> {
    return this.steps.run(async () => {
      this.assertOpen();
      const { diskId } = draft.request;
      const done = this.record.disks.find((d) => d.diskId === diskId);
      if (done) return { committed: done };
      const result = await draft.commit(missingLimit);
      if ('missing' in result) return result;
      await this.repository.assertWritable();
      await this.save({ ...this.record, disks: [...this.record.disks, result.committed] });
      this.drafts.delete(diskId);
      draft.dispose();
      return result;
    });
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
        await this.finish(existing.pointId);
        return existing;
      }
      const point = this.completePoint(draft, new Date(this.now()));
      const name = record.intent?.manifestName ?? repository.points.nameFor(point);
      await this.save({ ...record, intent: { pointId: point.pointId, manifestName: name } });
      await repository.publish(point, configuration, name);
      await this.finish(point.pointId);
      return point;
    });
  }

  /** Called at attach for a record whose manifest turned out to exist. */
  async adoptCommitted(pointId: string): Promise<void> {
    await this.steps.run(() => this.finish(pointId));
  }

  /** Ends the session without a point; its blocks become garbage. Nothing for an aborted one. Throws SESSION_ENDED for a committed one. */
  abort(why: string): Promise<void> {
    // Cut the lanes first: a step that waits for one of them must not hold up the abort.
    if (this.record.state === 'open') this.closeLanes(SessionErrors.SESSION_ENDED({ sessionId: this.id, state: why }));
    return this.steps.run(async () => {
      if (this.record.state === 'aborted') return;
      if (this.record.state === 'committed') throw SessionErrors.SESSION_ENDED({ sessionId: this.id, state: 'committed' });
      await this.save({ ...this.record, state: 'aborted', endedAt: new Date(this.now()).toISOString() });
      this.release(SessionErrors.SESSION_ENDED({ sessionId: this.id, state: why }));
    });
  }

  /** Lets go of memory and connections, leaving the record: the mover stops, or detaches the repository. */
  async suspend(): Promise<void> {
    this.closeLanes(DataPortErrors.MOVER_STOPPING({ sessionId: this.id }));
    await Promise.race([this.steps.run(() => Promise.resolve()), sleep(5_000, undefined, { ref: false })]);
    this.release(DataPortErrors.MOVER_STOPPING({ sessionId: this.id }));
  }

  private assertOpen(): void {
    if (this.record.state !== 'open') throw SessionErrors.SESSION_ENDED({ sessionId: this.id, state: this.record.state });
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
          deduplicatedBytes: Math.max(disk.counters.deduplicatedBytes, committed.deduplicatedBytes),
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
    await this.save({ ...this.record, state: 'committed', pointId, endedAt: new Date(this.now()).toISOString() });
    this.release(SessionErrors.SESSION_ENDED({ sessionId: this.id, state: 'committed' }));
  }

  private async save(record: SessionRecord): Promise<void> {
    const { store, keys } = this.repository;
    const name = sessionName(record.sessionId);
    await store.put(name, encodeSession(record, keys?.document(name)));
    this.record = record;
  }

  private closeLanes(error: Error): void {
    for (const lane of [...this.lanes]) lane.close(error);
  }

  private release(error: Error): void {
    this.closeLanes(error);
    for (const draft of this.drafts.values()) draft.dispose();
    this.drafts.clear();
  }
}
