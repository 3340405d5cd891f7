/** The upload against a daemon that behaves as ovirt-imageio does on a file: over TLS, pieces by range, answers read back. */
import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { createServer } from 'node:https';
import type { Server } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { createAuthority, issueIdentity } from '../../common/tls/authority';
import { uploadImage } from './image-upload';
import type { ImageUploadOrder } from './image-upload';

const mebibyte = 1024 ** 2;
/** More than one piece, and not a whole number of anything. */
const content = randomBytes(mebibyte + 4321);
const sha256 = createHash('sha256').update(content).digest('hex');

let folder: string;
let file: string;
let caPem: string;
let server: Server;
let stored: Buffer;
let received: string[];
/** Answers a request itself when it returns true. */
let interfere: (request: IncomingMessage, response: ServerResponse) => boolean;

beforeAll(async () => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-upload-'));
  file = path.join(folder, 'image.qcow2');
  fs.writeFileSync(file, content);
  const authority = await createAuthority('internal CA');
  caPem = authority.certificatePem;
  const { privateKeyPem, certificateChainPem } = await issueIdentity(authority, { role: 'host', id: 'imageio' }, ['127.0.0.1']);
  server = createServer({ key: privateKeyPem, cert: certificateChainPem }, (request, response) => {
    void answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});

afterAll(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  fs.rmSync(folder, { recursive: true, force: true });
});

beforeEach(() => {
  stored = Buffer.alloc(0);
  received = [];
  interfere = () => false;
});

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  received.push(`${request.method} ${request.url}`);
  if (interfere(request, response)) return;
  if (request.url?.startsWith('/images/ticket') !== true) return void response.writeHead(403).end();
  if (request.method === 'OPTIONS') return void response.writeHead(200).end('{"features":["flush"]}');
  if (request.method === 'GET') {
    const [, from = 0, to = 0] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
    return void response.writeHead(206).end(stored.subarray(Number(from), Number(to) + 1));
  }
  const start = Number(/^bytes (\d+)-/.exec(request.headers['content-range'] ?? '')?.[1]);
  const parts: Buffer[] = [];
  try {
    for await (const part of request as AsyncIterable<Buffer>) parts.push(part);
  } catch {
    // The client gave up.
    return;
  }
  const body = Buffer.concat(parts);
  stored = Buffer.concat([stored.subarray(0, start), body, stored.subarray(start + body.length)]);
  response.writeHead(200).end();
}

function order(change: Partial<ImageUploadOrder> = {}): ImageUploadOrder {
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/images/ticket`;
  const signal = new AbortController().signal;
  return {
    file,
    fileBytes: content.length,
    sha256,
    transferUrl: url,
    proxyUrl: '',
    caPem,
    signal,
    pieceBytes: mebibyte,
    progress: () => undefined,
    ...change,
  };
}

it('sends the file in pieces, tells how far it is, and reads it back', async () => {
  const told: number[] = [];
  await uploadImage(order({ progress: (sentBytes) => told.push(sentBytes) }));
  expect(stored.equals(content)).toBe(true);
  expect(received).toEqual([
    'OPTIONS /images/ticket',
    'PUT /images/ticket?flush=n',
    'PUT /images/ticket',
    'GET /images/ticket',
    'GET /images/ticket',
  ]);
  expect(told).toEqual([...told].sort((a, b) => a - b));
  expect(told.at(-1)).toBe(content.length);
});

it('sends a piece again when the connection broke', async () => {
  let broken = 0;
  interfere = (request) => {
    if (request.method !== 'PUT' || broken === 2) return false;
    broken += 1;
    request.socket.destroy();
    return true;
  };
  await uploadImage(order());
  expect(broken).toBe(2);
  expect(stored.equals(content)).toBe(true);
});

it('goes through the proxy when the host cannot be reached', async () => {
  const { transferUrl } = order();
  await uploadImage(order({ transferUrl: 'https://127.0.0.1:1/images/ticket', proxyUrl: transferUrl }));
  expect(stored.equals(content)).toBe(true);
});

it('says what stands in the way, without the ticket', async () => {
  const failure = async (change: Partial<ImageUploadOrder>) => {
    const error: unknown = await uploadImage(order(change)).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'WORKER_IMAGE_NOT_UPLOADED' });
    expect(JSON.stringify(error) + String(error)).not.toContain('ticket');
    return (error as Error).message;
  };
  const { transferUrl } = order();
  expect(await failure({ transferUrl: 'https://127.0.0.1:1/images/ticket', proxyUrl: 'https://127.0.0.1:2/images/ticket' })).toMatch(
    /127\.0\.0\.1:1: ECONNREFUSED; 127\.0\.0\.1:2: ECONNREFUSED/,
  );
  expect(await failure({ transferUrl: transferUrl.replace('ticket', 'tick') })).toContain('answers 403');
  const { certificatePem } = await createAuthority('another CA');
  expect(await failure({ caPem: certificatePem })).toMatch(/CERT|self-signed|UNABLE/);
  interfere = (request, response) => {
    if (request.method !== 'PUT') return false;
    request.resume();
    response.writeHead(500).end('no space');
    return true;
  };
  expect(await failure({})).toContain('answers 500');
});

it('notices that the storage holds something else', async () => {
  interfere = (request) => {
    if (request.method === 'GET') stored[content.length - 1] = (content[content.length - 1] ?? 0) ^ 1;
    return false;
  };
  await expect(uploadImage(order())).rejects.toMatchObject({
    code: 'WORKER_IMAGE_NOT_UPLOADED',
    meta: { problem: expect.stringContaining('differs') },
  });
});

it('ends at once when it is cancelled, with all connections closed', async () => {
  const stop = new AbortController();
  interfere = (request) => {
    if (request.method === 'PUT') setTimeout(() => stop.abort(), 10);
    return request.method === 'PUT';
  };
  await expect(uploadImage(order({ signal: stop.signal }))).rejects.toMatchObject({ code: 'CANCELLED' });
});
