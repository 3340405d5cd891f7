/**
 * One bucket of an S3-compatible server: requests, their retries, and what their failures mean. Names are complete object keys. Servers differ in
 * what they honour, so only the plainest requests are made; what more a server can do is found out by {@link probeConditions}.
 */
import https from 'node:https';
import http from 'node:http';
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
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import type { CompletedPart } from '@aws-sdk/client-s3';
import type { Readable } from 'node:stream';
import type { Secret } from '../../../common/log/redact';
import { isTidemarkError } from '../../../common/errors/tidemark-error';
import { RepositoryErrors } from '../../errors/mover-errors';
import { formatS3Location, type S3Location } from './s3-location';

/** How to get in. */
export interface S3Access {
  readonly accessKeyId: string;
  readonly secretAccessKey: Secret;
  /** PEM of a CA of one's own; absent: the public ones. */
  readonly caPem?: string | undefined;
}

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

const maxSockets = 32;
const connectTimeoutMs = 10_000;
const requestTimeoutMs = 60_000;
/** The SDK's own back-off has jitter and grows to 20 s: about a minute of a server that is away. */
const requestAttempts = 6;
/** A body that breaks off in the middle is asked for again from there. */
const bodyAttempts = 4;

export class Bucket {
  readonly location: string;
  private readonly client: S3Client;
  private readonly agents: readonly [http.Agent, https.Agent];
  private readonly name: string;

  constructor(at: S3Location, access: S3Access) {
    this.location = formatS3Location(at);
    this.name = at.bucket;
    this.agents = [
      new http.Agent({ keepAlive: true, maxSockets }),
      new https.Agent({ keepAlive: true, maxSockets, minVersion: 'TLSv1.2', ...(access.caPem === undefined ? {} : { ca: access.caPem }) }),
    ];
    const [httpAgent, httpsAgent] = this.agents;
    this.client = new S3Client({
      endpoint: at.endpoint,
      region: at.region,
      forcePathStyle: at.addressing === 'path',
      credentials: { accessKeyId: access.accessKeyId, secretAccessKey: access.secretAccessKey.reveal() },
      maxAttempts: requestAttempts,
      // Checksums in trailers are refused by servers of a few years ago; what we store proves itself.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      requestHandler: { httpAgent, httpsAgent, connectionTimeout: connectTimeoutMs, requestTimeout: requestTimeoutMs },
    });
  }

  /** Durable when it resolves. With a condition: false when the server says that it does not hold. */
  async put(key: string, content: Uint8Array, condition?: WriteCondition): Promise<boolean> {
    const demand = condition === undefined ? {} : 'absent' in condition ? { IfNoneMatch: '*' } : { IfMatch: condition.etag };
    try {
      await this.client.send(
        new PutObjectCommand({ Bucket: this.name, Key: key, Body: content, ContentLength: content.length, ...demand }),
      );
      return true;
    } catch (error) {
      const status = statusOf(error);
      // 409: another conditional request for the key is under way. 404: there is no object that could have the tag.
      if (condition && (status === 412 || status === 409 || status === 404)) return false;
      throw this.translate(error, key);
    }
  }

  /** Undefined when there is none. Throws OBJECT_DAMAGED when it is larger than `maxBytes`. */
  async get(key: string, maxBytes: number): Promise<Fetched | undefined> {
    try {
      const { Body, ContentLength, ETag } = await this.client.send(new GetObjectCommand({ Bucket: this.name, Key: key }));
      if ((ContentLength ?? 0) > maxBytes) {
        (Body as Readable).destroy();
        throw RepositoryErrors.OBJECT_DAMAGED({ object: key, problem: `it has ${ContentLength} bytes, more than ${maxBytes}` });
      }
      const chunks: Buffer[] = [];
      for await (const chunk of Body as Readable) chunks.push(chunk as Buffer);
      return { content: Buffer.concat(chunks), etag: ETag ?? '' };
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw this.translate(error, key);
    }
  }

