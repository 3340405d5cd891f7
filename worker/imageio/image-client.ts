import { CommonErrors } from '../../common/errors/common-errors';
import { hasCode } from '../../common/errors/tidemark-error';
import { ExtentsParser } from '../../common/extents/extents-parser';
import type { ExtentSink } from '../../common/extents/extents-parser';
import { pause } from '../../common/rpc/call';
import { ImageErrors } from '../errors/worker-errors';
import { ImageConnection, defaultImageTimeouts } from './image-connection';
import type { ImageReply, ImageRequest, ImageTimeouts } from './image-connection';
import { endpointName } from './image-endpoint';
import type { ImageEndpoint } from './image-endpoint';

/** What the service can do with this ticket. */
export interface ImageOptions {
  readonly features: readonly string[];
  /** Connections it wishes to see at most. */
  readonly maxReaders: number;
  readonly maxWriters: number;
}

/** Largest range of one GET or PUT: below the service's 8 MiB step, a failed read is a status and never a cut body. */
export const maxRangeBytes = 4 * 1024 * 1024;
/** Zeroing is not instant on every storage; a step must end well within the time-out for an answer. */
const maxZeroBytes = 1024 * 1024 * 1024;
/** Pauses before the second, third … try of a request. */
const usualPausesMs: readonly number[] = [100, 500, 2_000, 5_000];

/**
 * Operations on one image over one connection at a time, opened when needed and replaced when it broke. Requests are repeated with
 * pauses, always on a new connection: a kept one whose backend broke answers 500 for ever. Use it from one place at a time.
 *
 * All operations throw IMAGE_UNREACHABLE, IMAGE_CERTIFICATE_REJECTED, IMAGE_CONNECTION_BROKEN, IMAGE_TIMED_OUT, IMAGE_STORAGE_FAILED
 * (after the last try), IMAGE_TICKET_REFUSED (at once), IMAGE_REQUEST_REFUSED, CANCELLED.
 */
export class ImageClient {
  private connection: ImageConnection | undefined;

  constructor(
    private readonly endpoint: ImageEndpoint,
    private readonly signal: AbortSignal,
    private readonly timeouts: ImageTimeouts = defaultImageTimeouts,
    private pausesMs: readonly number[] = usualPausesMs,
  ) {
    signal.addEventListener('abort', () => void this.connection?.close(), { once: true });
  }

  /** From now on requests are repeated as often as is usual. */
  bePatient(): void {
    this.pausesMs = usualPausesMs;
  }

  async options(): Promise<ImageOptions> {
    const reply = await this.retried('ask for its features', { method: 'OPTIONS' }, [200]);
    try {
      const parsed = JSON.parse(reply.text) as { features?: string[]; max_readers?: number; max_writers?: number };
      return { features: parsed.features ?? [], maxReaders: parsed.max_readers ?? 1, maxWriters: parsed.max_writers ?? 1 };
    } catch (cause) {
      throw ImageErrors.IMAGE_REQUEST_REFUSED(
        { endpoint: endpointName(this.endpoint), what: 'ask for its features', httpStatus: 200, answer: 'not JSON' },
        { cause },
      );
    }
  }

  /**
   * Streams the extents and returns the image's size. After a broken try the list starts again from zero, so `newSink` is called once per
   * try. Context `dirty` throws CHANGED_EXTENTS_UNAVAILABLE when there is no dirty bitmap.
   */
  async extents(context: 'zero' | 'dirty', newSink: () => ExtentSink): Promise<number> {
    let parser = new ExtentsParser(() => undefined);
    const attempt = (): ImageRequest => {
      parser = new ExtentsParser(newSink());
      return { method: 'GET', suffix: `/extents?context=${context}`, onChunk: (chunk) => parser.push(chunk) };
    };
    const reply = await this.retried('list its extents', attempt, context === 'dirty' ? [200, 404] : [200]);
    if (reply.status === 404) throw ImageErrors.CHANGED_EXTENTS_UNAVAILABLE({ reason: 'the image has no dirty bitmap' });
    parser.end();
    return parser.endBytes;
  }

