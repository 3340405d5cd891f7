import type { BlockLocation } from '../../repository/blocks/block-location';
import type { PackTable } from '../../repository/blocks/pack-table';

const leastBits = 512;
/** Filters lie one after the other in slabs of 256 KiB: an array of its own for each pack would take twice its bits again. */
const slabWords = 2 ** 16;

/**
 * Which places of the packs are needed: a small filter per pack, at least eight bits per entry. A place that was marked is never forgotten; an unmarked one
 * may seem marked (at most one in eight of a pack that is wholly needed), which keeps it for one more collection. 100 million
 * blocks take 113 MB (145 bytes for each pack of 128 blocks), and 17 bytes for a pack in which nothing was marked.
 */
export class PackMarks {
  private readonly slabs: Uint32Array[] = [];
  /** Words of the last slab that are given away. */
  private used = 0;
  private slabOf = new Uint32Array(1024);
  private startOf = new Uint32Array(1024);
  /** Power of two of the words of a pack's filter, plus one; 0: nothing in it was marked. */
  private sizeOf = new Uint8Array(1024);
  private bytesOf = new Float64Array(1024);

  constructor(private readonly packs: PackTable) {}

  /** True when the place was not marked before. */
  mark(location: BlockLocation): boolean {
    const { pack, offset, storedLength } = location;
    if (!this.hasAny(pack)) this.addFilter(pack);
    const bit = bitOf(offset, this.wordsOf(pack));
    const at = (this.startOf[pack] as number) + (bit >>> 5);
    const slab = this.slabs[this.slabOf[pack] as number] as Uint32Array;
    const mask = 1 << (bit & 31);
    if (((slab[at] as number) & mask) !== 0) return false;
    slab[at] = (slab[at] as number) | mask;
    this.bytesOf[pack] = this.neededBytes(pack) + storedLength;
    return true;
  }

  /** True for every place that was marked, and for a few others. */
  has(pack: number, offset: number): boolean {
    if (!this.hasAny(pack)) return false;
    const bit = bitOf(offset, this.wordsOf(pack));
    const slab = this.slabs[this.slabOf[pack] as number] as Uint32Array;
    return ((slab[(this.startOf[pack] as number) + (bit >>> 5)] as number) & (1 << (bit & 31))) !== 0;
  }

  /** True when something in the pack was marked. */
  hasAny(pack: number): boolean {
    return (this.sizeOf[pack] ?? 0) > 0;
  }

  /** Bytes of the places marked in a pack; a few too little in one that is much needed. */
  neededBytes(pack: number): number {
    return this.bytesOf[pack] ?? 0;
  }

  private wordsOf(pack: number): number {
    return 2 ** ((this.sizeOf[pack] as number) - 1);
  }

  private addFilter(pack: number): void {
    if (pack >= this.sizeOf.length) this.grow(pack + 1);
    let bits = leastBits;
    while (bits < this.packs.entryCountOf(pack) * 8) bits *= 2;
    const words = bits / 32;
    if (this.used + words > (this.slabs.at(-1)?.length ?? 0)) {
      // A pack of very small blocks gets a slab of its own.
      this.slabs.push(new Uint32Array(Math.max(slabWords, words)));
      this.used = 0;
    }
    this.slabOf[pack] = this.slabs.length - 1;
    this.startOf[pack] = this.used;
    this.sizeOf[pack] = Math.log2(words) + 1;
    this.used += words;
  }

  private grow(least: number): void {
    const length = Math.max(least, this.sizeOf.length * 2);
    const grown = <T extends Uint32Array | Uint8Array | Float64Array>(old: T, to: T): T => {
      to.set(old);
      return to;
    };
    this.slabOf = grown(this.slabOf, new Uint32Array(length));
    this.startOf = grown(this.startOf, new Uint32Array(length));
    this.sizeOf = grown(this.sizeOf, new Uint8Array(length));
    this.bytesOf = grown(this.bytesOf, new Float64Array(length));
  }
}

function bitOf(offset: number, words: number): number {
  // The finisher of MurmurHash3: offsets that are multiples of something spread over all bits.
  let mixed = Math.imul(offset ^ (offset >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return ((mixed ^ (mixed >>> 16)) >>> 0) % (words * 32);
}
