/** Who should act on an error: the user (failure), whoever runs the environment (operational), or us (bug). */
export type ErrorKind = 'failure' | 'operational' | 'bug';

/** What the caller does next; the words of tidemark.common.v1.RetryAdvice. */
export type RetryAdvice = 'never' | 'same-request' | 'after-delay' | 'after-operator' | 'full-backup' | 'fresh-ticket';

/** gRPC status names that errors may map to. */
export type StatusName =
  | 'CANCELLED'
  | 'INVALID_ARGUMENT'
  | 'OUT_OF_RANGE'
  | 'DEADLINE_EXCEEDED'
  | 'NOT_FOUND'
  | 'ALREADY_EXISTS'
  | 'PERMISSION_DENIED'
  | 'RESOURCE_EXHAUSTED'
  | 'FAILED_PRECONDITION'
  | 'ABORTED'
  | 'UNIMPLEMENTED'
  | 'INTERNAL'
  | 'UNAVAILABLE'
  | 'DATA_LOSS'
  | 'UNAUTHENTICATED';

/** Ids and numbers that are safe to log and to send to a peer; never a secret, a ticket, a path of a user's data inside a guest. */
export type ErrorMeta = Readonly<Record<string, string | number | boolean>>;

/** What is fixed for one code. */
export interface ErrorTraits {
  readonly code: string;
  readonly kind: ErrorKind;
  readonly retry: RetryAdvice;
  readonly status: StatusName;
}

const brand = Symbol.for('tidemark.error');

/**
 * The only error that Tidemark throws on purpose. Callers branch on `code`, never on the message. The message is for the
 * administrator and says what to do.
 */
export class TidemarkError extends Error implements ErrorTraits {
  readonly code: string;
  readonly kind: ErrorKind;
  readonly retry: RetryAdvice;
  readonly status: StatusName;
  readonly meta: ErrorMeta;
  readonly retryDelayMs: number | undefined;
  /** Joins the log lines of all processes; set by the first bridge that the error crosses. */
  correlationId: string | undefined;

  constructor(
    traits: ErrorTraits,
    message: string,
    options: { meta?: ErrorMeta; cause?: unknown; retryDelayMs?: number | undefined; correlationId?: string | undefined } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'TidemarkError';
    this.code = traits.code;
    this.kind = traits.kind;
    this.retry = traits.retry;
    this.status = traits.status;
    this.meta = options.meta ?? {};
    this.retryDelayMs = options.retryDelayMs;
    this.correlationId = options.correlationId;
    Object.defineProperty(this, brand, { value: true });
  }
}

/** True also for errors made by another copy of this module. */
export function isTidemarkError(error: unknown): error is TidemarkError {
  return typeof error === 'object' && error !== null && (error as Record<symbol, unknown>)[brand] === true;
}

/** True when `error` is ours and has one of the codes. */
export function hasCode(error: unknown, ...codes: readonly string[]): error is TidemarkError {
  return isTidemarkError(error) && codes.includes(error.code);
}
