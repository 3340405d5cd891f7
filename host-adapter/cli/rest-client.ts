import { Agent, request } from 'undici';
import type { Dispatcher } from 'undici';
import { pause } from '../../common/rpc/call';
import { fingerprintsOf, sameAuthorities } from '../../common/tls/trust-state';
import { CliFailure } from './cli-failure';
import { ExitCode, exitCodeOfStatus } from './exit-code';
import type { CliSettings } from './settings';

export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

/** One message of a server-sent event stream. */
export interface ServerEvent {
  readonly id: string;
  readonly event: string;
  readonly data: unknown;
}

/** The public REST API, as the command line uses it. Failures are {@link CliFailure} with the API's own code and message. */
export class RestClient {
  readonly #agent: Agent;
  readonly #pinned: readonly string[];
  #trustIsOld = false;

  constructor(
    private readonly settings: Pick<CliSettings, 'server' | 'caPem'> & { token?: string },
    /** How long a server that follows a session may be away; one that is started again on a slow machine takes a minute. */
    private readonly awayMs = 180_000,
    private readonly againMs = 300,
  ) {
    this.#pinned = fingerprintsOf(settings.caPem);
    // With the handshake, for which a busy server may need many seconds.
    this.#agent = new Agent({ connect: { ca: settings.caPem, timeout: 30_000 }, headersTimeout: 180_000, bodyTimeout: 180_000 });
  }

  /** True when the server told that other CAs are to be trusted than those it was verified with: a rotation began, or is over. */
  get trustIsOld(): boolean {
    return this.#trustIsOld;
  }

  get<T>(path: string, query: Query = {}): Promise<T> {
    return this.#send<T>('GET', path, undefined, query);
  }

  /** The same at the end of something that was followed: a server that is just being started again is waited for, until the signal. */
  async getPatiently<T>(path: string, signal: AbortSignal): Promise<T> {
    for (const began = performance.now(); ;) {
      try {
        return await this.get<T>(path);
      } catch (error) {
        const isAway = error instanceof CliFailure && error.exitCode === ExitCode.unreachable;
        if (!isAway || signal.aborted || performance.now() - began > this.awayMs) throw error;
      }
      await pause(this.againMs, signal).catch(() => undefined);
    }
  }

  post<T>(path: string, body: unknown = {}, query: Query = {}): Promise<T> {
    return this.#send<T>('POST', path, body, query);
  }

  patch<T>(path: string, body: unknown): Promise<T> {
    return this.#send<T>('PATCH', path, body, {});
  }

  delete<T>(path: string, query: Query = {}): Promise<T> {
    return this.#send<T>('DELETE', path, undefined, query);
  }

  /** Follows an event stream to its end; a broken one is opened again behind the last event. */
  async *events(path: string, signal: AbortSignal): AsyncGenerator<ServerEvent> {
    let last = '';
    let heardAt = performance.now();
    for (let failures = 0; performance.now() - heardAt < this.awayMs;) {
      try {
        const answer = await this.#open(
          'GET',
          path,
          undefined,
          {},
          { accept: 'text/event-stream', ...(last ? { 'last-event-id': last } : {}) },
          signal,
        );
        if (answer.statusCode !== 200) throw await failureOf(answer);
        for await (const event of parseEvents(answer.body)) {
          failures = 0;
          heardAt = performance.now();
          last = event.id || last;
          yield event;
          if (event.event === 'end') return;
        }
        failures += 1;
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof CliFailure && error.exitCode !== ExitCode.unreachable) throw error;
        failures += 1;
      }
      await pause(Math.min(this.againMs * failures, 5_000), signal).catch(() => undefined);
      if (signal.aborted) return;
    }
    throw new CliFailure(ExitCode.unreachable, 'SERVER_UNREACHABLE', `${this.settings.server} does not answer any more`);
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }

  async #send<T>(method: Dispatcher.HttpMethod, path: string, body: unknown, query: Query): Promise<T> {
    const answer = await this.#open(method, path, body, query, { accept: 'application/json' });
    if (answer.statusCode >= 400) throw await failureOf(answer);
    const text = await answer.body.text();
    return (text === '' ? undefined : JSON.parse(text)) as T;
  }

  async #open(
    method: Dispatcher.HttpMethod,
    path: string,
    body: unknown,
    query: Query,
    headers: Record<string, string>,
    signal?: AbortSignal,
  ): Promise<Dispatcher.ResponseData> {
    const url = new URL(`/api/v1${path}`, this.settings.server);
    for (const [key, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(key, String(value));
    try {
      const answer = await request(url, {
        method,
        dispatcher: this.#agent,
        headers: {
          ...headers,
          ...(this.settings.token === undefined ? {} : { authorization: `Bearer ${this.settings.token}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        ...(signal ? { signal, bodyTimeout: 60_000 } : {}),
      });
      const told = answer.headers['tidemark-trust'];
      if (typeof told === 'string' && told !== '') this.#trustIsOld = !sameAuthorities(told.split(','), this.#pinned);
      return answer;
    } catch (cause) {
      throw unreachable(this.settings.server, cause);
    }
  }
}

function unreachable(server: string, cause: unknown): CliFailure {
  const code = (cause as NodeJS.ErrnoException).code ?? '';
  const why =
    code === 'ERR_TLS_CERT_ALTNAME_INVALID' || /CERT|SIGNATURE|ISSUER/.test(code)
      ? 'its certificate is not signed by the CA you logged in with'
      : (cause as Error).message;
  return new CliFailure(ExitCode.unreachable, 'SERVER_UNREACHABLE', `cannot reach ${server}: ${why}`);
}

async function failureOf(answer: Dispatcher.ResponseData): Promise<CliFailure> {
  const text = await answer.body.text();
  let problem: { code?: string; message?: string } = {};
  try {
    problem = JSON.parse(text) as typeof problem;
  } catch {
    // Not ours (a proxy in between): the status has to do.
  }
  return new CliFailure(
    exitCodeOfStatus(answer.statusCode),
    problem.code ?? `HTTP_${answer.statusCode}`,
    problem.message ?? `the server answered ${answer.statusCode}`,
    problem,
  );
}

/** Reads `text/event-stream`; comment lines keep the connection alive and are dropped. */
async function* parseEvents(body: AsyncIterable<Uint8Array>): AsyncGenerator<ServerEvent> {
  const decoder = new TextDecoder();
  let buffered = '';
  for await (const chunk of body) {
    buffered += decoder.decode(chunk, { stream: true });
    for (let end = buffered.indexOf('\n\n'); end >= 0; end = buffered.indexOf('\n\n')) {
      const fields: Record<string, string> = {};
      for (const line of buffered.slice(0, end).split('\n')) {
        const colon = line.indexOf(':');
        if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 1).trimStart();
      }
      buffered = buffered.slice(end + 2);
      if (fields['data'] !== undefined) {
        yield { id: fields['id'] ?? '', event: fields['event'] ?? 'message', data: JSON.parse(fields['data']) as unknown };
      }
    }
  }
}
