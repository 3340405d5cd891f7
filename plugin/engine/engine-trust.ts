/**
 * Which certificates we accept from an engine. Its internal CA always signs hosts and imageio; the web server on 443 is signed by it too,
 * unless the administrator put another certificate there. One fingerprint is confirmed by the administrator and pinned: that of the
 * internal CA when it signs the web server, else that of the topmost certificate that the web server presents.
 * Source: engine REST API §1.2 (pki-resource), product defaults §10.
 */
import { X509Certificate } from 'node:crypto';
import tls from 'node:tls';
import { Agent, request } from 'undici';
import { EngineErrors } from './engine-errors';

export interface EngineTrust {
  /** PEM; signs hosts and imageio (54322, 54323). */
  readonly internalCaPem: string;
  /** PEM; what port 443 must chain to. Often the same. */
  readonly webCaPem: string;
}

export interface EngineInspection extends EngineTrust {
  /** Canonical, e.g. https://engine.example/ovirt-engine. */
  readonly url: string;
  /** SHA-256 of `webCaPem`, hex pairs with colons. */
  readonly fingerprint: string;
  readonly subject: string;
  readonly expiresAt: Date;
}

const timeoutMs = 15_000;
const longestPemBytes = 256 * 1024;

/** Canonical form of what a person types: scheme, host, port, `/ovirt-engine`. Throws PLATFORM_URL_INVALID. */
export function canonicalEngineUrl(text: string): string {
  const trimmed = text.trim();
  let url: URL;
  try {
    url = new URL(/^[a-z][a-z0-9+.-]*:\/\//i.test(trimmed) ? trimmed : `https://${trimmed}`);
  } catch (error) {
    throw EngineErrors.PLATFORM_URL_INVALID({ url: trimmed, problem: 'it cannot be read as a URL' }, { cause: error });
  }
  if (url.protocol !== 'https:') throw EngineErrors.PLATFORM_URL_INVALID({ url: trimmed, problem: 'only https is possible' });
  if (url.username !== '' || url.password !== '') {
    throw EngineErrors.PLATFORM_URL_INVALID({ url: url.host, problem: 'user and password do not belong there' });
  }
  if (!/^\/?$|^\/ovirt-engine(\/|$)/.test(url.pathname)) {
    throw EngineErrors.PLATFORM_URL_INVALID({ url: trimmed, problem: `the path ${url.pathname} is not /ovirt-engine` });
  }
  return `https://${url.host}/ovirt-engine`;
}

/** Hex without separators, lower case: for comparing. */
export function normalFingerprint(text: string): string {
  return text.replace(/[^0-9a-f]/gi, '').toLowerCase();
}

/** Hex pairs with colons, of the first certificate of a PEM. */
export function fingerprintOfPem(pem: string): string {
  return new X509Certificate(pem).fingerprint256;
}

/**
 * Looks at an engine without trusting it: nothing secret is sent. Throws PLATFORM_URL_INVALID, ENGINE_UNAVAILABLE (no answer, or not an
 * engine), ENGINE_CERTIFICATE_INVALID.
 */
export async function inspectEngine(address: string): Promise<EngineInspection> {
  const url = canonicalEngineUrl(address);
  const engine = new URL(url).host;
  const [presented, internalCaPem] = await Promise.all([presentedChain(url), fetchInternalCa(url)]);
  const internal = certificateOf(internalCaPem, engine);
  const webCa = signs(internal, presented) ? internal : presented.at(-1);
  if (!webCa) throw EngineErrors.ENGINE_UNAVAILABLE({ engine, problem: 'it presents no certificate' });
  return {
    url,
    internalCaPem,
    webCaPem: webCa.toString(),
    fingerprint: webCa.fingerprint256,
    subject: webCa.subject.replaceAll('\n', ', '),
    expiresAt: new Date(webCa.validTo),
  };
}

/** TLS settings for port 443 of an engine with this trust. */
export function webTlsOptions(trust: Pick<EngineTrust, 'webCaPem'>) {
  // The pinned certificate may be an intermediate one, when the web server keeps its root to itself.
  return { ca: [trust.webCaPem], allowPartialTrustChain: true, rejectUnauthorized: true };
}

function signs(ca: X509Certificate, presented: readonly X509Certificate[]): boolean {
  return presented.some((certificate) => certificate.fingerprint256 === ca.fingerprint256 || certificate.verify(ca.publicKey));
}

function certificateOf(pem: string, engine: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (error) {
    throw EngineErrors.ENGINE_UNAVAILABLE({ engine, problem: 'it answers, but not as an oVirt engine' }, { cause: error });
  }
}

/** What the web server presents, leaf first. */
function presentedChain(url: string): Promise<X509Certificate[]> {
  const { host, hostname, port } = new URL(url);
  const name = hostname.replace(/^\[|\]$/g, '');
  return new Promise((resolve, reject) => {
    const socket = tls.connect(
      { host: name, port: Number(port || 443), rejectUnauthorized: false, servername: /^[\d.]+$|:/.test(name) ? '' : name },
      () => {
        const chain: X509Certificate[] = [];
        let at: tls.DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
        while (at?.raw && !chain.some((known) => known.fingerprint256 === at?.fingerprint256)) {
          chain.push(new X509Certificate(at.raw));
          at = at.issuerCertificate;
        }
        socket.end();
        resolve(chain);
      },
    );
    const fail = (cause: Error) => {
      socket.destroy();
      reject(EngineErrors.ENGINE_UNAVAILABLE({ engine: host, problem: codeOf(cause) }, { cause }));
    };
    socket.setTimeout(timeoutMs, () => fail(Object.assign(new TypeError('no answer'), { code: 'no answer in time' })));
    socket.once('error', fail);
  });
}

async function fetchInternalCa(url: string): Promise<string> {
  const engine = new URL(url).host;
  const dispatcher = new Agent({ connect: { rejectUnauthorized: false, timeout: timeoutMs } });
  try {
    const answer = await request(`${url}/services/pki-resource?resource=ca-certificate&format=X509-PEM-CA`, {
      dispatcher,
      signal: AbortSignal.timeout(timeoutMs),
    });
    let text = '';
    for await (const part of answer.body as AsyncIterable<Buffer>) {
      text += part.toString('latin1');
      if (text.length > longestPemBytes) break;
    }
    if (answer.statusCode !== 200 || !text.includes('BEGIN CERTIFICATE')) {
      throw EngineErrors.ENGINE_UNAVAILABLE({
        engine,
        problem: `it gives no CA certificate (HTTP ${answer.statusCode}); is it an oVirt engine?`,
      });
    }
    return text;
  } catch (error) {
    if (error instanceof Error && error.name === 'TidemarkError') throw error;
    throw EngineErrors.ENGINE_UNAVAILABLE({ engine, problem: codeOf(error) }, { cause: error });
  } finally {
    await dispatcher.destroy();
  }
}

/** The short name of a network failure, e.g. ECONNREFUSED. */
export function codeOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return codeOf(error.errors[0]);
  const { code, name } = (error ?? {}) as { code?: unknown; name?: unknown };
  if (typeof code === 'string') return code;
  return name === 'TimeoutError' ? 'no answer in time' : typeof name === 'string' ? name : 'unknown';
}