  /** Fills `target` with the bytes from `offset`; at most `maxRangeBytes`. */
  async read(offset: number, target: Buffer): Promise<void> {
    const headers = [`range: bytes=${offset}-${offset + target.length - 1}`];
    const reply = await this.retried('read a range', { method: 'GET', headers, into: target }, [206, 416]);
    if (reply.status === 416) this.refuseRange(offset, target.length);
  }

  /** Writes without flushing; at most `maxRangeBytes`. A repeated range is harmless. */
  async write(offset: number, bytes: Buffer): Promise<void> {
    const headers = [`content-range: bytes ${offset}-${offset + bytes.length - 1}/*`, 'content-type: application/octet-stream'];
    const reply = await this.retried('write a range', { method: 'PUT', suffix: '?flush=n', headers, body: bytes }, [200, 416]);
    if (reply.status === 416) this.refuseRange(offset, bytes.length);
  }

  /** Makes a range zero, unmapped where the ticket allows. */
  async zero(offset: number, lengthBytes: number): Promise<void> {
    for (let at = offset; at < offset + lengthBytes; at += maxZeroBytes) {
      const size = Math.min(maxZeroBytes, offset + lengthBytes - at);
      const reply = await this.retried('zero a range', this.patch({ op: 'zero', offset: at, size, flush: false }), [200, 416]);
      if (reply.status === 416) this.refuseRange(at, size);
    }
  }

  /** Makes everything written so far durable. */
  async flush(): Promise<void> {
    await this.retried('flush', this.patch({ op: 'flush' }), [200]);
  }

  /** Closes the connection; resolves when its socket is gone, so that it no longer counts against the service's limit. */
  async close(): Promise<void> {
    const { connection } = this;
    this.connection = undefined;
    await connection?.close();
  }

  private patch(operation: object): ImageRequest {
    return { method: 'PATCH', headers: ['content-type: application/json'], body: Buffer.from(JSON.stringify(operation)) };
  }

  private refuseRange(offset: number, lengthBytes: number): never {
    throw ImageErrors.IMAGE_RANGE_REFUSED({ endpoint: endpointName(this.endpoint), offset, lengthBytes });
  }

  private async retried(what: string, request: ImageRequest | (() => ImageRequest), accepted: readonly number[]): Promise<ImageReply> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.once(what, typeof request === 'function' ? request() : request, accepted);
      } catch (error) {
        await this.close();
        if (this.signal.aborted) throw CommonErrors.CANCELLED({ what: 'the image transfer' }, { cause: error });
        const pauseMs = this.pausesMs[attempt];
        const transient = hasCode(error, 'IMAGE_UNREACHABLE', 'IMAGE_CONNECTION_BROKEN', 'IMAGE_TIMED_OUT', 'IMAGE_STORAGE_FAILED');
        if (!transient || pauseMs === undefined) throw error;
        await pause(pauseMs, this.signal);
      }
    }
  }

  private async once(what: string, request: ImageRequest, accepted: readonly number[]): Promise<ImageReply> {
    if (this.signal.aborted) throw CommonErrors.CANCELLED({ what: 'the image transfer' });
    if (!this.connection || this.connection.isClosed) {
      const opened = await ImageConnection.open(this.endpoint, this.timeouts, this.signal);
      this.connection = opened;
      if (this.signal.aborted) throw CommonErrors.CANCELLED({ what: 'the image transfer' });
    }
    const reply = await this.connection.send(request);
    if (accepted.includes(reply.status)) return reply;
    const endpoint = endpointName(this.endpoint);
    if (reply.status === 403) throw ImageErrors.IMAGE_TICKET_REFUSED({ endpoint });
    if (reply.status >= 500) throw ImageErrors.IMAGE_STORAGE_FAILED({ endpoint, what, httpStatus: reply.status });
    throw ImageErrors.IMAGE_REQUEST_REFUSED({ endpoint, what, httpStatus: reply.status, answer: oneLine(reply.text) });
  }
}

/** The service's sentence, without the ticket that it likes to quote. */
function oneLine(text: string): string {
  return text
    .replace(/[0-9a-f]{8}-[0-9a-f-]{20,}/gi, '…')
    .replace(/\s+/g, ' ')
    .slice(0, 200);
}
