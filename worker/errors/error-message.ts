import { TidemarkError } from '../../common/errors/tidemark-error';
import type { ErrorMeta, ErrorTraits, RetryAdvice, StatusName } from '../../common/errors/tidemark-error';
import { toTidemarkError } from '../../common/errors/common-errors';
import { adviceOf } from '../../common/rpc/status-details';

/** A TidemarkError as plain data, to cross from one thread to another. */
export interface ErrorMessage extends ErrorTraits {
  readonly message: string;
  readonly meta: ErrorMeta;
  readonly retryDelayMs: number | undefined;
  /** For the log only. */
  readonly stack: string | undefined;
}

/** Anything thrown, as plain data; what is not ours becomes INTERNAL. */
export function errorToMessage(thrown: unknown, what: string): ErrorMessage {
  const error = toTidemarkError(thrown, what);
  const cause = error.cause instanceof Error ? `\ncaused by ${error.cause.stack ?? error.cause.message}` : '';
  const { code, kind, retry, status, message, meta, retryDelayMs } = error;
  return { code, kind, retry, status, message, meta, retryDelayMs, stack: `${error.stack ?? ''}${cause}` };
}

/** The error again, on the other side. */
export function errorFromMessage(message: ErrorMessage): TidemarkError {
  const error = new TidemarkError(message, message.message, { meta: message.meta, retryDelayMs: message.retryDelayMs });
  if (message.stack !== undefined) error.stack = message.stack;
  return error;
}

const statusByCode: Record<string, StatusName> = {
  BLOCK_CORRUPT: 'DATA_LOSS',
  BLOCK_MISSING: 'DATA_LOSS',
  POINT_NOT_FOUND: 'NOT_FOUND',
  REPOSITORY_FULL: 'RESOURCE_EXHAUSTED',
  REPOSITORY_IO: 'UNAVAILABLE',
  TICKET_EXPIRED: 'UNAUTHENTICATED',
  TICKET_INVALID: 'UNAUTHENTICATED',
};
const operational: readonly RetryAdvice[] = ['same-request', 'after-delay'];

/** The error that a code of docs/protocol/data-mover.md §8 stands for. */
export function moverError(code: string, message: string, retry: number | RetryAdvice, meta: ErrorMeta = {}): TidemarkError {
  const advice = typeof retry === 'number' ? adviceOf(retry) : retry;
  const kind = operational.includes(advice) || code.startsWith('REPOSITORY_') ? 'operational' : 'failure';
  return new TidemarkError({ code, kind, retry: advice, status: statusByCode[code] ?? 'FAILED_PRECONDITION' }, message, { meta });
}
