import { setImmediate as breathe } from 'node:timers/promises';
import { Decompressors } from '../../common/codec/block-codec';
import { hasCode } from '../../common/errors/tidemark-error';
import type { BlockFrame, ImageOpenedFrame } from '../../proto/data-mover/frame-types';
import type { WorkCursor } from '../extents/work-cursor';
import { moverError } from '../errors/error-message';
import { WorkerErrors } from '../errors/worker-errors';
import { MoverConnection, isConnectionLoss } from '../mover-client/mover-connection';
import type { MoverRoute } from '../mover-client/mover-route';
import { openWithPatience, reopenPatienceMs } from '../mover-client/reopening';
import type { BlockTarget } from '../targets/block-target';
import { giveBack, takeBuffer } from './buffer-pool';
import type { SharedCounters } from './counters';
import { blockDigest } from './digest';
import type { RateLimit } from '../../common/flow/rate-limit';
import { Wake } from './wake';

/** Raw bytes of one Read and of one write. */
const batchBytes = 2 * 1024 * 1024;
/** Batches under way: some asked for, some being written. The mover takes four reads at a time. */
const batchesInFlight = 4;
/** Connections that may break one after the other without a single batch getting through. */
const maxFruitlessConnections = 10;

export interface RestoreLaneOptions {
  readonly route: MoverRoute;
  /** For the first connection, in milliseconds. */
  readonly patienceMs: number;
  readonly pointId: string;
  readonly diskId: string;
  readonly counters: SharedCounters;
  readonly rate: RateLimit;
  readonly signal: AbortSignal;
}

/** A range of blocks on its way: asked for, decoded into place as it arrives, then written. */
interface Part {
  readonly buffer: Buffer;
  firstBlock: number;
  blockCount: number;
  readonly present: boolean[];
  problem: unknown;
}

/** One thread's share of a restore: read, decompress, verify, write. Holes cost nothing: they are skipped with one answer. */
export class RestoreLane {
  private decompressors: Decompressors | undefined;
  private readonly free: Part[] = [];
  private readonly wake = new Wake();
  private failure: unknown;
  private running = 0;
  /** Parts whose connection broke before their answer was complete. */
  private readonly again: Part[] = [];
  private reopening: Promise<void> | undefined;
  /** Connections lost since the last batch was written. */
  private fruitless = 0;

  private constructor(
    private readonly options: RestoreLaneOptions,
    private connection: MoverConnection,
    readonly image: ImageOpenedFrame,
    private handle: number,
  ) {}

  /** Throws what MoverConnection.open throws, POINT_NOT_FOUND, TICKET_RIGHT_MISSING. */
  static async open(options: RestoreLaneOptions): Promise<RestoreLane> {
    const { connection, image } = await dial(options, options.patienceMs);
    return new RestoreLane(options, connection, image, image.handle);
  }

  get blockSizeBytes(): number {
    return this.connection.terms.blockSizeBytes;
  }

  /**
   * Restores what the cursor hands out. Throws BLOCK_CORRUPT (final for this point) when a block is not what its digest says, what the mover
   * answers, and what the target throws.
   */
  async run(cursor: WorkCursor, target: BlockTarget): Promise<void> {
    const partBlocks = Math.max(1, Math.min(Math.floor(batchBytes / this.blockSizeBytes), this.connection.terms.maxBatch));
    this.decompressors ??= new Decompressors();
    for (let made = 0; made < batchesInFlight; made += 1) {
      const buffer = takeBuffer(partBlocks * this.blockSizeBytes);
      this.free.push({ buffer, firstBlock: 0, blockCount: 0, present: [], problem: undefined });
    }
    let chunk: { first: number; end: number } | undefined;
    for (;;) {
      if (this.failure !== undefined) break;
      const part = this.again.pop() ?? this.free.pop();
      if (!part) {
        await this.wake.wait();
        continue;
      }
      if (part.blockCount === 0) {
        chunk ??= cursor.claim();
        if (!chunk) {
          this.free.push(part);
          if (this.running === 0) break;
          await this.wake.wait();
          continue;
        }
        part.firstBlock = chunk.first;
        part.blockCount = Math.min(partBlocks, chunk.end - chunk.first);
        chunk = chunk.first + part.blockCount < chunk.end ? { first: chunk.first + part.blockCount, end: chunk.end } : undefined;
      }
      this.running += 1;
      void this.move(part, cursor, target).then(
        () => this.finish(part),
        (error: unknown) => this.stumble(part, error),
      );
    }
    while (this.running > 0) await this.wake.wait();
    if (this.failure !== undefined) throw this.failure;
    giveBack(this.free.map((part) => part.buffer));
    this.free.length = 0;
  }

  close(): void {
    this.connection.close();
  }

  private finish(part: Part): void {
    this.fruitless = 0;
    part.blockCount = 0;
    this.free.push(part);
    this.running -= 1;
    this.wake.raise();
  }

  private stumble(part: Part, error: unknown): void {
    const { signal } = this.options;
    if (!isConnectionLoss(error) || signal.aborted || this.failure !== undefined) {
      this.failure ??= error;
      this.running -= 1;
      this.wake.raise();
      return;
    }
    this.reopening ??= this.reopen(error).finally(() => (this.reopening = undefined));
    this.reopening
      .then(
        () => this.again.push(part),
        (lost: unknown) => (this.failure ??= lost),
      )
      .finally(() => {
        this.running -= 1;
        this.wake.raise();
      });
  }

