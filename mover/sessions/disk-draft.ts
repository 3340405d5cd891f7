/**
 * One disk of a backup session before it is committed: what its lanes offered over what its base has. All lanes share it. Becomes an index tree
 * in the repository at commit, writing only pages that changed.
 */
import { randomInt } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { CommonErrors } from '../../common/errors/common-errors';
import { BlockErrors, SessionErrors } from '../errors/mover-errors';
import { BlockKind, blockDigest, isZero, storeForm, verifiedRawForm, ZERO_DIGEST } from '../format/block';
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
import type { PointDiskRecord } from '../format/manifest';
import type { CommittedDisk } from '../format/session-record';
import type { Answer, ClaimOwner } from '../repository/block-store';
import type { DiskTree } from '../repository/disk-tree';
import type { Repository } from '../repository/repository';
import { OverlayPages, type PageBudget } from './overlay-pages';

/** What OpenDisk says; all lanes must say the same. */
export interface DiskRequest {
  readonly diskId: string;
  readonly sizeBytes: number;
  readonly basePointId: string;
  readonly baseDiskId: string;
}

/** The disk is durable, or these blocks (ascending, not all perhaps) must be offered and put again. */
export type DiskCommit = { readonly committed: CommittedDisk } | { readonly missing: readonly number[] };

interface Base {
  readonly tree: DiskTree;
  readonly sizeBytes: number;
  readonly allocatedBlocks: number;
}

export class DiskDraft {
  /** The same for all lanes, another one whenever the disk is started anew: that is how a worker notices that the mover forgot it. */
  readonly handle = randomInt(1, 0xffffffff);
  readonly blocks: number;
  private readonly overlay: OverlayPages;
  private storedBytes = 0;
  private deduplicatedBytes = 0;
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

  /** Throws DISK_MISMATCH when another lane opened the disk with other values. */
  assertSame(request: DiskRequest): void {
    const { diskId, sizeBytes, basePointId, baseDiskId } = this.request;
    if (request.sizeBytes !== sizeBytes || request.basePointId !== basePointId || request.baseDiskId !== baseDiskId)
      throw SessionErrors.DISK_MISMATCH({ diskId, problem: 'another connection opened it with another size or base' });
  }

  /** Maps a block and says whether it must be put. Throws BLOCK_OUT_OF_RANGE. */
  offer(block: number, digest: Buffer, owner: ClaimOwner): Answer {
    this.assertOpen();
    if (!(block < this.blocks)) throw BlockErrors.BLOCK_OUT_OF_RANGE({ block, blocks: this.blocks });
    this.overlay.set(block, digest);
    if (isZero(digest)) return 'known';
    const answer = this.repository.blocks.ask(digest, owner);
    if (answer !== 'put') this.deduplicatedBytes += rawLengthOf(block, this.request.sizeBytes, this.repository.blockSizeBytes);
    return answer;
  }

  /** Maps a range to zero. Throws BLOCK_OUT_OF_RANGE. */
  zero(firstBlock: number, count: number): void {
    this.assertOpen();
    if (!(firstBlock + count <= this.blocks)) throw BlockErrors.BLOCK_OUT_OF_RANGE({ block: firstBlock + count - 1, blocks: this.blocks });
    this.overlay.zero(firstBlock, count);
  }

  /** Counts a block that was put for this disk. */
  noteStored(bytes: number): void {
    this.storedBytes += bytes;
  }

  /**
   * Stores the index pages and makes everything durable, unless blocks are missing (at most `missingLimit` are named). Not reentrant: the session
   * serialises. Throws REPOSITORY_FULL, REPOSITORY_IO, INDEX_PAGE_DAMAGED (of the base); then nothing was committed and it can be repeated.
   */
  async commit(missingLimit: number): Promise<DiskCommit> {
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

  private assertOpen(): void {
    if (this.closed) throw CommonErrors.CANCELLED({ what: `disk ${this.request.diskId}` });
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
    const { location, stored } = await repository.blocks.readStored(digest);
    const short = verifiedRawForm(repository.digestKey, stored, location.codec, location.rawLength, digest);
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
