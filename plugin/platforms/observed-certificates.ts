/**
 * Certificates that the installation depends on and does not issue: the engine's CA, its web server, its image proxy, and the image daemon of
 * every host. Looked at once a day and when asked to; kept in memory. Looking trusts nothing and sends nothing secret.
 */
import { X509Certificate } from 'node:crypto';
import net from 'node:net';
import tls from 'node:tls';
import { CommonErrors, toTidemarkError } from '../../common/errors/common-errors';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { Service } from '../../common/lifecycle/lifecycle';
import type { Logger } from '../../common/log/logger';
import { codeOf } from '../engine/engine-trust';
import type { Engine } from '../engine/engine';
import type { Platforms } from './platforms';

export type ObservedKind = 'engine-ca' | 'engine-web' | 'engine-proxy' | 'host';

export interface ObservedCertificate {
  readonly platformId: string;
  readonly kind: ObservedKind;
  readonly name: string;
  /** Empty for the CA. */
  readonly endpoint: string;
  /** Undefined when it was never seen. */
  readonly certificate: X509Certificate | undefined;
  readonly observedAt: Date | undefined;
  /** Why it could not be looked at the last time. */
  readonly failure: TidemarkError | undefined;
}

export interface ImagePorts {
  readonly imageioPort: number;
  readonly imageioProxyPort: number;
}

const dayMs = 86_400_000;
const lookMs = 5_000;
const engineMs = 20_000;
/** Looked at at the same time: a thousand hosts that all keep silent take less than the call's deadline. */
const parallel = 128;

type Look = (endpoint: { readonly host: string; readonly port: number }) => Promise<X509Certificate>;
type Watched = Pick<Platforms, 'list' | 'of' | 'onChanged'>;

export class ObservedCertificates implements Service {
  readonly name = 'observed-certificates';
  readonly #seen = new Map<string, ObservedCertificate>();
  #lookedAt = 0;
  #looking: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #forget: () => void = () => undefined;

  constructor(
    private readonly platforms: Watched,
    private readonly ports: ImagePorts,
    private readonly logger: Logger,
    private readonly now: () => Date = () => new Date(),
    private readonly look: Look = lookAt,
  ) {}

  start(): Promise<void> {
    this.#timer = setInterval(() => void this.#lookNow(), dayMs);
    // Whatever is new is looked at when somebody asks.
    this.#forget = this.platforms.onChanged(() => (this.#lookedAt = 0));
    return Promise.resolve();
  }

  stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#forget();
    return Promise.resolve();
  }

  /** What was seen within the last day, or, when `refresh` is set or there is nothing yet, what is there now. */
  async list(refresh: boolean): Promise<readonly ObservedCertificate[]> {
    if (refresh || this.now().getTime() - this.#lookedAt >= dayMs) await this.#lookNow();
    return [...this.#seen.values()];
  }

  #lookNow(): Promise<void> {
    this.#looking ??= this.#lookAtAll().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async #lookAtAll(): Promise<void> {
    const known = new Map(this.#seen);
    const found = (await Promise.all(this.platforms.list().map(({ platformId }) => this.#ofPlatform(platformId, known)))).flat();
    this.#seen.clear();
    for (const one of found) this.#seen.set(keyOf(one), one);
    this.#lookedAt = this.now().getTime();
  }

  async #ofPlatform(platformId: string, known: ReadonlyMap<string, ObservedCertificate>): Promise<ObservedCertificate[]> {
    const engine = this.platforms.of(platformId);
    const { hostname, port } = new URL(engine.url);
    const name = hostname.replace(/^\[|\]$/g, '');
    const ca = { platformId, kind: 'engine-ca' as const, name, endpoint: '', certificate: new X509Certificate(engine.imageioCaPem) };
    const wanted: { kind: ObservedKind; name: string; host: string; port: number }[] = [
      { kind: 'engine-web', name, host: name, port: Number(port || 443) },
      { kind: 'engine-proxy', name, host: name, port: this.ports.imageioProxyPort },
    ];
    const hosts = await this.#hosts(engine);
    for (const host of hosts ?? []) wanted.push({ kind: 'host', name: host.name, host: host.address, port: this.ports.imageioPort });
    const found: ObservedCertificate[] = [{ ...ca, observedAt: this.now(), failure: undefined }];
    // An engine that does not answer tells no hosts: those that were known stay, as they were.
    if (!hosts) found.push(...[...known.values()].filter((one) => one.platformId === platformId && one.kind === 'host'));
    for (let at = 0; at < wanted.length; at += parallel) {
      found.push(...(await Promise.all(wanted.slice(at, at + parallel).map((one) => this.#one(platformId, one, known)))));
    }
    return found;
  }

  async #hosts(engine: Engine) {
    try {
      return await engine.hosts.list({ signal: AbortSignal.timeout(engineMs) });
    } catch (thrown) {
      this.logger.debug('the hosts of an engine are not known', { code: toTidemarkError(thrown, 'listing hosts').code });
      return undefined;
    }
  }

  async #one(
    platformId: string,
    wanted: { kind: ObservedKind; name: string; host: string; port: number },
    known: ReadonlyMap<string, ObservedCertificate>,
  ): Promise<ObservedCertificate> {
    const { kind, name, host, port } = wanted;
    const endpoint = `${net.isIPv6(host) ? `[${host}]` : host}:${port}`;
    const base = { platformId, kind, name, endpoint };
    try {
      return { ...base, certificate: await this.look({ host, port }), observedAt: this.now(), failure: undefined };
    } catch (thrown) {
      const last = known.get(keyOf(base));
      const failure = CommonErrors.PEER_UNAVAILABLE({ peer: `${endpoint} (${codeOf(thrown)})` }, { cause: thrown });
      return { ...base, certificate: last?.certificate, observedAt: last?.observedAt, failure };
    }
  }
}

function keyOf({ platformId, kind, name, endpoint }: Pick<ObservedCertificate, 'platformId' | 'kind' | 'name' | 'endpoint'>): string {
  return [platformId, kind, name, endpoint].join(' ');
}

/** The certificate that an endpoint shows. */
function lookAt({ host, port }: { readonly host: string; readonly port: number }): Promise<X509Certificate> {
  return new Promise((resolve, reject) => {
    const fail = (cause: unknown) => {
      socket.destroy();
      reject(cause instanceof Error ? cause : new TypeError('no answer'));
    };
    const servername = net.isIP(host) ? '' : host;
    const socket = tls.connect({ host, port, servername, rejectUnauthorized: false }, () => {
      const { raw } = socket.getPeerCertificate();
      socket.end();
      resolve(new X509Certificate(raw));
    });
    socket.setTimeout(lookMs, () => fail(Object.assign(new TypeError('no answer'), { code: 'no answer in time' })));
    socket.once('error', fail);
  });
}
