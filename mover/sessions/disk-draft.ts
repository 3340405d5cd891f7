/**
 * One disk of a backup session before it is committed: what its lanes offered over what its base has. All lanes share it. Becomes an index tree
 * in the repository at commit, writing only pages that changed.
 */
import { randomInt } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { BlockErrors, SessionErrors } from '../errors/mover-errors';
import { BlockKind, blockDigest, isZero, storeForm, ZERO_DIGEST } from '../format/block';
import {
  blockCount,
  countAllocated,
  levelCount,
  MAX_DISK_BLOCKS,
  pageDigest,
  PAGE_BYTES,
  PAGE_FAN_OUT,
  rawLengthOf,
} from '../format/index-page';
import type { DraftHead, MappedPage } from '../format/draft-record';
import type { PointDiskRecord } from '../format/manifest';
import type { CommittedDisk } from '../format/session-record';
import type { Answer, ClaimOwner } from '../repository/blocks/block-store';
import type { DiskTree } from '../repository/blocks/disk-tree';
import type { Repository } from '../repository/repository';
import { mappedRanges, type MappedRanges } from './mapped-ranges';
import { OverlayPages, type PageBudget, type TakenPage } from './overlay-pages';

/** What OpenDisk says; all lanes must say the same. */
export interface DiskRequest {
  readonly diskId: string;
  readonly sizeBytes: number;
  readonly basePointId: string;
  readonly baseDiskId: string;
  /** Names what is read, as of one moment. */
  readonly contentId: string;
}

/** The disk is durable, or these blocks (ascending, not all perhaps) must be offered and put again. */
export type DiskCommit = { readonly committed: CommittedDisk } | { readonly missing: readonly number[] };

interface Base {
  readonly tree: DiskTree;
  readonly sizeBytes: number;
  readonly allocatedBlocks: number;
}

export class DiskDraft {
  /** The same for all lanes, another one in each life of the mover: that is how a worker notices that it must ask what is mapped. */
  readonly handle = randomInt(1, 0xffffffff);
  readonly blocks: number;
  private readonly overlay: OverlayPages;
  private storedBytes = 0;
  private deduplicatedBytes = 0;
  /**
   * Blocks counted as stored that no draft tells of yet, with their bytes: another life of the session is sent them again, and counts them then. What comes in
   * between two drafts, seconds: some 20 MB while a draft waits for the commit of a disk and 100 GB are stored beside.
   */
  private readonly untold = new Map<string, number>();
  private untoldBytes = 0;
  /** Of the deduplicated bytes, those that drafts tell of. */
  private toldDeduplicatedBytes = 0;
  private closed = false;

  private constructor(
    private readonly repository: Repository,
    readonly request: DiskRequest,
    private readonly base: Base | undefined,
    scratchFolder: string,
    budget: PageBudget,
  ) {
    this.blocks = blockCount(request.sizeBytes, repository.blockSizeBytes);
    this.overlay = new OverlayPages(Math.max(1, Math.ceil(this.blocks / PAGE_FAN_OUT)), scratchFolder, budget);
  }

  /** Throws DISK_MISMATCH when the size or base cannot be, POINT_NOT_FOUND, MANIFEST_DAMAGED. */
  static async open(repository: Repository, request: DiskRequest, scratchFolder: string, budget: PageBudget): Promise<DiskDraft> {
    const { diskId, sizeBytes } = request;
    if (blockCount(sizeBytes, repository.blockSizeBytes) > MAX_DISK_BLOCKS)
      throw SessionErrors.DISK_MISMATCH({ diskId, problem: `${sizeBytes} bytes are more than a repository of this block size can hold` });
    let base: Base | undefined;
    if (request.basePointId !== '') {
      const found: PointDiskRecord = (await repository.points.readDisk(request.basePointId, request.baseDiskId)).disk;
      if (found.sizeBytes > sizeBytes)
        throw SessionErrors.DISK_MISMATCH({ diskId, problem: `it is smaller than its base of ${found.sizeBytes} bytes` });
      base = { tree: repository.tree(found), sizeBytes: found.sizeBytes, allocatedBlocks: found.allocatedBlocks };
    }
    return new DiskDraft(repository, request, base, scratchFolder, budget);
  }

  /** It is not written any more. */
  get isClosed(): boolean {
    return this.closed;
  }

  /** Throws DISK_MISMATCH when another lane opened the disk with other values. */
  assertSame(request: DiskRequest): void {
    const { diskId } = this.request;
    if (!this.isSame(request))
      throw SessionErrors.DISK_MISMATCH({ diskId, problem: 'another connection opened it with another size or base' });
  }

  /** True when `other` asks for, or tells of, the same content over the same base. */
  isSame(other: DiskRequest): boolean {
    const { diskId, sizeBytes, basePointId, baseDiskId, contentId } = this.request;
    return (
      other.diskId === diskId &&
      other.sizeBytes === sizeBytes &&
      other.basePointId === basePointId &&
      other.baseDiskId === baseDiskId &&
      other.contentId === contentId
    );
  }

