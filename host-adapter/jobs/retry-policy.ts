import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { Settings } from '../catalogue/setting-store';

export interface RetryDecision {
  readonly delayMs: number;
  /** The next try reads everything. */
  readonly forceFull: boolean;
}

const retryable = new Set(['same-request', 'after-delay', 'full-backup', 'fresh-ticket']);

/**
 * Whether a failed try is followed by another, and when: only when the error's own advice says so. Delays are the settings', with up to a
 * tenth added so that many VMs do not come back at once. `random` is in [0, 1).
 */
export function decideRetry(
  error: Pick<TidemarkError, 'retry' | 'retryDelayMs'>,
  attempt: number,
  settings: Pick<Settings, 'retryAttempts' | 'retryDelaysMs'>,
  random: number,
): RetryDecision | undefined {
  if (attempt >= settings.retryAttempts || !retryable.has(error.retry)) return undefined;
  if (error.retry === 'full-backup') return { delayMs: 0, forceFull: true };
  const configured = settings.retryDelaysMs[Math.min(attempt, settings.retryDelaysMs.length) - 1] ?? 0;
  return { delayMs: Math.round(Math.max(configured * (1 + random / 10), error.retryDelayMs ?? 0)), forceFull: false };
}
