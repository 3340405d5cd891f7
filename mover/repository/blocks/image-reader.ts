/**
 * Reads stored blocks of a point's disk for restores: straight from the packs, neighbours in one read, nothing decompressed. Who restores checks
 * each block's digest.
 */
import { RepositoryErrors } from '../../errors/mover-errors';
import { isZero } from '../../format/block';
import { pageDigest, PAGE_FAN_OUT } from '../../format/index-page';
import type { BlockLocation } from './block-location';
import { isDamage } from './block-store';
import type { DiskTree } from './disk-tree';
import type { Repository } from '../repository';
import type { BufferPool } from './buffer-pool';

/** One block as it lies in the pack, decrypted; `payload` is a view on `group.buffer`. */
export interface StoredBlockView {
  readonly block: number;
  readonly digest: Buffer;
  readonly codec: number;
  readonly rawLength: number;
  readonly payload: Buffer;
}

interface Wanted {
  readonly block: number;
  readonly digest: Buffer;
  readonly location: BlockLocation;
}

/** Parts of one read that are asked for at the same time. */
const maxReadAhead = 4;

export class ImageReader {
  private constructor(
    private readonly repository: Repository,
    private readonly tree: DiskTree,
    readonly sizeBytes: number,
    readonly allocatedBlocks: number,
  ) {}

  /** Throws POINT_NOT_FOUND, MANIFEST_DAMAGED. */
  static async open(repository: Repository, pointId: string, diskId: string): Promise<ImageReader> {
    const { point, disk } = await repository.points.readDisk(pointId, diskId);
    if (point.blockSizeBytes !== repository.blockSizeBytes)
      throw RepositoryErrors.MANIFEST_DAMAGED({ pointId, problem: 'its block size is not the repository’s' });
    return new ImageReader(repository, repository.tree(disk), disk.sizeBytes, disk.allocatedBlocks);
  }

  get blocks(): number {
    return this.tree.blocks;
  }

  /** First block at or after `from` that is not zero; the disk's block count when there is none. */
  nextAllocated(from: number): Promise<number> {
    return this.tree.nextAllocated(from);
  }

  /**
   * Calls `send` with groups of blocks that are not zero, ascending, each group in one buffer of the pool. `send` owns the buffer from then on and gives it
   * back when it is done; it is not called before `turn` resolves. Reading begins at once, some groups ahead of what is sent, as far as the pool has
   * buffers to spare: a store that is far away is asked for several parts at the same time. What cannot be read in one copy is read from another. Throws
   * BLOCK_MISSING, BLOCK_CORRUPT (encrypted ones), INDEX_PAGE_DAMAGED, REPOSITORY_IO.
   */
  async read(
    firstBlock: number,
    count: number,
    pool: BufferPool,
    send: (group: readonly StoredBlockView[], buffer: Buffer) => Promise<void>,
    turn: Promise<void> = Promise.resolve(),
  ): Promise<void> {
    const groups = groupsOf(await this.locate(firstBlock, Math.min(firstBlock + count, this.blocks)), pool.bufferBytes);
    const ahead = new ReadAhead(groups, (group, buffer) => this.readGroup(group, buffer), pool);
    try {
      ahead.fill();
      await turn;
      for (const group of groups) {
        const read = await ahead.take();
        ahead.fill();
        if (read) await send(read.views, read.buffer);
        else {
          // It asks for buffers itself: nobody waits for one while holding what this one needs.
          await ahead.drop();
          await this.sendChecked(group, pool, send);
        }
      }
    } finally {
      await ahead.drop();
    }
  }

  /**
   * As `read`, and each block is checked against its digest before it is sent: for who was sent a block that is not what its digest says. Bad copies
   * go into quarantine. Throws BLOCK_CORRUPT when there is no good one.
   */
  async readChecked(
    firstBlock: number,
    count: number,
    pool: BufferPool,
    send: (group: readonly StoredBlockView[], buffer: Buffer) => Promise<void>,
  ): Promise<void> {
    await this.sendChecked(await this.locate(firstBlock, Math.min(firstBlock + count, this.blocks)), pool, send);
  }

  private async sendChecked(
    blocks: readonly Wanted[],
    pool: BufferPool,
    send: (group: readonly StoredBlockView[], buffer: Buffer) => Promise<void>,
  ): Promise<void> {
    for (const { block, digest } of blocks) {
      const { location, stored } = await this.repository.blocks.readChecked(digest);
      const buffer = await pool.acquire();
      stored.copy(buffer);
      const payload = buffer.subarray(0, stored.length);
      await send([{ block, digest, codec: location.codec, rawLength: location.rawLength, payload }], buffer);
    }
  }

