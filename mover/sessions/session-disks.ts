/** The disks that a session is writing, each with what is written down of it; and what earlier lives of the session wrote down. */
import { CommonErrors } from '../../common/errors/common-errors';
import type { Logger } from '../../common/log/logger';
import type { Repository } from '../repository/repository';
import type { SerialQueue } from '../../common/flow/serial-queue';
import { DiskDraft, type DiskRequest } from './disk-draft';
import { DraftLog } from './draft-log';
import type { FoundDraft } from './drafts';
import type { PageBudget } from './overlay-pages';

/** Each takes some memory with its size, 256 KiB for the largest, whether anything is written to it or not. */
const maxDisks = 256;

/** What a session needs of the mover. */
export interface SessionSurroundings {
  /** Time of the day, for records. */
  readonly now: () => number;
  /** Milliseconds of a clock that nobody sets, for what has to last. */
  readonly ticks: () => number;
  readonly scratchFolder: string;
  readonly budget: PageBudget;
  /** Between two writings of what a disk has. */
  readonly draftIntervalMs: number;
  /** How long a session that is let go of may take to make durable what it has. */
  readonly suspendMs: number;
  readonly logger: Logger;
}

interface OpenDisk {
  readonly draft: DiskDraft;
  readonly log: DraftLog;
}

export class SessionDisks {
  private readonly disks = new Map<string, OpenDisk>();
  private readonly opening = new Map<string, Promise<OpenDisk>>();

  constructor(
    private readonly repository: Repository,
    private readonly sessionId: string,
    private readonly generation: number,
    private readonly found: readonly FoundDraft[],
    /** The session's steps: a disk is not thrown away while it is committed. */
    private readonly steps: SerialQueue,
    private readonly around: SessionSurroundings,
    private readonly assertOpen: () => void,
  ) {}

  get count(): number {
    return this.disks.size;
  }

  /**
   * The disk as it is being written; begun now when it is not: from what is written down of the same content, or anew. Another content takes the place of
   * the one before. Throws what `DiskDraft.open` throws, ARGUMENT_INVALID.
   */
  async open(request: DiskRequest): Promise<DiskDraft> {
    const { diskId } = request;
    for (;;) {
      const known = await (this.opening.get(diskId) ?? this.disks.get(diskId));
      this.assertOpen();
      if (known?.draft.request.contentId === request.contentId) {
        known.draft.assertSame(request);
        return known.draft;
      }
      // Another lane may have begun while this one waited.
      if (this.opening.has(diskId)) continue;
      if (!known && this.opening.size + this.disks.size >= maxDisks)
        throw CommonErrors.ARGUMENT_INVALID({ field: 'disk_id', problem: `a session has at most ${maxDisks} disks` });
      const opening = this.begin(request, known).finally(() => this.opening.delete(diskId));
      this.opening.set(diskId, opening);
      return (await opening).draft;
    }
  }

  private async begin(request: DiskRequest, before: OpenDisk | undefined): Promise<OpenDisk> {
    const { repository, sessionId, around } = this;
    const { diskId } = request;
    const draft = await DiskDraft.open(repository, request, around.scratchFolder, around.budget);
    try {
      const log = before?.log ?? new DraftLog(repository, sessionId, this.generation, diskId, this.found);
      if (before) {
        around.logger.info('a disk is sent anew, with other content', { sessionId, diskId });
        await this.steps.run(async () => {
          before.draft.dispose();
          await log.delete();
        });
      } else await log.restore(draft, around.logger);
      this.assertOpen();
      const disk = { draft, log };
      this.disks.set(diskId, disk);
      return disk;
    } catch (error) {
      draft.dispose();
      throw error;
    }
  }

  get isDue(): boolean {
    return [...this.disks.values()].some((disk) => this.isDiskDue(disk));
  }

  /** Writes down what became durable of the disks: of those that are due, or of all. Throws as `DraftLog.write`. */
  async write(all: boolean): Promise<void> {
    for (const disk of [...this.disks.values()]) if (all || this.isDiskDue(disk)) await disk.log.write(disk.draft, this.around.ticks());
  }

  /** A disk that is committed needs no draft. */
  async drop(diskId: string): Promise<void> {
    const disk = this.disks.get(diskId);
    this.disks.delete(diskId);
    disk?.draft.dispose();
    await this.tidy(async () => disk?.log.delete());
  }

  /** Lets go of memory; what was written down stays. */
  release(): void {
    for (const { draft } of this.disks.values()) draft.dispose();
    this.disks.clear();
  }

  /** The session has ended: nothing is left of its disks. */
  async end(): Promise<void> {
    const logs = [...this.disks.values()].map(({ log }) => log);
    this.release();
    for (const log of logs) await this.tidy(() => log.delete());
    // Of disks that nobody opened in this life; some may be gone by now.
    await this.tidy(async () => {
      for (const { name } of this.found) await this.repository.store.delete(name);
    });
  }

  private isDiskDue({ draft, log }: OpenDisk): boolean {
    return log.isDue(draft, this.around.ticks(), this.around.draftIntervalMs);
  }

  /** What is left over is removed when its mover attaches the repository again. */
  private async tidy(work: () => Promise<void>): Promise<void> {
    const { sessionId } = this;
    await work().catch((error: unknown) => this.around.logger.warn('drafts were left over', { sessionId, error }));
  }
}
