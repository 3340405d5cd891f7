import { setTimeout as sleep } from 'node:timers/promises';
import type { CompletedPart } from '@aws-sdk/client-s3';
import { hasCode } from '../../../common/errors/tidemark-error';
import { RepositoryErrors } from '../../errors/mover-errors';
import { STORE_PIECE_BYTES, type ObjectWriter } from '../store';
import type { Bucket } from './bucket';

/** Servers want at least 5 MiB for all parts but the last. */
const partPieces = 2;
const partBytes = partPieces * STORE_PIECE_BYTES;
/** Parts under way at the same time, each with a buffer of its own. */
const parallelParts = 3;
const completeAttempts = 3;
/**
 * A server that is started again, or moves, refuses connections for some seconds, for which the SDK has no patience. Blocks wait meanwhile, and with them whoever
 * reads the disk: else all of it would be read again. Longer than the mover's lease on the repository it makes no sense: then another one takes over.
 */
const defaultPatienceMs = 25_000;
const longestPauseMs = 5_000;

/**
 * Writes a large object in parts of 8 MiB, three at a time; one that fits into a part is put in one request. Memory: 32 MiB at most, given back
 * with the writer. Nothing is visible before `finish` has completed the upload.
 */
export class UploadWriter implements ObjectWriter {
  private part: Buffer = Buffer.allocUnsafe(partBytes);
  private filled = 0;
  private uploadId: Promise<string> | undefined;
  private readonly free: Buffer[] = [];
  private readonly running = new Set<Promise<void>>();
  private readonly parts: CompletedPart[] = [];
  private started = 0;
  private failure: unknown;
  private readonly abandoned = new AbortController();

  constructor(
    private readonly bucket: Pick<Bucket, 'put' | 'beginUpload' | 'uploadPart' | 'completeUpload' | 'abortUpload' | 'sizeOf'>,
    private readonly key: string,
    private readonly patienceMs = defaultPatienceMs,
  ) {}

  async append(piece: Buffer): Promise<void> {
    piece.copy(this.part, this.filled);
    this.filled += piece.length;
    if (this.filled === partBytes) await this.send();
    this.throwFailure();
  }

  async finish(piece: Buffer, length: number): Promise<void> {
    piece.copy(this.part, this.filled, 0, length);
    this.filled += length;
    if (this.uploadId === undefined && this.started === 0) {
      await this.patiently(() => this.bucket.put(this.key, this.part.subarray(0, this.filled)));
      return;
    }
    if (this.filled > 0) await this.send();
    await Promise.all(this.running);
    this.throwFailure();
    await this.complete(await this.upload());
  }

  async abandon(): Promise<void> {
    this.abandoned.abort();
    await Promise.all(this.running);
    const uploadId = await this.uploadId?.catch(() => undefined);
    if (uploadId !== undefined) await this.bucket.abortUpload(this.key, uploadId).catch(() => undefined);
  }

  private upload(): Promise<string> {
    return (this.uploadId ??= this.patiently(() => this.bucket.beginUpload(this.key)));
  }

  /** Sends the filled part, and waits while too many are under way. */
  private async send(): Promise<void> {
    const content = this.part;
    const length = this.filled;
    const number = ++this.started;
    const sending = (async () => {
      try {
        const uploadId = await this.upload();
        this.parts.push(await this.patiently(() => this.bucket.uploadPart(this.key, uploadId, number, content.subarray(0, length))));
        this.free.push(content);
      } catch (error) {
        this.failure ??= error;
      }
    })().finally(() => this.running.delete(sending));
    this.running.add(sending);
    this.filled = 0;
    while (this.running.size >= parallelParts) await Promise.race(this.running);
    this.throwFailure();
    this.part = this.free.pop() ?? Buffer.allocUnsafe(partBytes);
  }

  /** The answer may get lost after the server did it; then the upload is gone and the object is there. */
  private async complete(uploadId: string): Promise<void> {
    const parts = [...this.parts].sort((a, b) => (a.PartNumber ?? 0) - (b.PartNumber ?? 0));
    await this.patiently(async () => {
      for (let attempt = 1; ; attempt++) {
        try {
          await this.bucket.completeUpload(this.key, uploadId, parts);
          return;
        } catch (error) {
          if (await this.isComplete()) return;
          if (attempt >= completeAttempts) throw error;
          await sleep(2 ** attempt * (100 + Math.random() * 200));
        }
      }
    });
  }

  /** Repeats what the storage fails, with growing pauses, until the patience is over, another part has failed or nobody wants the object any more. */
  private async patiently<T>(work: () => Promise<T>): Promise<T> {
    const end = performance.now() + this.patienceMs;
    for (let attempt = 0; ; attempt++) {
      try {
        return await work();
      } catch (error) {
        const pauseMs = Math.min(500 * 2 ** attempt, longestPauseMs) * (0.5 + Math.random());
        const isHopeless = this.failure !== undefined || this.abandoned.signal.aborted || performance.now() + pauseMs > end;
        if (!hasCode(error, 'REPOSITORY_IO') || isHopeless) throw error;
        await sleep(pauseMs, undefined, { signal: this.abandoned.signal }).catch(() => undefined);
      }
    }
  }

  /** Keys of large objects are used once, so an object under it can only be this one. */
  private async isComplete(): Promise<boolean> {
    return (await this.bucket.sizeOf(this.key).catch(() => 0)) > 0;
  }

  private throwFailure(): void {
    if (this.failure === undefined) return;
    if (this.failure instanceof Error) throw this.failure;
    throw RepositoryErrors.REPOSITORY_IO({ what: this.key, reason: 'upload' });
  }
}
