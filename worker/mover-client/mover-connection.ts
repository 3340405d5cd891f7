/**
 * Client of the Data Mover protocol (docs/protocol/data-mover.md). This folder owns connections to a mover's data port: handshake, sequences,
 * matching of answers, and the death of a connection. It knows neither disks to read nor files to write, and repeats nothing: who uses a
 * connection knows what is worth repeating.
 */
import type tls from 'node:tls';
import { hasCode } from '../../common/errors/tidemark-error';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { IdentityMaterial } from '../../common/tls/identity';
import { decodeHeader, encodeFrame, encodeFrameBefore, FrameViolation } from '../../proto/data-mover/frame-codec';
import { decodeBlockList, decodeBlockRanges } from '../../proto/data-mover/frame-payloads';
import type { BlockRange } from '../../proto/data-mover/frame-payloads';
import { FrameReader } from '../../proto/data-mover/frame-reader';
import {
  DATA_MOVER_VERSION,
  FrameType,
  PAYLOAD_SLACK_BYTES,
  type BlockFrame,
  type DiskCommittedFrame,
  type FrameHeaders,
  type ImageOpenedFrame,
  type OpenDiskFrame,
  type DiskOpenedFrame,
  type PutFrame,
  type WelcomeFrame,
} from '../../proto/data-mover/frame-types';
import { moverError } from '../errors/error-message';
import { WorkerErrors } from '../errors/worker-errors';
import { dialMover, type MoverAddress, type Receiver } from './dial-mover';

/** What the mover said in Welcome. The key is a copy. */
export interface MoverTerms extends Omit<WelcomeFrame, 'digestKey'> {
  readonly digestKey: Buffer;
}

export interface MoverTimeouts {
  readonly connectMs: number;
  /** Longest wait for the answer to a request; a commit flushes everything to the device first. */
  readonly answerMs: number;
  readonly commitMs: number;
}

export const defaultMoverTimeouts: MoverTimeouts = { connectMs: 10_000, answerMs: 60_000, commitMs: 300_000 };

/** Times are of a clock that nobody sets. */
interface Waiting {
  readonly expected: FrameType;
  /** Undefined header: an answer that only has a sequence. */
  resolve(header: unknown, payload: Buffer): void;
  reject(error: TidemarkError): void;
  readonly onBlock?: (header: BlockFrame, payload: Buffer) => void;
  readonly deadline: number;
}

const pingEveryMs = 30_000;
const empty = Buffer.alloc(0);

/** Any of these on a connection means: open another one and repeat. */
export function isConnectionLoss(error: unknown): boolean {
  return hasCode(
    error,
    'MOVER_CONNECTION_LOST',
    'MOVER_UNREACHABLE',
    'TOO_MANY_CONNECTIONS',
    'CONNECTION_IDLE',
    'MOVER_STOPPING',
    'SESSION_ELSEWHERE',
  );
}

/** One lane to the mover, past its handshake. After it was lost every request rejects with what lost it. */
export class MoverConnection implements Receiver {
  terms!: MoverTerms;
  private readonly waiting = new Map<number, Waiting>();
  private readonly reader: FrameReader;
  private sequence = 0;
  private lostBy: TidemarkError | undefined;
  private lastSentAt = performance.now();
  private readonly timer: NodeJS.Timeout;
  /** Resolves when the socket is gone: no buffer handed to it is in use any more. */
  readonly closed: Promise<void>;

