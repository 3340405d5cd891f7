import type { BlockPlan } from '../extents/block-plan';
import type { BlockSource } from '../sources/block-source';
import type { BlockFeed } from './block-feed';
import type { SharedCounters } from './counters';
import type { RateLimit } from '../../common/flow/rate-limit';

/** A batch of raw blocks in one buffer, one after the other. Belongs to one lane and is used again and again. */
export interface Slab {
  readonly buffer: Buffer;
  /** Block numbers in ascending order; block i lies at `i * blockSizeBytes`. */
  readonly blocks: number[];
}

/** Holes shorter than this are read along: another request costs more than their bytes. */
const worthSkippingBytes = 128 * 1024;

/** Fills slabs from a source, some ahead of their use, in the order of the feed. */
export class SlabReader {
  private readonly reading: Promise<Slab>[] = [];

  constructor(
    private readonly plan: BlockPlan,
    private readonly source: BlockSource,
    private readonly feed: BlockFeed,
    private readonly free: Slab[],
    private readonly batchBlocks: number,
    private readonly counters: SharedCounters,
    private readonly rate: RateLimit,
    private readonly signal: AbortSignal,
  ) {}

  /** Starts reads while there are blocks, free slabs and connections. Call when a slab became free. */
  advance(): void {
    while (this.reading.length < this.source.concurrency && this.free.length > 0) {
      const slab = this.free.pop() as Slab;
      slab.blocks.length = 0;
      while (slab.blocks.length < this.batchBlocks) {
        const block = this.feed.next();
        if (block === undefined) break;
        slab.blocks.push(block);
      }
      if (slab.blocks.length === 0) {
        this.free.push(slab);
        return;
      }
      const read = this.fill(slab);
      // Whoever takes it sees the failure; until then it must not count as unhandled.
      read.catch(() => undefined);
      this.reading.push(read);
    }
  }

  get hasStarted(): boolean {
    return this.reading.length > 0;
  }

  /** The next slab, read. Throws what the source throws. Call only when `hasStarted`. */
  take(): Promise<Slab> {
    return this.reading.shift() as Promise<Slab>;
  }

  /** Resolves when no read touches a buffer any more. */
  async settle(): Promise<void> {
    await Promise.allSettled(this.reading);
  }

  private async fill(slab: Slab): Promise<Slab> {
    const { plan, source } = this;
    const { blockSizeBytes } = plan.shared;
    const jobs: { offset: number; from: number; to: number }[] = [];
    slab.blocks.forEach((block, position) => {
      const at = position * blockSizeBytes;
      const length = plan.lengthOf(block);
      const offset = block * blockSizeBytes;
      const last = jobs.at(-1);
      if (plan.isFull(block)) {
        // Neighbours on the disk that are neighbours in the slab come in one piece.
        if (
          last &&
          last.to === at &&
          last.offset + (last.to - last.from) === offset &&
          last.to - last.from + length <= source.maxReadBytes
        ) {
          last.to += length;
        } else {
          pushPieces(jobs, offset, at, at + length, source.maxReadBytes);
        }
        return;
      }
      slab.buffer.fill(0, at, at + length);
      let previous: { offset: number; from: number; to: number } | undefined;
      plan.forEachDataRun(block, (from, to) => {
        if (previous && at + from - previous.to < worthSkippingBytes) {
          previous.to = at + to;
        } else {
          previous = { offset: offset + from, from: at + from, to: at + to };
          jobs.push(previous);
        }
      });
    });
    const bytes = jobs.reduce((sum, job) => sum + job.to - job.from, 0);
    await this.rate.take(bytes, this.signal);
    await Promise.all(jobs.map((job) => source.read(job.offset, slab.buffer.subarray(job.from, job.to))));
    this.counters.add('readBytes', bytes);
    return slab;
  }
}

function pushPieces(jobs: { offset: number; from: number; to: number }[], offset: number, from: number, to: number, limit: number): void {
  for (let at = from; at < to; at += limit) jobs.push({ offset: offset + at - from, from: at, to: Math.min(to, at + limit) });
}
