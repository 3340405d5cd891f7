import type { Server } from 'node:https';
import type { TLSSocket } from 'node:tls';
import type { FastifyInstance } from 'fastify';
import type { ProcessIdentity } from '../../common/tls/identity';

/**
 * Shows the server's certificate of now to new connections after a renewal, and drains the old ones: those that wait for a request are closed, the
 * others end with the answer under way. Call it before the app listens.
 * @returns the way to stop
 */
export function showRenewedCertificate(app: FastifyInstance, own: ProcessIdentity): () => void {
  // It was made with a certificate; fastify's type does not tell.
  const server = app.server as unknown as Server;
  const shown = new WeakMap<object, number>();
  server.on('secureConnection', (socket: TLSSocket) => shown.set(socket, own.generation));
  app.addHook('onSend', async (request, reply) => {
    if ((shown.get(request.raw.socket) ?? own.generation) !== own.generation) void reply.header('connection', 'close');
  });
  return own.onReplaced(() => {
    const { privateKeyPem: key, certificateChainPem: cert } = own.material;
    server.setSecureContext({ key, cert });
    server.closeIdleConnections();
  });
}