  private constructor(
    private readonly socket: tls.TLSSocket,
    private readonly endpoint: string,
    private readonly timeouts: MoverTimeouts,
    private readonly address: MoverAddress,
    /** With which it was opened. */
    private readonly identity: IdentityMaterial,
  ) {
    this.reader = new FrameReader({ onFrame: (type, header, payload) => this.onFrame(type, header, payload) });
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()));
    this.timer = setInterval(() => this.tick(), 1_000);
    this.timer.unref();
    socket.on('error', (error: NodeJS.ErrnoException) => this.lose(error.code ?? error.message, error));
    socket.on('end', () => this.lose('the mover closed it'));
    socket.on('close', () => this.lose('the mover closed it'));
  }

  /**
   * Connects to the first endpoint that answers and says Hello. Throws MOVER_UNREACHABLE, or what the mover refused it with (TICKET_…,
   * ROLE_NOT_ALLOWED, TOO_MANY_CONNECTIONS, SESSION_ENDED, PROTOCOL_VERSION_UNSUPPORTED).
   */
  static async open(address: MoverAddress, signal: AbortSignal, timeouts = defaultMoverTimeouts): Promise<MoverConnection> {
    let failure: TidemarkError | undefined;
    for (const endpoint of address.endpoints) {
      try {
        const connection = await MoverConnection.dial(address, endpoint, timeouts, signal);
        try {
          await connection.hello(address.ticket);
          return connection;
        } catch (error) {
          connection.close();
          throw error;
        }
      } catch (error) {
        if (!isConnectionLoss(error)) throw error;
        failure = error as TidemarkError;
      }
    }
    throw failure ?? WorkerErrors.MOVER_UNREACHABLE({ endpoints: 'none', reason: 'no endpoint was given' });
  }

  private static dial(address: MoverAddress, endpoint: string, timeouts: MoverTimeouts, signal: AbortSignal): Promise<MoverConnection> {
    const { identity } = address;
    const connected = (socket: tls.TLSSocket) => new MoverConnection(socket, endpoint, timeouts, address, identity);
    return dialMover(address, endpoint, timeouts.connectMs, signal, connected);
  }

  get isLost(): boolean {
    return this.lostBy !== undefined;
  }

  openDisk(disk: Omit<OpenDiskFrame, 'sequence'>): Promise<DiskOpenedFrame> {
    return this.request(FrameType.openDisk, disk, FrameType.diskOpened, (header) => header);
  }

  /** `payload` holds offer entries. The answer is a bitmap, a copy. */
  offer(handle: number, payload: Buffer): Promise<Buffer> {
    return this.request(FrameType.offer, { handle }, FrameType.offerReply, (_header, bitmap) => Buffer.from(bitmap), payload);
  }

  /**
   * Sends the stored form that lies at `payloadOffset` of `buffer`. Resolves when the mover has it and the socket is done with the
   * buffer. After a rejection the buffer may be in use until `closed` resolves, unless the connection is not lost.
   */
  put(buffer: Buffer, payloadOffset: number, payloadLength: number, header: Omit<PutFrame, 'sequence'>): Promise<void> {
    const sequence = this.nextSequence();
    const answered = this.expect(sequence, FrameType.putReply, this.timeouts.answerMs, () => undefined);
    if (this.lostBy) return answered;
    const frame = encodeFrameBefore(buffer, payloadOffset, payloadLength, FrameType.put, { ...header, sequence });
    const written = this.write(frame);
    return Promise.all([answered, written]).then(() => undefined);
  }

  zero(handle: number, firstBlock: number, blockCount: number): Promise<void> {
    return this.request(FrameType.zero, { handle, firstBlock, blockCount }, FrameType.zeroReply, () => undefined);
  }

  /** The commit's answer and the blocks that are still missing (then nothing was committed). */
  commitDisk(handle: number): Promise<DiskCommittedFrame & { missing: number[] }> {
    return this.request(
      FrameType.commitDisk,
      { handle },
      FrameType.diskCommitted,
      (header, payload) => ({ ...header, indexRoot: Buffer.from(header.indexRoot), missing: decodeBlockList(payload) }),
      undefined,
      this.timeouts.commitMs,
    );
  }

  openImage(pointId: string, diskId: string): Promise<ImageOpenedFrame> {
    return this.request(FrameType.openImage, { pointId, diskId }, FrameType.imageOpened, (header) => header);
  }

  /**
   * Reads blocks; `onBlock` is called for each that is not zero, ascending, with views that hold only during the call. Resolves with the next
   * block after the range that is not zero. With `checked` the mover compares each block with its digest first and takes another copy where one is bad.
   */
  read(
    handle: number,
    firstBlock: number,
    blockCount: number,
    onBlock: (header: BlockFrame, payload: Buffer) => void,
    checked = false,
  ): Promise<number> {
    const sequence = this.nextSequence();
    const answered = this.expect(
      sequence,
      FrameType.readDone,
      this.timeouts.answerMs,
      (header: FrameHeaders[typeof FrameType.readDone]) => header.nextAllocatedBlock,
      onBlock,
    );
    if (!this.lostBy) void this.write(encodeFrame(FrameType.read, { sequence, handle, firstBlock, blockCount, checked }));
    return answered;
  }

  /** Closes when the signal aborts. */
  closeWith(signal: AbortSignal): void {
    const abort = () => this.close();
    signal.addEventListener('abort', abort, { once: true });
    void this.closed.then(() => signal.removeEventListener('abort', abort));
    if (signal.aborted) abort();
  }

  /** Ranges that are mapped, from `firstBlock` on, and where the next question goes on. */
  listMapped(handle: number, firstBlock: number): Promise<{ ranges: BlockRange[]; nextBlock: number }> {
    return this.request(FrameType.listMapped, { handle, firstBlock }, FrameType.mapped, ({ nextBlock }, payload) => ({
      ranges: decodeBlockRanges(payload),
      nextBlock,
    }));
  }

  /** Says Bye and closes; requests under way are rejected. */
  close(reason = 'it was closed here'): void {
    if (!this.lostBy && this.socket.writable) {
      this.socket.write(encodeFrame(FrameType.bye, { reason: 'done' }), () => this.socket.destroy());
      setTimeout(() => this.socket.destroy(), 1_000).unref();
    }
    this.lose(reason, undefined, true);
  }

  private async hello(ticket: string): Promise<void> {
    this.terms = await new Promise<MoverTerms>((resolve, reject) => {
      this.waiting.set(0, {
        expected: FrameType.welcome,
        deadline: performance.now() + this.timeouts.connectMs,
        resolve: (header) => {
          const welcome = header as WelcomeFrame;
          resolve({ ...welcome, digestKey: Buffer.from(welcome.digestKey) });
        },
        reject,
      });
      void this.write(encodeFrame(FrameType.hello, { version: DATA_MOVER_VERSION, ticket }));
    });
    this.reader.maxPayloadBytes = this.terms.blockSizeBytes + PAYLOAD_SLACK_BYTES;
  }

  private nextSequence(): number {
    this.sequence += 1;
    return this.sequence;
  }

  private request<Q extends FrameType, A extends FrameType, R>(
    type: Q,
    header: Omit<FrameHeaders[Q], 'sequence'>,
    answer: A,
    map: (header: FrameHeaders[A], payload: Buffer) => R,
    payload?: Buffer,
    timeoutMs = this.timeouts.answerMs,
  ): Promise<R> {
    const sequence = this.nextSequence();
    const answered = this.expect(sequence, answer, timeoutMs, map);
    if (!this.lostBy) void this.write(encodeFrame(type, { ...header, sequence } as unknown as FrameHeaders[Q], payload));
    return answered;
  }

  private expect<A extends FrameType, R>(
    sequence: number,
    expected: A,
    timeoutMs: number,
    map: (header: FrameHeaders[A], payload: Buffer) => R,
    onBlock?: (header: BlockFrame, payload: Buffer) => void,
  ): Promise<R> {
    return new Promise<R>((resolve, reject) => {
      if (this.lostBy) return reject(this.lostBy);
      this.waiting.set(sequence, {
        expected,
        deadline: performance.now() + timeoutMs,
        resolve: (header, payload) => resolve(map(header as FrameHeaders[A], payload)),
        reject,
        ...(onBlock ? { onBlock } : {}),
      });
    });
  }

  /** Resolves when the socket no longer needs the bytes. Only the callback says so: `write` returning true does not. */
  private write(frame: Buffer): Promise<void> {
    this.lastSentAt = performance.now();
    return new Promise((resolve) => {
      // An error is reported by the socket itself and rejects every request; here the buffer just is free.
      this.socket.write(frame, () => resolve());
    });
  }

  take(chunk: Buffer): void {
    if (this.lostBy) return;
    try {
      this.reader.push(chunk);
    } catch (error) {
      const problem = error instanceof FrameViolation ? error.problem : `handling an answer failed (${String(error)})`;
      this.end(WorkerErrors.MOVER_ANSWER_INVALID({ problem }, { cause: error }));
    }
  }

  private onFrame(type: FrameType, header: Buffer, payload: Buffer): void {
    switch (type) {
      case FrameType.ping:
        void this.write(encodeFrame(FrameType.pong, { sequence: decodeHeader(FrameType.ping, header).sequence }));
        return;
      case FrameType.bye:
        return this.lose('the mover said goodbye');
      case FrameType.error: {
        const refusal = decodeHeader(FrameType.error, header);
        const error = moverError(refusal.code, refusal.message, refusal.retry);
        const pending = this.waiting.get(refusal.sequence);
        if (refusal.sequence === 0 || !pending) return this.end(error);
        this.waiting.delete(refusal.sequence);
        return pending.reject(error);
      }
      case FrameType.block: {
        const block = decodeHeader(FrameType.block, header);
        const pending = this.waiting.get(block.sequence);
        if (!pending?.onBlock) throw new FrameViolation('a block that nobody asked for');
        return pending.onBlock(block, payload);
      }
      case FrameType.welcome:
        return this.answer(0, type, decodeHeader(type, header), empty);
      default: {
        const decoded = decodeHeader(type, header);
        const { sequence } = decoded as { sequence: number };
        this.answer(sequence, type, decoded, payload);
      }
    }
  }

  private answer(sequence: number, type: FrameType, header: unknown, payload: Buffer): void {
    const pending = this.waiting.get(sequence);
    if (!pending && type === FrameType.pong) return;
    if (pending?.expected !== type) throw new FrameViolation(`answer ${type} to request ${sequence}`);
    this.waiting.delete(sequence);
    pending.resolve(header, payload);
  }

  private tick(): void {
    const now = performance.now();
    for (const pending of this.waiting.values()) {
      if (pending.deadline > now) continue;
      return this.lose('it did not answer in time');
    }
    // What was not answered is repeated on the next one. A commit is answered once; it is waited for, and it has its deadline.
    if (this.address.identity !== this.identity && !this.isCommitting()) return this.close('the own certificate was renewed');
    if (now - this.lastSentAt >= pingEveryMs && (this.terms as MoverTerms | undefined)) {
      const sequence = this.nextSequence();
      // A missing answer loses the connection through the deadline; the value is of no interest.
      this.expect(sequence, FrameType.pong, this.timeouts.answerMs, () => undefined).catch(() => undefined);
      void this.write(encodeFrame(FrameType.ping, { sequence }));
    }
  }

  private isCommitting(): boolean {
    return [...this.waiting.values()].some(({ expected }) => expected === FrameType.diskCommitted);
  }

  private lose(reason: string, cause?: unknown, keepSocket = false): void {
    this.end(WorkerErrors.MOVER_CONNECTION_LOST({ endpoint: this.endpoint, reason }, { cause }), keepSocket);
  }

  private end(error: TidemarkError, keepSocket = false): void {
    if (this.lostBy) return;
    this.lostBy = error;
    clearInterval(this.timer);
    if (!keepSocket) this.socket.destroy();
    const pending = [...this.waiting.values()];
    this.waiting.clear();
    for (const request of pending) request.reject(error);
  }
}
