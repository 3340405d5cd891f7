/**
 * Client of oVirt's image service (ovirt-imageio). This folder owns its HTTP dialect: one TLS socket per connection, one request at a
 * time, answers read through the socket's reused buffer (half the CPU of any stock HTTP client for the same bytes). It is small because
 * the service is regular: content-length is always there, no chunks, no trailers, no redirects.
 * It knows nothing of blocks, digests or movers. Outside facts: https://ovirt.github.io/ovirt-imageio/images.html, and what the daemon
 * 2.5 does in practice (a kept connection whose backend broke answers 500 for ever; 206 may be cut at any step).
 */
import net from 'node:net';
import tls from 'node:tls';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import { ImageErrors } from '../errors/worker-errors';
import { endpointName } from './image-endpoint';
import type { ImageEndpoint } from './image-endpoint';

export interface ImageTimeouts {
  readonly connectMs: number;
  /** Until the head of the answer: the service reads a whole range before it sends the first byte. */
  readonly headMs: number;
  /** Silence within a body. */
  readonly stallMs: number;
}

export const defaultImageTimeouts: ImageTimeouts = { connectMs: 10_000, headMs: 60_000, stallMs: 60_000 };

export interface ImageRequest {
  readonly method: 'OPTIONS' | 'GET' | 'PUT' | 'PATCH';
  /** Appended to the image's path, e.g. `/extents?context=zero`. */
  readonly suffix?: string;
  /** Further header lines, without line ends. */
  readonly headers?: readonly string[];
  readonly body?: Buffer;
  /** Takes the body of a 206 answer, which must have exactly its length; anything else is IMAGE_CONNECTION_BROKEN. */
  readonly into?: Buffer;
  /** Takes the body of a 200 answer piece by piece; pieces hold only during the call. */
  readonly onChunk?: (chunk: Buffer) => void;
}

export interface ImageReply {
  readonly status: number;
  /** Body, unless `into` or `onChunk` took it; at most 64 KiB are kept. */
  readonly text: string;
  /** False when the service closes the connection after this answer. */
  readonly keepsConnection: boolean;
}

interface Exchange {
  readonly request: ImageRequest;
  resolve(reply: ImageReply): void;
  reject(error: TidemarkError): void;
}

const maxHeadBytes = 16 * 1024;
const maxTextBytes = 64 * 1024;
const readBufferBytes = 64 * 1024;

const certificateProblems = /CERT|SELF_SIGNED|UNABLE_TO_|ERR_TLS_CERT|HOSTNAME_MISMATCH|INVALID_CA|PATH_LENGTH|ROLE_MISMATCH/;

/** One kept connection. After any rejection it is closed and of no use; open another one. */
export class ImageConnection {
  private exchange: Exchange | undefined;
  private head = '';
  private headDone = false;
  private status = 0;
  private keeps = true;
  private bodyLength = 0;
  private bodyFilled = 0;
  private text: Buffer[] = [];
  private textBytes = 0;
  private timer: NodeJS.Timeout | undefined;
  private sawBytes = false;
  private closedBy: TidemarkError | undefined;
  private readonly name: string;

  private constructor(
    private readonly socket: tls.TLSSocket,
    private readonly endpoint: ImageEndpoint,
    private readonly timeouts: ImageTimeouts,
  ) {
    this.name = endpointName(endpoint);
  }

  /** Opens a connection; throws IMAGE_UNREACHABLE, also at the abort of the signal, IMAGE_CERTIFICATE_REJECTED. */
  static open(endpoint: ImageEndpoint, timeouts: ImageTimeouts, signal: AbortSignal): Promise<ImageConnection> {
    return new Promise((resolve, reject) => {
      let connection: ImageConnection | undefined;
      const buffer = Buffer.allocUnsafeSlow(readBufferBytes);
      const options = {
        host: endpoint.host,
        port: endpoint.port,
        ca: [endpoint.caPem],
        servername: net.isIP(endpoint.host) ? '' : endpoint.host,
        minVersion: 'TLSv1.2' as const,
        onread: {
          buffer,
          callback: (length: number) => {
            connection?.take(buffer.subarray(0, length));
            return true;
          },
        },
      };
      const socket = tls.connect(options as tls.ConnectionOptions);
      socket.setNoDelay(true);
      const late = setTimeout(() => fail('it did not answer in time'), timeouts.connectMs);
      const aborted = () => fail('it was given up');
      const settle = () => {
        clearTimeout(late);
        signal.removeEventListener('abort', aborted);
      };
      const fail = (reason: string, cause?: NodeJS.ErrnoException) => {
        settle();
        socket.destroy();
        const meta = { endpoint: endpointName(endpoint), reason };
        const rejected = cause?.code !== undefined && certificateProblems.test(cause.code);
        reject(rejected ? ImageErrors.IMAGE_CERTIFICATE_REJECTED(meta, { cause }) : ImageErrors.IMAGE_UNREACHABLE(meta, { cause }));
      };
      const early = (error: NodeJS.ErrnoException) => fail(error.code ?? error.message, error);
      const ended = () => fail('it closed the connection');
      socket.once('error', early);
      socket.once('close', ended);
      signal.addEventListener('abort', aborted, { once: true });
      if (signal.aborted) aborted();
      socket.once('secureConnect', () => {
        settle();
        socket.removeListener('error', early);
        socket.removeListener('close', ended);
        const opened = new ImageConnection(socket, endpoint, timeouts);
        connection = opened;
        socket.on('error', (error: NodeJS.ErrnoException) => opened.broken(error.code ?? error.message, error));
        socket.on('end', () => opened.broken('the service closed it'));
        socket.on('close', () => opened.broken('the service closed it'));
        resolve(opened);
      });
    });
  }

