/**
 * One bucket of an S3-compatible server: requests, their retries, and what their failures mean. Names are complete object keys. Servers differ in
 * what they honour, so only the plainest requests are made; what more a server can do is found out by {@link probeConditions}.
 */
import { randomUUID } from 'node:crypto';
import type http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import type { CompletedPart, S3Client } from '@aws-sdk/client-s3';
import type { Readable } from 'node:stream';
import { isTidemarkError } from '../../../common/errors/tidemark-error';
import { RepositoryErrors } from '../../errors/mover-errors';
import { connectS3, type S3Access, type S3Tuning } from './s3-client';
import { isNotFound, isRefusedKey, statusOf, translateS3Error, wasRepeated } from './s3-errors';
import { formatS3Location, type S3Location } from './s3-location';

export type { S3Access, S3Tuning } from './s3-client';

/** An object's content and the tag that conditional requests name. */
export interface Fetched {
  readonly content: Buffer;
  readonly etag: string;
}

/** An upload that was neither completed nor aborted. `begunAt` is by the server's clock. */
export interface OpenUpload {
  readonly key: string;
  readonly uploadId: string;
  readonly begunAt: Date | undefined;
}

/** What a write demands of the object that is there. */
export type WriteCondition = { readonly absent: true } | { readonly etag: string };

/** A body that breaks off in the middle is asked for again from there. */
const bodyAttempts = 5;
/** Metadata of conditional writes: whose it was, when the answer got lost. */
const writeIdKey = 'tidemark-write';

export class Bucket {
  readonly location: string;
  private client: S3Client;
  private readonly requests: Pick<S3Client, 'send'> = { send: ((command: never) => this.ask(command)) as S3Client['send'] };
  /** One pair for each access key: requests under way keep theirs. */
  private readonly agents: http.Agent[] = [];
  private readonly name: string;

  constructor(
    private readonly at: S3Location,
    access: S3Access,
    private readonly tuning: S3Tuning = {},
  ) {
    this.location = formatS3Location(at);
    this.name = at.bucket;
    this.client = this.connect(access);
  }

  /** Requests from now on carry another access key; those under way are repeated with it if the one before is refused meanwhile. */
  useAccess(access: S3Access): void {
    this.client = this.connect(access);
  }

  private async ask(command: never): Promise<unknown> {
    const { client } = this;
    try {
      return await client.send(command);
    } catch (error) {
      if (client === this.client || !isRefusedKey(error)) throw error;
      return await this.client.send(command);
    }
  }

  private connect(access: S3Access): S3Client {
    const { client, agents } = connectS3(this.at, access, this.tuning);
    this.agents.push(...agents);
    return client;
  }

  /** Durable when it resolves. With a condition: false when the server says that it does not hold. */
  async put(key: string, content: Uint8Array, condition?: WriteCondition): Promise<boolean> {
    const object = { Bucket: this.name, Key: key, Body: content, ContentLength: content.length };
    if (!condition) {
      await this.send(key, new PutObjectCommand(object));
      return true;
    }
    const demand = 'absent' in condition ? { IfNoneMatch: '*' } : { IfMatch: condition.etag };
    const writeId = randomUUID();
    try {
      await this.requests.send(new PutObjectCommand({ ...object, ...demand, Metadata: { [writeIdKey]: writeId } }));
      return true;
    } catch (error) {
      // 409: another conditional request for the key is under way. 404: there is no object that could have the tag.
      if (![412, 409, 404].includes(statusOf(error) ?? 0)) throw this.translate(error, key);
      // When an earlier attempt did it and its answer got lost, the next one meets our own object.
      return wasRepeated(error) && (await this.writeIdOf(key)) === writeId;
    }
  }

  /** Undefined when there is none. Throws OBJECT_DAMAGED when it is larger than `maxBytes`. */
  async get(key: string, maxBytes: number): Promise<Fetched | undefined> {
    for (let attempt = 1; ; attempt++) {
      try {
        const { Body, ContentLength, ETag } = await this.requests.send(new GetObjectCommand({ Bucket: this.name, Key: key }));
        if ((ContentLength ?? 0) > maxBytes) {
          (Body as Readable).destroy();
          throw RepositoryErrors.OBJECT_DAMAGED({ object: key, problem: `it has ${ContentLength} bytes, more than ${maxBytes}` });
        }
        const chunks: Buffer[] = [];
        for await (const chunk of Body as Readable) chunks.push(chunk as Buffer);
        return { content: Buffer.concat(chunks), etag: ETag ?? '' };
      } catch (error) {
        if (isNotFound(error)) return undefined;
        await this.pauseOrThrow(error, key, attempt);
      }
    }
  }

  /** Reads from `offset` into `target`, straight from the socket; fewer bytes than asked only at the object's end. */
  async read(key: string, offset: number, target: Buffer): Promise<number> {
    let done = 0;
    for (let attempt = 1; ; attempt++) {
      try {
        if (done === target.length) return done;
        const range = `bytes=${offset + done}-${offset + target.length - 1}`;
        const { Body } = await this.requests.send(new GetObjectCommand({ Bucket: this.name, Key: key, Range: range }));
        for await (const chunk of Body as Readable) done += (chunk as Buffer).copy(target, done);
        return done;
      } catch (error) {
        // The range begins at or behind the object's end.
        if (statusOf(error) === 416) return done;
        await this.pauseOrThrow(error, key, attempt);
      }
    }
  }

