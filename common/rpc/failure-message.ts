import { TidemarkError } from '../errors/tidemark-error';
import type { ErrorKind, RetryAdvice, StatusName } from '../errors/tidemark-error';
import type { FailureDetail, FailureDetail__Output } from '../../proto/gen/tidemark/common/v1/FailureDetail';

const kindNames: Record<ErrorKind, string> = {
  failure: 'FAILURE_KIND_FAILURE',
  operational: 'FAILURE_KIND_OPERATIONAL',
  bug: 'FAILURE_KIND_BUG',
};
const adviceNames: Record<RetryAdvice, string> = {
  never: 'RETRY_ADVICE_NEVER',
  'same-request': 'RETRY_ADVICE_SAME_REQUEST',
  'after-delay': 'RETRY_ADVICE_AFTER_DELAY',
  'after-operator': 'RETRY_ADVICE_AFTER_OPERATOR',
  'full-backup': 'RETRY_ADVICE_FULL_BACKUP',
  'fresh-ticket': 'RETRY_ADVICE_FRESH_TICKET',
};

function keyOf<K extends string>(table: Record<K, string>, value: string | undefined, otherwise: K): K {
  const found = (Object.keys(table) as K[]).find((key) => table[key] === value);
  return found ?? otherwise;
}

/** An error as the `failure` field of an operation's or task's result. */
export function failureMessage(error: TidemarkError): FailureDetail {
  return {
    code: error.code,
    kind: kindNames[error.kind] as NonNullable<FailureDetail['kind']>,
    retry: adviceNames[error.retry] as NonNullable<FailureDetail['retry']>,
    ...(error.retryDelayMs === undefined
      ? {}
      : { retryDelay: { seconds: String(Math.floor(error.retryDelayMs / 1000)), nanos: (error.retryDelayMs % 1000) * 1_000_000 } }),
    message: error.message,
    correlationId: error.correlationId ?? '',
    meta: Object.fromEntries(Object.entries(error.meta).map(([key, value]) => [key, String(value)])),
  };
}

/** The error that a `failure` field stands for. `status` is what it maps to if it has to cross gRPC again. */
export function failureError(failure: FailureDetail__Output, status: StatusName = 'INTERNAL'): TidemarkError {
  return new TidemarkError(
    {
      code: failure.code,
      kind: keyOf(kindNames, failure.kind, 'bug'),
      retry: keyOf(adviceNames, failure.retry, 'never'),
      status,
    },
    failure.message,
    {
      meta: failure.meta,
      correlationId: failure.correlationId === '' ? undefined : failure.correlationId,
      retryDelayMs: failure.retryDelay
        ? Number(failure.retryDelay.seconds) * 1000 + Math.round(failure.retryDelay.nanos / 1_000_000)
        : undefined,
    },
  );
}
