import { defineErrors } from './define-errors';
import { isTidemarkError } from './tidemark-error';
import type { TidemarkError } from './tidemark-error';

/** Errors that any process may raise. */
export const CommonErrors = defineErrors({
  CANCELLED: {
    kind: 'failure',
    retry: 'never',
    status: 'CANCELLED',
    message: (m: { what: string }) => `${m.what} was cancelled.`,
  },
  DEADLINE_EXCEEDED: {
    kind: 'operational',
    retry: 'same-request',
    status: 'DEADLINE_EXCEEDED',
    message: (m: { what: string; timeoutMs: number }) =>
      `${m.what} did not finish within ${m.timeoutMs} ms. The other side may be overloaded or cut off; it will be tried again.`,
  },
  PEER_UNAVAILABLE: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { peer: string }) => `${m.peer} cannot be reached. Check that it runs and that no firewall is in between.`,
  },
  ARGUMENT_INVALID: {
    kind: 'failure',
    retry: 'never',
    status: 'INVALID_ARGUMENT',
    message: (m: { field: string; problem: string }) => `${m.field}: ${m.problem}`,
  },
  CONFIGURATION_INVALID: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'INVALID_ARGUMENT',
    message: (m: { problems: string }) => `The configuration cannot be used:\n${m.problems}`,
  },
  DATA_FOLDER_IN_USE: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { folder: string }) =>
      `Another Tidemark process runs on the data folder ${m.folder}. Stop it first, or give this one a folder of its own.`,
  },
  REQUEST_ID_REUSED: {
    kind: 'bug',
    retry: 'never',
    status: 'ALREADY_EXISTS',
    message: (m: { requestId: string }) => `Request id ${m.requestId} was used before with other content.`,
  },
  OPERATION_NOT_FOUND: {
    kind: 'failure',
    retry: 'never',
    status: 'NOT_FOUND',
    message: (m: { operationId: string }) => `There is no operation ${m.operationId} (any more).`,
  },
  CAPABILITY_MISSING: {
    kind: 'failure',
    retry: 'never',
    status: 'UNIMPLEMENTED',
    message: (m: { needed: string; offered: string }) =>
      `The peer does not speak ${m.needed}; it offers ${m.offered}. Upgrade the older side.`,
  },
  ROLE_NOT_ALLOWED: {
    kind: 'failure',
    retry: 'never',
    status: 'PERMISSION_DENIED',
    message: (m: { method: string; role: string }) => `A certificate of role "${m.role}" may not call ${m.method}.`,
  },
  CERTIFICATE_REQUIRED: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'UNAUTHENTICATED',
    message: (m: { method: string }) => `${m.method} needs a client certificate of this installation's CA. Enrol the process first.`,
  },
  LEASE_LOST: {
    kind: 'operational',
    retry: 'same-request',
    status: 'FAILED_PRECONDITION',
    message: (m: { leaseId: string }) => `Lease ${m.leaseId} is not known. Register again.`,
  },
  HOST_NOT_READY: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: () => 'The backup server is still starting.',
  },
  CERTIFICATE_NOT_ACCEPTED: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'UNAUTHENTICATED',
    message: (m: { peer: string; why: string }) =>
      `TLS with ${m.peer} fails (${m.why}): one side's certificate is over, or its CA is not trusted (any more), as after a CA rotation that this process slept through. See "tidemark cert list"; if it is this process, make a token for it ("tidemark mover enrol --again ID", or plugin; "tidemark worker enrol"), remove its folder "identity" and start it with the token.`,
  },
  IDENTITY_REVOKED: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'PERMISSION_DENIED',
    message: (m: { id: string }) =>
      `The server does not know identity ${m.id}: it was removed, or enrolled after the copy of the configuration that the server was made from, or is not the caller's. Make a token on the server ("tidemark plugin enrol", "tidemark mover enrol" or "tidemark worker enrol"), remove the folder "identity" of the process and start it with the token.`,
  },
  ENROLMENT_TOKEN_INVALID: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'UNAUTHENTICATED',
    message: (m: { why: string }) =>
      `The enrolment token is not valid (${m.why}). Make a new one with "tidemark plugin enrol" or "tidemark mover enrol".`,
  },
  TRUST_FINGERPRINT_MISMATCH: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { endpoint: string; expected: string; found: string }) =>
      `${m.endpoint} presents a CA with fingerprint ${m.found}, but ${m.expected} was expected. Somebody may be in between, or the token is of another server.`,
  },
  INTERNAL: {
    kind: 'bug',
    retry: 'never',
    status: 'INTERNAL',
    message: (m: { what: string }) => `${m.what} failed in an unexpected way. Nothing was lost; please report it with the correlation id.`,
  },
});

/** The error itself when it is ours; else INTERNAL with it as the cause, or CANCELLED for an abort. */
export function toTidemarkError(error: unknown, what: string): TidemarkError {
  if (isTidemarkError(error)) return error;
  const { name, cause } = (error ?? {}) as { name?: unknown; cause?: unknown };
  if (name === 'AbortError') return isTidemarkError(cause) ? cause : CommonErrors.CANCELLED({ what }, { cause: error });
  return CommonErrors.INTERNAL({ what }, { cause: error });
}
