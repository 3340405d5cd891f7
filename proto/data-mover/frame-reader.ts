import { decodePrefix, FrameViolation, type FramePrefix } from './frame-codec';
import { FRAME_PREFIX_BYTES, MAX_HEADER_BYTES, type FrameType } from './frame-types';

/** Who takes the frames. */
export interface FrameSink {
  /**
   * One whole frame. `header` and `payload` are views on reused memory: they hold until this returns, or, when it called
   * `reader.pause()`, until `reader.resume()`.
   */
  onFrame(type: FrameType, header: Buffer, payload: Buffer): void;
  /**
   * Memory for a payload that does not arrive in one piece, at least `length` bytes; asked once per frame, before the payload is
   * complete. Without this method one buffer per reader is reused, grown up to the largest allowed payload.
   */
  payloadTarget?(type: FrameType, header: Buffer, length: number): Buffer;
}

const empty = Buffer.alloc(0);

/**
 * Cuts a byte stream into frames. Copies a payload at most once (not at all when it lies whole in one chunk) and allocates nothing
 * on the strength of a length that was not judged. One per connection; call `push` from the socket's 'data' event.
 */
export class FrameReader {
  /** Largest payload taken; 0 until the handshake is done. Also sizes the reader's own buffer. */
  maxPayloadBytes = 0;
  private readonly head = Buffer.allocUnsafeSlow(FRAME_PREFIX_BYTES + MAX_HEADER_BYTES);
  private headFilled = 0;
  private prefix: FramePrefix | undefined;
  private payload: Buffer | undefined;
  private payloadFilled = 0;
  private own: Buffer = empty;
  private paused = false;
  private running = false;
  private readonly backlog: Buffer[] = [];

  constructor(private readonly sink: FrameSink) {}

  /** True between `pause` and `resume`; the caller pauses its socket too, so that the backlog stays at a chunk or two. */
  get isPaused(): boolean {
    return this.paused;
  }

  /** Bytes held back by `pause`. */
  get backlogBytes(): number {
    return this.backlog.reduce((sum, chunk) => sum + chunk.length, 0);
  }

  /** True when the stream stands between two frames. */
  get atFrameBoundary(): boolean {
    return this.prefix === undefined && this.headFilled === 0 && this.backlog.length === 0;
  }

  /** No further frame is handed on until `resume`; the views of the current one stay valid until then. */
  pause(): void {
    this.paused = true;
  }

  /** Hands on what was held back. Throws FrameViolation as `push` does. */
  resume(): void {
    this.paused = false;
    this.drain();
  }

  /** Takes the next bytes of the stream. Throws FrameViolation when they are not this protocol; the reader is unusable then. */
  push(chunk: Buffer): void {
    this.backlog.push(chunk);
    this.drain();
  }

  private drain(): void {
    if (this.running) return; // a sink that pauses and resumes within onFrame: the outer loop goes on
    this.running = true;
    try {
      while (!this.paused) {
        const chunk = this.backlog[0];
        if (chunk === undefined) return;
        const used = this.consume(chunk);
        if (used === chunk.length) this.backlog.shift();
        else this.backlog[0] = chunk.subarray(used);
      }
    } finally {
      this.running = false;
    }
  }

  /** Bytes of `chunk` taken: all, unless the sink paused. */
  private consume(chunk: Buffer): number {
    let at = 0;
    while (at < chunk.length && !this.paused) {
      if (this.prefix === undefined) {
        // Fast path: the frame's start lies whole in this chunk and its header too.
        const available = chunk.length - at;
        if (this.headFilled === 0 && available >= FRAME_PREFIX_BYTES) {
          const prefix = decodePrefix(chunk, at, this.maxPayloadBytes);
          const whole = FRAME_PREFIX_BYTES + prefix.headerLength + prefix.payloadLength;
          if (available >= whole) {
            const headerEnd = at + FRAME_PREFIX_BYTES + prefix.headerLength;
            const end = at + whole;
            this.sink.onFrame(prefix.type, chunk.subarray(at + FRAME_PREFIX_BYTES, headerEnd), chunk.subarray(headerEnd, end));
            at = end;
            continue;
          }
        }
        at += this.fillHead(chunk, at);
        continue;
      }
      at += this.fillPayload(chunk, at, this.prefix);
    }
    return at;
  }

  private fillHead(chunk: Buffer, from: number): number {
    let at = from;
    if (this.headFilled < FRAME_PREFIX_BYTES) {
      at += this.copyToHead(chunk, at, FRAME_PREFIX_BYTES);
      if (this.headFilled < FRAME_PREFIX_BYTES) return at - from;
    }
    const prefix = decodePrefix(this.head, 0, this.maxPayloadBytes);
    const headEnd = FRAME_PREFIX_BYTES + prefix.headerLength;
    at += this.copyToHead(chunk, at, headEnd);
    if (this.headFilled < headEnd) return at - from;
    this.prefix = prefix;
    if (prefix.payloadLength === 0) {
      this.finish(prefix, empty);
    } else {
      this.payload = this.takeTarget(prefix);
      this.payloadFilled = 0;
    }
    return at - from;
  }

  private copyToHead(chunk: Buffer, at: number, until: number): number {
    const count = Math.min(until - this.headFilled, chunk.length - at);
    chunk.copy(this.head, this.headFilled, at, at + count);
    this.headFilled += count;
    return count;
  }

  private takeTarget(prefix: FramePrefix): Buffer {
    const length = prefix.payloadLength;
    if (this.sink.payloadTarget) {
      const target = this.sink.payloadTarget(prefix.type, this.header(prefix), length);
      if (target.length < length) throw new FrameViolation(`payload target of ${target.length} bytes for ${length}`);
      return target;
    }
    if (this.own.length < length) {
      // Grown in steps, so that a peer which sends only small payloads costs little.
      const wanted = Math.max(length, Math.min(this.maxPayloadBytes, 65536));
      this.own = Buffer.allocUnsafeSlow(length > 65536 ? this.maxPayloadBytes : wanted);
    }
    return this.own;
  }

  private fillPayload(chunk: Buffer, at: number, prefix: FramePrefix): number {
    const target = this.payload as Buffer;
    const count = Math.min(prefix.payloadLength - this.payloadFilled, chunk.length - at);
    chunk.copy(target, this.payloadFilled, at, at + count);
    this.payloadFilled += count;
    if (this.payloadFilled === prefix.payloadLength) this.finish(prefix, target.subarray(0, prefix.payloadLength));
    return count;
  }

  private header(prefix: FramePrefix): Buffer {
    return this.head.subarray(FRAME_PREFIX_BYTES, FRAME_PREFIX_BYTES + prefix.headerLength);
  }

  private finish(prefix: FramePrefix, payload: Buffer): void {
    this.prefix = undefined;
    this.payload = undefined;
    this.headFilled = 0;
    this.sink.onFrame(prefix.type, this.header(prefix), payload);
  }
}
