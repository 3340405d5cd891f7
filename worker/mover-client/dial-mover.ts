import net from 'node:net';
import tls from 'node:tls';
import { roleCheck } from '../../common/tls/credentials';
import { splitEndpoint } from '../../common/tls/enrolment';
import type { IdentityMaterial } from '../../common/tls/identity';
import { DATA_MOVER_ALPN, DATA_MOVER_CIPHERS } from '../../proto/data-mover/frame-types';
import { WorkerErrors } from '../errors/worker-errors';

/** Where a mover is and what opens it. Plain data: it crosses threads. */
export interface MoverAddress {
  /** host:port, best first. */
  readonly endpoints: readonly string[];
  /** Name in the mover's certificate, empty when it is the endpoint's host. */
  readonly serverName: string;
  readonly ticket: string;
  /** A connection closes by itself when this becomes another one than that with which it was opened. */
  readonly identity: IdentityMaterial;
}

const readBufferBytes = 256 * 1024;

/** Takes what comes from a mover: views of one buffer that hold only during the call. */
export interface Receiver {
  take(chunk: Buffer): void;
}

/**
 * TLS to one endpoint of a mover, and what `connected` makes of it past the handshake: called at once, because what the mover says first, and that it
 * closes, may come before whoever awaits the result has its turn. Throws MOVER_UNREACHABLE.
 */
export function dialMover<R extends Receiver>(
  { serverName, identity }: MoverAddress,
  endpoint: string,
  connectMs: number,
  signal: AbortSignal,
  connected: (socket: tls.TLSSocket) => R,
): Promise<R> {
  const { host, port } = splitEndpoint(endpoint);
  const name = serverName === '' ? host : serverName;
  const buffer = Buffer.allocUnsafeSlow(readBufferBytes);
  let receiver: R | undefined;
  return new Promise((resolve, reject) => {
    const socket = tls.connect({
      host,
      port,
      ca: [identity.trustBundlePem],
      cert: identity.certificateChainPem,
      key: identity.privateKeyPem,
      servername: net.isIP(name) ? '' : name,
      checkServerIdentity: (_host: string, certificate: tls.PeerCertificate) => roleCheck('mover')(name, certificate),
      ALPNProtocols: [DATA_MOVER_ALPN],
      ciphers: DATA_MOVER_CIPHERS,
      minVersion: 'TLSv1.3',
      onread: {
        buffer,
        callback: (length: number) => {
          receiver?.take(buffer.subarray(0, length));
          return true;
        },
      },
    } as tls.ConnectionOptions);
    socket.setNoDelay(true);
    const settle = () => {
      clearTimeout(late);
      signal.removeEventListener('abort', aborted);
      socket.removeListener('error', early);
      socket.removeListener('close', ended);
    };
    const fail = (reason: string, cause?: unknown) => {
      settle();
      // What else goes wrong with it concerns nobody.
      socket.on('error', () => undefined);
      socket.destroy();
      reject(WorkerErrors.MOVER_UNREACHABLE({ endpoints: endpoint, reason }, { cause }));
    };
    const aborted = () => fail('the task was cancelled');
    const late = setTimeout(() => fail('it did not answer in time'), connectMs);
    const early = (error: NodeJS.ErrnoException) => fail(error.code ?? error.message, error);
    const ended = () => fail('it closed the connection');
    signal.addEventListener('abort', aborted, { once: true });
    socket.once('error', early);
    socket.once('close', ended);
    socket.once('secureConnect', () => {
      settle();
      resolve((receiver = connected(socket)));
    });
    if (signal.aborted) aborted();
  });
}
