import type { Logger } from '../../common/log/logger';
import { pause } from '../../common/rpc/call';

/**
 * What SQLite says while its file cannot be written or read: the disk is full or broken, the folder is read-only, somebody else holds a lock. All of it may pass
 * without anything being lost. https://www.sqlite.org/rescode.html; extended codes begin with these.
 */
const passing = /^SQLITE_(BUSY|LOCKED|FULL|IOERR|READONLY|CANTOPEN|NOMEM)/;

/** True for a failure of the catalogue that may be over when it is asked again. */
export function isStoreAway(error: unknown): boolean {
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === 'string' && passing.test(code);
}

/**
 * Does something in the catalogue, and does it again for as long as the catalogue cannot be used: whoever forgot how far a task is would leave it half done.
 * Logs the first failure of each kind. Rejects with any other error, and with the last one when the signal aborts.
 */
export async function untilStored<T>(
  work: () => Promise<T>,
  { signal, logger, everyMs = 1000 }: { readonly signal: AbortSignal; readonly logger: Logger; readonly everyMs?: number },
): Promise<T> {
  for (let told: unknown; ;) {
    try {
      return await work();
    } catch (error) {
      if (!isStoreAway(error) || signal.aborted) throw error;
      const { code } = error as { code: string };
      if (told !== code)
        logger.error('the catalogue cannot be written; everything waits for it. Look for a full or broken disk', { code, error });
      told = code;
      await pause(everyMs, signal).catch(() => undefined);
    }
  }
}
