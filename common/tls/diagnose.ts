import tls from 'node:tls';
import { CommonErrors } from '../errors/common-errors';
import type { TidemarkError } from '../errors/tidemark-error';
import { splitEndpoint } from './enrolment';
import type { ProcessIdentity } from './identity';

/** Verification failures of ours, and alerts by which the other side tells of its own. */
const certificateProblem =
  /^(?:CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|INVALID_CA|PATH_LENGTH|ERR_SSL_.*ALERT.*(?:CA|CERTIFICATE|CERTIFICATE_.*)$)/;

/**
 * Why a peer that listens cannot be talked to: CERTIFICATE_NOT_ACCEPTED when one side refuses the other's certificate, undefined when
 * that is not it. Needed because gRPC tells nothing but that it is not connected: in TLS 1.3 the server decides after the
 * client's handshake is over, and grpc-js then closes without an alert.
 */
export function diagnoseCertificates(endpoint: string, identity: ProcessIdentity, timeoutMs = 3_000): Promise<TidemarkError | undefined> {
  const { host, port } = splitEndpoint(endpoint);
  const { certificateChainPem: cert, privateKeyPem: key, trustBundlePem: ca } = identity.material;
  return new Promise((resolve) => {
    const servername = /^[\d.]+$|:/.test(host) ? '' : host;
    const socket = tls.connect({ host, port, cert, key, ca, servername, ALPNProtocols: ['h2'] });
    const end = (why?: string) => {
      socket.destroy();
      resolve(why === undefined ? undefined : CommonErrors.CERTIFICATE_NOT_ACCEPTED({ peer: endpoint, why }));
    };
    socket.setTimeout(timeoutMs, () => end());
    let greeted = false;
    socket.once('secureConnect', () => (greeted = true));
    // A server that lets us in speaks first.
    socket.once('data', () => end());
    socket.once('end', () => end(greeted ? 'it hangs up when it sees our certificate' : undefined));
    socket.once('error', ({ code = '' }: NodeJS.ErrnoException) => end(certificateProblem.test(code) ? code : undefined));
  });
}
