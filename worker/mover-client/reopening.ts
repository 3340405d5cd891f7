import { hasCode } from '../../common/errors/tidemark-error';
import { pause } from '../../common/rpc/call';
import { WorkerErrors } from '../errors/worker-errors';
import { isConnectionLoss } from './mover-connection';
import type { MoverAddress } from './dial-mover';
import type { MoverRoute } from './mover-route';

/** How long a lane that has not been at a mover yet tries to get there before the task fails. */
export const openPatienceMs = 90_000;
/** How long one that was there tries to get back: long enough for whoever watches movers to choose another one, and tell. */
export const reopenPatienceMs = 600_000;

/**
 * Repeats `open` with growing pauses while the mover cannot be reached, has too many connections, says that another one has the session, or that the ticket is
 * too old; at once, and with new patience, when the route changes. `open` is given a signal that aborts when what it made is not to be used any more. Throws what the last
 * try threw, CANCELLED, or at once what will not change by waiting.
 */
export async function openWithPatience<T>(
  open: (address: MoverAddress, signal: AbortSignal) => Promise<T>,
  route: MoverRoute,
  signal: AbortSignal,
  patienceMs: number,
): Promise<T> {
  let until = performance.now() + patienceMs;
  for (let attempt = 0; ; attempt += 1) {
    const { current, replaced } = route;
    if (!current) throw WorkerErrors.MOVER_UNREACHABLE({ endpoints: 'none', reason: 'no address was given' });
    const either = AbortSignal.any([signal, replaced]);
    try {
      return await open(current, either);
    } catch (error) {
      if (signal.aborted) throw error;
      if (!replaced.aborted) {
        // A mover that is just starting may not have taken up its repositories yet; a new ticket comes in time unless the server was away for hours.
        const mayChange = isConnectionLoss(error) || hasCode(error, 'REPOSITORY_NOT_FOUND', 'SESSION_NOT_FOUND', 'TICKET_EXPIRED');
        if (!mayChange || performance.now() >= until) throw error;
        await pause(Math.min(100 * 2 ** attempt, 3_000), either).catch(() => undefined);
        if (signal.aborted) throw error;
      }
      if (replaced.aborted) {
        attempt = -1;
        until = performance.now() + patienceMs;
      }
    }
  }
}