  get isClosed(): boolean {
    return this.closedBy !== undefined || this.socket.destroyed;
  }

  /**
   * One request and its answer, whatever its status. Throws IMAGE_CONNECTION_BROKEN or IMAGE_TIMED_OUT; the connection is closed then.
   * `body` may be reused when this settles.
   */
  send(request: ImageRequest): Promise<ImageReply> {
    return new Promise((resolve, reject) => {
      if (this.closedBy) return reject(this.closedBy);
      this.exchange = { request, resolve, reject };
      this.head = '';
      this.headDone = false;
      this.bodyFilled = 0;
      this.text = [];
      this.textBytes = 0;
      const lines = [
        `${request.method} ${this.endpoint.path}${request.suffix ?? ''} HTTP/1.1`,
        `host: ${this.name}`,
        ...(request.body ? [`content-length: ${request.body.length}`] : []),
        ...(request.headers ?? []),
        '',
        '',
      ];
      this.watch(request.body ? this.timeouts.headMs + this.timeouts.stallMs : this.timeouts.headMs, 'waiting for its answer');
      this.socket.cork();
      this.socket.write(lines.join('\r\n'), 'latin1');
      if (request.body && request.body.length > 0) this.socket.write(request.body);
      this.socket.uncork();
    });
  }

  /** Closes; a request under way is rejected with IMAGE_CONNECTION_BROKEN. Resolves when the socket is gone. */
  close(): Promise<void> {
    const gone = this.socket.closed ? Promise.resolve() : new Promise<void>((resolve) => this.socket.once('close', () => resolve()));
    this.broken('it was given up');
    return gone;
  }

  private watch(timeoutMs: number, what: string): void {
    clearTimeout(this.timer);
    this.sawBytes = false;
    this.timer = setTimeout(() => {
      if (this.sawBytes) this.watch(this.timeouts.stallMs, 'in the middle of an answer');
      else this.fail(ImageErrors.IMAGE_TIMED_OUT({ endpoint: this.name, what, timeoutMs }));
    }, timeoutMs);
  }

  private broken(reason: string, cause?: unknown): void {
    this.fail(ImageErrors.IMAGE_CONNECTION_BROKEN({ endpoint: this.name, reason }, { cause }));
  }

  private fail(error: TidemarkError): void {
    clearTimeout(this.timer);
    if (this.closedBy) return;
    this.closedBy = error;
    this.socket.destroy();
    const pending = this.exchange;
    this.exchange = undefined;
    pending?.reject(error);
  }

  private take(chunk: Buffer): void {
    this.sawBytes = true;
    let at = 0;
    if (!this.headDone) {
      at = this.takeHead(chunk);
      if (!this.headDone) return;
    }
    if (at < chunk.length) this.takeBody(at === 0 ? chunk : chunk.subarray(at));
    else if (this.bodyFilled === this.bodyLength) this.finish();
  }

  /** Bytes of `chunk` that belong to the head. */
  private takeHead(chunk: Buffer): number {
    const before = this.head.length;
    this.head += chunk.toString('latin1', 0, Math.min(chunk.length, maxHeadBytes));
    const end = this.head.indexOf('\r\n\r\n');
    if (end < 0) {
      if (this.head.length >= maxHeadBytes) this.broken('its answer has no head');
      return chunk.length;
    }
    if (!this.exchange) {
      this.broken('it answered unasked');
      return chunk.length;
    }
    const lines = this.head.slice(0, end).split('\r\n');
    const status = /^HTTP\/1\.[01] (\d{3})/.exec(lines[0] ?? '');
    let length: number | undefined;
    this.keeps = true;
    for (const line of lines.slice(1)) {
      const header = /^([^:]+):\s*(.*?)\s*$/.exec(line);
      const name = header?.[1]?.toLowerCase();
      if (name === 'content-length' && /^\d{1,15}$/.test(header?.[2] ?? '')) length = Number(header?.[2]);
      else if (name === 'connection' && /close/i.test(header?.[2] ?? '')) this.keeps = false;
    }
    this.status = Number(status?.[1] ?? 0);
    if (this.status === 204 && length === undefined) length = 0;
    if (!status || length === undefined) {
      this.broken('its answer has no status or no length');
      return chunk.length;
    }
    this.bodyLength = length;
    this.headDone = true;
    const { into } = this.exchange.request;
    if (into && this.status === 206 && length !== into.length) {
      this.broken(`it announced ${length} bytes instead of ${into.length}`);
      return chunk.length;
    }
    return end + 4 - before;
  }

  private takeBody(chunk: Buffer): void {
    const exchange = this.exchange;
    if (!exchange || this.bodyFilled + chunk.length > this.bodyLength) return this.broken('it sent more than it announced');
    const { into, onChunk } = exchange.request;
    if (into && this.status === 206) {
      chunk.copy(into, this.bodyFilled);
    } else if (onChunk && this.status === 200) {
      try {
        onChunk(chunk);
      } catch (error) {
        return this.fail(error as TidemarkError);
      }
    } else if (this.textBytes < maxTextBytes) {
      this.text.push(Buffer.from(chunk));
      this.textBytes += chunk.length;
    }
    this.bodyFilled += chunk.length;
    if (this.bodyFilled === this.bodyLength) this.finish();
  }

  private finish(): void {
    const exchange = this.exchange;
    clearTimeout(this.timer);
    this.exchange = undefined;
    this.head = '';
    this.headDone = false;
    if (!exchange) return;
    const reply = { status: this.status, text: Buffer.concat(this.text).toString('utf8'), keepsConnection: this.keeps };
    if (!this.keeps) this.broken('the service closed it');
    exchange.resolve(reply);
  }
}