  /**
   * What a draft tells of the disk beside its pages. It counts what was taken for drafts, and nothing else: the rest is offered again to who goes on, who counts
   * it then, so that each block is counted once, as stored or as deduplicated. (What was stored and not told of is there already: it counts as deduplicated.)
   */
  get head(): Omit<DraftHead, 'sessionId'> {
    const { diskId, sizeBytes, basePointId, baseDiskId, contentId } = this.request;
    const storedBytes = this.storedBytes - this.untoldBytes;
    const deduplicatedBytes = Math.min(this.toldDeduplicatedBytes, this.deduplicatedBytes);
    return { diskId, sizeBytes, basePointId, baseDiskId, contentId, storedBytes, deduplicatedBytes };
  }

  /** Some of the disk is mapped. */
  get hasMapped(): boolean {
    return this.overlay.isUsed;
  }

  /** Grows with everything that is mapped. */
  get changeCount(): number {
    return this.overlay.changeCount;
  }

  /** What was mapped to durable blocks since the last call: pages and entries up to about `limit`. Take none twice; they are this caller's now. */
  takeDurable(limit: number): MappedPage[] {
    const pages: MappedPage[] = [];
    if (this.closed) return pages;
    let size = 0;
    for (let number = this.overlay.nextUntaken(0); number < this.overlay.pageCount; number = this.overlay.nextUntaken(number + 1)) {
      if (size >= limit) break;
      const page = this.overlay.take(number, (digest) => this.repository.blocks.isDurable(digest));
      if (!page) continue;
      this.tell(page);
      pages.push(page);
      size += 1 + page.positions.length;
    }
    return pages;
  }

  /** Maps what an earlier life of the session wrote down; drafts in the order in which they were written. */
  restore(head: DraftHead, pages: readonly MappedPage[]): void {
    for (const page of pages) if (page.number < this.overlay.pageCount) this.overlay.restore(page);
    this.storedBytes = Math.max(this.storedBytes, head.storedBytes);
    this.deduplicatedBytes = this.toldDeduplicatedBytes = Math.max(this.deduplicatedBytes, head.deduplicatedBytes);
  }

  /** Ranges from `firstBlock` on that are mapped to blocks which are here, at most `limit`, and where the next question goes on. Throws BLOCK_OUT_OF_RANGE. */
  listMapped(firstBlock: number, limit: number): MappedRanges {
    this.assertOpen();
    if (!(firstBlock <= this.blocks)) throw BlockErrors.BLOCK_OUT_OF_RANGE({ block: firstBlock, blocks: this.blocks });
    return mappedRanges(this.overlay, this.blocks, firstBlock, limit, (digest) => this.repository.blocks.isPresent(digest));
  }

  /** Maps a block and says whether it must be put. Throws BLOCK_OUT_OF_RANGE. */
  offer(block: number, digest: Buffer, owner: ClaimOwner): Answer {
    this.assertOpen();
    if (!(block < this.blocks)) throw BlockErrors.BLOCK_OUT_OF_RANGE({ block, blocks: this.blocks });
    const isNew = this.overlay.set(block, digest);
    if (isZero(digest)) return 'known';
    const answer = this.repository.blocks.ask(digest, owner);
    // Whoever was about to send it did not: now it will be stored.
    if (answer === 'put' && this.overlay.count(block, false)) this.deduplicatedBytes -= this.lengthOf(block);
    // What a lane repeats that lost its connection was counted, as stored perhaps.
    if (answer !== 'put' && isNew && this.overlay.count(block, true)) this.deduplicatedBytes += this.lengthOf(block);
    return answer;
  }

  /** Maps a range to zero. Throws BLOCK_OUT_OF_RANGE. */
  zero(firstBlock: number, count: number): void {
    this.assertOpen();
    if (!(firstBlock + count <= this.blocks)) throw BlockErrors.BLOCK_OUT_OF_RANGE({ block: firstBlock + count - 1, blocks: this.blocks });
    this.overlay.zero(firstBlock, count);
  }

  /** Counts a block that was put for this disk; not again when it has to be put again, because its pack failed. */
  noteStored(digest: Buffer, bytes: number): void {
    const key = digest.toString('latin1');
    if (this.untold.has(key)) return;
    this.untold.set(key, bytes);
    this.untoldBytes += bytes;
    this.storedBytes += bytes;
  }

  /**
   * Stores the index pages and makes everything durable, unless blocks are missing (at most `missingLimit` are named). Not reentrant: the session
   * serialises. Throws REPOSITORY_FULL, REPOSITORY_IO, INDEX_PAGE_DAMAGED (of the base); then nothing was committed and it can be repeated.
   */
  async commit(missingLimit: number): Promise<DiskCommit> {
    this.assertOpen();
    const { blocks } = this.repository;
    const failuresBefore = blocks.failureCount;
    await this.adjustTail();
    const missing = await this.findMissing(missingLimit);
    if (missing.length > 0) return { missing };
    const tree = await this.buildTree();
    await blocks.flush();
    const failure = blocks.failureSince(failuresBefore);
    // A pack that failed may hold blocks of ours; a repeated commit names what is missing then.
    if (failure !== undefined) throw failure;
    const { diskId, sizeBytes, basePointId, baseDiskId } = this.request;
    return {
      committed: {
        diskId,
        sizeBytes,
        basePointId,
        baseDiskId,
        indexRoot: tree.root.toString('hex'),
        allocatedBlocks: tree.allocatedBlocks,
        storedBytes: this.storedBytes + tree.storedBytes,
        deduplicatedBytes: this.deduplicatedBytes,
      },
    };
  }

