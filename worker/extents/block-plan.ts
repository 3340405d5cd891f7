/**
 * What of a disk a backup has to look at, by blocks. This folder owns the arithmetic from extents (bytes, any granularity) to blocks;
 * it knows neither image services nor movers.
 *
 * A disk may have millions of extents, so none are kept: each block has 16 bits, one for each sixteenth of it that holds data, and one bit
 * that says whether the block is to be represented at all. That is 2.1 MiB for a TiB, however fragmented, in memory that all lanes share.
 */

/** Parts of a block that are told apart when it is only partly data. */
export const PARTS_PER_BLOCK = 16;
const allParts = 0xffff;

/** The plan as it crosses threads. */
export interface BlockPlanData {
  readonly sizeBytes: number;
  readonly blockSizeBytes: number;
  /** Uint16 per block: the parts that hold data. */
  readonly data: SharedArrayBuffer;
  /** Bit per block: it is represented; absent bits are left to the base, or to zero when there is none. */
  readonly touched: SharedArrayBuffer;
}

export class BlockPlan {
  readonly blockCount: number;
  private readonly parts: Uint16Array;
  private readonly touchedBits: Uint8Array;
  private readonly partBytes: number;

  constructor(readonly shared: BlockPlanData) {
    this.blockCount = Math.ceil(shared.sizeBytes / shared.blockSizeBytes);
    this.parts = new Uint16Array(shared.data);
    this.touchedBits = new Uint8Array(shared.touched);
    this.partBytes = shared.blockSizeBytes / PARTS_PER_BLOCK;
  }

  /** A plan in which no block is touched. */
  static empty(sizeBytes: number, blockSizeBytes: number): BlockPlan {
    const blocks = Math.ceil(sizeBytes / blockSizeBytes);
    return new BlockPlan({
      sizeBytes,
      blockSizeBytes,
      data: new SharedArrayBuffer(blocks * 2),
      touched: new SharedArrayBuffer((blocks + 7) >> 3),
    });
  }

  /** Bytes `[start, end)` hold data that must be read if their block is touched. Rounded out to parts; cut at the end of the disk. */
  addData(start: number, end: number): void {
    this.forEachBlock(start, end, (block, from, to) => {
      const first = Math.floor(from / this.partBytes);
      const last = Math.ceil(to / this.partBytes);
      this.parts[block] = (this.parts[block] as number) | (((1 << last) - 1) & ~((1 << first) - 1));
    });
  }

  /** The blocks that `[start, end)` overlaps are to be represented. */
  addTouched(start: number, end: number): void {
    this.forEachBlock(start, end, (block) => {
      this.touchedBits[block >> 3] = (this.touchedBits[block >> 3] as number) | (1 << (block & 7));
    });
  }

  /** Blocks `[first, end)` need not be represented after all: the mover has them. */
  removeTouched(first: number, end: number): void {
    const stop = Math.min(end, this.blockCount);
    for (let block = first; block < stop; block += 1) {
      this.touchedBits[block >> 3] = (this.touchedBits[block >> 3] as number) & ~(1 << (block & 7));
    }
  }

  isTouched(block: number): boolean {
    return ((this.touchedBits[block >> 3] as number) & (1 << (block & 7))) !== 0;
  }

  /** A touched block with no data is known to be zero. */
  hasData(block: number): boolean {
    return this.parts[block] !== 0;
  }

  /** True when every part is data: the block can be read in one piece, together with its neighbours. */
  isFull(block: number): boolean {
    return this.parts[block] === allParts || (block === this.blockCount - 1 && this.coversTail());
  }

  /** Length of a block; only the last one may be short. */
  lengthOf(block: number): number {
    return Math.min(this.shared.blockSizeBytes, this.shared.sizeBytes - block * this.shared.blockSizeBytes);
  }

  /** Calls back for each run of data within a block: `[from, to)` relative to its start, cut at the end of the disk. */
  forEachDataRun(block: number, visit: (from: number, to: number) => void): void {
    const mask = this.parts[block] as number;
    const length = this.lengthOf(block);
    for (let part = 0; part < PARTS_PER_BLOCK; part += 1) {
      if ((mask & (1 << part)) === 0) continue;
      const first = part;
      while (part < PARTS_PER_BLOCK && (mask & (1 << part)) !== 0) part += 1;
      const from = first * this.partBytes;
      if (from < length) visit(from, Math.min(part * this.partBytes, length));
    }
  }

  /** Bytes that will be read, and bytes of touched blocks that are known to be zero. */
  totals(): { dataBytes: number; zeroBytes: number } {
    let dataBytes = 0;
    let zeroBytes = 0;
    for (let block = 0; block < this.blockCount; block += 1) {
      if (!this.isTouched(block)) continue;
      let data = 0;
      if (this.parts[block] === allParts) data = this.lengthOf(block);
      else this.forEachDataRun(block, (from, to) => (data += to - from));
      dataBytes += data;
      zeroBytes += this.lengthOf(block) - data;
    }
    return { dataBytes, zeroBytes };
  }

  private coversTail(): boolean {
    const needed = Math.ceil(this.lengthOf(this.blockCount - 1) / this.partBytes);
    const mask = (1 << needed) - 1;
    return ((this.parts[this.blockCount - 1] as number) & mask) === mask;
  }

  /** Visits the blocks of a byte range with the range's part in each, relative to the block. */
  private forEachBlock(start: number, end: number, visit: (block: number, from: number, to: number) => void): void {
    const { blockSizeBytes, sizeBytes } = this.shared;
    const stop = Math.min(end, sizeBytes);
    if (stop <= start) return;
    const last = Math.floor((stop - 1) / blockSizeBytes);
    for (let block = Math.floor(start / blockSizeBytes); block <= last; block += 1) {
      const base = block * blockSizeBytes;
      visit(block, Math.max(0, start - base), Math.min(blockSizeBytes, stop - base));
    }
  }
}

/** Which blocks a backup represents. */
export type Scope = 'allocated' | 'changed';

/**
 * Adds one extent. `allocated`: data is read; zeroes are represented only when there is a base that they must replace. `changed`: blocks
 * with any dirty byte are represented, and all of their data is read, dirty or not, since a block is digested whole; a clean block is
 * left alone whatever its zero flag says.
 */
export function addExtent(
  plan: BlockPlan,
  scope: Scope,
  hasBase: boolean,
  extent: { readonly start: number; readonly length: number; readonly zero: boolean; readonly dirty: boolean },
): void {
  const end = extent.start + extent.length;
  if (!extent.zero) plan.addData(extent.start, end);
  if (scope === 'changed' ? extent.dirty : hasBase || !extent.zero) plan.addTouched(extent.start, end);
}
