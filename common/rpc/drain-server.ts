import type { Server } from '@grpc/grpc-js';
import { connectionDrainMs } from './renewable-channel';

/**
 * Drains a server's connections after each renewal of its identity: clients are told to open new ones (GOAWAY), calls under way go on, and what
 * is still open after {@link connectionDrainMs} is cut. Clients of ours cut it earlier, with their next keep-alive ping (20 s): Node.js answers no ping on
 * a connection that is closing. Call it when the port is bound.
 * @param endpoint as it was bound, with the port that was opened
 * @returns the way to stop
 */
export function drainAfterRenewals(
  server: Server,
  endpoint: string,
  identity: { onReplaced(listener: () => void): () => void },
  drainMs = connectionDrainMs,
): () => void {
  return identity.onReplaced(() => server.drain(endpoint, drainMs));
}
