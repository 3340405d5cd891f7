import { X509Certificate } from 'node:crypto';
import { createServer } from 'node:https';
import type { Server } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createAuthority, issueIdentity } from '../../common/tls/authority';
import type { Authority } from '../../common/tls/authority';
import { ownLoopback } from '../../common/testing/loopback';

export interface Received {
  readonly method: string;
  /** Below /ovirt-engine/api, without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

/** What a route answers: JSON with status 200, or status and body. */
export type Answer = object | { readonly status: number; readonly body?: object | string };

/**
 * A small engine over real TLS: single sign-on, pki-resource and whatever routes a test gives it (`GET /vms`, with `*` for one segment).
 * It checks what the engine checks of every request, and keeps what it received.
 */
export class EngineServer {
  readonly received: Received[] = [];
  readonly routes = new Map<string, (request: Received) => Answer>();
  logins = 0;
  logouts = 0;
  password = 'right';
  /** Another internal CA than the one that signs the web server, as when an administrator put an own certificate there. */
  internalCaPem: string | undefined;
  #tokens = new Set<string>();

  private constructor(
    private server: Server,
    private authority: Authority,
    private readonly host: string,
    public port: number,
  ) {}

  static async start(host = ownLoopback): Promise<EngineServer> {
    const authority = await createAuthority('test engine');
    const engine = new EngineServer(undefined as unknown as Server, authority, host, 0);
    await engine.#listen();
    engine.routes.set('GET /', () => ({
      product_info: { instance_id: 'engine-1', version: { major: '4', minor: '5', build: '7', full_version: '4.5.7-1.el9' } },
      effective_user: { id: 'user-1' },
    }));
    return engine;
  }

  get url(): string {
    return `https://${this.host.includes(':') ? `[${this.host}]` : this.host}:${this.port}/ovirt-engine`;
  }

  get caPem(): string {
    return this.authority.certificatePem;
  }

  get fingerprint(): string {
    return new X509Certificate(this.caPem).fingerprint256;
  }

  /** The same address with another CA, as after a new installation. */
  async changeAuthority(): Promise<void> {
    await this.stop();
    this.authority = await createAuthority('another engine');
    await this.#listen();
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.#listen();
  }

  expireTokens(): void {
    this.#tokens.clear();
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #listen(): Promise<void> {
    const material = await issueIdentity(this.authority, { role: 'host', id: 'engine' }, [this.host, 'localhost']);
    this.server = createServer({ key: material.privateKeyPem, cert: material.certificateChainPem }, (request, response) => {
      void this.#serve(request, response);
    });
    await new Promise<void>((resolve) => this.server.listen(this.port, this.host, resolve));
    this.port = (this.server.address() as AddressInfo).port;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let body = '';
    for await (const part of request as AsyncIterable<Buffer>) body += part.toString();
    const url = new URL(request.url ?? '/', 'https://engine');
    const send = (status: number, content: object | string | undefined) => {
      const text = typeof content === 'string' ? content : content === undefined ? '' : JSON.stringify(content);
      response.writeHead(status, { 'content-type': typeof content === 'string' ? 'text/html' : 'application/json' }).end(text);
    };
    if (url.pathname === '/ovirt-engine/services/pki-resource') return send(200, this.internalCaPem ?? this.caPem);
    if (url.pathname === '/ovirt-engine/services/sso-logout') {
      this.logouts += 1;
      return send(200, {});
    }
    if (url.pathname === '/ovirt-engine/sso/oauth/token') return this.#login(request, new URLSearchParams(body), send);
    const token = /^Bearer (.*)$/.exec(request.headers.authorization ?? '')?.[1];
    if (token === undefined || !this.#tokens.has(token)) return send(401, '<html>401</html>');
    if (request.headers['version'] !== '4' || request.headers.accept !== 'application/json') return send(400, undefined);
    const path = url.pathname.replace(/^\/ovirt-engine\/api/, '') || '/';
    const received = { method: request.method ?? '', path, query: url.searchParams, headers: request.headers, body };
    this.received.push(received);
    const route = this.#route(`${received.method} ${path}`);
    if (!route) return send(404, undefined);
    const answer = route(received);
    if ('status' in answer && typeof answer.status === 'number') return send(answer.status, (answer as { body?: object | string }).body);
    return send(200, answer);
  }

  #login(request: IncomingMessage, form: URLSearchParams, send: (status: number, content: object) => void): void {
    this.logins += 1;
    if (request.headers.accept !== 'application/json') return send(400, { error_code: 'invalid_request', error: 'accept' });
    if (form.get('password') !== this.password) return send(400, { error_code: 'access_denied', error: 'Cannot authenticate user' });
    const token = `token-${this.logins}`;
    this.#tokens.add(token);
    return send(200, { access_token: token, scope: 'ovirt-app-api', exp: '9223372036854775807', token_type: 'bearer' });
  }

  #route(key: string): ((request: Received) => Answer) | undefined {
    const exact = this.routes.get(key);
    if (exact) return exact;
    for (const [pattern, route] of this.routes) {
      if (pattern.includes('*') && new RegExp(`^${pattern.replaceAll('*', '[^/]+')}$`).test(key)) return route;
    }
    return undefined;
  }
}

/** Rows of a search with paging as the engine does it; `max` rows from `page N` on. */
export function page(rows: readonly object[], query: URLSearchParams): readonly object[] {
  const max = Number(query.get('max') ?? rows.length);
  const number = Number(/page (\d+)$/.exec(query.get('search') ?? '')?.[1] ?? 1);
  return rows.slice((number - 1) * max, number * max);
}
