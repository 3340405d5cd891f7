import { defineErrors } from '../../common/errors/define-errors';

export const OperationErrors = defineErrors({
  VM_BUSY: {
    kind: 'operational',
    retry: 'after-delay',
    status: 'ABORTED',
    message: (m: { vmId: string; operationId: string }) =>
      `VM ${m.vmId} is being backed up or restored by operation ${m.operationId}. It will be tried again when that one has ended.`,
  },
  WORKER_BUSY: {
    kind: 'operational',
    retry: 'after-delay',
    status: 'ABORTED',
    message: (m: { workerId: string; operationId: string }) =>
      `Worker ${m.workerId} is being worked on by operation ${m.operationId}. Try again when that one has ended, or cancel it.`,
  },
  PLUGIN_STOPPING: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: () => 'The plug-in is stopping and takes no new work. It will be tried again once it runs.',
  },
  PLUGIN_BUSY: {
    kind: 'operational',
    retry: 'after-delay',
    status: 'RESOURCE_EXHAUSTED',
    message: (m: { limit: number }) => `The plug-in already runs ${m.limit} operations. Lower the number of VMs that run at the same time.`,
  },
  PLUGIN_RESTARTED: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { operationId: string }) =>
      `The plug-in was stopped or killed while operation ${m.operationId} ran. What it left in the engine is being cleaned up; run it again.`,
  },
  OPERATION_NOT_AWAITING_COMMIT: {
    kind: 'bug',
    retry: 'never',
    status: 'FAILED_PRECONDITION',
    message: (m: { operationId: string }) => `Operation ${m.operationId} is not waiting for a commit.`,
  },
  COMMIT_NOT_CONFIRMED: {
    kind: 'operational',
    retry: 'same-request',
    status: 'DEADLINE_EXCEEDED',
    message: (m: { operationId: string; waitedMs: number }) =>
      `The backup server did not say within ${Math.round(m.waitedMs / 60_000)} minutes whether operation ${m.operationId} became a restore point. The backup was let go; check that the server runs.`,
  },
});
