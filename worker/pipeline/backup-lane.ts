/**
 * The block pipeline. This folder owns what happens to a block between a source or target and the mover: read, zero test, digest, question,
 * compression, sending; and backwards. It runs in lanes: each lane is one thread's share of a disk with its own source connections, its own
 * buffers and its own connection to the mover, so that no block ever crosses a thread. It knows neither plug-ins nor tasks.
 *
 * Memory of a lane is fixed: some slabs of a batch of raw blocks, some buffers of one stored block. A slab is kept until the mover has answered
 * for all of its blocks, so that after a broken connection everything unanswered can be offered again.
 */
import { setImmediate as breathe } from 'node:timers/promises';
import { compressorFor } from '../../common/codec/block-codec';
import type { CodecCompressor } from '../../common/codec/block-codec';
import { compressBound } from '../../common/codec/zstd-stream';
import { hasCode } from '../../common/errors/tidemark-error';
import { OFFER_ENTRY_BYTES, hasPutBit, writeOfferEntry } from '../../proto/data-mover/frame-payloads';
import { FRAME_HEADROOM_BYTES } from '../../proto/data-mover/frame-codec';
import { BlockCodec, type DiskCommittedFrame, type OpenDiskFrame } from '../../proto/data-mover/frame-types';
import type { BlockPlan } from '../extents/block-plan';
import { WorkerErrors } from '../errors/worker-errors';
import { DiskConnection, isStateLoss } from '../mover-client/disk-connection';
import { isConnectionLoss } from '../mover-client/mover-connection';
import type { MoverRoute } from '../mover-client/mover-route';
import type { BlockSource } from '../sources/block-source';
import { ListFeed } from './block-feed';
import type { BlockFeed } from './block-feed';
import { giveBack, takeBuffer } from './buffer-pool';
import type { SharedCounters } from './counters';
import { ZERO_DIGEST, blockDigest, isZero, payloadCheck } from './digest';
import type { RateLimit } from '../../common/flow/rate-limit';
import { SlabReader } from './slab-reader';
import type { Slab } from './slab-reader';
import { Wake } from './wake';

/** Raw bytes of one batch: the range of one read, the blocks of one offer. Larger ones are not faster and cost memory in every lane. */
const batchBytes = 2 * 1024 * 1024;
/** Stored blocks on their way; more only help a slow network. */
const putBuffers = 4;
/** A put that arrives damaged is sent again this often. */
const maxPutTries = 3;
const maxCommitRounds = 5;
/** Connections that may break one after the other without a single batch getting through. */
const maxFruitlessConnections = 10;
/** A compressed form must save 5 % or the block is stored as it is. */
const worthCompressing = 0.95;

/** A slab on its way, until every block of it was answered. */
interface Batch {
  readonly slab: Slab;
  /** Positions in the slab that are offered, in the order of the offer's entries. */
  readonly offered: number[];
  readonly lengths: number[];
  readonly digests: Buffer[];
  readonly entries: Buffer;
  unanswered: number;
  sent: boolean;
}

export interface BackupLaneOptions {
  readonly route: MoverRoute;
  /** For the first connection, in milliseconds. */
  readonly patienceMs: number;
  readonly disk: Omit<OpenDiskFrame, 'sequence'>;
  readonly counters: SharedCounters;
  readonly rate: RateLimit;
  readonly signal: AbortSignal;
}

export class BackupLane {
  private readonly batches = new Set<Batch>();
  private readonly freeSlabs: Slab[] = [];
  private freeFrames: Buffer[] = [];
  private frames: Buffer[] = [];
  private readonly wake = new Wake();
  private failure: unknown;
  /** Counts connections, so that late answers of an old one are told apart. */
  private epoch = 0;
  /** Connections lost since the last batch was answered. */
  private fruitless = 0;
  private compressor: CodecCompressor | undefined;

  private constructor(
    private readonly disk: DiskConnection,
    private readonly options: BackupLaneOptions,
  ) {}

  /** Connects and opens the disk. Throws what DiskConnection.open throws. */
  static async open(options: BackupLaneOptions): Promise<BackupLane> {
    const { route, disk, signal, patienceMs } = options;
    return new BackupLane(await DiskConnection.open(route, disk, signal, patienceMs), options);
  }

  get blockSizeBytes(): number {
    return this.disk.terms.blockSizeBytes;
  }

  get handle(): number {
    return this.disk.handle;
  }

  /** True when the mover has some of the disk. */
  get hasMapped(): boolean {
    return this.disk.opened.hasMapped ?? false;
  }

  /** Takes out of the plan what the mover has; resolves with the number of blocks it has. Before `run`, and by one lane. */
  async subtractMapped(plan: BlockPlan): Promise<number> {
    let mapped = 0;
    for (let next = 0; next < plan.blockCount;) {
      const { ranges, nextBlock } = await this.repeated(() => this.disk.connection.listMapped(this.disk.handle, next));
      if (nextBlock <= next)
        throw WorkerErrors.MOVER_ANSWER_INVALID({ problem: `a list of mapped blocks that does not go on from ${next}` });
      for (const { firstBlock, blockCount } of ranges) {
        plan.removeTouched(firstBlock, firstBlock + blockCount);
        mapped += blockCount;
      }
      next = nextBlock;
    }
    return mapped;
  }

