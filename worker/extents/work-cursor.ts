/**
 * Hands out the blocks of a disk to the lanes, in order and each once, through one shared counter: a slow lane simply takes fewer.
 */
export class WorkCursor {
  private readonly next: Int32Array;

  constructor(
    readonly shared: SharedArrayBuffer,
    private readonly blockCount: number,
    private readonly chunkBlocks = 64,
  ) {
    this.next = new Int32Array(shared);
  }

  static create(blockCount: number): WorkCursor {
    return new WorkCursor(new SharedArrayBuffer(4), blockCount);
  }

  /** The next chunk `[first, end)`, or undefined when all is handed out. */
  claim(): { first: number; end: number } | undefined {
    const first = Atomics.add(this.next, 0, this.chunkBlocks);
    // The counter may run past the end by one chunk per lane and call; it stays far below 2^31 because a lane stops then.
    return first >= this.blockCount ? undefined : { first, end: Math.min(first + this.chunkBlocks, this.blockCount) };
  }

  /**
   * Moves on to `block`, for who learnt that nothing lies before it. Returns the range that it thereby claimed, or undefined when others
   * had claimed so far already.
   */
  skipTo(block: number): { first: number; end: number } | undefined {
    for (;;) {
      const first = Atomics.load(this.next, 0);
      if (first >= block || first >= this.blockCount) return undefined;
      if (Atomics.compareExchange(this.next, 0, first, block) === first) return { first, end: Math.min(block, this.blockCount) };
    }
  }
}
