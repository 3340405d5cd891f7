/**
 * The client-side bridge: every call has a deadline (streams an idle time-out), failures come back as the TidemarkError that the
 * server threw, and a call is repeated only when the error's own advice allows it.
 */
import { Client, Metadata, status as Status } from '@grpc/grpc-js';
import type { CallOptions, ChannelCredentials, ChannelOptions, ServiceDefinition, ServiceError } from '@grpc/grpc-js';
import type { MethodDefinition } from '@grpc/proto-loader';
import { CommonErrors } from '../errors/common-errors';
import { TidemarkError, isTidemarkError } from '../errors/tidemark-error';
import type { RetryAdvice, StatusName } from '../errors/tidemark-error';
import { currentCorrelation, newCorrelationId } from '../log/correlation';
import { RenewableChannel } from './renewable-channel';
import type { ChannelUse, RenewableCredentials } from './renewable-channel';
import { correlationKey } from './serve';
import type { MethodNames } from './serve';
import { decodeStatusDetails, statusDetailsKey } from './status-details';

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- positions of a generated type that are not looked at
export type SentOf<D> = D extends MethodDefinition<infer Q, any, any, any> ? Q : never;
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- as above
export type ReceivedOf<D> = D extends MethodDefinition<any, any, any, infer R> ? R : never;
type MethodName<S> = MethodNames<S> & keyof S & string;

export interface CallSettings {
  /** Time for the whole call, retries not included. */
  readonly deadlineMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Tries in all when the error's advice is to send the same request again; default 1. */
  readonly attempts?: number;
}

export interface StreamSettings {
  /** Longest silence before the stream counts as broken (DEADLINE_EXCEEDED). */
  readonly idleTimeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** Both directions of a stream. `send` resolves when more may be sent. */
export interface DuplexCall<Q, R> {
  send(message: Q): Promise<void>;
  endSending(): void;
  readonly replies: AsyncIterable<R>;
  cancel(): void;
}

/** A typed client of one service at one endpoint; `S` is the generated `…ServiceDefinition`. Close it when done. */
export class RpcClient<S> {
  readonly #channel: RenewableChannel;

  constructor(
    private readonly definition: ServiceDefinition,
    readonly endpoint: string,
    credentials: ChannelCredentials | RenewableCredentials,
    options: ChannelOptions = {},
  ) {
    const connect = (channel: ChannelCredentials, further: ChannelOptions) =>
      new Client(endpoint, channel, {
        'grpc.keepalive_time_ms': 20_000,
        'grpc.keepalive_timeout_ms': 10_000,
        'grpc.initial_reconnect_backoff_ms': 200,
        'grpc.max_reconnect_backoff_ms': 5_000,
        'grpc.max_receive_message_length': 64 * 1024 * 1024,
        ...options,
        ...further,
      });
    this.#channel = new RenewableChannel(connect, credentials);
  }