  private async locate(firstBlock: number, endBlock: number): Promise<Wanted[]> {
    const wanted: Wanted[] = [];
    for (let block = firstBlock; block < endBlock;) {
      const number = Math.floor(block / PAGE_FAN_OUT);
      const end = Math.min(endBlock, (number + 1) * PAGE_FAN_OUT);
      const page = await this.tree.page(0, number);
      for (; page && block < end; block++) {
        const digest = pageDigest(page, block % PAGE_FAN_OUT);
        if (!isZero(digest)) wanted.push({ block, digest, location: await this.repository.blocks.locate(digest) });
      }
      block = end;
    }
    return wanted;
  }

  private async readGroup(group: readonly Wanted[], buffer: Buffer): Promise<StoredBlockView[]> {
    const first = group[0] as Wanted;
    const last = group[group.length - 1] as Wanted;
    const start = first.location.offset;
    const length = last.location.offset + last.location.storedLength - start;
    const cipher = await this.repository.blocks.cipherOf(first.location, first.digest);
    await this.repository.blocks.readPack(first.location, start, buffer.subarray(0, length), first.digest);
    return group.map(({ block, digest, location }) => {
      const stored = buffer.subarray(location.offset - start, location.offset - start + location.storedLength);
      const payload = cipher ? cipher.openBlock({ ...location, digest }, location.offset, stored) : stored;
      return { block, digest, codec: location.codec, rawLength: location.rawLength, payload };
    });
  }
}

interface ReadGroup {
  readonly views: readonly StoredBlockView[];
  readonly buffer: Buffer;
}

/** Reads of groups that are under way, in their order. */
class ReadAhead {
  private readonly running: Promise<ReadGroup | undefined>[] = [];
  private next = 0;

  constructor(
    private readonly groups: readonly (readonly Wanted[])[],
    private readonly readInto: (group: readonly Wanted[], buffer: Buffer) => Promise<readonly StoredBlockView[]>,
    private readonly pool: BufferPool,
  ) {}

  /** Begins to read what is next, while there are buffers to spare. */
  fill(): void {
    while (this.running.length < maxReadAhead && this.next < this.groups.length) {
      const buffer = this.pool.acquireSpare();
      if (!buffer) return;
      this.begin(buffer);
    }
  }

  /** The next group; undefined when it is damaged. Throws what else keeps it from being read. */
  async take(): Promise<ReadGroup | undefined> {
    if (this.running.length === 0) this.begin(await this.pool.acquire());
    return this.running.shift();
  }

  /** Gives back the buffers of what was read and not taken; it is read again when it is taken after all. */
  async drop(): Promise<void> {
    this.next -= this.running.length;
    for (const group of await Promise.allSettled(this.running.splice(0))) {
      if (group.status === 'fulfilled' && group.value) this.pool.release(group.value.buffer);
    }
  }

  private begin(buffer: Buffer): void {
    const reading = this.read(this.groups[this.next++] as readonly Wanted[], buffer);
    // It is awaited later; until then it is nobody's failure.
    reading.catch(() => undefined);
    this.running.push(reading);
  }

  private async read(group: readonly Wanted[], buffer: Buffer): Promise<ReadGroup | undefined> {
    try {
      return { views: await this.readInto(group, buffer), buffer };
    } catch (error) {
      this.pool.release(buffer);
      if (isDamage(error)) return undefined;
      throw error;
    }
  }
}

/** Blocks that lie one behind the other in one pack and fit into a buffer together. */
function groupsOf(wanted: readonly Wanted[], maxBytes: number): (readonly Wanted[])[] {
  const groups: (readonly Wanted[])[] = [];
  for (let from = 0; from < wanted.length;) {
    const to = endOfRun(wanted, from, maxBytes);
    groups.push(wanted.slice(from, to));
    from = to;
  }
  return groups;
}

/** End of the longest run of blocks that lie one behind the other in one pack and fit into a buffer. */
function endOfRun(wanted: readonly Wanted[], from: number, maxBytes: number): number {
  const { location: first } = wanted[from] as Wanted;
  let end = first.offset + first.storedLength;
  let to = from + 1;
  for (; to < wanted.length; to++) {
    const { location } = wanted[to] as Wanted;
    if (location.pack !== first.pack || location.offset !== end || end + location.storedLength - first.offset > maxBytes) break;
    end += location.storedLength;
  }
  return to;
}
