/** Which ranges of an image are zero, few enough to be handed to a worker. Pure. */

/** Bytes `[start, start + length)`. */
export interface ByteRange {
  readonly start: number;
  readonly length: number;
}

/** At some 20 bytes each on the wire: a third of a MiB for the most fragmented disk. */
export const mostZeroRanges = 16_384;
/** A cluster of qcow2; to leave out less would be no saving. */
const leastBytes = 64 * 1024;

/**
 * Collects extents in ascending order and keeps the longest zero ranges, in memory that does not depend on how many there are (an image of
 * TiB may have millions). What is dropped counts as data: it is read, and found to be zero then.
 */
export class ZeroRanges {
  #ranges: ByteRange[] = [];
  #start = 0;
  #end = 0;

  constructor(private readonly most = mostZeroRanges) {}

  add(start: number, length: number, zero: boolean): void {
    if (!zero) return;
    if (start === this.#end && this.#end > this.#start) {
      this.#end = start + length;
      return;
    }
    this.#take();
    this.#start = start;
    this.#end = start + length;
  }

  /** Ascending, without overlaps. */
  finish(): readonly ByteRange[] {
    this.#take();
    if (this.#ranges.length > this.most) this.#ranges = longest(this.#ranges, this.most);
    return this.#ranges;
  }

  #take(): void {
    const length = this.#end - this.#start;
    if (length >= leastBytes) this.#ranges.push({ start: this.#start, length });
    this.#start = this.#end = 0;
    // Those that are not among the longest of a part are not among the longest of the whole.
    if (this.#ranges.length >= 2 * this.most) this.#ranges = longest(this.#ranges, this.most);
  }
}

/** The `count` longest, in their order; of equally long ones the first. */
function longest(ranges: readonly ByteRange[], count: number): ByteRange[] {
  const lengths = ranges.map(({ length }) => length).sort((a, b) => b - a);
  const shortest = lengths[count - 1] ?? 0;
  let ofShortest = count - lengths.findIndex((length) => length <= shortest);
  return ranges.filter(({ length }) => {
    if (length !== shortest) return length > shortest;
    ofShortest -= 1;
    return ofShortest >= 0;
  });
}
