import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { HostError } from '../../hosts/driver';
import { EngineFault } from '../http/fault';
import { readText } from '../http/api-server';
import { ControlError, type ControlRoute } from './control-route';

/**
 * The lab's own door, on loopback and without a password: make things go wrong, look behind the API. Not part of oVirt; a product
 * under test must never use it. JSON in, JSON out; `GET /` lists what there is.
 */
export class ControlServer {
  private readonly server: Server;

  constructor(private readonly routes: readonly ControlRoute[]) {
    this.server = createServer((request, response) => {
      this.serve(request)
        .then((answer) => {
          send(response, 200, answer);
        })
        .catch((error: unknown) => {
          send(response, statusOf(error), { error: error instanceof Error ? error.message : String(error) });
        });
    });
  }

  async listen(host: string, port: number): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen(port, host, resolve);
    });
    return (this.server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise<void>((resolve) => {
      this.server.close(() => {
        resolve();
      });
    });
  }

  private async serve(request: IncomingMessage): Promise<unknown> {
    const path = decodeURIComponent((request.url ?? '/').split('?')[0] ?? '/');
    if (path === '/') {
      return { routes: this.routes.map(({ method, pattern, does }) => ({ route: `${method} ${pattern}`, does })) };
    }
    for (const route of this.routes) {
      const params = request.method === route.method ? matchPath(route.pattern, path) : undefined;
      if (params) {
        const text = await readText(request, 1024 * 1024);
        const body: unknown = text.trim() === '' ? {} : JSON.parse(text);
        return (await route.handle(params, body as Record<string, unknown>)) ?? {};
      }
    }
    throw new ControlError(404, `no such route; GET / lists them`);
  }
}

function matchPath(pattern: string, path: string): string[] | undefined {
  const expected = pattern.split('/');
  const actual = path.split('/');
  if (expected.length !== actual.length) {
    return undefined;
  }
  const params: string[] = [];
  for (const [index, segment] of expected.entries()) {
    const value = actual[index] ?? '';
    if (segment.startsWith(':')) {
      params.push(value);
    } else if (segment !== value) {
      return undefined;
    }
  }
  return params;
}

function statusOf(error: unknown): number {
  if (error instanceof ControlError) {
    return error.status;
  }
  return error instanceof HostError || error instanceof EngineFault ? 409 : error instanceof SyntaxError ? 400 : 500;
}

function send(response: ServerResponse, status: number, body: unknown): void {
  const text = JSON.stringify(body);
  response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) }).end(text);
}
