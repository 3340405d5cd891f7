import { defineErrors } from '../../common/errors/define-errors';

/** Errors of removing points and collecting what is not needed any more. */
export const MaintenanceErrors = defineErrors({
  POINT_IN_USE: {
    kind: 'operational',
    retry: 'after-delay',
    status: 'FAILED_PRECONDITION',
    message: (m: { pointId: string; sessionId: string }) =>
      `Restore point ${m.pointId} is read by session ${m.sessionId}, or that backup starts from it. Remove it when the session has ended.`,
  },
  REPOSITORY_DAMAGED: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'DATA_LOSS',
    message: (m: { pointId: string; problem: string }) =>
      `What restore point ${m.pointId} needs cannot be found out (${m.problem}), so nothing more is deleted. Verify the repository; when the point stays damaged, remove it and collect again.`,
  },
  VERIFICATION_CRASHED: {
    kind: 'bug',
    retry: 'same-request',
    status: 'INTERNAL',
    message: (m: { reason: string }) =>
      `A thread of the verification ended unexpectedly (${m.reason}). Nothing was changed, and the next run goes on where this one was; please report it.`,
  },
});
