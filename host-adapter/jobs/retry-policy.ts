import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { Settings } from '../catalogue/setting-store';

export interface RetryDecision {
  readonly delayMs: number;
  /** The next try reads everything. */
  readonly forceFull: boolean;
}

/** One of our own processes went away in the middle; it is back by itself, so the first repeat need not wait long. */
const interruptions = new Set([
  'PLUGIN_RESTARTED',
  'PLUGIN_STOPPING',
  'OPERATION_LOST',
  'OPERATION_STOPPED',
  'MOVER_SESSION_LOST',
  'WORKER_LOST',
  'MOVER_CONNECTION_LOST',
  'MOVER_UNREACHABLE',
  'SESSION_NOT_FOUND',
]);
const afterInterruptionMs = 5_000;

export function isInterruption(code: string): boolean {
  return interruptions.has(code);
}

const retryable = new Set(['same-request', 'after-delay', 'full-backup', 'fresh-ticket']);

/**
 * Whether a failed try is followed by another, and when: only when the error's own advice says so. Delays are the settings', with up to a
 * tenth added so that many VMs do not come back at once; a first try that was merely interrupted is repeated after seconds. `random` is in [0, 1).
 */
export function decideRetry(
  error: Pick<TidemarkError, 'code' | 'retry' | 'retryDelayMs'>,
  attempt: number,
  settings: Pick<Settings, 'retryAttempts' | 'retryDelaysMs'>,
  random: number,
): RetryDecision | undefined {
  if (attempt >= settings.retryAttempts || !retryable.has(error.retry)) return undefined;
  if (error.retry === 'full-backup') return { delayMs: 0, forceFull: true };
  const listed = settings.retryDelaysMs[Math.min(attempt, settings.retryDelaysMs.length) - 1] ?? 0;
  const configured = attempt === 1 && isInterruption(error.code) ? Math.min(listed, afterInterruptionMs) : listed;
  return { delayMs: Math.round(Math.max(configured * (1 + random / 10), error.retryDelayMs ?? 0)), forceFull: false };
}
