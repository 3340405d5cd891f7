import type { BlockLocation } from '../../repository/blocks/block-location';
import type { PackTable } from '../../repository/blocks/pack-table';

const leastBits = 512;

/**
 * Which places of the packs are needed: a small filter per pack, at least eight bits per entry. A place that was marked is never forgotten; an unmarked one
 * may seem marked (at most one in eight of a pack that is wholly needed), which keeps it for one more collection. 100 million
 * blocks take 100 MB, and nothing for packs in which nothing was marked.
 */
export class PackMarks {
  private readonly bits: (Uint32Array | undefined)[] = [];
  private readonly bytes: number[] = [];

  constructor(private readonly packs: PackTable) {}

  /** True when the place was not marked before. */
  mark(location: BlockLocation): boolean {
    const words = (this.bits[location.pack] ??= this.filterFor(location.pack));
    const bit = bitOf(location.offset, words.length);
    const mask = 1 << (bit & 31);
    if (((words[bit >>> 5] as number) & mask) !== 0) return false;
    words[bit >>> 5] = (words[bit >>> 5] as number) | mask;
    this.bytes[location.pack] = this.neededBytes(location.pack) + location.storedLength;
    return true;
  }

  /** True for every place that was marked, and for a few others. */
  has(pack: number, offset: number): boolean {
    const words = this.bits[pack];
    if (!words) return false;
    const bit = bitOf(offset, words.length);
    return ((words[bit >>> 5] as number) & (1 << (bit & 31))) !== 0;
  }

  /** True when something in the pack was marked. */
  hasAny(pack: number): boolean {
    return this.bits[pack] !== undefined;
  }

  /** Bytes of the places marked in a pack; a few too little in one that is much needed. */
  neededBytes(pack: number): number {
    return this.bytes[pack] ?? 0;
  }

  private filterFor(pack: number): Uint32Array {
    let count = leastBits;
    while (count < this.packs.entryCountOf(pack) * 8) count *= 2;
    return new Uint32Array(count / 32);
  }
}

function bitOf(offset: number, words: number): number {
  // The finisher of MurmurHash3: offsets that are multiples of something spread over all bits.
  let mixed = Math.imul(offset ^ (offset >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return ((mixed ^ (mixed >>> 16)) >>> 0) % (words * 32);
}
