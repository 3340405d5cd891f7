import type { Server } from 'node:https';
import type { TLSSocket } from 'node:tls';
import type { FastifyInstance } from 'fastify';
import { connectionDrainMs } from '../../common/rpc/renewable-channel';
import type { ProcessIdentity } from '../../common/tls/identity';

/**
 * Shows the server's certificate of now to new connections after a renewal, and ends the old ones after `drainMs`, with their next answer: until then a
 * command line that trusts the CA of before learns on them of the new one. Those that wait for a request are closed by their keep-alive
 * time-out. Call it before the app listens.
 * @returns the way to stop
 */
export function showRenewedCertificate(app: FastifyInstance, own: ProcessIdentity, drainMs = connectionDrainMs): () => void {
  // It was made with a certificate; fastify's type does not tell.
  const server = app.server as unknown as Server;
  const shown = new WeakMap<object, number>();
  const timers = new Set<NodeJS.Timeout>();
  /** Connections from before this generation end with their next answer. */
  let drained = 0;
  server.on('secureConnection', (socket: TLSSocket) => shown.set(socket, own.generation));
  app.addHook('onSend', async (request, reply) => {
    if ((shown.get(request.raw.socket) ?? drained) < drained) void reply.header('connection', 'close');
  });
  const unfollow = own.onReplaced(() => {
    const { privateKeyPem: key, certificateChainPem: cert } = own.material;
    server.setSecureContext({ key, cert });
    const { generation } = own;
    const timer = setTimeout(() => {
      timers.delete(timer);
      drained = Math.max(drained, generation);
    }, drainMs);
    timers.add(timer.unref());
  });
  return () => {
    unfollow();
    for (const timer of timers) clearTimeout(timer);
  };
}
