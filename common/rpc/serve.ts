/**
 * The server-side bridge: handlers are async functions or generators and are never registered raw, because grpc-js does not await a
 * handler's promise (an async throw would hang the caller until its deadline) and sends a foreign numeric `code` as a gRPC status (a failed
 * child process with exit code 1 would become CANCELLED). Roles are checked here, before the handler runs.
 */
import type { Readable } from 'node:stream';
import { Metadata, status as Status } from '@grpc/grpc-js';
import type {
  Server,
  ServerDuplexStream,
  ServerUnaryCall,
  ServerWritableStream,
  ServiceDefinition,
  StatusObject,
  sendUnaryData,
} from '@grpc/grpc-js';
import type { MethodDefinition } from '@grpc/proto-loader';
import { CommonErrors, toTidemarkError } from '../errors/common-errors';
import type { TidemarkError } from '../errors/tidemark-error';
import { newCorrelationId, withCorrelation } from '../log/correlation';
import type { Logger } from '../log/logger';
import { peerIdentity } from './peer';
import type { PeerIdentity, Role } from './peer';
import { encodeStatusDetails, statusDetailsKey } from './status-details';

export const correlationKey = 'tidemark-correlation-id';

/** What a handler knows of its call. */
export interface CallContext {
  /** From the client certificate; absent only on methods that allow `anyone`. */
  readonly peer: PeerIdentity | undefined;
  readonly correlationId: string;
  /** Aborted when the caller cancels, goes away or its deadline passes. */
  readonly signal: AbortSignal;
  /** Remote address, for throttling and logs. */
  readonly remoteAddress: string;
}

/** Handled request type of a generated method definition. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- positions of a generated type that are not looked at
export type RequestOf<D> = D extends MethodDefinition<any, any, infer Q, any> ? Q : never;
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- as above
export type ReplyOf<D> = D extends MethodDefinition<any, infer R, any, any> ? R : never;

/** `anyone` is for methods on a port without client certificates. */
export type AllowedRoles = readonly Role[] | 'anyone';

export interface UnaryHandler<D> {
  readonly roles: AllowedRoles;
  unary(request: RequestOf<D>, context: CallContext): Promise<ReplyOf<D>>;
}
export interface ServerStreamHandler<D> {
  readonly roles: AllowedRoles;
  serverStream(request: RequestOf<D>, context: CallContext): AsyncIterable<ReplyOf<D>>;
}
export interface BidiHandler<D> {
  readonly roles: AllowedRoles;
  bidi(requests: AsyncIterable<RequestOf<D>>, context: CallContext): AsyncIterable<ReplyOf<D>>;
}
export type MethodHandler<D> = UnaryHandler<D> | ServerStreamHandler<D> | BidiHandler<D>;

/** Names of a generated service definition's methods, without the index signature that it inherits. */
export type MethodNames<S> = keyof { [K in keyof S as string extends K ? never : number extends K ? never : K]: true };
export type ServiceHandlers<S> = { readonly [K in MethodNames<S>]: K extends keyof S ? MethodHandler<S[K]> : never };

export interface ServeOptions {
  readonly logger: Logger;
  /** Serving process, the domain of errors: host, plugin, worker, mover. */
  readonly domain: string;
}

/**
 * Adds a service to a server. `S` is the generated `…ServiceDefinition`:
 * `serve<SessionServiceDefinition>(server, loadService(file, name).service, handlers, options)`.
 */
export function serve<S>(server: Server, definition: ServiceDefinition, handlers: ServiceHandlers<S>, options: ServeOptions): void {
  const implementation: Record<string, (...call: never[]) => void> = {};
  for (const [name, method] of Object.entries(definition)) {
    const handler = (handlers as Record<string, MethodHandler<unknown>>)[name];
    if (!handler) throw new TypeError(`no handler for ${method.path}`);
    implementation[name] = bridge(method.path, method, handler, options);
  }
  server.addService(definition, implementation as never);
}

type AnyCall = ServerUnaryCall<unknown, unknown> | ServerWritableStream<unknown, unknown> | ServerDuplexStream<unknown, unknown>;

function bridge(
  path: string,
  method: { requestStream: boolean; responseStream: boolean },
  handler: MethodHandler<unknown>,
  options: ServeOptions,
): (...call: never[]) => void {
  if ('unary' in handler) {
    expectShape(path, method, false, false);
    return (call: ServerUnaryCall<unknown, unknown>, callback: sendUnaryData<unknown>) => {
      void run(path, call, handler.roles, options, async (context) => {
        const reply = await handler.unary(call.request as never, context);
        callback(null, reply);
      }).then((error) => {
        if (error) callback(error);
      });
    };
  }
  if ('serverStream' in handler) {
    expectShape(path, method, false, true);
    return (call: ServerWritableStream<unknown, unknown>) => {
      void run(path, call, handler.roles, options, (context) =>
        pump(call, handler.serverStream(call.request as never, context), context),
      ).then((error) => {
        if (error) call.emit('error', error);
        else call.end();
      });
    };
  }
  expectShape(path, method, true, true);
  return (call: ServerDuplexStream<unknown, unknown>) => {
    void run(path, call, handler.roles, options, (context) => pump(call, handler.bidi(requestsOf(call, context), context), context)).then(
      (error) => {
        if (error) call.emit('error', error);
        else call.end();
      },
    );
  };
}

