/**
 * One login at one engine: token, TLS, headers, one re-login and replay on 401, log-out. Knows HTTP and nothing of VMs. Secrets stay in
 * {@link Secret}; no error carries a request body, a header or a token.
 * Source: engine REST API §1.1 to §1.5.
 */
import { createHash } from 'node:crypto';
import { Agent, request as send } from 'undici';
import type { Dispatcher } from 'undici';
import { CommonErrors } from '../../common/errors/common-errors';
import { isTidemarkError } from '../../common/errors/tidemark-error';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import { currentCorrelation, newCorrelationId } from '../../common/log/correlation';
import { within } from '../../common/lifecycle/lifecycle';
import type { Logger } from '../../common/log/logger';
import { Secret } from '../../common/log/redact';
import { EngineErrors } from './engine-errors';
import { errorOfAnswer, parseJson } from './engine-fault';
import type { EngineAnswer } from './engine-fault';
import { codeOf, fingerprintOfPem, inspectEngine, normalFingerprint, webTlsOptions } from './engine-trust';
import type { EngineTrust } from './engine-trust';
import { isWire, textOf } from './mapping';
import type { Wire } from './mapping';

export interface EngineConnection extends EngineTrust {
  /** Canonical, ends in /ovirt-engine. */
  readonly url: string;
  readonly username: string;
  readonly password: Secret;
}

/** What a caller may set for one request. */
export interface RequestOptions {
  readonly signal?: AbortSignal | undefined;
  /** Default 60 s. */
  readonly timeoutMs?: number | undefined;
  /** Joins the engine's jobs and events; default: made from the current operation. */
  readonly correlationId?: string | undefined;
}

export interface EngineRequest extends RequestOptions {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** Below /ovirt-engine/api, e.g. /vms/123. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>> | undefined;
  readonly body?: object | undefined;
  /** Asks for costly fields: OVF of VMs and snapshots, VMs of disks. */
  readonly allContent?: boolean | undefined;
}

const defaultTimeoutMs = 60_000;
/** A page of 1000 VMs with disks is about 6 MiB. */
const longestAnswerBytes = 128 * 1024 * 1024;
/** Time for requests under way when the session ends. */
const closeMs = 3_000;
/**
 * A refused login is not repeated by itself for a minute, then five, up to an hour: each try counts towards locking the account, which
 * the engine's own directory does after five.
 */
const refusalHoldMs = 60_000;
const longestHoldMs = 3_600_000;

/** Characters and length that the engine keeps (36); the same operation always gives the same id. */
export function engineCorrelationId(...parts: readonly string[]): string {
  const clean = parts.join('-').replace(/[^0-9A-Za-z_-]/g, '');
  const room = 36 - 'tidemark-'.length;
  if (clean.length <= room) return `tidemark-${clean}`;
  return `tidemark-${clean.slice(0, room - 9)}-${createHash('sha256').update(clean).digest('hex').slice(0, 8)}`;
}

export class EngineSession {
  readonly #dispatcher: Dispatcher;
  readonly #host: string;
  #token: Secret | undefined;
  #login: Promise<Secret> | undefined;
  #refused: { error: TidemarkError; until: number; times: number } | undefined;
  #closed = false;
  #lastContactAt: Date | undefined;

  /** `dispatcher` is given by tests; else one with the engine's pinned certificates is made. */
  constructor(
    readonly connection: EngineConnection,
    private readonly logger: Logger,
    dispatcher?: Dispatcher,
  ) {
    this.#host = new URL(connection.url).host;
    this.#dispatcher =
      dispatcher ??
      new Agent({
        connect: { ...webTlsOptions(connection), timeout: 15_000 },
        connections: 16,
        keepAliveTimeout: 10_000,
        pipelining: 1,
      });
  }

  /** Host and port, for messages. */
  get host(): string {
    return this.#host;
  }

  /** When the engine last answered anything at all. */
  get lastContactAt(): Date | undefined {
    return this.#lastContactAt;
  }