  async sizeOf(key: string): Promise<number> {
    try {
      return (await this.requests.send(new HeadObjectCommand({ Bucket: this.name, Key: key }))).ContentLength ?? 0;
    } catch (error) {
      throw this.translate(error, key);
    }
  }

  async *list(prefix: string): AsyncGenerator<{ readonly key: string; readonly modifiedAt: Date | undefined }> {
    let token: string | undefined;
    do {
      let page;
      try {
        page = await this.requests.send(
          new ListObjectsV2Command({ Bucket: this.name, Prefix: prefix, ...(token === undefined ? {} : { ContinuationToken: token }) }),
        );
      } catch (error) {
        throw this.translate(error, prefix);
      }
      for (const { Key, LastModified } of page.Contents ?? []) if (Key !== undefined) yield { key: Key, modifiedAt: LastModified };
      token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
    } while (token !== undefined);
  }

  async delete(key: string): Promise<void> {
    try {
      await this.requests.send(new DeleteObjectCommand({ Bucket: this.name, Key: key }));
    } catch (error) {
      if (!isNotFound(error)) throw this.translate(error, key);
    }
  }

  async beginUpload(key: string): Promise<string> {
    try {
      const { UploadId } = await this.requests.send(new CreateMultipartUploadCommand({ Bucket: this.name, Key: key }));
      if (UploadId === undefined) throw RepositoryErrors.REPOSITORY_IO({ what: key, reason: 'no upload id' });
      return UploadId;
    } catch (error) {
      throw this.translate(error, key);
    }
  }

  async uploadPart(key: string, uploadId: string, number: number, content: Buffer): Promise<CompletedPart> {
    try {
      const { ETag } = await this.requests.send(
        new UploadPartCommand({
          Bucket: this.name,
          Key: key,
          UploadId: uploadId,
          PartNumber: number,
          Body: content,
          ContentLength: content.length,
        }),
      );
      return { PartNumber: number, ...(ETag === undefined ? {} : { ETag }) };
    } catch (error) {
      throw this.translate(error, key);
    }
  }

  async completeUpload(key: string, uploadId: string, parts: CompletedPart[]): Promise<void> {
    try {
      await this.requests.send(
        new CompleteMultipartUploadCommand({ Bucket: this.name, Key: key, UploadId: uploadId, MultipartUpload: { Parts: parts } }),
      );
    } catch (error) {
      throw this.translate(error, key);
    }
  }

  async abortUpload(key: string, uploadId: string): Promise<void> {
    try {
      await this.requests.send(new AbortMultipartUploadCommand({ Bucket: this.name, Key: key, UploadId: uploadId }));
    } catch (error) {
      if (!isNotFound(error)) throw this.translate(error, key);
    }
  }

  /** Uploads that were neither completed nor aborted; they hold space. */
  async *openUploads(prefix: string): AsyncGenerator<OpenUpload> {
    let after: { KeyMarker?: string; UploadIdMarker?: string } | undefined;
    do {
      let page;
      try {
        page = await this.requests.send(new ListMultipartUploadsCommand({ Bucket: this.name, Prefix: prefix, ...after }));
      } catch (error) {
        throw this.translate(error, prefix);
      }
      for (const { Key, UploadId, Initiated } of page.Uploads ?? []) {
        if (Key !== undefined && UploadId !== undefined) yield { key: Key, uploadId: UploadId, begunAt: Initiated };
      }
      const { NextKeyMarker, NextUploadIdMarker } = page;
      after =
        page.IsTruncated === true && NextKeyMarker !== undefined
          ? { KeyMarker: NextKeyMarker, ...(NextUploadIdMarker === undefined ? {} : { UploadIdMarker: NextUploadIdMarker }) }
          : undefined;
    } while (after !== undefined);
  }

  /** An answer that broke off in the middle is worth another attempt; what was refused is not, the SDK has repeated that by itself. */
  private async pauseOrThrow(error: unknown, key: string, attempt: number): Promise<void> {
    if (isTidemarkError(error) || statusOf(error) !== undefined || attempt >= bodyAttempts) throw this.translate(error, key);
    await sleep(2 ** attempt * (50 + Math.random() * 100));
  }

  private async writeIdOf(key: string): Promise<string | undefined> {
    try {
      return (await this.requests.send(new HeadObjectCommand({ Bucket: this.name, Key: key }))).Metadata?.[writeIdKey];
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw this.translate(error, key);
    }
  }

  private async send(key: string, command: PutObjectCommand): Promise<void> {
    try {
      await this.requests.send(command);
    } catch (error) {
      throw this.translate(error, key);
    }
  }

  close(): void {
    this.client.destroy();
    for (const agent of this.agents) agent.destroy();
  }

  private translate(error: unknown, what: string): unknown {
    return translateS3Error(error, what, { location: this.location, bucket: this.name });
  }
}
