import { toTidemarkError, CommonErrors } from '../../common/errors/common-errors';
import type { StatusName, TidemarkError } from '../../common/errors/tidemark-error';
import { redactText } from '../../common/log/redact';
import type { z } from 'zod';
import type { Problem } from './schemas';

const httpStatuses: Readonly<Record<StatusName, number>> = {
  CANCELLED: 503,
  INVALID_ARGUMENT: 400,
  OUT_OF_RANGE: 400,
  DEADLINE_EXCEEDED: 504,
  NOT_FOUND: 404,
  ALREADY_EXISTS: 409,
  PERMISSION_DENIED: 403,
  RESOURCE_EXHAUSTED: 429,
  FAILED_PRECONDITION: 409,
  ABORTED: 409,
  UNIMPLEMENTED: 501,
  INTERNAL: 500,
  UNAVAILABLE: 503,
  DATA_LOSS: 500,
  UNAUTHENTICATED: 401,
};

/** The HTTP status and body of an error. */
export function problemOf(
  thrown: unknown,
  what: string,
  correlationId: string,
): { status: number; error: TidemarkError; body: z.infer<typeof Problem> } {
  const error = toTidemarkError(httpFault(thrown) ?? thrown, what);
  const field = error.meta['field'];
  const full = error.status === 'RESOURCE_EXHAUSTED' && error.retry === 'after-operator';
  return {
    error,
    status: full ? 507 : httpStatuses[error.status],
    body: {
      code: error.code,
      message: redactText(error.message),
      retry: error.retry,
      ...(typeof field === 'string' ? { field } : {}),
      correlationId: error.correlationId ?? correlationId,
      ...(Object.keys(error.meta).length > 0 ? { meta: redactedMeta(error) } : {}),
    },
  };
}

/** Parts of the message, often; with secret shapes taken out as there. */
function redactedMeta({ meta }: TidemarkError): Record<string, string | number | boolean> {
  return Object.fromEntries(Object.entries(meta).map(([key, value]) => [key, typeof value === 'string' ? redactText(value) : value]));
}

/** What fastify itself refuses: malformed JSON, bodies that are too large, unknown media types. */
function httpFault(thrown: unknown): TidemarkError | undefined {
  const { statusCode, code } = (thrown ?? {}) as { statusCode?: unknown; code?: unknown };
  if (typeof statusCode !== 'number' || statusCode < 400 || statusCode >= 500 || typeof code !== 'string' || !code.startsWith('FST_')) {
    return undefined;
  }
  return CommonErrors.ARGUMENT_INVALID({ field: 'body', problem: 'is not JSON of an acceptable size' }, { cause: thrown });
}

/** The first problem that a schema found, as an error. */
export function invalidInput(issue: z.core.$ZodIssue | undefined, where: string): TidemarkError {
  const field = [...(issue?.path ?? [])].join('.') || where;
  return CommonErrors.ARGUMENT_INVALID({ field, problem: issue?.message ?? 'is not valid' });
}