  /** Sends one request, logging in first when needed. Returns the JSON object (`{}` for an empty body). */
  async request(request: EngineRequest): Promise<Wire> {
    const token = await this.#currentToken(request.signal);
    let answer = await this.#api(request, token);
    if (answer.status === 401) {
      // The idle session ended (30 min), or the engine restarted. 401 is given before anything is done, so a replay is safe.
      if (this.#token === token) this.#token = undefined;
      answer = await this.#api(request, await this.#currentToken(request.signal));
    }
    if (answer.status === 401) {
      this.#token = undefined;
      throw this.#loginRefused('the engine does not accept the token that it gave');
    }
    const operation = `${request.method} ${request.path}`;
    if (answer.status >= 400) throw errorOfAnswer(this.#host, operation, answer);
    if (answer.text.trim() === '') return {};
    const body = parseJson(answer);
    if (!body) throw EngineErrors.ENGINE_ANSWER_INVALID({ engine: this.#host, operation, problem: `HTTP ${answer.status} without JSON` });
    return body;
  }

  /** Logs in now, also shortly after a refusal: somebody asks. Throws ENGINE_LOGIN_REFUSED, ENGINE_UNAVAILABLE, ENGINE_CERTIFICATE_CHANGED. */
  async login(signal?: AbortSignal): Promise<void> {
    await this.#currentToken(signal, true);
  }

  /** Ends the session in the engine, where sessions are counted and shown, then closes the connections. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const token = this.#token;
    this.#token = undefined;
    if (token) {
      try {
        await this.#exchange(
          {
            method: 'POST',
            path: '/services/sso-logout',
            headers: { accept: 'application/json', 'content-type': 'application/x-www-form-urlencoded' },
            body: new URLSearchParams({ scope: 'ovirt-app-api', token: token.reveal() }).toString(),
          },
          { timeoutMs: 5_000 },
        );
      } catch (error) {
        // The session idles out by itself after 30 minutes.
        this.logger.debug('log-out failed', { engine: this.#host, error });
      }
    }
    try {
      await within(this.#dispatcher.close(), closeMs, 'closing connections to the engine');
    } catch (error) {
      this.logger.debug('requests to the engine are cut off', { engine: this.#host, error });
      await this.#dispatcher.destroy();
    }
  }

  async #currentToken(signal: AbortSignal | undefined, asked = false): Promise<Secret> {
    if (this.#closed) throw EngineErrors.ENGINE_UNAVAILABLE({ engine: this.#host, problem: 'it was disconnected' });
    if (this.#token) return this.#token;
    if (!asked && this.#refused && performance.now() < this.#refused.until) throw this.#refused.error;
    this.#login ??= this.#newToken().finally(() => {
      this.#login = undefined;
    });
    return await unlessAborted(this.#login, signal);
  }

  async #newToken(): Promise<Secret> {
    const { username, password } = this.connection;
    const answer = await this.#exchange(
      {
        method: 'POST',
        path: '/sso/oauth/token',
        // Exactly this Accept: anything else is answered by 400 invalid_request.
        headers: { accept: 'application/json', 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams({ grant_type: 'password', scope: 'ovirt-app-api', username, password: password.reveal() }).toString(),
      },
      {},
    );
    const body = ssoBody(answer);
    const token = body && textOf(body, 'access_token');
    if (answer.status === 200 && token !== undefined && token !== '') {
      this.#token = new Secret(token);
      this.#refused = undefined;
      this.logger.debug('logged in', { engine: this.#host, username });
      return this.#token;
    }
    const code = (body && (textOf(body, 'error_code') ?? textOf(body, 'error'))) ?? '';
    const text = (body && (textOf(body, 'error_description') ?? textOf(body, 'error'))) ?? '';
    if (answer.status === 401 || ((answer.status === 400 || answer.status === 403) && body && code !== 'server_error')) {
      const error = this.#loginRefused(
        [code, text === code ? '' : text].filter((part) => part !== '').join(': ') || `HTTP ${answer.status}`,
      );
      const times = (this.#refused?.times ?? 0) + 1;
      this.#refused = { error, times, until: performance.now() + Math.min(refusalHoldMs * 5 ** (times - 1), longestHoldMs) };
      throw error;
    }
    throw EngineErrors.ENGINE_UNAVAILABLE({
      engine: this.#host,
      problem: `the login service answers HTTP ${answer.status} ${code}`.trim(),
    });
  }

  #loginRefused(reason: string): TidemarkError {
    return EngineErrors.ENGINE_LOGIN_REFUSED({ engine: this.#host, username: this.connection.username, reason: reason.slice(0, 300) });
  }

  #api(request: EngineRequest, token: Secret): Promise<EngineAnswer> {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(request.query ?? {})) if (value !== undefined) query.set(name, String(value));
    const search = query.size === 0 ? '' : `?${query.toString()}`;
    const correlation = currentCorrelation();
    const headers: Record<string, string> = {
      accept: 'application/json',
      'accept-language': 'en-US',
      version: '4',
      authorization: `Bearer ${token.reveal()}`,
      'correlation-id':
        request.correlationId ?? engineCorrelationId(correlation?.operationId ?? correlation?.correlationId ?? newCorrelationId()),
    };
    if (request.allContent === true) headers['all-content'] = 'true';
    if (request.method === 'POST' || request.method === 'PUT') headers['content-type'] = 'application/json';
    return this.#exchange(
      {
        method: request.method,
        path: `/api${request.path}${search}`,
        headers,
        ...(headers['content-type'] === undefined ? {} : { body: JSON.stringify(request.body ?? {}) }),
      },
      request,
    );
  }

  /** One HTTP exchange below /ovirt-engine. Throws typed errors for what is not an answer. */
  async #exchange(
    message: { method: 'GET' | 'POST' | 'PUT' | 'DELETE'; path: string; headers: Record<string, string>; body?: string },
    options: RequestOptions,
  ): Promise<EngineAnswer> {
    const timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
    const timeout = AbortSignal.timeout(timeoutMs);
    const signal = options.signal ? AbortSignal.any([options.signal, timeout]) : timeout;
    try {
      const answer = await send(`${this.connection.url}${message.path}`, {
        dispatcher: this.#dispatcher,
        method: message.method,
        headers: message.headers,
        body: message.body ?? null,
        signal,
        headersTimeout: timeoutMs,
        bodyTimeout: timeoutMs,
      });
      const text = await readText(answer.body);
      this.#lastContactAt = new Date();
      return { status: answer.statusCode, contentType: String(answer.headers['content-type'] ?? ''), text };
    } catch (error) {
      if (isTidemarkError(error)) throw error;
      if (options.signal?.aborted === true)
        throw CommonErrors.CANCELLED({ what: `${message.method} ${apiPath(message.path)}` }, { cause: error });
      throw await this.#transportError(error, timeoutMs);
    }
  }

  async #transportError(error: unknown, timeoutMs: number): Promise<TidemarkError> {
    const code = codeOf(error);
    if (isCertificateProblem(code)) return this.#certificateError(code, error);
    const late = /TIMEOUT|no answer in time/.test(code);
    return EngineErrors.ENGINE_UNAVAILABLE(
      { engine: this.#host, problem: late ? `no answer within ${Math.round(timeoutMs / 1000)} s` : code },
      { cause: error },
    );
  }

  /** The certificate does not fit: either the engine's CA is another now, or it is the same and the certificate itself is bad. */
  async #certificateError(code: string, cause: unknown): Promise<TidemarkError> {
    const expected = fingerprintOfPem(this.connection.webCaPem);
    try {
      const found = (await inspectEngine(this.connection.url)).fingerprint;
      if (normalFingerprint(found) !== normalFingerprint(expected)) {
        return EngineErrors.ENGINE_CERTIFICATE_CHANGED({ engine: this.#host, expected, found }, { cause });
      }
    } catch (error) {
      return isTidemarkError(error) ? error : EngineErrors.ENGINE_UNAVAILABLE({ engine: this.#host, problem: code }, { cause: error });
    }
    return EngineErrors.ENGINE_CERTIFICATE_INVALID({ engine: this.#host, problem: code }, { cause });
  }
}

/** The login is everybody's, and goes on: who is cancelled does not wait for it. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  return new Promise((resolve, reject) => {
    const abort = () => reject(CommonErrors.CANCELLED({ what: 'a request to the engine' }));
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    void work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}

/** Some old engines wrap the SSO answer in an array. */
function ssoBody(answer: EngineAnswer): Wire | undefined {
  const direct = parseJson(answer);
  if (direct) return direct;
  try {
    const parsed: unknown = JSON.parse(answer.text);
    const first: unknown = Array.isArray(parsed) ? parsed[0] : undefined;
    return isWire(first) ? first : undefined;
  } catch {
    // Not JSON: judged by status.
    return undefined;
  }
}

function isCertificateProblem(code: string): boolean {
  return /^(CERT_|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|ERR_TLS_CERT|ERR_SSL_.*CERT|INVALID_CA|HOSTNAME_MISMATCH)/.test(code);
}

/** Without the query, which may hold searched names. */
function apiPath(path: string): string {
  return path.replace(/\?.*$/, '');
}

async function readText(body: AsyncIterable<Buffer>): Promise<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of body) {
    bytes += part.length;
    if (bytes > longestAnswerBytes) throw CommonErrors.INTERNAL({ what: 'reading an answer of the engine (it is too long)' });
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}