  /** Reads from `offset` into `target`, straight from the socket; fewer bytes than asked only at the object's end. */
  async read(key: string, offset: number, target: Buffer): Promise<number> {
    let done = 0;
    for (let attempt = 1; ; attempt++) {
      try {
        if (done === target.length) return done;
        const range = `bytes=${offset + done}-${offset + target.length - 1}`;
        const { Body } = await this.client.send(new GetObjectCommand({ Bucket: this.name, Key: key, Range: range }));
        for await (const chunk of Body as Readable) done += (chunk as Buffer).copy(target, done);
        return done;
      } catch (error) {
        // The range begins at or behind the object's end.
        if (statusOf(error) === 416) return done;
        if (isNotFound(error) || statusOf(error) !== undefined || attempt >= bodyAttempts) throw this.translate(error, key);
        await sleep(2 ** attempt * (50 + Math.random() * 100));
      }
    }
  }

  async sizeOf(key: string): Promise<number> {
    try {
      return (await this.client.send(new HeadObjectCommand({ Bucket: this.name, Key: key }))).ContentLength ?? 0;
    } catch (error) {
      throw this.translate(error, key);
    }
  }

  async *list(prefix: string): AsyncGenerator<{ readonly key: string; readonly modifiedAt: Date | undefined }> {
    let token: string | undefined;
    do {
      let page;
      try {
        page = await this.client.send(
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
      await this.client.send(new DeleteObjectCommand({ Bucket: this.name, Key: key }));
    } catch (error) {
      if (!isNotFound(error)) throw this.translate(error, key);
    }
  }

  async beginUpload(key: string): Promise<string> {
    try {
      const { UploadId } = await this.client.send(new CreateMultipartUploadCommand({ Bucket: this.name, Key: key }));
      if (UploadId === undefined) throw RepositoryErrors.REPOSITORY_IO({ what: key, reason: 'no upload id' });
      return UploadId;
    } catch (error) {
      throw this.translate(error, key);
    }
  }

  async uploadPart(key: string, uploadId: string, number: number, content: Buffer): Promise<CompletedPart> {
    try {
      const { ETag } = await this.client.send(
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
      await this.client.send(
        new CompleteMultipartUploadCommand({ Bucket: this.name, Key: key, UploadId: uploadId, MultipartUpload: { Parts: parts } }),
      );
    } catch (error) {
      throw this.translate(error, key);
    }
  }

  async abortUpload(key: string, uploadId: string): Promise<void> {
    try {
      await this.client.send(new AbortMultipartUploadCommand({ Bucket: this.name, Key: key, UploadId: uploadId }));
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
        page = await this.client.send(new ListMultipartUploadsCommand({ Bucket: this.name, Prefix: prefix, ...after }));
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

  close(): void {
    this.client.destroy();
    for (const agent of this.agents) agent.destroy();
  }

  private translate(error: unknown, what: string): unknown {
    if (isTidemarkError(error)) return error;
    const { name = 'unknown', code } = error as { name?: string; code?: string };
    const status = statusOf(error);
    const invalid = (field: string, problem: string) =>
      RepositoryErrors.REPOSITORY_LOCATION_INVALID({ field, location: this.location, problem }, { cause: error });
    if (name === 'NoSuchBucket') return invalid('location', `there is no bucket "${this.name}"; make it first`);
    if (name === 'InvalidAccessKeyId' || name === 'SignatureDoesNotMatch') return invalid('access', 'the server refuses the access key');
    if (status === 401 || status === 403) {
      return RepositoryErrors.REPOSITORY_ACCESS_DENIED({ location: this.location, what, reason: name }, { cause: error });
    }
    if (isNotFound(error)) return RepositoryErrors.OBJECT_NOT_FOUND({ object: what }, { cause: error });
    if (name === 'QuotaExceeded' || name === 'XMinioStorageFull' || status === 507) {
      return RepositoryErrors.REPOSITORY_FULL({ what: this.location }, { cause: error });
    }
    if (code !== undefined && /CERT|SELF_SIGNED|UNABLE_TO_VERIFY/.test(code))
      return invalid('access', `its certificate is refused (${code})`);
    return RepositoryErrors.REPOSITORY_IO({ what, reason: code ?? name }, { cause: error });
  }
}

function statusOf(error: unknown): number | undefined {
  return (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode;
}

function isNotFound(error: unknown): boolean {
  return statusOf(error) === 404 && (error as { name?: string }).name !== 'NoSuchBucket';
}
