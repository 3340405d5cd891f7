import { defineErrors } from '../../common/errors/define-errors';

/** Errors of removing points, collecting and verifying, as the console names them. Codes are listed in docs/errors.md. */
export const HostMaintenanceErrors = defineErrors({
  POINT_HELD: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { point: string; heldBy: string; heldAt: string }) =>
      `Restore point ${m.point} is held since ${m.heldAt} (by ${m.heldBy}). "tidemark point release ${m.point}" lets it go.`,
  },
  MAINTENANCE_RUNNING: {
    kind: 'failure',
    retry: 'after-delay',
    status: 'FAILED_PRECONDITION',
    message: (m: { what: string; repository: string; sessionId: string }) =>
      `Repository ${m.repository} is in the middle of this already: ${m.what}, session ${m.sessionId}. Watch that, or stop it first.`,
  },
});
