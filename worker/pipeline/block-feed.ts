import type { BlockPlan } from '../extents/block-plan';
import type { WorkCursor } from '../extents/work-cursor';

/** Blocks known to be zero that must replace a base's content. */
export interface ZeroRange {
  readonly firstBlock: number;
  blockCount: number;
}

/** The blocks one lane works on, in ascending order within a chunk. */
export interface BlockFeed {
  /** The next block to read, or undefined when there is none now: either all is done, or `zeroes` is full and must be taken first. */
  next(): number | undefined;
  readonly isExhausted: boolean;
  /** Ranges met on the way; the lane removes what the mover has answered. */
  readonly zeroes: ZeroRange[];
}

const maxZeroRanges = 64;

/** Takes chunks of the plan from the cursor that all lanes share. */
export class PlanFeed implements BlockFeed {
  readonly zeroes: ZeroRange[] = [];
  private at = 0;
  private end = 0;
  private done = false;

  constructor(
    private readonly plan: BlockPlan,
    private readonly cursor: WorkCursor,
  ) {}

  get isExhausted(): boolean {
    return this.done;
  }

  next(): number | undefined {
    for (;;) {
      if (this.zeroes.length >= maxZeroRanges) return undefined;
      if (this.at >= this.end) {
        const chunk = this.cursor.claim();
        if (!chunk) {
          this.done = true;
          return undefined;
        }
        this.at = chunk.first;
        this.end = chunk.end;
      }
      const block = this.at;
      this.at += 1;
      if (!this.plan.isTouched(block)) continue;
      if (this.plan.hasData(block)) return block;
      const last = this.zeroes.at(-1);
      if (last && last.firstBlock + last.blockCount === block) last.blockCount += 1;
      else this.zeroes.push({ firstBlock: block, blockCount: 1 });
    }
  }
}

/** Blocks that the mover named as missing at commit. */
export class ListFeed implements BlockFeed {
  readonly zeroes: ZeroRange[] = [];
  private at = 0;

  constructor(private readonly blocks: readonly number[]) {}

  get isExhausted(): boolean {
    return this.at >= this.blocks.length;
  }

  next(): number | undefined {
    const block = this.blocks[this.at];
    this.at += 1;
    return block;
  }
}
