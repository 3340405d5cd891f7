import { defineErrors } from '../../common/errors/define-errors';

const gibibytes = (bytes: number) => `${(bytes / 1024 ** 3).toFixed(1)} GiB`;

export const WorkerVmErrors = defineErrors({
  WORKER_SETTINGS_INVALID: {
    kind: 'failure',
    retry: 'never',
    status: 'INVALID_ARGUMENT',
    message: (m: { field: string; problem: string }) => `The settings of the worker cannot be used: ${m.field} ${m.problem}.`,
  },
  WORKER_TARGET_NOT_FOUND: {
    kind: 'failure',
    retry: 'never',
    status: 'NOT_FOUND',
    message: (m: { field: string; id: string }) =>
      `There is no such place for a worker: ${m.field} ${m.id} is unknown to the engine, or not of this cluster. Choose another one.`,
  },
  WORKER_NOT_DEPLOYED: {
    kind: 'failure',
    retry: 'never',
    status: 'FAILED_PRECONDITION',
    message: (m: { workerId: string }) =>
      `Worker ${m.workerId} runs beside the server or on a machine of yours, not in a VM of ours. Stop or start that process by its service.`,
  },
  WORKER_ORPHAN_NOT_FOUND: {
    kind: 'failure',
    retry: 'never',
    status: 'NOT_FOUND',
    message: (m: { vmId: string; problem: string }) => `VM ${m.vmId} is no worker that nobody owns: ${m.problem}. List the orphans again.`,
  },
  WORKER_IMAGE_MISSING: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { folder: string; problem: string }) =>
      `No worker can be deployed, since there is no worker image (${m.problem}). Install the package tidemark-worker-image, or copy ` +
      `tidemark-worker-<version>.json and its .qcow2 file to ${m.folder} on the plug-in's machine.`,
  },
  WORKER_IMAGE_DAMAGED: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { file: string; problem: string }) => `The worker image ${m.file} is damaged: ${m.problem}. Copy it again.`,
  },
  WORKER_IMAGE_NOT_UPLOADED: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { problem: string }) =>
      `The worker image could not be brought to the storage: ${m.problem}. Check that ports 54322 of the hosts (or 54323 of the engine) are open from the plug-in's machine.`,
  },
  WORKER_DISK_LOST: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { name: string; status: string }) =>
      `The engine did not complete the disk "${m.name}" of the worker (${m.status}). Look at its events; what was made is removed.`,
  },
  WORKER_NO_HOST: {
    kind: 'operational',
    retry: 'after-operator',
    status: 'RESOURCE_EXHAUSTED',
    message: (m: { cluster: string; problem: string }) =>
      `No worker can run in cluster "${m.cluster}": ${m.problem}. Activate a host, or change the hosts that the worker may use.`,
  },
  WORKER_NO_MEMORY: {
    kind: 'operational',
    retry: 'after-operator',
    status: 'RESOURCE_EXHAUSTED',
    message: (m: { cluster: string; neededBytes: number; freeBytes: number }) =>
      `No host of cluster "${m.cluster}" has room for the worker: ${gibibytes(m.neededBytes)} of memory are needed, at most ${gibibytes(m.freeBytes)} are free. Free memory, or give the worker fewer tasks.`,
  },
  WORKER_NO_STORAGE: {
    kind: 'operational',
    retry: 'after-operator',
    status: 'RESOURCE_EXHAUSTED',
    message: (m: { domain: string; problem: string }) =>
      `The worker's disk has no place on storage domain "${m.domain}": ${m.problem}. Free space, or choose another domain.`,
  },
  WORKER_NO_NETWORK: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { cluster: string }) =>
      `Cluster "${m.cluster}" has no network with a vNIC profile for the worker. Choose a vNIC profile in its settings.`,
  },
  WORKER_LIMIT_REACHED: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { cluster: string; limit: number }) =>
      `Cluster "${m.cluster}" has ${m.limit} workers already, as many as the rules of its platform allow. Remove one, or raise the number with "tidemark worker policy --max".`,
  },
  WORKER_ENDPOINT_LOCAL: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { endpoint: string }) =>
      `A worker VM cannot reach the plug-in at ${m.endpoint}, which names this machine only. Give the plug-in's "addresses" a name that is known in the cluster, or set the worker endpoints of the platform's fleet policy.`,
  },
  WORKER_VM_NOT_STARTED: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { name: string; problem: string }) => `The engine could not start worker VM "${m.name}": ${m.problem}.`,
  },
  WORKER_NOT_ENROLLED: {
    kind: 'operational',
    retry: 'same-request',
    status: 'DEADLINE_EXCEEDED',
    message: (m: { name: string; endpoint: string; waitedMs: number }) =>
      `Worker VM "${m.name}" runs, but did not report within ${Math.round(m.waitedMs / 1000)} s. Check its addresses, that it can reach ${m.endpoint} and the enrolment port beside it, and its serial console in the engine.`,
  },
  WORKER_TOKEN_LATE: {
    kind: 'operational',
    retry: 'same-request',
    status: 'DEADLINE_EXCEEDED',
    message: (m: { name: string; starts: number; tokenMs: number }) =>
      `Worker VM "${m.name}" was started ${m.starts} times, and each time it came up when its one-time token was good no more (the last one for ${Math.round(m.tokenMs / 60_000)} minutes). Look at its serial console in the engine for what it waits for, at the load of its host, and at the clock of the server.`,
  },
  WORKER_SELF_TEST_FAILED: {
    kind: 'operational',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { name: string; problems: string }) => `Worker "${m.name}" did not pass its self-test: ${m.problems}`,
  },
  WORKER_VM_NOT_STOPPED: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { name: string; status: string }) =>
      `Worker VM "${m.name}" could not be stopped; it is still ${m.status}. Look at its host in the engine.`,
  },
  WORKER_VM_NOT_REMOVED: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { name: string }) => `Worker VM "${m.name}" could not be removed yet; it is tried again.`,
  },
  WORKER_VM_GONE: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { name: string }) => `The VM of worker "${m.name}" is not in the engine any more; it will be made again.`,
  },
  WORKER_INTERRUPTED: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { name: string }) =>
      `The plug-in was stopped while worker "${m.name}" was started. It is stopped, and started when work comes.`,
  },
  WORKER_STORE_DAMAGED: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { file: string; problem: string }) =>
      `The list of worker VMs in ${m.file} cannot be read (${m.problem}). Restore it from a backup of the data folder; without it the workers are found as orphans.`,
  },
});

/** Codes of the events that are reported to the host; they are not thrown. */
export const workerEvents = {
  deployed: 'WORKER_DEPLOYED',
  deploymentFailed: 'WORKER_DEPLOYMENT_FAILED',
  startFailed: 'WORKER_START_FAILED',
  lost: 'WORKER_VM_LOST',
  back: 'WORKER_BACK',
  recreated: 'WORKER_RECREATED',
  replaced: 'WORKER_REPLACED',
  replacementFailed: 'WORKER_REPLACEMENT_FAILED',
  givenUp: 'WORKER_GIVEN_UP',
  removed: 'WORKER_REMOVED',
} as const;