  private async reopen(cause: unknown): Promise<void> {
    this.fruitless += 1;
    if (this.fruitless > maxFruitlessConnections) throw cause;
    this.connection.close();
    const { connection, image } = await dial(this.options, reopenPatienceMs);
    this.connection = connection;
    this.handle = image.handle;
    if (image.sizeBytes !== this.image.sizeBytes) throw WorkerErrors.MOVER_ANSWER_INVALID({ problem: 'the disk has another size now' });
  }

  private async move(part: Part, cursor: WorkCursor, target: BlockTarget): Promise<void> {
    const { firstBlock, blockCount } = part;
    const end = firstBlock + blockCount;
    const nextAllocated = await this.read(part, false).catch((error: unknown) => {
      if (!hasCode(error, 'BLOCK_CORRUPT')) throw error;
      // The mover looks for another copy, and notes the bad one; when there is none, what was found here says more.
      return this.read(part, true).catch((again: unknown) => {
        throw hasCode(again, 'BLOCK_CORRUPT') ? error : again;
      });
    });
    await breathe();
    await this.write(part, target);
    if (nextAllocated > end) {
      const hole = cursor.skipTo(nextAllocated);
      if (hole) await this.zero(target, hole.first, hole.end);
    }
  }

  /** Reads a part into its buffer. Throws BLOCK_CORRUPT. */
  private async read(part: Part, checked: boolean): Promise<number> {
    part.present.length = 0;
    part.problem = undefined;
    const onBlock = (header: BlockFrame, payload: Buffer) => {
      // Nothing may be thrown into the connection's reader: it would count as the mover's fault.
      try {
        this.decode(part, header, payload);
      } catch (error) {
        part.problem ??= error;
      }
    };
    const nextAllocated = await this.connection.read(this.handle, part.firstBlock, part.blockCount, onBlock, checked);
    if (part.problem !== undefined) throw part.problem;
    return nextAllocated;
  }

  private decode(part: Part, header: BlockFrame, payload: Buffer): void {
    if (part.problem !== undefined) return;
    const position = header.block - part.firstBlock;
    const at = position * this.blockSizeBytes;
    const length = this.lengthOf(header.block);
    if (position < 0 || position >= part.blockCount || header.rawLength !== length) {
      throw WorkerErrors.MOVER_ANSWER_INVALID({ problem: `block ${header.block} of ${header.rawLength} bytes was not asked for` });
    }
    const raw = part.buffer.subarray(at, at + length);
    const { codec } = header;
    const isRight = (decompressed: boolean) => decompressed && blockDigest(this.connection.terms.digestKey, raw).equals(header.digest);
    // A kept context that a bad block left in disorder would condemn the good ones after it: the last word has a fresh one.
    if (
      !isRight((this.decompressors as Decompressors).decompress(codec, payload, raw)) &&
      !isRight(Decompressors.once(codec, payload, raw))
    ) {
      throw moverError(
        'BLOCK_CORRUPT',
        `Block ${header.block} of disk ${this.options.diskId} is not what its digest says. Verify the repository, then restore another point.`,
        'never',
        { block: header.block, diskId: this.options.diskId, pointId: this.options.pointId },
      );
    }
    part.present[position] = true;
    this.options.counters.add('transferredBytes', payload.length);
  }

  /** Writes runs of blocks that are there and zeroes the others, each run in as few pieces as the target takes. */
  private async write(part: Part, target: BlockTarget): Promise<void> {
    const { counters, rate, signal } = this.options;
    const { firstBlock, blockCount, present } = part;
    for (let position = 0; position < blockCount;) {
      const kind = present[position] === true;
      const first = position;
      while (position < blockCount && (present[position] === true) === kind) position += 1;
      if (!kind) {
        await this.zero(target, firstBlock + first, firstBlock + position);
        continue;
      }
      const from = first * this.blockSizeBytes;
      const to = (position - 1) * this.blockSizeBytes + this.lengthOf(firstBlock + position - 1);
      await rate.take(to - from, signal);
      for (let at = from; at < to; at += target.maxWriteBytes) {
        const until = Math.min(to, at + target.maxWriteBytes);
        await target.write(firstBlock * this.blockSizeBytes + at, part.buffer.subarray(at, until));
      }
      counters.add('readBytes', to - from);
    }
  }

  private async zero(target: BlockTarget, firstBlock: number, endBlock: number): Promise<void> {
    const offset = firstBlock * this.blockSizeBytes;
    const length = Math.min(endBlock * this.blockSizeBytes, this.image.sizeBytes) - offset;
    await target.zero(offset, length);
    this.options.counters.add('zeroBytes', length);
  }

  private lengthOf(block: number): number {
    return Math.min(this.blockSizeBytes, this.image.sizeBytes - block * this.blockSizeBytes);
  }
}

async function dial(options: RestoreLaneOptions, patienceMs: number): Promise<{ connection: MoverConnection; image: ImageOpenedFrame }> {
  const { route, pointId, diskId, signal } = options;
  return openWithPatience(
    async (address, usable) => {
      const connection = await MoverConnection.open(address, usable);
      connection.closeWith(usable);
      try {
        return { connection, image: await connection.openImage(pointId, diskId) };
      } catch (error) {
        connection.close();
        throw error;
      }
    },
    route,
    signal,
    patienceMs,
  );
}