function expectShape(path: string, method: { requestStream: boolean; responseStream: boolean }, request: boolean, response: boolean): void {
  if (method.requestStream !== request || method.responseStream !== response)
    throw new TypeError(`handler of ${path} has another shape than its method`);
}

/** Runs a handler to its end; resolves with the status to send, or undefined when it succeeded. Never rejects. */
async function run(
  path: string,
  call: AnyCall,
  allowed: AllowedRoles,
  options: ServeOptions,
  work: (context: CallContext) => Promise<void>,
): Promise<Partial<StatusObject> | undefined> {
  const sent = call.metadata.get(correlationKey)[0];
  const correlationId = typeof sent === 'string' && /^[\w-]{1,64}$/.test(sent) ? sent : newCorrelationId();
  const aborter = new AbortController();
  (call as NodeJS.EventEmitter).on('cancelled', () => aborter.abort(CommonErrors.CANCELLED({ what: path })));
  const context: CallContext = {
    peer: peerIdentity(call.getAuthContext().sslPeerCertificate),
    correlationId,
    signal: aborter.signal,
    remoteAddress: call.getPeer(),
  };
  return withCorrelation({ correlationId }, async () => {
    try {
      authorise(path, allowed, context.peer);
      await work(context);
      return undefined;
    } catch (thrown) {
      const error = toTidemarkError(thrown, path);
      error.correlationId ??= correlationId;
      report(options.logger, path, error, context);
      return wireStatus(error, options.domain);
    }
  });
}

function authorise(path: string, allowed: AllowedRoles, peer: PeerIdentity | undefined): void {
  if (allowed === 'anyone') return;
  if (!peer) throw CommonErrors.CERTIFICATE_REQUIRED({ method: path });
  if (!allowed.includes(peer.role)) throw CommonErrors.ROLE_NOT_ALLOWED({ method: path, role: peer.role });
}

function report(logger: Logger, path: string, error: TidemarkError, context: CallContext): void {
  const fields = { method: path, code: error.code, meta: error.meta, peer: context.peer, message: error.message };
  if (error.kind === 'bug') logger.error('call failed by a defect', { ...fields, error });
  else if (error.status === 'CANCELLED') logger.debug('call cancelled', fields);
  else logger.warn('call refused or failed', fields);
}

function wireStatus(error: TidemarkError, domain: string): Partial<StatusObject> {
  const metadata = new Metadata();
  metadata.set(statusDetailsKey, encodeStatusDetails(error, domain));
  return { code: Status[error.status], details: error.message.slice(0, 1024), metadata };
}

/** Writes what a generator yields, waiting while the stream is full; stops the generator when the caller is gone. */
async function pump(
  call: ServerWritableStream<unknown, unknown> | ServerDuplexStream<unknown, unknown>,
  replies: AsyncIterable<unknown>,
  context: CallContext,
): Promise<void> {
  const iterator = replies[Symbol.asyncIterator]();
  const { signal } = context;
  try {
    for (;;) {
      const next = await unlessAborted(iterator.next(), signal);
      if (next.done === true) return;
      if (!call.write(next.value)) await unlessAborted(drained(call), signal);
    }
  } finally {
    // Not awaited: a generator that waits for an event would hold the call for ever; its own signal ends it.
    void iterator.return?.().catch(() => undefined);
  }
}

/**
 * What `work` comes to, or the signal's reason as soon as it aborts. `Promise.race` against a promise of the signal would keep every message of a
 * stream in memory until the stream ends.
 */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason as Error);
    signal.addEventListener('abort', abort, { once: true });
    void work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
    if (signal.aborted) abort();
  });
}

function drained(call: NodeJS.EventEmitter): Promise<void> {
  return new Promise((resolve) => call.once('drain', () => resolve()));
}

async function* requestsOf(call: ServerDuplexStream<unknown, unknown>, context: CallContext): AsyncGenerator<never> {
  try {
    // A handler that throws inside its loop must not destroy the stream: its error still has to be sent on it.
    for await (const request of (call as unknown as Readable).iterator({ destroyOnReturn: false })) yield request as never;
  } catch (thrown) {
    // grpc-js destroys the stream when the caller goes away; the signal says so in our words.
    if (context.signal.aborted) throw context.signal.reason;
    throw thrown;
  }
}
