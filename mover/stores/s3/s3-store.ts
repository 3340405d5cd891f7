/**
 * Objects in a bucket of an S3-compatible server, below a prefix. What is acknowledged counts as durable; an object is visible whole or not at all,
 * as S3 promises. Nothing in the hot path lists; free space cannot be told.
 */
import { randomUUID } from 'node:crypto';
import { hasCode } from '../../../common/errors/tidemark-error';
import { RepositoryErrors } from '../../errors/mover-errors';
import type { ObjectWriter, Store } from '../store';
import { Bucket, type S3Access, type S3Tuning } from './bucket';
import { ClaimedWrites, ConditionalWrites, probeConditions, type ExclusiveWrites } from './exclusive-writes';
import { parseS3Location } from './s3-location';
import { UploadWriter } from './upload-writer';

const dayMs = 24 * 60 * 60_000;

export class S3Store implements Store {
  private constructor(
    private readonly bucket: Bucket,
    private readonly prefix: string,
    private readonly exclusive: ExclusiveWrites,
    private readonly deadUploadMs: number,
  ) {}

  /**
   * Connects, and finds out what the server can do. Throws REPOSITORY_LOCATION_INVALID (also for a wrong key or certificate),
   * REPOSITORY_ACCESS_DENIED, REPOSITORY_IO.
   */
  static async open(location: string, access: S3Access, tuning: S3Tuning = {}): Promise<S3Store> {
    const at = parseS3Location(location);
    const bucket = new Bucket(at, access, tuning);
    try {
      // A list tells apart what a probe by writing could not: no bucket, no right, no server.
      for await (const first of bucket.list(at.prefix)) if (first) break;
      const tags = await probeConditions(bucket, at.prefix);
      return new S3Store(
        bucket,
        at.prefix,
        tags ? new ConditionalWrites(bucket, tags) : new ClaimedWrites(bucket),
        tuning.deadUploadMs ?? dayMs,
      );
    } catch (error) {
      bucket.close();
      throw error;
    }
  }

  get location(): string {
    return this.bucket.location;
  }

  useAccess(access: S3Access): void {
    this.bucket.useAccess(access);
  }

  async put(name: string, content: Uint8Array): Promise<void> {
    await this.bucket.put(this.keyOf(name), content);
  }

  putNew(name: string, content: Uint8Array): Promise<boolean> {
    return this.exclusive.create(this.keyOf(name), content);
  }

  swap(name: string, expected: Buffer, content: Uint8Array | undefined): Promise<boolean> {
    return this.exclusive.swap(this.keyOf(name), expected, content);
  }

  async create(name: string): Promise<ObjectWriter> {
    return new UploadWriter(this.bucket, this.keyOf(name));
  }

  read(name: string, offset: number, target: Buffer): Promise<number> {
    return this.bucket.read(this.keyOf(name), offset, target);
  }

  async readWhole(name: string, maxBytes: number): Promise<Buffer> {
    const found = await this.bucket.get(this.keyOf(name), maxBytes);
    if (!found) throw RepositoryErrors.OBJECT_NOT_FOUND({ object: name });
    return found.content;
  }

  sizeOf(name: string): Promise<number> {
    return this.bucket.sizeOf(this.keyOf(name));
  }

  async *list(prefix: string): AsyncGenerator<string> {
    for await (const { key } of this.bucket.list(this.keyOf(prefix))) yield key.slice(this.prefix.length);
  }

  delete(name: string): Promise<void> {
    return this.bucket.delete(this.keyOf(name));
  }

  async freeBytes(): Promise<undefined> {
    return undefined;
  }

  async totalBytes(): Promise<undefined> {
    return undefined;
  }

  /**
   * Aborts uploads begun more than a day ago. The protocol does not tell whose an upload is, and other movers may be in the middle of theirs; none
   * of ours lasts that long. The age is by the server's clock at both ends.
   */
  async removeLeftovers(): Promise<void> {
    try {
      let now: number | undefined;
      for await (const { key, uploadId, begunAt } of this.bucket.openUploads(this.prefix)) {
        now ??= await this.serverTime();
        if (begunAt !== undefined && now !== undefined && now - begunAt.getTime() > this.deadUploadMs)
          await this.bucket.abortUpload(key, uploadId);
      }
    } catch (error) {
      // Not every server lists uploads. What stays costs space, nothing else.
      if (!hasCode(error, 'REPOSITORY_IO', 'OBJECT_NOT_FOUND', 'REPOSITORY_ACCESS_DENIED')) throw error;
    }
  }

  /** The server's clock, from an object that is written now; ours may be wrong. */
  private async serverTime(): Promise<number | undefined> {
    const key = this.keyOf(`.tidemark-probe-${randomUUID()}`);
    await this.bucket.put(key, Buffer.alloc(0));
    try {
      for await (const { modifiedAt } of this.bucket.list(key)) return modifiedAt?.getTime();
      return undefined;
    } finally {
      await this.bucket.delete(key);
    }
  }

  async close(): Promise<void> {
    this.bucket.close();
  }

  private keyOf(name: string): string {
    return `${this.prefix}${name}`;
  }
}
