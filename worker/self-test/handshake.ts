import net from 'node:net';
import tls from 'node:tls';
import type { X509Certificate } from 'node:crypto';
import type { CellCode } from './cell';
import { reasonOf } from './dial';
import { TimeLimit } from './time-limit';

const dayMs = 86_400_000;

export interface HandshakeOptions {
  /** Name or address that the certificate must carry. */
  readonly serverName: string;
  /** PEM of the CAs that may have signed it; empty: whoever did. */
  readonly caPem: string;
  readonly timeoutMs: number;
  /** Own certificate, protocol: what the peer wants to see. */
  readonly more?: tls.ConnectionOptions;
}

/** TLS stands, whatever may be said about the peer's certificate. */
export interface Secured {
  readonly kind: 'secured';
  readonly socket: tls.TLSSocket;
  readonly certificate: X509Certificate | undefined;
  /** OpenSSL's or Node's code for what is wrong with the certificate; empty when nothing is, or no CA was given. */
  readonly problem: string;
}

export interface NotSecured {
  readonly kind: 'not secured';
  readonly code: CellCode;
  readonly reason: string;
}

/** Speaks TLS over an open connection. Never rejects; the socket is closed unless it is secured. */
export function secure(socket: net.Socket, options: HandshakeOptions, signal: AbortSignal): Promise<Secured | NotSecured> {
  const { serverName, caPem, timeoutMs } = options;
  return new Promise((resolve) => {
    const secured = tls.connect({
      socket,
      host: serverName,
      servername: net.isIP(serverName) ? '' : serverName,
      ...(caPem === '' ? {} : { ca: [caPem] }),
      // Judged by us, so that the certificate can be looked at although something is wrong with it.
      rejectUnauthorized: false,
      minVersion: 'TLSv1.2',
      ...options.more,
    });
    const end = () => {
      limit.clear();
      signal.removeEventListener('abort', abort);
      secured.removeAllListeners('secureConnect').removeAllListeners('close').removeAllListeners('error');
      secured.on('error', () => undefined);
    };
    const fail = (code: CellCode, reason: string) => {
      end();
      secured.destroy();
      socket.destroy();
      resolve({ kind: 'not secured', code, reason });
    };
    const limit = new TimeLimit(timeoutMs, () => fail('TLS_TIMED_OUT', `no TLS within ${timeoutMs / 1000} s`));
    const abort = () => fail('NOT_TESTED', 'the test ended');
    signal.addEventListener('abort', abort, { once: true });
    secured.once('error', (error: NodeJS.ErrnoException) => fail(codeOf(error), reasonOf(error)));
    secured.once('close', () => fail('CONNECTION_CLOSED', 'it closed the connection'));
    secured.once('secureConnect', () => {
      end();
      const problem =
        caPem === '' || secured.authorized ? '' : reasonOf(secured.authorizationError ?? '') || String(secured.authorizationError);
      resolve({ kind: 'secured', socket: secured, certificate: secured.getPeerX509Certificate(), problem });
    });
    if (signal.aborted) abort();
  });
}

function codeOf(error: NodeJS.ErrnoException): CellCode {
  const code = error.code ?? '';
  if (['ECONNRESET', 'EPIPE', 'ERR_STREAM_PREMATURE_CLOSE'].includes(code)) return 'CONNECTION_CLOSED';
  return isOwnRefused(code) ? 'OWN_CERTIFICATE_REFUSED' : 'TLS_FAILED';
}

/** True for the alerts by which a peer refuses our certificate. */
export function isOwnRefused(code: string): boolean {
  return /ALERT_(BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_|UNKNOWN_CA|ACCESS_DENIED)|CERTIFICATE_REQUIRED/.test(code);
}

/** What is to be said about a peer's certificate. */
export interface CertificateJudgement {
  readonly code: CellCode | '';
  /** By the right time; undefined without a certificate. */
  readonly daysLeft: number | undefined;
  /** True when it would do if this machine's clock were right. */
  readonly onlyClock: boolean;
  readonly reason: string;
}

/** Certificates that end sooner are warned of. */
const soonDays = 30;

/** `skewMs` is how far this machine's clock is ahead of the plug-in's: the peer must not be blamed for it. */
export function judgeCertificate({ certificate, problem }: Secured, skewMs: number, ownNow: number): CertificateJudgement {
  if (!certificate) return { code: problem === '' ? '' : 'CERTIFICATE_REFUSED', daysLeft: undefined, onlyClock: false, reason: problem };
  const now = ownNow - skewMs;
  const from = Date.parse(certificate.validFrom);
  const to = Date.parse(certificate.validTo);
  const daysLeft = Math.floor((to - now) / dayMs);
  const onlyClock = now >= from && now <= to;
  if (problem === 'CERT_NOT_YET_VALID') return { code: 'CERTIFICATE_NOT_YET_VALID', daysLeft, onlyClock, reason: certificate.validFrom };
  if (problem === 'CERT_HAS_EXPIRED') return { code: 'CERTIFICATE_EXPIRED', daysLeft, onlyClock, reason: certificate.validTo };
  if (problem === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return { code: 'CERTIFICATE_NAME_DIFFERS', daysLeft, onlyClock: false, reason: certificate.subjectAltName ?? certificate.subject };
  }
  if (problem !== '') return { code: 'CERTIFICATE_REFUSED', daysLeft, onlyClock: false, reason: problem };
  return { code: daysLeft < soonDays ? 'CERTIFICATE_ENDS_SOON' : '', daysLeft, onlyClock: false, reason: '' };
}
