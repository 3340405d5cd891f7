/** An image service over TLS for tests, serving one image from memory, with faults that the real daemon only shows on a bad day. */
import type { AddressInfo } from 'node:net';
import tls from 'node:tls';
import { createAuthority, issueIdentity } from '../../common/tls/authority';
import type { ImageEndpoint } from '../imageio/image-endpoint';

export interface ServedRequest {
  readonly method: string;
  readonly target: string;
  readonly range: string | undefined;
  readonly body: Buffer;
  /** Counts connections from 1. */
  readonly connection: number;
}

/** `cut`: close after so many bytes of the answer. `silent`: never answer. */
export type ServedAnswer =
  | {
      readonly status: number;
      readonly body?: Buffer | string;
      readonly announce?: number;
      readonly cutAfterBytes?: number;
      readonly close?: boolean;
    }
  | 'silent'
  | undefined;

export class ImageServiceDouble {
  readonly requests: ServedRequest[] = [];
  connections = 0;
  openNow = 0;
  mostOpen = 0;
  /** Answers in place of the normal behaviour; undefined: behave. */
  fault: (request: ServedRequest) => ServedAnswer = () => undefined;
  dirtyExtents: string | undefined;
  zeroExtents = '';
  private readonly sockets = new Set<tls.TLSSocket>();
  private server!: tls.Server;

  private constructor(
    readonly image: Buffer,
    readonly caPem: string,
  ) {}

  static async start(image: Buffer, host = '127.0.0.1'): Promise<ImageServiceDouble> {
    const authority = await createAuthority('engine');
    const identity = await issueIdentity(authority, { role: 'host', id: 'h1' }, [host, 'localhost']);
    const double = new ImageServiceDouble(image, authority.certificatePem);
    double.zeroExtents = JSON.stringify([{ start: 0, length: image.length, zero: false, hole: false }]);
    double.server = tls.createServer({ key: identity.privateKeyPem, cert: identity.certificateChainPem }, (socket) => double.serve(socket));
    await new Promise<void>((resolve) => double.server.listen(0, host, resolve));
    return double;
  }

  get url(): string {
    const { address, port } = this.server.address() as AddressInfo;
    return `https://${address.includes(':') ? `[${address}]` : address}:${port}/images/ticket-1`;
  }

  get endpoint(): ImageEndpoint {
    const { address, port } = this.server.address() as AddressInfo;
    return { host: address, port, path: '/images/ticket-1', caPem: this.caPem };
  }

  async stop(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private serve(socket: tls.TLSSocket): void {
    this.connections += 1;
    this.openNow += 1;
    this.mostOpen = Math.max(this.mostOpen, this.openNow);
    const connection = this.connections;
    this.sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.openNow -= 1;
      this.sockets.delete(socket);
    });
    let pending = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      pending = Buffer.concat([pending, chunk]);
      for (;;) {
        const end = pending.indexOf('\r\n\r\n');
        if (end < 0) return;
        const head = pending.subarray(0, end).toString('latin1');
        const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
        if (pending.length < end + 4 + length) return;
        const body = Buffer.from(pending.subarray(end + 4, end + 4 + length));
        pending = pending.subarray(end + 4 + length);
        const [method = '', target = ''] = head.split(' ');
        const range = /^(?:content-)?range: bytes[= ](\S+)/im.exec(head)?.[1];
        const request = { method, target, range, body, connection };
        this.requests.push(request);
        this.answer(socket, request);
      }
    });
  }

  private answer(socket: tls.TLSSocket, request: ServedRequest): void {
    const answer = this.fault(request) ?? this.behave(request);
    if (answer === 'silent' || answer === undefined) return;
    const body = Buffer.from(answer.body ?? '');
    const head = Buffer.from(
      `HTTP/1.1 ${answer.status} Some Reason\r\ncontent-length: ${answer.announce ?? body.length}\r\n${answer.close === true ? 'connection: close\r\n' : ''}server: double\r\n\r\n`,
    );
    const whole = Buffer.concat([head, body]);
    if (answer.cutAfterBytes === undefined) socket.write(whole);
    else socket.write(whole.subarray(0, answer.cutAfterBytes), () => socket.destroy());
    if (answer.close === true) socket.end();
  }

  private behave({ method, target, range, body }: ServedRequest): ServedAnswer {
    if (method === 'OPTIONS') {
      return { status: 200, body: JSON.stringify({ features: ['extents', 'zero', 'flush'], max_readers: 8, max_writers: 8 }) };
    }
    if (target.endsWith('context=dirty'))
      return this.dirtyExtents === undefined ? { status: 404 } : { status: 200, body: this.dirtyExtents };
    if (target.endsWith('context=zero')) return { status: 200, body: this.zeroExtents };
    const [from = 0, to = 0] = (range ?? '').split(/[-/]/).map(Number);
    if (method === 'GET') {
      if (to >= this.image.length) return { status: 416, body: 'beyond' };
      return { status: 206, body: this.image.subarray(from, to + 1) };
    }
    if (method === 'PUT') {
      body.copy(this.image, from);
      return { status: 200 };
    }
    const operation = JSON.parse(body.toString()) as { op: string; offset?: number; size?: number };
    if (operation.op === 'zero') this.image.fill(0, operation.offset, (operation.offset ?? 0) + (operation.size ?? 0));
    return { status: 200 };
  }
}
