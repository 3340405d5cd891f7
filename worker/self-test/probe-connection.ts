import { randomBytes } from 'node:crypto';
import type tls from 'node:tls';
import { TidemarkError } from '../../common/errors/tidemark-error';
import { decodeHeader, encodeFrame, encodeFrameHead, FrameViolation } from '../../proto/data-mover/frame-codec';
import { FrameReader } from '../../proto/data-mover/frame-reader';
import { DATA_MOVER_VERSION, FrameType, MAX_PROBE_BYTES } from '../../proto/data-mover/frame-types';
import { moverError } from '../errors/error-message';
import { WorkerErrors } from '../errors/worker-errors';
import { TimeLimit } from './time-limit';

/** Probes on their way at the same time, if the mover takes as many. */
const mostInFlight = 8;

/** A connection that only measures the way to a mover (docs/protocol/data-mover.md §7). */
export class ProbeConnection {
  private readonly reader: FrameReader;
  private failure: unknown;
  private welcomed = false;
  private inFlight = mostInFlight;
  private acknowledgedBytes = 0;
  private answered = 0;
  private wake: () => void = () => undefined;

  private constructor(
    private readonly socket: tls.TLSSocket,
    private readonly endpoint: string,
  ) {
    this.reader = new FrameReader({ onFrame: (type, header) => this.onFrame(type, header) });
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.take(chunk));
    socket.on('error', (error: NodeJS.ErrnoException) => this.fail(this.lost(error.code ?? error.message, error)));
    socket.on('close', () => this.fail(this.lost('the mover closed it')));
  }

  /**
   * Says Hello on a fresh connection. Throws what the mover refuses it with (TICKET_…, ROLE_NOT_ALLOWED, TOO_MANY_CONNECTIONS, …) or
   * MOVER_CONNECTION_LOST; the connection is closed then.
   */
  static async open(socket: tls.TLSSocket, endpoint: string, ticket: string, timeoutMs: number): Promise<ProbeConnection> {
    const connection = new ProbeConnection(socket, endpoint);
    socket.write(encodeFrame(FrameType.hello, { version: DATA_MOVER_VERSION, ticket }));
    const limit = connection.limit(timeoutMs);
    try {
      await connection.until(() => connection.welcomed, limit, 'it did not answer Hello in time');
      return connection;
    } catch (error) {
      connection.close();
      throw error;
    } finally {
      limit.clear();
    }
  }

  /** Sends noise; ends when all of it is acknowledged or the time is over. What was acknowledged by then, and how long it took. */
  async measure(bytes: number, limitMs: number): Promise<{ bytes: number; elapsedMs: number }> {
    const noise = randomBytes(Math.min(MAX_PROBE_BYTES, bytes));
    const frames = Math.ceil(bytes / noise.length);
    const startedAt = performance.now();
    const limit = this.limit(limitMs);
    try {
      for (let sequence = 1; sequence <= frames && !limit.isOver; sequence += 1) {
        await this.until(() => sequence - 1 - this.answered < this.inFlight, limit).catch(onlyTime);
        if (sequence - 1 - this.answered >= this.inFlight) break;
        this.socket.cork();
        this.socket.write(encodeFrameHead(FrameType.probe, { sequence }, noise.length));
        this.socket.write(noise);
        this.socket.uncork();
      }
      await this.until(() => this.answered === frames, limit).catch(onlyTime);
    } finally {
      limit.clear();
    }
    return { bytes: this.acknowledgedBytes, elapsedMs: performance.now() - startedAt };
  }

  close(): void {
    this.failure ??= this.lost('it was closed here');
    if (this.socket.writable) this.socket.end(encodeFrame(FrameType.bye, { reason: 'measured' }));
    setTimeout(() => this.socket.destroy(), 500).unref();
  }

  private take(chunk: Buffer): void {
    try {
      this.reader.push(chunk);
    } catch (error) {
      this.fail(error);
    }
  }

  private onFrame(type: FrameType, header: Buffer): void {
    switch (type) {
      case FrameType.welcome: {
        this.inFlight = Math.max(1, Math.min(mostInFlight, decodeHeader(type, header).maxPutsInFlight));
        this.welcomed = true;
        break;
      }
      case FrameType.probeReply:
        this.acknowledgedBytes = decodeHeader(type, header).receivedBytes;
        this.answered += 1;
        break;
      case FrameType.error: {
        const { code, message, retry } = decodeHeader(type, header);
        return this.fail(moverError(code, message, retry));
      }
      case FrameType.ping:
        this.socket.write(encodeFrame(FrameType.pong, { sequence: decodeHeader(type, header).sequence }));
        return;
      case FrameType.bye:
        return this.fail(this.lost('the mover said Bye'));
      default:
        throw new FrameViolation(`frame ${type} does not belong here`);
    }
    this.wake();
  }

  private limit(limitMs: number): TimeLimit {
    return new TimeLimit(limitMs, () => this.wake());
  }

  /** Waits for the condition. Throws the connection's failure, or MOVER_CONNECTION_LOST when the time is over. */
  private async until(condition: () => boolean, limit: TimeLimit, reason = outOfTime): Promise<void> {
    while (!condition()) {
      if (this.failure !== undefined) throw this.failure;
      if (limit.isOver) throw this.lost(reason);
      await new Promise<void>((resolve) => (this.wake = resolve));
    }
  }

  private lost(reason: string, cause?: unknown): TidemarkError {
    return WorkerErrors.MOVER_CONNECTION_LOST({ endpoint: this.endpoint, reason }, { cause });
  }

  private fail(error: unknown): void {
    this.failure ??= error;
    this.socket.destroy();
    this.wake();
  }
}

const outOfTime = 'the time is over';

/** A slow way is a result. */
function onlyTime(error: unknown): void {
  if (!(error instanceof TidemarkError) || error.meta['reason'] !== outOfTime) throw error;
}