  /** Throws the server's TidemarkError, DEADLINE_EXCEEDED, CANCELLED or PEER_UNAVAILABLE. */
  async call<K extends MethodName<S>>(method: K, request: SentOf<S[K]>, settings: CallSettings): Promise<ReceivedOf<S[K]>> {
    // The type says so too; a value from elsewhere (a setting, plain JavaScript) must not make a call that waits for ever.
    if (!(settings.deadlineMs > 0 && settings.deadlineMs < 2 ** 31)) throw new TypeError(`${method}: a call needs a deadline`);
    const attempts = settings.attempts ?? 1;
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#once(method, request, settings);
      } catch (error) {
        if (attempt >= attempts || !isTidemarkError(error) || settings.signal?.aborted === true) throw error;
        if (error.retry !== 'same-request' && error.retry !== 'after-delay') throw error;
        await pause(error.retryDelayMs ?? Math.min(200 * 2 ** attempt, 5_000), settings.signal);
      }
    }
  }

  #once<K extends MethodName<S>>(method: K, request: SentOf<S[K]>, settings: CallSettings): Promise<ReceivedOf<S[K]>> {
    const definition = this.#method(method);
    return new Promise((resolve, reject) => {
      if (settings.signal?.aborted === true) return reject(CommonErrors.CANCELLED({ what: definition.path }));
      const use = this.#channel.enter(() => call.cancel());
      const call = use.client.makeUnaryRequest(
        definition.path,
        definition.requestSerialize,
        definition.responseDeserialize,
        request,
        metadata(),
        { deadline: Date.now() + settings.deadlineMs },
        (error: ServiceError | null, reply?: unknown) => {
          settings.signal?.removeEventListener('abort', cancel);
          use.leave();
          if (error) reject(this.#rebuild(error, use, definition.path, settings.deadlineMs, settings.signal));
          else resolve(reply as ReceivedOf<S[K]>);
        },
      );
      const cancel = () => call.cancel();
      settings.signal?.addEventListener('abort', cancel, { once: true });
    });
  }

  /** Replies of a server stream. Leaving the loop cancels the call; a clean end of the loop is a clean end of the stream. */
  async *stream<K extends MethodName<S>>(
    method: K,
    request: SentOf<S[K]>,
    settings: StreamSettings,
  ): AsyncGenerator<ReceivedOf<S[K]>, void, undefined> {
    const definition = this.#method(method);
    const use = this.#channel.enter(() => call.cancel());
    const call = use.client.makeServerStreamRequest(
      definition.path,
      definition.requestSerialize,
      definition.responseDeserialize,
      request,
      metadata(),
      {},
    );
    call.once('status', () => use.leave());
    yield* this.#replies<ReceivedOf<S[K]>>(call, use, definition.path, settings);
  }

  /** Opens a bidirectional stream. */
  duplex<K extends MethodName<S>>(method: K, settings: StreamSettings): DuplexCall<SentOf<S[K]>, ReceivedOf<S[K]>> {
    const definition = this.#method(method);
    const options: CallOptions = {};
    const use = this.#channel.enter(() => call.cancel());
    const call = use.client.makeBidiStreamRequest(
      definition.path,
      definition.requestSerialize,
      definition.responseDeserialize,
      metadata(),
      options,
    );
    call.once('status', () => use.leave());
    return {
      send: (message) =>
        new Promise((resolve, reject) => {
          if (call.destroyed || call.writableEnded) return reject(CommonErrors.PEER_UNAVAILABLE({ peer: this.endpoint }));
          if (call.write(message)) return resolve();
          const done = () => {
            call.removeListener('drain', done);
            call.removeListener('close', done);
            resolve();
          };
          call.once('drain', done);
          call.once('close', done);
        }),
      endSending: () => call.end(),
      replies: this.#replies<ReceivedOf<S[K]>>(call, use, definition.path, settings),
      cancel: () => call.cancel(),
    };
  }

  close(): void {
    this.#channel.close();
  }

  async *#replies<R>(
    call: AsyncIterable<unknown> & { cancel(): void; on(event: 'error', listener: (error: Error) => void): unknown },
    use: ChannelUse,
    path: string,
    settings: StreamSettings,
  ): AsyncGenerator<R, void, undefined> {
    let silent = false;
    const cancel = () => call.cancel();
    const timer = setTimeout(() => {
      silent = true;
      call.cancel();
    }, settings.idleTimeoutMs);
    // A stream error also reaches the loop below; without a listener it would be an uncaught exception after the loop was left.
    call.on('error', () => undefined);
    settings.signal?.addEventListener('abort', cancel, { once: true });
    if (settings.signal?.aborted === true) cancel();
    try {
      for await (const reply of call) {
        timer.refresh();
        yield reply as R;
        timer.refresh();
      }
    } catch (error) {
      if (silent) throw CommonErrors.DEADLINE_EXCEEDED({ what: path, timeoutMs: settings.idleTimeoutMs }, { cause: error });
      throw this.#rebuild(error as ServiceError, use, path, settings.idleTimeoutMs, settings.signal);
    } finally {
      clearTimeout(timer);
      settings.signal?.removeEventListener('abort', cancel);
      call.cancel();
    }
  }

  #method(name: string) {
    const definition = this.definition[name];
    if (!definition) throw new TypeError(`no method ${name}`);
    return definition as unknown as {
      path: string;
      requestSerialize: (value: unknown) => Buffer;
      responseDeserialize: (bytes: Buffer) => unknown;
    };
  }

  #rebuild(error: ServiceError, use: ChannelUse, path: string, timeoutMs: number, signal?: AbortSignal): TidemarkError {
    // To the caller it is a connection that broke: the next one shows the new certificate.
    if (use.isCut) return CommonErrors.PEER_UNAVAILABLE({ peer: this.endpoint }, { cause: error });
    const name = (Status[error.code] ?? 'INTERNAL') as StatusName | 'UNKNOWN' | 'OK';
    const statusName: StatusName = name === 'UNKNOWN' || name === 'OK' ? 'INTERNAL' : name;
    const details = error.metadata?.get(statusDetailsKey)[0];
    const ours = Buffer.isBuffer(details) ? decodeStatusDetails(details, statusName) : undefined;
    if (ours) return ours;
    switch (statusName) {
      case 'UNAVAILABLE':
        return CommonErrors.PEER_UNAVAILABLE({ peer: this.endpoint }, { cause: error });
      case 'DEADLINE_EXCEEDED':
        return CommonErrors.DEADLINE_EXCEEDED({ what: path, timeoutMs }, { cause: error });
      case 'CANCELLED':
        // Not by us: so ends what a server cuts after its grace.
        if (signal?.aborted !== true) return CommonErrors.PEER_UNAVAILABLE({ peer: this.endpoint }, { cause: error });
        return CommonErrors.CANCELLED({ what: path }, { cause: error });
      default:
        return new TidemarkError(
          { code: statusName, kind: 'operational', retry: adviceByStatus[statusName] ?? 'never', status: statusName },
          `${path}: ${error.details}`,
          { cause: error },
        );
    }
  }
}

/** For peers that send no details of ours: unknown reasons fall back to the status code. */
const adviceByStatus: Partial<Record<StatusName, RetryAdvice>> = {
  ABORTED: 'same-request',
  RESOURCE_EXHAUSTED: 'after-delay',
  UNAUTHENTICATED: 'after-operator',
  PERMISSION_DENIED: 'after-operator',
};

function metadata(): Metadata {
  const carried = new Metadata();
  carried.set(correlationKey, currentCorrelation()?.correlationId ?? newCorrelationId());
  return carried;
}

/** Resolves after the time, or rejects with CANCELLED when the signal aborts first. */
export function pause(delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) return reject(CommonErrors.CANCELLED({ what: 'waiting' }));
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', abort);
      resolve();
    }, delayMs);
    const abort = () => {
      clearTimeout(timer);
      reject(CommonErrors.CANCELLED({ what: 'waiting' }));
    };
    signal?.addEventListener('abort', abort, { once: true });
  });
}
