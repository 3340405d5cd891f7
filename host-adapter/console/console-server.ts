/**
 * The console: the public REST API over TLS. Checks, authenticates, audits and answers; decides nothing. Routes are in routes.ts, shapes in
 * schemas.ts, what each does in the …-handlers files.
 */
import type { IncomingMessage } from 'node:http';
import fastify from 'fastify';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { newCorrelationId, withCorrelation } from '../../common/log/correlation';
import type { Logger } from '../../common/log/logger';
import type { Service } from '../../common/lifecycle/lifecycle';
import { productVersion } from '../../common/lifecycle/process-info';
import type { ProcessIdentity } from '../../common/tls/identity';
import { fingerprintsOf } from '../../common/tls/trust-state';
import type { EventStore } from '../catalogue/event-store';
import { HostErrors } from '../errors/host-errors';
import type { ConsoleCertificate } from '../identity/console-certificate';
import type { LoggedIn, Users } from '../identity/users';
import type { Call, Handlers } from './handler-types';
import { openApi, statusOf } from './openapi';
import { invalidInput, problemOf } from './problem';
import { showRenewedCertificate } from './renewed-certificate';
import { routes } from './routes';
import type { Route, RouteName } from './routes';
import type { SessionFeed } from './session-feed';

const bodyLimitBytes = 1024 * 1024;

export interface ConsoleOptions {
  readonly host: string;
  readonly port: number;
  /** Brought by the administrator; the server's own when absent. */
  readonly certificate?: ConsoleCertificate | undefined;
}

export class ConsoleServer implements Service {
  readonly name = 'console';
  readonly app: FastifyInstance;
  #port = 0;
  #told = { bundle: '', fingerprints: '' };
  readonly #stopping = new AbortController();
  #unfollow: () => void = () => undefined;

  constructor(
    private readonly options: ConsoleOptions,
    private readonly own: ProcessIdentity,
    private readonly users: Users,
    private readonly events: EventStore,
    private readonly handlers: Handlers,
    private readonly feed: SessionFeed,
    private readonly logger: Logger,
    private readonly now: () => Date,
  ) {
    const { privateKeyPem: key, certificateChainPem: cert } = options.certificate ?? own.material;
    this.app = fastify({
      https: { key, cert, minVersion: 'TLSv1.2' },
      bodyLimit: bodyLimitBytes,
      forceCloseConnections: true,
      genReqId: (request: IncomingMessage) => correlationOf(request),
    });
    // With another certificate than ours the CAs that whoever calls has to trust are not ours to tell.
    if (!options.certificate) {
      this.#unfollow = showRenewedCertificate(this.app, own);
      this.app.addHook('onSend', async (_request, reply) => {
        void reply.header('tidemark-trust', this.#trust());
      });
    }
    this.#build();
  }

  /** Bound port, once started. */
  get port(): number {
    return this.#port;
  }

  async start(): Promise<void> {
    try {
      await this.app.listen({ host: this.options.host, port: this.options.port });
    } catch (cause) {
      const { code = 'unknown' } = cause as NodeJS.ErrnoException;
      throw HostErrors.PORT_UNAVAILABLE({ address: `${this.options.host}:${this.options.port}`, why: code }, { cause });
    }
    const address = this.app.server.address();
    this.#port = typeof address === 'object' && address !== null ? address.port : this.options.port;
  }

  async stop(): Promise<void> {
    this.#unfollow();
    this.#stopping.abort();
    await this.app.close();
  }

  /** Fingerprints of the CAs to trust, so that a command line knows when to fetch them. */
  #trust(): string {
    const { trustBundlePem } = this.own.material;
    if (this.#told.bundle !== trustBundlePem)
      this.#told = { bundle: trustBundlePem, fingerprints: fingerprintsOf(trustBundlePem).join(',') };
    return this.#told.fingerprints;
  }

  #build(): void {
    const document = openApi(routes, productVersion());
    this.app.get('/api/v1/openapi.json', async () => document);
    for (const [name, route] of Object.entries(routes) as [RouteName, Route][]) {
      this.app.route({
        method: route.method,
        url: `/api/v1${route.path}`,
        handler: (request, reply) => this.#serve(name, route, request, reply),
      });
    }
    this.app.setNotFoundHandler((request, reply) => {
      void reply.status(404).send({
        code: 'ROUTE_NOT_FOUND',
        message: 'There is no such route; /api/v1/openapi.json lists them.',
        retry: 'never',
        correlationId: request.id,
      });
    });
    this.app.setErrorHandler((thrown, request, reply) => {
      const { status, body, error } = problemOf(thrown, `${request.method} ${request.routeOptions.url ?? ''}`, request.id);
      if (error.kind === 'bug') this.logger.error('request failed by a defect', { error });
      void reply.status(status).send(body);
    });
  }

