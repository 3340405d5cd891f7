/**
 * Stands between a store and its S3 server and breaks requests by a seed, as networks and busy servers do: refusals of several kinds, connections cut before
 * the request arrived, after it was done and in the middle of the answer, answers that crawl, and silence. It also counts what was asked.
 */
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { randomFrom } from './test-disk';

export const faultKinds = ['internal error', 'slow down', 'cut before', 'cut after', 'cut answer', 'slow answer', 'silence'] as const;
export type FaultKind = (typeof faultKinds)[number];

export interface SeenRequest {
  readonly method: string;
  /** `list`, `uploads`, `upload`, or empty for one object. */
  readonly what: string;
  readonly path: string;
  readonly fault: FaultKind | undefined;
}

export class S3FaultProxy {
  readonly seen: SeenRequest[] = [];
  /** Part of the requests that are broken, 0 to 1. */
  rate = 0;
  kinds: readonly FaultKind[] = faultKinds;
  private readonly random: () => number;
  private readonly server: http.Server;
  private readonly agent = new http.Agent({ keepAlive: true, maxSockets: 64 });

  private constructor(
    private readonly target: URL,
    seed: number,
  ) {
    this.random = randomFrom(seed);
    this.server = http.createServer((request, response) => {
      this.answer(request, response).catch(() => response.destroy());
    });
  }

  static async start(endpoint: string, seed: number): Promise<S3FaultProxy> {
    const proxy = new S3FaultProxy(new URL(endpoint), seed);
    await new Promise<void>((resolve) => proxy.server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    this.agent.destroy();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private async answer(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const fault = this.random() < this.rate ? this.kinds[Math.floor(this.random() * this.kinds.length)] : undefined;
    const { method = '', url = '' } = request;
    this.seen.push({ method, what: whatOf(new URL(url, this.target)), path: url, fault });
    switch (fault) {
      case 'internal error':
        return refuse(request, response, 500, 'InternalError');
      case 'slow down':
        return refuse(request, response, 503, 'SlowDown');
      case 'cut before':
        return void request.socket.destroy();
      case 'silence':
        // The client gives up; so do we, some time after it.
        await sleep(3_000, undefined, { ref: false });
        return void request.socket.destroy();
      default:
        return this.forward(request, response, fault);
    }
  }

  /** The answer arrives as the server gave it, unless a fault says otherwise; with `cut after` the request is done all the same. */
  private forward(request: http.IncomingMessage, response: http.ServerResponse, fault: FaultKind | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const { method, url, rawHeaders } = request;
      const { hostname, port } = this.target;
      const onward = http.request({ hostname, port, method, path: url, headers: pairs(rawHeaders), agent: this.agent });
      onward.on('error', reject);
      request.on('error', reject);
      onward.on('response', (answer) => {
        answer.on('error', reject);
        if (fault === 'cut after') {
          answer.resume().on('end', () => resolve(void request.socket.destroy()));
          return;
        }
        response.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
        this.pass(answer, response, fault).then(resolve, reject);
      });
      request.pipe(onward);
    });
  }

  private async pass(answer: http.IncomingMessage, response: http.ServerResponse, fault: FaultKind | undefined): Promise<void> {
    const length = Number(answer.headers['content-length'] ?? 0);
    let passed = 0;
    for await (const chunk of answer) {
      const piece = chunk as Buffer;
      if (fault === 'cut answer' && passed + piece.length >= length / 2) {
        response.write(piece.subarray(0, Math.max(0, Math.floor(length / 2) - passed)));
        await sleep(5);
        return void response.destroy();
      }
      if (fault === 'slow answer') await sleep(20 + this.random() * 100);
      if (!response.write(piece)) await new Promise((resolve) => response.once('drain', resolve).once('close', resolve));
      if (response.destroyed) return void answer.destroy();
      passed += piece.length;
    }
    response.end();
  }
}

function whatOf(url: URL): string {
  if (url.searchParams.has('list-type')) return 'list';
  if (url.searchParams.has('uploads')) return 'uploads';
  return url.searchParams.has('uploadId') ? 'upload' : '';
}

function refuse(request: http.IncomingMessage, response: http.ServerResponse, status: number, code: string): void {
  request.resume();
  request.on('end', () => {
    response.writeHead(status, { 'content-type': 'application/xml' });
    response.end(`<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>made up by a test</Message></Error>`);
  });
}

/** Headers with their exact names and order, since the signature is over them. */
function pairs(rawHeaders: readonly string[]): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = {};
  for (let i = 0; i < rawHeaders.length; i += 2) headers[rawHeaders[i] as string] = rawHeaders[i + 1] as string;
  return headers;
}
