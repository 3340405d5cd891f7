/**
 * One connection of the data port: the state machine of docs/protocol/data-mover.md.
 *
 *   hello ──valid Hello──▶ ready ──Bye, fatal error, session's end──▶ closed
 *     └────with a probe ticket──▶ probing ──Bye, fatal error──▶ closed
 *
 * Frames are handled one after the other; a handler that must wait pauses the reader and the socket, which is all the backpressure there is.
 * Commits and reads run beside, a bounded number of them. The file is long because it is one state machine: all frames share its state.
 */
import type { TLSSocket } from 'node:tls';
import { CommonErrors } from '../../common/errors/common-errors';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import type { PeerIdentity } from '../../common/rpc/peer';
import type { TicketClaims, TicketRight } from '../../common/tickets/ticket';
import { decodeHeader, encodeFrame, encodeFrameHead, FrameViolation } from '../../proto/data-mover/frame-codec';
import {
  encodeBlockList,
  encodeBlockRanges,
  newPutBitmap,
  offerBlock,
  offerDigest,
  offerEntryCount,
  setPutBit,
} from '../../proto/data-mover/frame-payloads';
import { FrameReader, type FrameSink } from '../../proto/data-mover/frame-reader';
import {
  DATA_MOVER_VERSION,
  FrameType,
  MAX_MAPPED_RANGES,
  MAX_PROBE_BYTES,
  PAYLOAD_SLACK_BYTES,
  type FrameHeaders,
  type PutFrame,
} from '../../proto/data-mover/frame-types';
import { BlockErrors, DataPortErrors, SessionErrors } from '../errors/mover-errors';
import { BlockKind } from '../format/block';
import { rawLengthOf } from '../format/index-page';
import type { DiskDraft } from '../sessions/disk-draft';
import type { Lane, Session } from '../sessions/session';
import type { BufferPool } from '../repository/blocks/buffer-pool';
import { closesConnection, errorFrame, frameError } from './frame-errors';
import { ImageReader, type StoredBlockView } from '../repository/blocks/image-reader';
import { judgePut } from './judge-put';
import type { DataPortLimits } from './limits';
import type { PayloadBuffers } from './payload-buffers';
import { isProbeTicket, Probe } from './probe';

/** Answers that wait in the socket before it is no longer read. */
const maxUnsentBytes = 4 * 1024 * 1024;
/** Commits and reads at a time. */
const maxBackground = 4;
/** Offers whose blocks may all be asked for and not put yet; a worker has some two under way. */
const maxClaimedOffers = 8;
const maxHandles = 1024;
const missingLimit = 65_536;
const closeGraceMs = 1_000;

/** What a connection needs of its port. */
export interface ConnectionContext {
  readonly limits: DataPortLimits;
  readonly logger: Logger;
  /** For read groups; shared by all connections. */
  readonly readPool: BufferPool;
  /** For frames that arrive in pieces; shared by all connections. */
  readonly payloads: PayloadBuffers;
  /** Connections that only measure the way. */
  readonly probing: Set<Connection>;
  /** Claims of a genuine ticket. Throws TICKET_INVALID, TICKET_EXPIRED. */
  checkTicket(ticket: string): TicketClaims;
  /** Throws TICKET_INVALID when the session is not here, SESSION_ENDED. */
  findSession(claims: TicketClaims): Session;
  now(): number;
}

interface Claim {
  readonly draft: DiskDraft;
  readonly block: number;
}

type Handlers = { readonly [T in FrameType]?: (header: FrameHeaders[T], payload: Buffer) => void | Promise<void> };

export class Connection implements Lane, FrameSink {
  readonly openedAt: number;
  private lastFrameAt: number;
  private lastSignAt = 0;
  private taken = 0;
  private readonly reader: FrameReader;
  private session: Session | undefined;
  private probe: Probe | undefined;
  private claims: TicketClaims | undefined;
  private readonly drafts = new Map<number, DiskDraft>();
  private readonly images = new Map<number, ImageReader>();
  private readonly asked = new Map<string, Claim>();
  private nextImage = 1;
  private payloadBuffer: Buffer | undefined;
  private background = 0;
  private backgroundFree: (() => void) | undefined;
  private reads: Promise<void> = Promise.resolve();
  private closed = false;
  private readonly handlers: Handlers;

