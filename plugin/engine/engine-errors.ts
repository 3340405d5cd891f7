/**
 * Everything that may go wrong with an engine, in our words. The engine speaks in HTTP status, a fault in one of two shapes, or HTML from
 * the web server in front of it; only this folder knows that.
 */
import { defineErrors } from '../../common/errors/define-errors';

export const EngineErrors = defineErrors({
  ENGINE_UNAVAILABLE: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { engine: string; problem: string }) =>
      `The oVirt engine ${m.engine} does not answer (${m.problem}). Check that ovirt-engine and httpd run there, and that port 443 is open from here.`,
  },
  ENGINE_LOGIN_REFUSED: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { engine: string; username: string; reason: string }) =>
      `The oVirt engine ${m.engine} refuses the login of "${m.username}" (${m.reason}). Check user, profile and password. ` +
      'Users are written user@profile, e.g. admin@internal; an engine installed with Keycloak wants admin@ovirt@internalsso.',
  },
  ENGINE_CERTIFICATE_CHANGED: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { engine: string; expected: string; found: string }) =>
      `The oVirt engine ${m.engine} presents a CA with fingerprint ${m.found}, but ${m.expected} was confirmed for it. ` +
      'If its certificates were renewed on purpose, compare the new fingerprint on the engine and give it with "tidemark platform edit"; ' +
      'else somebody may be in between.',
  },
  ENGINE_CERTIFICATE_INVALID: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { engine: string; problem: string }) =>
      `The certificate of the oVirt engine ${m.engine} cannot be accepted (${m.problem}). Use the name that stands in the certificate, or renew it with engine-setup.`,
  },
  ENGINE_CONFLICT: {
    kind: 'operational',
    retry: 'after-delay',
    status: 'ABORTED',
    message: (m: { operation: string; detail: string }) =>
      `The engine cannot do it now: ${m.detail} (${m.operation}). Something holds a lock; it is tried again.`,
  },
  ENGINE_REFUSED: {
    kind: 'failure',
    retry: 'never',
    status: 'FAILED_PRECONDITION',
    message: (m: { operation: string; httpStatus: number; detail: string }) =>
      `The engine refuses ${m.operation}: ${m.detail === '' ? 'it gives no reason; look at its events' : m.detail}`,
  },
  ENGINE_CHECKPOINT_UNUSABLE: {
    kind: 'operational',
    retry: 'full-backup',
    status: 'FAILED_PRECONDITION',
    message: (m: { vmId: string; checkpointId: string; detail: string }) =>
      `The engine cannot build on checkpoint ${m.checkpointId} of VM ${m.vmId}${m.detail === '' ? '' : `: ${m.detail}`}. A full read is needed.`,
  },
  ENGINE_NOT_FOUND: {
    kind: 'failure',
    retry: 'never',
    status: 'NOT_FOUND',
    message: (m: { what: string }) => `The engine has no ${m.what} (any more).`,
  },
  ENGINE_PERMISSION_MISSING: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'PERMISSION_DENIED',
    message: (m: { operation: string; detail: string }) =>
      `The engine does not allow our user ${m.operation} (${m.detail}). Give the user a role with the needed permit; "tidemark platform test" names it.`,
  },
  ENGINE_REQUEST_INVALID: {
    kind: 'bug',
    retry: 'never',
    status: 'INTERNAL',
    message: (m: { operation: string; detail: string }) =>
      `The engine does not understand our request ${m.operation}: ${m.detail}. Please report it.`,
  },
  ENGINE_ANSWER_INVALID: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { engine: string; operation: string; problem: string }) =>
      `${m.engine} answers ${m.operation} with something that is not the oVirt API (${m.problem}). Check that the address is that of an oVirt engine.`,
  },
  ENGINE_INTERNAL_FAILURE: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { operation: string; detail: string }) =>
      `The engine failed inside while doing ${m.operation}: ${m.detail}. Its engine.log says why.`,
  },
  ENGINE_TOO_OLD: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { engine: string; version: string; needed: string }) =>
      `The oVirt engine ${m.engine} has version ${m.version}; ${m.needed} or newer is needed. Upgrade the engine.`,
  },
  PLATFORM_URL_INVALID: {
    kind: 'failure',
    retry: 'never',
    status: 'INVALID_ARGUMENT',
    message: (m: { url: string; problem: string }) =>
      `"${m.url}" is not the address of an engine: ${m.problem}. Write https://engine.example/ovirt-engine.`,
  },
});
