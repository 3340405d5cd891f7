/**
 * Sends a file to a disk through an image transfer: in pieces over one connection, straight to the host, else through the engine's proxy.
 * What the storage then holds is read back and compared. Memory is bounded by the buffers of one stream. Behaviour of the image daemon:
 * ovirt-imageio, images API; the file backend takes one writer.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Dispatcher } from 'undici';
import { CommonErrors } from '../../common/errors/common-errors';
import { hasCode } from '../../common/errors/tidemark-error';
import { pause } from '../../common/rpc/call';
import { problemOf, reachImage } from '../image-service/reach';
import type { ImageAddresses, ImageWay } from '../image-service/reach';
import { WorkerVmErrors } from './worker-vm-errors';

export interface ImageUploadOrder extends ImageAddresses {
  readonly file: string;
  readonly fileBytes: number;
  readonly sha256: string;
  /** Bytes per request; default 64 MiB. */
  readonly pieceBytes?: number;
  readonly signal: AbortSignal;
  /** Bytes sent so far. */
  progress(sentBytes: number): void;
}

/** Resolves when the storage holds the file and all connections are closed. Rejects with WORKER_IMAGE_NOT_UPLOADED, CANCELLED. */
export type ImageUpload = (order: ImageUploadOrder) => Promise<void>;

const defaultPieceBytes = 64 * 1024 ** 2;
const attempts = 4;
/** Flushing a piece to slow storage takes its time. */
const timeouts = { connectMs: 15_000, answerMs: 5 * 60_000 };

export const uploadImage: ImageUpload = async (order) => {
  const reached = await reachImage(order, timeouts, 'the upload of the worker image', order.signal);
  if ('problem' in reached) throw WorkerVmErrors.WORKER_IMAGE_NOT_UPLOADED({ problem: reached.problem });
  const { way } = reached;
  try {
    for (const [start, end] of pieces(order)) await retried(order.signal, () => putPiece(way, order, start, end));
    await compare(way, order);
  } catch (error) {
    if (order.signal.aborted) throw CommonErrors.CANCELLED({ what: 'the upload of the worker image' }, { cause: error });
    throw error;
  } finally {
    // The engine cannot end the transfer while a connection is open.
    await way.client.destroy();
  }
};

async function putPiece({ client, path }: ImageWay, order: ImageUploadOrder, start: number, end: number): Promise<void> {
  let sent = start;
  const content = fs.createReadStream(order.file, { start, end: end - 1, highWaterMark: 1024 ** 2 });
  const counted = new Transform({
    transform: (part: Buffer, _encoding, done) => {
      sent += part.length;
      order.progress(sent);
      done(null, part);
    },
  });
  const read = pipeline(content, counted);
  // Its failure is the body's, which the request tells.
  read.catch(() => undefined);
  const last = end === order.fileBytes;
  try {
    const answer = await client.request({
      method: 'PUT',
      path: last ? path : `${path}?flush=n`,
      headers: {
        'content-length': String(end - start),
        'content-range': `bytes ${start}-${end - 1}/*`,
        'content-type': 'application/octet-stream',
      },
      body: counted,
      signal: order.signal,
    });
    await expectStatus(answer, [200, 204], `bytes ${start} to ${end}`);
    await answer.body.dump();
  } finally {
    counted.destroy();
    content.destroy();
  }
}

/** What a broken connection or a full disk left would boot into anything. */
async function compare({ client, path }: ImageWay, order: ImageUploadOrder): Promise<void> {
  const digest = createHash('sha256');
  for (const [start, end] of pieces(order)) {
    const answer = await client.request({ method: 'GET', path, headers: { range: `bytes=${start}-${end - 1}` }, signal: order.signal });
    await expectStatus(answer, [200, 206], 'reading it back');
    for await (const part of answer.body) digest.update(part as Buffer);
  }
  if (digest.digest('hex') !== order.sha256) {
    throw WorkerVmErrors.WORKER_IMAGE_NOT_UPLOADED({ problem: 'what the storage holds differs from what was sent' });
  }
}

async function expectStatus(answer: Dispatcher.ResponseData, wanted: readonly number[], what: string): Promise<void> {
  if (wanted.includes(answer.statusCode)) return;
  await answer.body.dump();
  throw WorkerVmErrors.WORKER_IMAGE_NOT_UPLOADED({ problem: `the image daemon answers ${answer.statusCode} (${what})` });
}

/** Half-open ranges that make up the file. */
function* pieces({ fileBytes, pieceBytes = defaultPieceBytes }: ImageUploadOrder): Generator<readonly [start: number, end: number]> {
  for (let start = 0; start < fileBytes; start += pieceBytes) yield [start, Math.min(start + pieceBytes, fileBytes)];
}

/** A broken connection is dialled again; a piece may be sent twice. An answer of the daemon is final. */
async function retried(signal: AbortSignal, work: () => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      if (signal.aborted || hasCode(error, 'WORKER_IMAGE_NOT_UPLOADED')) throw error;
      if (attempt >= attempts) throw WorkerVmErrors.WORKER_IMAGE_NOT_UPLOADED({ problem: problemOf(error) }, { cause: error });
      await pause(500 * 2 ** attempt, signal);
    }
  }
}
