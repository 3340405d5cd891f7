import { toTidemarkError } from '../../common/errors/common-errors';
import type { RetryAdvice, TidemarkError } from '../../common/errors/tidemark-error';
import { encodeFrame, FrameViolation } from '../../proto/data-mover/frame-codec';
import { FrameType } from '../../proto/data-mover/frame-types';
import { DataPortErrors } from '../errors/mover-errors';

const adviceNumbers: Record<RetryAdvice, number> = {
  never: 1,
  'same-request': 2,
  'after-delay': 3,
  'after-operator': 4,
  'full-backup': 5,
  'fresh-ticket': 6,
};

/** Codes after which the connection cannot go on (docs/protocol/data-mover.md §8). */
const closing: ReadonlySet<string> = new Set([
  'FRAME_MALFORMED',
  'FRAME_UNEXPECTED',
  'PROTOCOL_VERSION_UNSUPPORTED',
  'TICKET_INVALID',
  'TICKET_EXPIRED',
  'ROLE_NOT_ALLOWED',
  'CERTIFICATE_REQUIRED',
  'TOO_MANY_CONNECTIONS',
  'CONNECTION_IDLE',
  'SESSION_ENDED',
  'SESSION_NOT_FOUND',
  'SESSION_ELSEWHERE',
  'REPOSITORY_NOT_FOUND',
  'PROBE_LIMIT_REACHED',
]);

/** Anything thrown while a frame was handled, in our words. */
export function frameError(thrown: unknown): TidemarkError {
  if (thrown instanceof FrameViolation) return DataPortErrors.FRAME_MALFORMED({ problem: thrown.problem }, { cause: thrown });
  return toTidemarkError(thrown, 'handling a frame');
}

export function closesConnection(error: TidemarkError): boolean {
  return closing.has(error.code);
}

/** The Error frame of a sequence; 0 when the connection closes. */
export function errorFrame(sequence: number, error: TidemarkError): Buffer {
  return encodeFrame(FrameType.error, {
    sequence,
    code: error.code,
    message: error.message.slice(0, 1024),
    retry: adviceNumbers[error.retry],
  });
}