  /** True when the disk was committed before in this session: nothing is to be sent. */
  get isCommitted(): boolean {
    return this.disk.opened.committed;
  }

  /**
   * Sends every block of the feed; resolves when the mover has answered for all. Throws what the source throws, what the mover answers, and
   * MOVER_STATE_LOST when the disk must be begun again with what the mover has of it.
   */
  async run(plan: BlockPlan, feed: BlockFeed, source: BlockSource): Promise<void> {
    this.prepareBuffers(source.concurrency);
    const { counters, rate, signal } = this.options;
    const reader = new SlabReader(plan, source, feed, this.freeSlabs, this.batchBlocks, counters, rate, signal);
    try {
      await this.repeated(() => this.pump(plan, feed, reader));
    } finally {
      await reader.settle();
    }
    // Everything was answered, so no socket and no read holds a buffer.
    giveBack([...this.freeSlabs.map((slab) => slab.buffer), ...this.frames]);
    this.freeSlabs.length = 0;
    this.frames = [];
  }

  /** Commits the disk, sending again what the mover misses. Call when all lanes are through. Throws BLOCKS_STILL_MISSING. */
  async commit(plan: BlockPlan | undefined, source: BlockSource | undefined): Promise<DiskCommittedFrame> {
    for (let round = 1; ; round += 1) {
      const answer = await this.repeated(() => this.disk.connection.commitDisk(this.disk.handle));
      if (answer.missing.length === 0) return answer;
      if (round === maxCommitRounds || !plan || !source) {
        const { diskId } = this.options.disk;
        throw WorkerErrors.BLOCKS_STILL_MISSING({ diskId, blocks: answer.missing.length, rounds: round });
      }
      await this.run(plan, new ListFeed(answer.missing), source);
    }
  }

  close(): void {
    this.disk.close();
  }

  private get batchBlocks(): number {
    return Math.max(1, Math.min(Math.floor(batchBytes / this.blockSizeBytes), this.disk.terms.maxBatch));
  }

  private prepareBuffers(readAhead: number): void {
    const { terms } = this.disk;
    this.compressor ??= compressorFor(terms.codec, terms.codecLevel);
    const count = Math.max(1, Math.min(putBuffers, terms.maxPutsInFlight));
    const length = FRAME_HEADROOM_BYTES + compressBound(this.blockSizeBytes);
    this.frames = Array.from({ length: count }, () => takeBuffer(length));
    this.freeFrames = [...this.frames];
    // Being read, being offered, being sent, waiting for the last answers.
    for (let made = 0; made < readAhead + 3; made += 1) {
      this.freeSlabs.push({ buffer: takeBuffer(this.batchBlocks * this.blockSizeBytes), blocks: [] });
    }
  }