  #serve(name: RouteName, route: Route, request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
    return withCorrelation({ correlationId: request.id }, async () => {
      let login: LoggedIn | undefined;
      try {
        if (!route.open) login = await this.users.authenticate(bearerOf(request));
        const call = callOf(route, request, login);
        if (name === 'sessionEvents') return await this.#stream(call, request, reply);
        const result = await (this.handlers[name] as (call: unknown) => Promise<unknown>)(call);
        await this.#audit(name, route, request, login?.name ?? call.userName, statusOf(route));
        void reply.status(statusOf(route));
        return result;
      } catch (thrown) {
        const { status, body, error } = problemOf(thrown, `${request.method} ${route.path}`, request.id);
        if (error.kind === 'bug') this.logger.error('request failed by a defect', { route: name, error });
        else this.logger.info('request refused', { route: name, code: error.code });
        // What strangers try is in the log only: whoever can reach the port could fill the catalogue's disk. A login that is refused is bounded by its throttle.
        if (login !== undefined || error.code === 'LOGIN_REFUSED') await this.#audit(name, route, request, login?.name ?? '', status);
        void reply.status(status);
        if (error.retryDelayMs !== undefined) void reply.header('retry-after', Math.ceil(error.retryDelayMs / 1000));
        return body;
      }
    });
  }

  async #stream(call: Checked, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const header = request.headers['last-event-id'];
    const { after = 0 } = call.query as { after?: number };
    const last = typeof header === 'string' && /^\d{1,15}$/.test(header) ? Number(header) : after;
    const gone = new AbortController();
    request.raw.once('close', () => gone.abort());
    reply.raw.once('close', () => gone.abort());
    const either = AbortSignal.any([gone.signal, this.#stopping.signal]);
    // hijack: fastify must not answer; a problem before the first byte is still its to tell.
    try {
      await this.feed.write(call.id, last, reply.raw, either);
    } catch (error) {
      if (!reply.raw.headersSent) throw error;
      // The stream was ended; its reader opens it again behind the last event.
      this.logger.warn('a stream of events broke off', { sessionId: call.id, error });
    }
    return reply.hijack();
  }

  /** Changes and failed attempts to change, never their content. */
  async #audit(name: RouteName, route: Route, request: FastifyRequest, user: string, status: number): Promise<void> {
    if (route.method === 'GET' || route.reads) return;
    await this.events.addAudit({
      at: this.now().toISOString(),
      user,
      action: name,
      target: (request.params as { id?: string }).id ?? '',
      status,
      remoteAddress: request.ip,
      correlationId: request.id,
    });
  }
}

type Checked = Omit<Call<RouteName>, 'query' | 'body'> & { readonly query: unknown; readonly body: unknown; readonly userName: string };

/** Parses what came. Throws ARGUMENT_INVALID. */
function callOf(route: Route, request: FastifyRequest, login: LoggedIn | undefined): Checked {
  const query = route.query?.safeParse(request.query);
  if (query && !query.success) throw invalidInput(query.error.issues[0], 'query');
  const body = route.body?.safeParse(request.body ?? {});
  if (body && !body.success) throw invalidInput(body.error.issues[0], 'body');
  const sent = body?.data as { user?: unknown } | undefined;
  return {
    id: (request.params as { id?: string }).id ?? '',
    query: query?.data ?? {},
    body: body?.data ?? {},
    get login() {
      if (!login) throw HostErrors.LOGIN_REQUIRED({});
      return login;
    },
    remoteAddress: request.ip,
    userName: typeof sent?.user === 'string' ? sent.user : '',
  };
}

function bearerOf(request: FastifyRequest): string {
  const match = /^Bearer ([\w.~+/=-]{10,200})$/i.exec(request.headers.authorization ?? '');
  if (!match?.[1]) throw HostErrors.LOGIN_REQUIRED({});
  return match[1];
}

function correlationOf(request: IncomingMessage): string {
  const sent = request.headers['x-correlation-id'];
  return typeof sent === 'string' && /^[\w-]{1,64}$/.test(sent) ? sent : newCorrelationId();
}
