import { setTimeout as sleep } from 'node:timers/promises';
import type { CompletedPart } from '@aws-sdk/client-s3';
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

  constructor(
    private readonly bucket: Bucket,
    private readonly key: string,
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
      await this.bucket.put(this.key, this.part.subarray(0, this.filled));
      return;
    }
    if (this.filled > 0) await this.send();
    await Promise.all(this.running);
    this.throwFailure();
    await this.complete(await this.upload());
  }

  async abandon(): Promise<void> {
    await Promise.all(this.running);
    const uploadId = await this.uploadId?.catch(() => undefined);
    if (uploadId !== undefined) await this.bucket.abortUpload(this.key, uploadId).catch(() => undefined);
  }

  private upload(): Promise<string> {
    return (this.uploadId ??= this.bucket.beginUpload(this.key));
  }

  /** Sends the filled part, and waits while too many are under way. */
  private async send(): Promise<void> {
    const content = this.part;
    const length = this.filled;
    const number = ++this.started;
    const sending = (async () => {
      try {
        this.parts.push(await this.bucket.uploadPart(this.key, await this.upload(), number, content.subarray(0, length)));
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
