/**
 * How a stranger becomes a peer: it fetches the server's CA, compares the fingerprint with the one in its token before it sends anything,
 * makes a key that never leaves it, and trades token and signing request for a certificate.
 */
import { X509Certificate } from 'node:crypto';
import tls from 'node:tls';
import type { ChannelCredentials } from '@grpc/grpc-js';
import { CommonErrors } from '../errors/common-errors';
import type { Role } from '../rpc/peer';
import type { ProcessInfo } from '../../proto/gen/tidemark/common/v1/ProcessInfo';
import type { EnrolmentApplication } from '../../proto/gen/tidemark/common/v1/EnrolmentApplication';
import type { IssuedCertificate__Output } from '../../proto/gen/tidemark/common/v1/IssuedCertificate';
import { createCertificateRequest } from './certificate-request';
import { trustedClientCredentials } from './credentials';
import { ProcessIdentity } from './identity';
import { vouchedFor } from './pinned-authority';
import { fingerprintOf, parseToken } from './token';

export interface EnrolmentOptions {
  /** host:port of the enrolment port (server-authenticated TLS). */
  readonly endpoint: string;
  readonly token: string;
  /** Role of whoever serves the port: host, or plugin for workers. */
  readonly server: Role;
  readonly process: ProcessInfo;
  /** Names and addresses under which this process will be dialled. */
  readonly addresses: readonly string[];
  /** Folder that keeps the identity. */
  readonly identityFolder: string;
  /** Makes the Enrol call of the right service; deadline and retries are its own. */
  apply(credentials: ChannelCredentials, application: EnrolmentApplication): Promise<IssuedCertificate__Output | null>;
}

/**
 * Enrols and stores the identity. Throws ENROLMENT_TOKEN_INVALID, TRUST_FINGERPRINT_MISMATCH, PEER_UNAVAILABLE.
 * Repeatable with the same token as long as the first answer was lost: then a new key is made and the server refuses, so the
 * administrator has to make a new token.
 */
export async function enrol(options: EnrolmentOptions): Promise<ProcessIdentity> {
  const token = parseToken(options.token);
  const presented = await fetchAuthorities(options.endpoint);
  const trusted = vouchedFor(token.caFingerprint, presented);
  if (trusted.length === 0) {
    const found = presented.map(fingerprintOf).at(-1) ?? 'none';
    throw CommonErrors.TRUST_FINGERPRINT_MISMATCH({ endpoint: options.endpoint, expected: token.caFingerprint, found });
  }
  const { privateKeyPem, certificateRequestPem } = await createCertificateRequest();
  const issued = await options.apply(trustedClientCredentials(trusted.join(''), options.server), {
    token: options.token.trim(),
    certificateRequestPem,
    process: options.process,
    addresses: [...options.addresses],
  });
  if (!issued) throw CommonErrors.INTERNAL({ what: 'enrolment' });
  return ProcessIdentity.store(options.identityFolder, {
    certificateChainPem: issued.certificateChainPem,
    privateKeyPem,
    trustBundlePem: issued.trustBundlePem,
  });
}

/** The certificates that an endpoint presents above its own, PEM, unverified: fingerprints must be compared before use. */
export function fetchAuthorities(endpoint: string, timeoutMs = 10_000): Promise<string[]> {
  const { host, port } = splitEndpoint(endpoint);
  return new Promise((resolve, reject) => {
    const fail = (cause: unknown) => {
      socket.destroy();
      reject(CommonErrors.PEER_UNAVAILABLE({ peer: endpoint }, { cause }));
    };
    const socket = tls.connect(
      { host, port, rejectUnauthorized: false, ALPNProtocols: ['h2'], servername: /^[\d.:]+$/.test(host) ? '' : host },
      () => {
        const chain: tls.DetailedPeerCertificate[] = [];
        for (let at = socket.getPeerCertificate(true); at && !chain.some((one) => one.fingerprint256 === at.fingerprint256);) {
          chain.push(at);
          at = at.issuerCertificate;
        }
        socket.end();
        resolve(chain.slice(1).map((one) => new X509Certificate(one.raw).toString()));
      },
    );
    socket.setTimeout(timeoutMs, () => fail(new Error('timeout')));
    socket.once('error', fail);
  });
}

/** Splits `host:port`, IPv6 in brackets. Throws ARGUMENT_INVALID. */
export function splitEndpoint(endpoint: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:\s]+)):(\d{1,5})$/.exec(endpoint);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || !(port > 0 && port < 65536)) {
    throw CommonErrors.ARGUMENT_INVALID({ field: 'endpoint', problem: `"${endpoint}" is not host:port` });
  }
  return { host, port };
}
