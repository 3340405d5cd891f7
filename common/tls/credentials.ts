import tls from 'node:tls';
import { credentials, experimental } from '@grpc/grpc-js';
import type { ChannelCredentials, ServerCredentials } from '@grpc/grpc-js';
import { peerIdentity } from '../rpc/peer';
import type { Role } from '../rpc/peer';
import type { ProcessIdentity } from './identity';

/** Server side of mutual TLS: only peers with a certificate of our CA get in; follows renewals. */
export function mutualServerCredentials(identity: ProcessIdentity): ServerCredentials {
  return experimental.createCertificateProviderServerCredentials(identity, identity, true);
}

/** Server-authenticated TLS for the enrolment port; sends the CA along so that a stranger can compare its fingerprint. */
export function enrolmentServerCredentials(identity: ProcessIdentity): ServerCredentials {
  return experimental.createCertificateProviderServerCredentials(identity, null, false);
}

/** Client side of mutual TLS. The server must carry the expected role and a name that matches the endpoint; follows renewals. */
export function mutualClientCredentials(identity: ProcessIdentity, expected: Role): ChannelCredentials {
  return experimental.createCertificateProviderChannelCredentials(identity, identity, { checkServerIdentity: roleCheck(expected) });
}

/** Client side for enrolment: trusts just the CA whose fingerprint was compared. */
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