  dispose(): void {
    this.closed = true;
    this.overlay.dispose();
  }

  /** A page is told of by the next draft. */
  private tell({ number, digests, counted }: TakenPage): void {
    for (const digest of digests) {
      const key = digest.toString('latin1');
      this.untoldBytes -= this.untold.get(key) ?? 0;
      this.untold.delete(key);
    }
    for (const position of counted) this.toldDeduplicatedBytes += this.lengthOf(number * PAGE_FAN_OUT + position);
  }

  private lengthOf(block: number): number {
    return rawLengthOf(block, this.request.sizeBytes, this.repository.blockSizeBytes);
  }

  private assertOpen(): void {
    if (this.closed) throw SessionErrors.DISK_NOT_OPEN({ handle: this.handle });
  }

  private async findMissing(limit: number): Promise<number[]> {
    const missing: number[] = [];
    let looked = 0;
    for (let number = 0; number < this.overlay.pageCount && missing.length < limit; number++) {
      if (!this.overlay.isChanged(number)) continue;
      if (++looked % 32 === 0) await setImmediate();
      this.overlay.forEachSet(number, (position, digest) => {
        if (missing.length < limit && !isZero(digest) && !this.repository.blocks.isPresent(digest))
          missing.push(number * PAGE_FAN_OUT + position);
      });
    }
    return missing;
  }

  /** The base's last block was short and the disk has grown: the same bytes with zeroes behind are another block. */
  private async adjustTail(): Promise<void> {
    const { base, repository } = this;
    if (!base || base.sizeBytes === this.request.sizeBytes || base.sizeBytes % repository.blockSizeBytes === 0) return;
    const tail = base.tree.blocks - 1;
    if (this.overlay.isSet(tail)) return;
    const digest = await base.tree.blockDigest(tail);
    if (isZero(digest)) return;
    const { raw: short } = await repository.blocks.readChecked(digest);
    const raw = Buffer.alloc(rawLengthOf(tail, this.request.sizeBytes, repository.blockSizeBytes));
    short.copy(raw);
    const grown = blockDigest(repository.digestKey, raw);
    const { codec, payload } = storeForm(raw, repository.codec, repository.codecLevel);
    await repository.blocks.putBlock({ digest: grown, codec, kind: BlockKind.data, rawLength: raw.length, payload });
    this.storedBytes += payload.length;
    this.overlay.set(tail, grown);
  }

  private async buildTree(): Promise<{ root: Buffer; allocatedBlocks: number; storedBytes: number }> {
    const totals = { allocated: this.base?.allocatedBlocks ?? 0, storedBytes: 0 };
    const root = await this.buildPage(levelCount(this.blocks) - 1, 0, totals);
    return { root, allocatedBlocks: totals.allocated, storedBytes: totals.storedBytes };
  }

  /** Digest of a page of the new tree; untouched subtrees are the base's own. */
  private async buildPage(level: number, number: number, totals: { allocated: number; storedBytes: number }): Promise<Buffer> {
    const base = this.base?.tree;
    const leaves = PAGE_FAN_OUT ** level;
    // A disk that grew may need levels above the base's root.
    const aboveBase = base !== undefined && number === 0 && level >= base.levels && !isZero(base.root);
    if (!aboveBase && !this.overlay.isChanged(number * leaves, leaves)) return base ? base.pageDigest(level, number) : ZERO_DIGEST;
    const before = base ? await base.page(level, number) : undefined;
    const page = Buffer.alloc(PAGE_BYTES);
    if (level === 0) {
      if (before && !this.overlay.isZeroed(number)) before.copy(page);
      this.overlay.forEachSet(number, (position, digest) => page.set(digest, position * digest.length));
      totals.allocated += countAllocated(page) - (before ? countAllocated(before) : 0);
    } else {
      before?.copy(page);
      const children = leaves / PAGE_FAN_OUT;
      for (let position = 0; position < PAGE_FAN_OUT; position++) {
        const child = number * PAGE_FAN_OUT + position;
        if (!(aboveBase && position === 0) && !this.overlay.isChanged(child * children, children)) continue;
        (await this.buildPage(level - 1, child, totals)).copy(pageDigest(page, position));
      }
      // 256 pages are hashed and compressed by now: let the sockets have a turn.
      await setImmediate();
    }
    const written = await this.repository.pages.write(page);
    totals.storedBytes += written.storedBytes;
    return written.digest;
  }
}
