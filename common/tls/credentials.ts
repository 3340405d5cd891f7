import tls from 'node:tls';
import { credentials, experimental } from '@grpc/grpc-js';
import type { ChannelCredentials, ServerCredentials } from '@grpc/grpc-js';
import { peerIdentity } from '../rpc/peer';
import type { Role } from '../rpc/peer';
import { connectionDrainMs } from '../rpc/renewable-channel';
import type { RenewableCredentials } from '../rpc/renewable-channel';
import type { ProcessIdentity } from './identity';
import { chainForStrangers } from './pinned-authority';

/**
 * Server side of mutual TLS: only peers with a certificate of our CA get in; follows renewals. For the doubles of tests, whose ports nobody attacks: processes
 * open theirs with `RpcPort`.
 */
export function mutualServerCredentials(identity: ProcessIdentity): ServerCredentials {
  return experimental.createCertificateProviderServerCredentials(identity, identity, true);
}

/** Server-authenticated TLS for the enrolment port of doubles, see above; sends every CA along that a stranger's token may have pinned. */
export function enrolmentServerCredentials(identity: ProcessIdentity): ServerCredentials {
  return experimental.createCertificateProviderServerCredentials(strangersView(identity), null, false);
}

type CertificateProvider = Parameters<typeof experimental.createCertificateProviderServerCredentials>[0];
type IdentityListener = Parameters<CertificateProvider['addIdentityCertificateListener']>[0];

/** The identity with {@link chainForStrangers} as its chain. */
function strangersView(identity: ProcessIdentity): CertificateProvider {
  const wrapped = new Map<IdentityListener, IdentityListener>();
  return {
    addCaCertificateListener: (listener) => identity.addCaCertificateListener(listener),
    removeCaCertificateListener: (listener) => identity.removeCaCertificateListener(listener),
    addIdentityCertificateListener: (listener) => {
      const own: IdentityListener = (update) =>
        listener(update && { ...update, certificate: Buffer.from(chainForStrangers(identity.material)) });
      wrapped.set(listener, own);
      identity.addIdentityCertificateListener(own);
    },
    removeIdentityCertificateListener: (listener) => {
      const own = wrapped.get(listener);
      if (own) identity.removeIdentityCertificateListener(own);
      wrapped.delete(listener);
    },
  };
}

/** Client side of mutual TLS. The server must carry the expected role and a name that matches the endpoint; follows renewals. */
export function mutualClientCredentials(identity: ProcessIdentity, expected: Role, drainMs = connectionDrainMs): RenewableCredentials {
  const verify = { checkServerIdentity: roleCheck(expected) };
  return {
    channel: experimental.createCertificateProviderChannelCredentials(identity, identity, verify),
    get generation() {
      return identity.generation;
    },
    drainMs,
    onReplaced: (listener) => identity.onReplaced(listener),
  };
}

/** Client side for enrolment: trusts just the CAs that the token vouches for. */
export function trustedClientCredentials(caPem: string, expected: Role): ChannelCredentials {
  return credentials.createSsl(Buffer.from(caPem), null, null, { checkServerIdentity: roleCheck(expected) });
}

/** Host name check, then role check; also for plain TLS sockets (the data port). */
export function roleCheck(expected: Role): (host: string, certificate: tls.PeerCertificate) => Error | undefined {
  return (host, certificate) => {
    const mismatch = tls.checkServerIdentity(host, certificate);
    if (mismatch) return mismatch;
    const role = peerIdentity(certificate)?.role;
    return role === expected
      ? undefined
      : Object.assign(new Error(`the server has role ${role ?? 'none'}, not ${expected}`), { code: 'ROLE_MISMATCH' });
  };
}
