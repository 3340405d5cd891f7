/** A client of the S3 protocol with its connections, as patient as networks want it. */
import http from 'node:http';
import https from 'node:https';
import type { LookupFunction } from 'node:net';
import { S3Client } from '@aws-sdk/client-s3';
import type { Secret } from '../../../common/log/redact';
import type { S3Location } from './s3-location';

/** How to get in. */
export interface S3Access {
  readonly accessKeyId: string;
  readonly secretAccessKey: Secret;
  /** PEM of a CA of one's own; absent: the public ones. */
  readonly caPem?: string | undefined;
}

/** How patient to be; the defaults are for networks, tests have less time. */
export interface S3Tuning {
  /** Of a connection on which nothing moves. */
  readonly idleTimeoutMs?: number;
  /** Looks names up, instead of the system's resolver. */
  readonly lookup?: LookupFunction;
  /** Age of an upload that nobody will complete any more. */
  readonly deadUploadMs?: number;
}

const maxSockets = 32;
const connectTimeoutMs = 10_000;
const idleTimeoutMs = 60_000;
/** From the first byte of the request to the first of the answer: parts are 8 MiB, lines may be slow. */
const requestTimeoutMs = 5 * 60_000;
/**
 * The SDK's "standard" mode: refusals of the moment (500, 502 to 504, 429, SlowDown and the like), broken connections and time-outs are repeated after a
 * random part of 100 ms (throttling: 500 ms) times 2, 4, 8 ..., at most 20 s; and not at all while most requests fail. That is about a minute of a server that
 * does not answer, but only a second or two of one that refuses connections: reads are asked for again for some seconds, packs for longer (upload-writer.ts).
 */
const requestAttempts = 6;
const retryMode = 'standard';

export function connectS3(
  at: S3Location,
  access: S3Access,
  tuning: S3Tuning,
): { readonly client: S3Client; readonly agents: readonly http.Agent[] } {
  const common = { keepAlive: true, maxSockets, ...(tuning.lookup && { lookup: tuning.lookup }) };
  const httpAgent = new http.Agent(common);
  const httpsAgent = new https.Agent({ ...common, minVersion: 'TLSv1.2', ...(access.caPem === undefined ? {} : { ca: access.caPem }) });
  const client = new S3Client({
    endpoint: at.endpoint,
    region: at.region,
    forcePathStyle: at.addressing === 'path',
    credentials: { accessKeyId: access.accessKeyId, secretAccessKey: access.secretAccessKey.reveal() },
    maxAttempts: requestAttempts,
    retryMode,
    // Checksums in trailers are refused by servers of a few years ago; what we store proves itself.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: {
      httpAgent,
      httpsAgent,
      connectionTimeout: connectTimeoutMs,
      // Without the next one a request that is never answered is waited for for ever.
      throwOnRequestTimeout: true,
      requestTimeout: requestTimeoutMs,
      socketTimeout: tuning.idleTimeoutMs ?? idleTimeoutMs,
    },
  });
  return { client, agents: [httpAgent, httpsAgent] };
}