  constructor(
    private readonly socket: TLSSocket,
    readonly peer: PeerIdentity | undefined,
    private readonly context: ConnectionContext,
  ) {
    this.openedAt = this.lastFrameAt = context.now();
    this.reader = new FrameReader(this);
    this.handlers = this.table();
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => {
      if (!this.closed) this.receive(() => this.reader.push(chunk));
    });
    socket.on('error', (error: Error) => context.logger.debug('data connection broke', { error: error.message }));
    socket.on('end', () => socket.destroy());
    socket.on('close', () => this.onClosed());
  }

  get isReady(): boolean {
    return this.session !== undefined || this.probe !== undefined;
  }

  /**
   * Milliseconds without a sign of life: no whole frame arrived and, when answers are waiting, none of them was taken. While the mover itself
   * holds the peer up its silence does not count.
   */
  silentMs(): number {
    const now = this.context.now();
    const taken = this.socket.bytesWritten - this.socket.writableLength;
    const holding = (this.reader.isPaused || this.background > 0) && this.socket.writableLength === 0;
    if (taken !== this.taken || holding) this.lastSignAt = now;
    this.taken = taken;
    return now - Math.max(this.lastFrameAt, this.lastSignAt);
  }

  /** A commit or a read is under way. */
  get isBusy(): boolean {
    return this.background > 0;
  }

  /** Sends the reason and closes. */
  close(error: Error): void {
    this.end(errorFrame(0, frameError(error)));
  }

  /** Closes without a reproach: the peer opens another connection and repeats what was not answered. */
  sayGoodbye(reason: string): void {
    this.end(encodeFrame(FrameType.bye, { reason }));
  }

  private end(lastFrame: Buffer): void {
    if (this.closed) return;
    this.closed = true;
    this.socket.end(lastFrame);
    this.socket.resume();
    setTimeout(() => this.socket.destroy(), closeGraceMs).unref();
    this.leave();
  }

  onFrame(type: FrameType, header: Buffer, payload: Buffer): void {
    if (this.closed) return;
    this.lastFrameAt = this.context.now();
    let sequence = 0;
    try {
      const fields = decodeHeader(type, header);
      if ('sequence' in fields) {
        sequence = fields.sequence;
        if (sequence === 0) throw new FrameViolation('a request without a sequence');
      }
      if (!this.isReady && type !== FrameType.hello) throw DataPortErrors.FRAME_UNEXPECTED({ problem: 'the first frame is not Hello' });
      this.probe?.assertAllowed(type);
      const handler = this.handlers[type] as ((header: unknown, payload: Buffer) => void | Promise<void>) | undefined;
      if (!handler) throw DataPortErrors.FRAME_UNEXPECTED({ problem: `type ${type} is the mover's to send` });
      const waiting = handler(fields, payload);
      if (waiting) {
        this.hold(waiting.catch((error: unknown) => this.fail(sequence, error)).finally(() => this.releasePayload()));
        return;
      }
      this.releasePayload();
      if (this.socket.writableLength > maxUnsentBytes) this.hold(this.drained());
    } catch (error) {
      this.releasePayload();
      this.fail(sequence, error);
    }
  }

  /** Memory for a payload in pieces: lanes share buffers, so that an idle connection holds none. */
  payloadTarget(_type: FrameType, _header: Buffer, length: number): Buffer {
    this.payloadBuffer = this.context.payloads.take(Math.max(length, this.reader.maxPayloadBytes));
    return this.payloadBuffer;
  }

  private releasePayload(): void {
    if (this.payloadBuffer) this.context.payloads.give(this.payloadBuffer);
    this.payloadBuffer = undefined;
  }

  private table(): Handlers {
    return {
      [FrameType.hello]: (header) => this.onHello(header),
      [FrameType.openDisk]: (header) => this.onOpenDisk(header),
      [FrameType.offer]: (header, payload) => this.onOffer(header, payload),
      [FrameType.put]: (header, payload) => this.onPut(header, payload),
      [FrameType.zero]: (header) => {
        this.mustWrite();
        this.draft(header.handle).zero(header.firstBlock, header.blockCount);
        this.send(encodeFrame(FrameType.zeroReply, { sequence: header.sequence }));
      },
      [FrameType.listMapped]: (header) => this.onListMapped(header),
      [FrameType.commitDisk]: (header) => this.onCommitDisk(header),
      [FrameType.openImage]: (header) => this.onOpenImage(header),
      [FrameType.read]: (header) => this.onRead(header),
      [FrameType.probe]: (header, payload) => this.onProbe(header.sequence, payload),
      [FrameType.ping]: (header) => this.send(encodeFrame(FrameType.pong, { sequence: header.sequence })),
      [FrameType.pong]: () => undefined,
      [FrameType.bye]: () => {
        this.closed = true;
        this.socket.end();
        this.leave();
      },
    };
  }

  private onHello(hello: FrameHeaders[typeof FrameType.hello]): void {
    if (this.isReady) throw DataPortErrors.FRAME_UNEXPECTED({ problem: 'a second Hello' });
    if (hello.version !== DATA_MOVER_VERSION)
      throw DataPortErrors.PROTOCOL_VERSION_UNSUPPORTED({ version: hello.version, supported: DATA_MOVER_VERSION });
    if (!this.peer) throw CommonErrors.CERTIFICATE_REQUIRED({ method: 'the data port' });
    if (this.peer.role !== 'worker' && this.peer.role !== 'host')
      throw CommonErrors.ROLE_NOT_ALLOWED({ method: 'the data port', role: this.peer.role });
    const claims = this.context.checkTicket(hello.ticket);
    if (this.peer.role === 'host' && claims.rights.includes('write'))
      throw CommonErrors.ROLE_NOT_ALLOWED({ method: 'writing', role: 'host' });
    if (isProbeTicket(claims)) return this.startProbe();
    const session = this.context.findSession(claims);
    const limit = this.context.limits.maxConnectionsPerSession;
    if (session.laneCount >= limit) throw DataPortErrors.TOO_MANY_CONNECTIONS({ limit }, { retryDelayMs: 5_000 });
    session.attach(this);
    this.session = session;
    this.claims = claims;
    const { blockSizeBytes, digestKey, codec, codecLevel } = session.repository;
    this.reader.maxPayloadBytes = blockSizeBytes + PAYLOAD_SLACK_BYTES;
    this.send(
      encodeFrame(FrameType.welcome, {
        version: DATA_MOVER_VERSION,
        sessionId: session.id,
        blockSizeBytes,
        digestKey,
        codec,
        codecLevel,
        maxPutsInFlight: this.context.limits.maxPutsInFlight,
        maxBatch: this.context.limits.maxBatch,
      }),
    );
  }

  private startProbe(): void {
    const { limits, probing } = this.context;
    if (probing.size >= limits.maxProbes) throw DataPortErrors.TOO_MANY_CONNECTIONS({ limit: limits.maxProbes }, { retryDelayMs: 5_000 });
    probing.add(this);
    this.probe = new Probe();
    this.reader.maxPayloadBytes = MAX_PROBE_BYTES;
    this.send(
      encodeFrame(FrameType.welcome, {
        version: DATA_MOVER_VERSION,
        sessionId: '',
        blockSizeBytes: MAX_PROBE_BYTES,
        digestKey: Buffer.alloc(0),
        codec: 0,
        codecLevel: 0,
        maxPutsInFlight: limits.maxPutsInFlight,
        maxBatch: 0,
      }),
    );
  }

  private onProbe(sequence: number, payload: Buffer): void {
    if (!this.probe) throw DataPortErrors.TICKET_RIGHT_MISSING({ right: 'probe' });
    this.send(encodeFrame(FrameType.probeReply, { sequence, receivedBytes: this.probe.count(payload.length) }));
  }

  private async onOpenDisk(open: FrameHeaders[typeof FrameType.openDisk]): Promise<void> {
    const session = this.mustWrite();
    const { sequence, diskId, sizeBytes, basePointId, baseDiskId, contentId = '' } = open;
    if (diskId === '' || diskId.length > 256) throw CommonErrors.ARGUMENT_INVALID({ field: 'disk_id', problem: 'it is empty or too long' });
    if (contentId.length > 256) throw CommonErrors.ARGUMENT_INVALID({ field: 'content_id', problem: 'it is too long' });
    const draft = await session.openDisk({ diskId, sizeBytes, basePointId, baseDiskId, contentId });
    if (draft === 'committed') return this.send(encodeFrame(FrameType.diskOpened, { sequence, handle: 0, committed: true }));
    // Handles of disks that are no longer written: of whoever opens a disk with one content after the other there must not be more and more.
    for (const [old, { isClosed }] of this.drafts) if (isClosed) this.drafts.delete(old);
    this.drafts.set(draft.handle, draft);
    const { handle, hasMapped } = draft;
    this.send(encodeFrame(FrameType.diskOpened, { sequence, handle, committed: false, hasMapped }));
  }

  private onListMapped(list: FrameHeaders[typeof FrameType.listMapped]): void {
    this.mustWrite();
    const { sequence, handle, firstBlock } = list;
    const { ranges, nextBlock } = this.draft(handle).listMapped(firstBlock, MAX_MAPPED_RANGES);
    this.send(encodeFrame(FrameType.mapped, { sequence, nextBlock }, encodeBlockRanges(ranges)));
  }

  private onOffer(offer: FrameHeaders[typeof FrameType.offer], payload: Buffer): void {
    this.mustWrite();
    const draft = this.draft(offer.handle);
    const count = offerEntryCount(payload);
    if (count > this.context.limits.maxBatch) throw new FrameViolation(`an offer of ${count} entries`);
    if (this.asked.size + count > this.context.limits.maxBatch * maxClaimedOffers)
      throw DataPortErrors.FRAME_UNEXPECTED({ problem: 'too many offered blocks were not put' });
    const bitmap = newPutBitmap(count);
    for (let position = 0; position < count; position++) {
      const block = offerBlock(payload, position);
      const digest = offerDigest(payload, position);
      if (draft.offer(block, digest, this) !== 'put') continue;
      this.asked.set(digest.toString('latin1'), { draft, block });
      setPutBit(bitmap, position);
    }
    this.send(encodeFrame(FrameType.offerReply, { sequence: offer.sequence }, bitmap));
  }

  private onPut(put: PutFrame, payload: Buffer): void | Promise<void> {
    const session = this.mustWrite();
    const { sequence } = put;
    const key = Buffer.from(put.digest).toString('latin1');
    const claim = this.asked.get(key);
    const expected = claim ? rawLengthOf(claim.block, claim.draft.request.sizeBytes, session.repository.blockSizeBytes) : undefined;
    judgePut(put, payload, session.repository.blockSizeBytes, expected);
    const waiting = session.repository.blocks.putBlock({
      digest: Buffer.from(put.digest),
      codec: put.codec,
      kind: BlockKind.data,
      rawLength: put.rawLength,
      payload,
    });
    this.asked.delete(key);
    claim?.draft.noteStored(payload.length);
    const reply = encodeFrame(FrameType.putReply, { sequence });
    if (!waiting) return this.send(reply);
    return waiting.then(() => this.send(reply));
  }

  private onCommitDisk(commit: FrameHeaders[typeof FrameType.commitDisk]): void | Promise<void> {
    const session = this.mustWrite();
    const draft = this.draft(commit.handle);
    const limit = Math.min(missingLimit, Math.floor(this.reader.maxPayloadBytes / 8));
    return this.beside(commit.sequence, async () => {
      const result = await session.commitDisk(draft, limit);
      const { sequence } = commit;
      if ('missing' in result) {
        const none = { sequence, indexRoot: Buffer.alloc(0), storedBytes: 0, deduplicatedBytes: 0 };
        return this.send(encodeFrame(FrameType.diskCommitted, none, encodeBlockList(result.missing)));
      }
      const { indexRoot, storedBytes, deduplicatedBytes } = result.committed;
      const header = { sequence, indexRoot: Buffer.from(indexRoot, 'hex'), storedBytes, deduplicatedBytes };
      this.send(encodeFrame(FrameType.diskCommitted, header));
    });
  }

  private async onOpenImage(open: FrameHeaders[typeof FrameType.openImage]): Promise<void> {
    const session = this.mustHave('read');
    const { sequence, pointId, diskId } = open;
    if (!this.claims?.pointIds.includes(pointId) || !session.pointIds.includes(pointId))
      throw DataPortErrors.TICKET_RIGHT_MISSING({ right: `read point ${pointId}` });
    if (this.images.size >= maxHandles) throw DataPortErrors.FRAME_UNEXPECTED({ problem: 'too many images are open' });
    const image = await ImageReader.open(session.repository, pointId, diskId);
    const handle = this.nextImage++;
    this.images.set(handle, image);
    const { sizeBytes, allocatedBlocks } = image;
    this.send(encodeFrame(FrameType.imageOpened, { sequence, handle, sizeBytes, allocatedBlocks }));
  }

  private onRead(read: FrameHeaders[typeof FrameType.read]): void | Promise<void> {
    this.mustHave('read');
    const image = this.images.get(read.handle);
    if (!image) throw SessionErrors.DISK_NOT_OPEN({ handle: read.handle });
    if (read.blockCount > this.context.limits.maxBatch) throw new FrameViolation(`a read of ${read.blockCount} blocks`);
    if (read.firstBlock > image.blocks) throw BlockErrors.BLOCK_OUT_OF_RANGE({ block: read.firstBlock, blocks: image.blocks });
    return this.beside(read.sequence, () => {
      // Sent one after the other, so that the answers to one read are not mixed with those to the next; read beside each other.
      this.reads = this.answerRead(
        read,
        image,
        this.reads.catch(() => undefined),
      );
      return this.reads;
    });
  }

  private async answerRead(read: FrameHeaders[typeof FrameType.read], image: ImageReader, turn: Promise<void>): Promise<void> {
    const { sequence, firstBlock, blockCount } = read;
    const answer = async (group: readonly StoredBlockView[], buffer: Buffer) => {
      this.sendBlocks(sequence, group, buffer);
      if (this.socket.writableLength > maxUnsentBytes) await this.drained();
    };
    const { readPool } = this.context;
    if (read.checked === true) {
      await turn;
      await image.readChecked(firstBlock, blockCount, readPool, answer);
    } else {
      // Also one that fails waits for its turn: the next one's begins when this one ends.
      await image.read(firstBlock, blockCount, readPool, answer, turn).finally(() => turn);
    }
    const end = Math.min(firstBlock + blockCount, image.blocks);
    this.send(encodeFrame(FrameType.readDone, { sequence, nextAllocatedBlock: await image.nextAllocated(end) }));
  }

  private sendBlocks(sequence: number, group: readonly StoredBlockView[], buffer: Buffer): void {
    const release = () => this.context.readPool.release(buffer);
    if (this.closed || this.socket.destroyed) return release();
    this.socket.cork();
    group.forEach(({ block, digest, codec, rawLength, payload }, i) => {
      this.socket.write(encodeFrameHead(FrameType.block, { sequence, block, digest, codec, rawLength }, payload.length));
      // Only a write's callback says that its memory is free; writes end in order, so the last one speaks for all.
      if (i === group.length - 1) this.socket.write(payload, release);
      else this.socket.write(payload);
    });
    this.socket.uncork();
  }

  /** Runs work without holding up the frames behind it; holds them up when too much is running. */
  private beside(sequence: number, work: () => Promise<void>): void | Promise<void> {
    this.background++;
    void work()
      .catch((error: unknown) => this.fail(sequence, error))
      .finally(() => {
        this.background--;
        this.backgroundFree?.();
        this.backgroundFree = undefined;
      });
    if (this.background < maxBackground) return undefined;
    return new Promise((resolve) => (this.backgroundFree = resolve));
  }

  private mustHave(right: TicketRight): Session {
    if (!this.claims?.rights.includes(right)) throw DataPortErrors.TICKET_RIGHT_MISSING({ right });
    return this.session as Session;
  }

  private mustWrite(): Session {
    const session = this.session as Session;
    if (session.kind !== 'backup') throw DataPortErrors.FRAME_UNEXPECTED({ problem: 'the session is not a backup' });
    return this.mustHave('write');
  }

  private draft(handle: number): DiskDraft {
    const draft = this.drafts.get(handle);
    if (!draft) throw SessionErrors.DISK_NOT_OPEN({ handle });
    return draft;
  }

  /** Stops reading until the work is done. */
  private hold(work: Promise<void>): void {
    this.reader.pause();
    this.socket.pause();
    void work.finally(() => {
      if (this.closed) return;
      this.receive(() => this.reader.resume());
      if (!this.reader.isPaused) this.socket.resume();
    });
  }

  private receive(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.fail(0, error);
    }
  }

  private fail(sequence: number, thrown: unknown): void {
    if (this.closed) return;
    const error: TidemarkError = frameError(thrown);
    if (error.kind === 'bug') this.context.logger.warn('frame refused', { code: error.code, peer: this.peer, problem: error.meta, error });
    else this.context.logger.info('frame refused', { code: error.code, peer: this.peer, sessionId: this.session?.id });
    if (sequence === 0 || closesConnection(error)) this.close(error);
    else this.send(errorFrame(sequence, error));
  }

  private send(frame: Buffer): void {
    if (!this.closed && !this.socket.destroyed) this.socket.write(frame);
  }

  private drained(): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.socket.off('drain', done);
        this.socket.off('close', done);
        resolve();
      };
      if (this.socket.destroyed || !this.socket.writableNeedDrain) return resolve();
      this.socket.on('drain', done);
      this.socket.on('close', done);
    });
  }

  private leave(): void {
    this.session?.detach(this);
    this.context.probing.delete(this);
    this.asked.clear();
    this.drafts.clear();
    this.images.clear();
  }

  private onClosed(): void {
    if (this.closed) return;
    this.closed = true;
    this.leave();
  }
}
