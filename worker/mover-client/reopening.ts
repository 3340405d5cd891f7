import { hasCode } from '../../common/errors/tidemark-error';
import { pause } from '../../common/rpc/call';
import { isConnectionLoss } from './mover-connection';

/** How long a lane tries to get its connection back before the task fails. */
export const reopenPatienceMs = 90_000;

/**
 * Repeats `open` with growing pauses while the mover cannot be reached or has too many connections. Throws what the last try threw, CANCELLED, or at
 * once what will not change by waiting.
 */
export async function openWithPatience<T>(open: () => Promise<T>, signal: AbortSignal, patienceMs = reopenPatienceMs): Promise<T> {
  const until = Date.now() + patienceMs;
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await open();
    } catch (error) {
      // A mover that is just starting may not have taken up its repositories yet.
      if (!isConnectionLoss(error) && !hasCode(error, 'REPOSITORY_NOT_FOUND', 'SESSION_NOT_FOUND')) throw error;
      if (signal.aborted || Date.now() >= until) throw error;
      await pause(Math.min(100 * 2 ** attempt, 3_000), signal);
    }
  }
}