  /** Does `work`, and does it again on a new connection as often as the old one breaks. */
  private async repeated<T>(work: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (isStateLoss(error)) throw WorkerErrors.MOVER_STATE_LOST({ diskId: this.options.disk.diskId }, { cause: error });
        if (!isConnectionLoss(error) || this.options.signal.aborted) throw error;
        this.fruitless += 1;
        if (this.fruitless > maxFruitlessConnections) throw error;
        this.epoch += 1;
        await this.disk.reopen();
        this.failure = undefined;
        this.freeFrames = [...this.frames];
      }
    }
  }

  private async pump(plan: BlockPlan, feed: BlockFeed, reader: SlabReader): Promise<void> {
    const offers = [...this.batches].map((batch) => this.offer(batch));
    try {
      for (;;) {
        // One batch stays offered while the next is read and hashed, so that the answer is there when it is needed.
        while (offers.length > 1) await this.send(offers);
        await this.sendZeroes(feed);
        const slab = await this.nextSlab(feed, reader);
        if (slab) {
          offers.push(this.offer(this.digest(plan, slab)));
          continue;
        }
        if (offers.length > 0) await this.send(offers);
        else if (feed.isExhausted && feed.zeroes.length === 0) break;
      }
      while (this.batches.size > 0) await this.changed();
      this.throwFailure();
    } catch (error) {
      for (const { reply } of offers) reply.catch(() => undefined);
      throw error;
    }
  }

  /** The next slab read, or undefined when there is none for now. */
  private async nextSlab(feed: BlockFeed, reader: SlabReader): Promise<Slab | undefined> {
    for (;;) {
      this.throwFailure();
      reader.advance();
      if (reader.hasStarted) return reader.take();
      if (this.freeSlabs.length > 0) return undefined;
      await this.changed();
    }
  }

  /** Zero test and digests. Zeroes are offered too, without a base as well: else they would be read again after the mover is gone. */
  private digest(plan: BlockPlan, slab: Slab): Batch {
    const { digestKey } = this.disk.terms;
    const offered = slab.blocks.map((_block, position) => position);
    const digests = offered.map((position) => {
      const raw = this.rawOf(plan, slab, position);
      return isZero(raw) ? ZERO_DIGEST : blockDigest(digestKey, raw);
    });
    const entries = Buffer.allocUnsafe(offered.length * OFFER_ENTRY_BYTES);
    offered.forEach((position, index) => writeOfferEntry(entries, index, slab.blocks[position] as number, digests[index] as Buffer));
    const lengths = offered.map((position) => plan.lengthOf(slab.blocks[position] as number));
    const batch: Batch = { slab, offered, lengths, digests, entries, unanswered: 0, sent: false };
    this.batches.add(batch);
    return batch;
  }

  private rawOf(plan: BlockPlan, slab: Slab, position: number): Buffer {
    const at = position * this.blockSizeBytes;
    return slab.buffer.subarray(at, at + plan.lengthOf(slab.blocks[position] as number));
  }

  private offer(batch: Batch): { batch: Batch; reply: Promise<Buffer> } {
    batch.unanswered = 0;
    batch.sent = false;
    const reply = this.disk.connection.offer(this.disk.handle, batch.entries);
    reply.catch(() => undefined); // seen when the batch's turn comes
    return { batch, reply };
  }

  /** Compresses and sends what the mover asked for of the oldest batch offered. */
  private async send(offers: { batch: Batch; reply: Promise<Buffer> }[]): Promise<void> {
    const { batch, reply } = offers[0] as { batch: Batch; reply: Promise<Buffer> };
    const wanted = await reply;
    offers.shift();
    for (const [index, position] of batch.offered.entries()) {
      const length = batch.lengths[index] as number;
      const digest = batch.digests[index] as Buffer;
      if (!hasPutBit(wanted, index)) {
        if (digest !== ZERO_DIGEST) this.options.counters.add('deduplicatedBytes', length);
        continue;
      }
      const at = position * this.blockSizeBytes;
      const frame = await this.takeFrame();
      batch.unanswered += 1;
      this.put(batch, frame, batch.slab.buffer.subarray(at, at + length), digest);
      // Compression does not yield: let sockets and reads move on between blocks.
      await breathe();
    }
    batch.sent = true;
    this.finishIfAnswered(batch);
  }

  private put(batch: Batch, frame: Buffer, raw: Buffer, digest: Buffer): void {
    let codec: BlockCodec = BlockCodec.none;
    let length = 0;
    if (this.compressor) {
      length = this.compressor.compress(raw, frame, FRAME_HEADROOM_BYTES);
      if (length <= raw.length * worthCompressing) ({ codec } = this.compressor);
    }
    if (codec === BlockCodec.none) length = raw.copy(frame, FRAME_HEADROOM_BYTES);
    const check = payloadCheck(frame.subarray(FRAME_HEADROOM_BYTES, FRAME_HEADROOM_BYTES + length));
    const header = { digest, codec, rawLength: raw.length, payloadCheck: check };
    const { epoch } = this;
    const attempt = async () => {
      for (let tries = 1; ; tries += 1) {
        try {
          await this.disk.connection.put(frame, FRAME_HEADROOM_BYTES, length, header);
          return;
        } catch (error) {
          if (tries === maxPutTries || epoch !== this.epoch || !hasCode(error, 'BLOCK_CORRUPT')) throw error;
        }
      }
    };
    attempt().then(
      () => {
        if (epoch !== this.epoch) return;
        this.options.counters.add('transferredBytes', length);
        this.freeFrames.push(frame);
        batch.unanswered -= 1;
        this.finishIfAnswered(batch);
      },
      (error: unknown) => {
        if (epoch === this.epoch) this.fail(error);
      },
    );
  }

  private finishIfAnswered(batch: Batch): void {
    if (batch.sent && batch.unanswered === 0) {
      this.fruitless = 0;
      this.batches.delete(batch);
      this.freeSlabs.push(batch.slab);
    }
    this.wake.raise();
  }

  private async takeFrame(): Promise<Buffer> {
    for (;;) {
      this.throwFailure();
      const frame = this.freeFrames.pop();
      if (frame) return frame;
      await this.wake.wait();
    }
  }

  /** Sends the zero ranges met so far; they leave the list when they are answered. */
  private async sendZeroes(feed: BlockFeed): Promise<void> {
    const { zeroes } = feed;
    if (zeroes.length === 0) return;
    const { connection, handle } = this.disk;
    await Promise.all(zeroes.map((range) => connection.zero(handle, range.firstBlock, range.blockCount)));
    zeroes.length = 0;
  }

  private async changed(): Promise<void> {
    this.throwFailure();
    await this.wake.wait();
    this.throwFailure();
  }

  private fail(error: unknown): void {
    this.failure ??= error;
    this.wake.raise();
  }

  private throwFailure(): void {
    if (this.failure !== undefined) throw this.failure;
  }
}
