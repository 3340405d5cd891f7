/**
 * One connection of the data port: the state machine of docs/protocol/data-mover.md.
 *
 *   hello ──valid Hello──▶ ready ──Bye, fatal error, session's end──▶ closed
 *     └────with a probe ticket──▶ probing ──Bye, fatal error──▶ closed
 *
 * Frames are handled one after the other; a handler that must wait pauses the reader and the socket, which is all the backpressure there is.
 * Commits and reads run beside, a bounded number of them. What the frames mean: write-frames.ts, read-frames.ts, probe.ts.
 */
import type { TLSSocket } from 'node:tls';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { PeerIdentity } from '../../common/rpc/peer';
import { decodeHeader, encodeFrame, FrameViolation } from '../../proto/data-mover/frame-codec';
import { FrameReader, type FrameSink } from '../../proto/data-mover/frame-reader';
import { FrameType, MAX_PROBE_BYTES, PAYLOAD_SLACK_BYTES, type FrameHeaders } from '../../proto/data-mover/frame-types';
import { DataPortErrors } from '../errors/mover-errors';
import type { Lane, Session } from '../sessions/session';
import { admit, welcome, welcomeToProbe } from './admission';
import type { Channel, ConnectionContext, Handlers } from './channel';
import { closesConnection, errorFrame, frameError } from './frame-errors';
import { Probe } from './probe';
import { ReadFrames } from './read-frames';
import { WriteFrames } from './write-frames';

/** Answers that wait in the socket before it is no longer read. */
const maxUnsentBytes = 4 * 1024 * 1024;
/** Commits and reads at a time. */
const maxBackground = 4;
const closeGraceMs = 1_000;

export class Connection implements Lane, FrameSink, Channel {
  readonly openedAt: number;
  private lastFrameAt: number;
  private lastSignAt = 0;
  private taken = 0;
  private readonly reader: FrameReader;
  private session: Session | undefined;
  private probe: Probe | undefined;
  private payloadBuffer: Buffer | undefined;
  private background = 0;
  private backgroundFree: (() => void) | undefined;
  private closed = false;
  private handlers: Handlers = {
    [FrameType.hello]: (header) => this.onHello(header),
    [FrameType.probe]: (header, payload) => this.onProbe(header.sequence, payload),
    [FrameType.ping]: (header) => this.send(encodeFrame(FrameType.pong, { sequence: header.sequence })),
    [FrameType.pong]: () => undefined,
    [FrameType.bye]: () => this.end(),
  };

  constructor(
    private readonly socket: TLSSocket,
    readonly peer: PeerIdentity | undefined,
    private readonly context: ConnectionContext,
  ) {
    this.openedAt = this.lastFrameAt = context.now();
    this.reader = new FrameReader(this);
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

  /** A peer that does not close its side in turn, or is gone without a word, holds nothing for long. */
  private end(lastFrame?: Buffer): void {
    if (this.closed) return;
    this.closed = true;
    if (lastFrame) this.socket.end(lastFrame);
    else this.socket.end();
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
      if (this.socket.writableLength > maxUnsentBytes) this.hold(this.roomToSend());
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

  private onHello(hello: FrameHeaders[typeof FrameType.hello]): void {
    if (this.isReady) throw DataPortErrors.FRAME_UNEXPECTED({ problem: 'a second Hello' });
    const { session, claims } = admit(hello, this.peer, this.context);
    const { limits, readPool } = this.context;
    if (!session) {
      this.context.probing.add(this);
      this.probe = new Probe();
      this.reader.maxPayloadBytes = MAX_PROBE_BYTES;
      return this.send(welcomeToProbe(limits));
    }
    session.attach(this);
    this.session = session;
    this.handlers = {
      ...this.handlers,
      ...new WriteFrames(session, claims, this, this, limits).handlers,
      ...new ReadFrames(session, claims, this, limits, readPool).handlers,
    };
    this.reader.maxPayloadBytes = session.repository.blockSizeBytes + PAYLOAD_SLACK_BYTES;
    this.send(welcome(session, limits));
  }

  private onProbe(sequence: number, payload: Buffer): void {
    if (!this.probe) throw DataPortErrors.TICKET_RIGHT_MISSING({ right: 'probe' });
    this.send(encodeFrame(FrameType.probeReply, { sequence, receivedBytes: this.probe.count(payload.length) }));
  }

  send(frame: Buffer): void {
    if (!this.closed && !this.socket.destroyed) this.socket.write(frame);
  }

  sendParts(parts: readonly Buffer[], release: () => void): void {
    if (this.closed || this.socket.destroyed) return release();
    this.socket.cork();
    // Only a write's callback says that its memory is free; writes end in order, so the last one speaks for all.
    parts.forEach((part, i) => (i === parts.length - 1 ? this.socket.write(part, release) : this.socket.write(part)));
    this.socket.uncork();
  }

  async roomToSend(): Promise<void> {
    if (this.socket.writableLength > maxUnsentBytes) await this.drained();
  }

  beside(sequence: number, work: () => Promise<void>): void | Promise<void> {
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
    // Its disks and images go with it, though an answer may still be under way.
    this.handlers = {};
  }

  private onClosed(): void {
    if (this.closed) return;
    this.closed = true;
    this.leave();
  }
}
