/**
 * What may be sent again. Reads are repeated blindly while the engine is away. Writes are not: their answer may be the only thing that
 * got lost. A create is repeated only behind a look-up by an id of ours; deletes and updates are safe by nature (engine REST API §1.5).
 */
import { hasCode } from '../../common/errors/tidemark-error';
import { pause } from '../../common/rpc/call';

export interface RetryPolicy {
  /** Tries in all. */
  readonly attempts: number;
  readonly firstDelayMs: number;
  readonly longestDelayMs: number;
}

/** About 15 s of patience: an engine restart takes longer and is the caller's to wait for. */
export const defaultRetryPolicy: RetryPolicy = { attempts: 5, firstDelayMs: 500, longestDelayMs: 8_000 };

/** Codes after which the same request may simply be sent again when it has no effect of its own. */
export const awayCodes: readonly string[] = ['ENGINE_UNAVAILABLE', 'ENGINE_ANSWER_INVALID', 'ENGINE_INTERNAL_FAILURE'];

/** Repeats idempotent work while the engine is away. */
export async function whileAway<T>(policy: RetryPolicy, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      if (!hasCode(error, ...awayCodes) || attempt >= policy.attempts) throw error;
      await pause(delayMs(policy, attempt), signal);
    }
  }
}

/**
 * A create whose answer may be lost: after a failure that leaves it open, `find` looks for what was made; only when it is certainly not
 * there the create is sent again.
 */
export async function createOnce<T>(
  policy: RetryPolicy,
  signal: AbortSignal | undefined,
  create: () => Promise<T>,
  find: () => Promise<T | undefined>,
): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await create();
    } catch (error) {
      if (!hasCode(error, ...awayCodes) || attempt >= policy.attempts) throw error;
      await pause(delayMs(policy, attempt), signal);
      const made = await whileAway(policy, signal, find);
      if (made !== undefined) return made;
    }
  }
}

function delayMs(policy: RetryPolicy, attempt: number): number {
  const full = Math.min(policy.firstDelayMs * 2 ** (attempt - 1), policy.longestDelayMs);
  // Half of it at random, so that many callers do not come back together.
  return full / 2 + Math.random() * (full / 2);
}
