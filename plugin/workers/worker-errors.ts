import { defineErrors } from '../../common/errors/define-errors';

export const WorkerErrors = defineErrors({
  WORKER_NOT_FOUND: {
    kind: 'failure',
    retry: 'never',
    status: 'NOT_FOUND',
    message: (m: { workerId: string }) => `There is no worker ${m.workerId}. List the workers to see which there are.`,
  },
  WORKER_LOST: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { workerId: string; during: string }) =>
      `Worker ${m.workerId} was lost during ${m.during}: it was stopped, its network broke, or it tells nothing of it any more. Run it again.`,
  },
  WORKER_NONE: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { waitedMs: number; hops: string }) =>
      `No worker could take the task for ${Math.round(m.waitedMs / 1000)} s (${m.hops}). Deploy one ("tidemark worker deploy"), start one beside the server, or change the rules of the fleet.`,
  },
  WORKER_QUEUE_FULL: {
    kind: 'operational',
    retry: 'after-delay',
    status: 'RESOURCE_EXHAUSTED',
    message: (m: { limit: number }) => `Already ${m.limit} disk tasks wait for a worker. Add workers, or run fewer VMs at the same time.`,
  },
  WORKER_PROTOCOL_BROKEN: {
    kind: 'bug',
    retry: 'never',
    status: 'INVALID_ARGUMENT',
    message: (m: { problem: string }) => `The worker broke the rules of the task stream: ${m.problem}.`,
  },
  HOST_UNREACHABLE: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: () => 'The plug-in cannot reach the backup server now, which issues the certificates. It will be tried again.',
  },
});
