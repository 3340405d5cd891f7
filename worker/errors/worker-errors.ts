import { defineErrors } from '../../common/errors/define-errors';

/** Errors of the image service (oVirt imageio), of both its ends: reading a disk and writing one. */
export const ImageErrors = defineErrors({
  IMAGE_URL_INVALID: {
    kind: 'bug',
    retry: 'never',
    status: 'INVALID_ARGUMENT',
    message: (m: { problem: string }) => `The image transfer's address cannot be used: ${m.problem}.`,
  },
  IMAGE_UNREACHABLE: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { endpoint: string; reason: string }) =>
      `The image service at ${m.endpoint} cannot be reached (${m.reason}). Check that ovirt-imageio runs on the host and that no firewall is in between.`,
  },
  IMAGE_CERTIFICATE_REJECTED: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { endpoint: string; reason: string }) =>
      `The image service at ${m.endpoint} presents a certificate that the engine's CA does not vouch for (${m.reason}). Re-enrol the host's certificates in the engine.`,
  },
  IMAGE_CONNECTION_BROKEN: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { endpoint: string; reason: string }) => `The connection to the image service at ${m.endpoint} broke: ${m.reason}.`,
  },
  IMAGE_TIMED_OUT: {
    kind: 'operational',
    retry: 'same-request',
    status: 'DEADLINE_EXCEEDED',
    message: (m: { endpoint: string; what: string; timeoutMs: number }) =>
      `The image service at ${m.endpoint} was silent for ${m.timeoutMs} ms (${m.what}). Its storage may hang, or all of its connections may be taken.`,
  },
  IMAGE_TICKET_REFUSED: {
    kind: 'operational',
    retry: 'fresh-ticket',
    status: 'PERMISSION_DENIED',
    message: (m: { endpoint: string }) =>
      `The image service at ${m.endpoint} does not know the transfer's ticket (any more): it expired, was cancelled, or the service was restarted. A new image transfer is needed.`,
  },
  IMAGE_RANGE_REFUSED: {
    kind: 'operational',
    retry: 'same-request',
    status: 'OUT_OF_RANGE',
    message: (m: { endpoint: string; offset: number; lengthBytes: number }) =>
      `The image service at ${m.endpoint} refuses bytes ${m.offset} to ${m.offset + m.lengthBytes - 1}: the image is smaller than the engine said.`,
  },
  IMAGE_REQUEST_REFUSED: {
    kind: 'operational',
    retry: 'never',
    status: 'FAILED_PRECONDITION',
    message: (m: { endpoint: string; what: string; httpStatus: number; answer: string }) =>
      `The image service at ${m.endpoint} refused to ${m.what} (HTTP ${m.httpStatus}: ${m.answer}).`,
  },
  IMAGE_STORAGE_FAILED: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { endpoint: string; what: string; httpStatus: number }) =>
      `The image service at ${m.endpoint} failed to ${m.what} (HTTP ${m.httpStatus}), also on new connections. See its log on the host: the VM or its storage may be gone.`,
  },
  IMAGE_SIZE_MISMATCH: {
    kind: 'operational',
    retry: 'same-request',
    status: 'FAILED_PRECONDITION',
    message: (m: { expectedBytes: number; foundBytes: number }) =>
      `The disk has ${m.foundBytes} bytes but the engine says ${m.expectedBytes}. It may be growing; rescan and repeat.`,
  },
  CHANGED_EXTENTS_UNAVAILABLE: {
    kind: 'failure',
    retry: 'full-backup',
    status: 'FAILED_PRECONDITION',
    message: (m: { reason: string }) => `What changed on the disk is not known (${m.reason}). It has to be read in full.`,
  },
});

/** Errors of disks and files of the worker's own machine. */
export const LocalErrors = defineErrors({
  SOURCE_UNREADABLE: {
    kind: 'operational',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { reason: string }) =>
      `The source disk cannot be read on the worker's machine (${m.reason}). Check the device and its rights.`,
  },
  TARGET_EXISTS: {
    kind: 'failure',
    retry: 'never',
    status: 'ALREADY_EXISTS',
    message: (m: { path: string }) => `${m.path} exists already and is not overwritten. Choose another name or remove it.`,
  },
  TARGET_INVALID: {
    kind: 'failure',
    retry: 'never',
    status: 'INVALID_ARGUMENT',
    message: (m: { path: string; problem: string }) => `${m.path} cannot be written: ${m.problem}.`,
  },
  TARGET_UNWRITABLE: {
    kind: 'operational',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { reason: string }) =>
      `The restored disk cannot be written (${m.reason}). Check free space and rights; nothing half-made was left.`,
  },
  IMAGE_CONVERSION_FAILED: {
    kind: 'operational',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { reason: string }) =>
      `qemu-img could not write the qcow2 file: ${m.reason}. Check that qemu-img is installed and that there is space.`,
  },
});

/** Errors of disks that are plugged into the worker VM. */
export const AttachedDiskErrors = defineErrors({
  ATTACHED_DISK_NOT_FOUND: {
    kind: 'operational',
    retry: 'same-request',
    status: 'NOT_FOUND',
    message: (m: { serial: string; waitedMs: number; seen: string }) =>
      `Disk ${m.serial} was plugged into the worker VM but did not appear there within ${m.waitedMs} ms (disks seen: ${m.seen}). Look at the worker's VM in the engine; it is tried again.`,
  },
  ATTACHED_DISK_AMBIGUOUS: {
    kind: 'operational',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { serial: string; devices: string }) =>
      `More than one disk of the worker VM has serial ${m.serial} (${m.devices}). Nothing was touched. Detach the surplus one in the engine, or redeploy the worker.`,
  },
  ATTACHED_DISK_SIZE_DIFFERS: {
    kind: 'operational',
    retry: 'same-request',
    status: 'FAILED_PRECONDITION',
    message: (m: { serial: string; device: string; expectedBytes: number; foundBytes: number }) =>
      `Disk ${m.serial} has ${m.foundBytes} bytes in the worker VM (${m.device}) but ${m.expectedBytes} were expected. Nothing was touched. The disk may have been resized; it is tried again.`,
  },
  ATTACHED_DISK_IN_USE: {
    kind: 'operational',
    retry: 'same-request',
    status: 'FAILED_PRECONDITION',
    message: (m: { serial: string; device: string }) =>
      `Disk ${m.serial} (${m.device}) is in use in the worker VM, by another task or mounted. A worker mounts nothing by itself; redeploy it if this stays.`,
  },
  ATTACHED_DISK_UNUSABLE: {
    kind: 'operational',
    retry: 'same-request',
    status: 'FAILED_PRECONDITION',
    message: (m: { serial: string; device: string; problem: string }) =>
      `Disk ${m.serial} (${m.device}) cannot be opened in the worker VM: ${m.problem}.`,
  },
});

/** Errors of the worker's own machinery and of its connection to the mover. */
export const WorkerErrors = defineErrors({
  MOVER_UNREACHABLE: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { endpoints: string; reason: string }) =>
      `The data mover (${m.endpoints}) cannot be reached: ${m.reason}. Check that it runs and that the worker may connect to its data port.`,
  },
  MOVER_CONNECTION_LOST: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { endpoint: string; reason: string }) => `The connection to the data mover at ${m.endpoint} was lost: ${m.reason}.`,
  },
  MOVER_ANSWER_INVALID: {
    kind: 'bug',
    retry: 'never',
    status: 'INTERNAL',
    message: (m: { problem: string }) => `The data mover answered against the protocol: ${m.problem}. Nothing was lost; please report it.`,
  },
  MOVER_STATE_LOST: {
    kind: 'operational',
    retry: 'same-request',
    status: 'ABORTED',
    message: (m: { diskId: string }) =>
      `The data mover that took disk ${m.diskId} was restarted or is another one now. What it does not have is sent again.`,
  },
  BLOCKS_STILL_MISSING: {
    kind: 'bug',
    retry: 'same-request',
    status: 'ABORTED',
    message: (m: { diskId: string; blocks: number; rounds: number }) =>
      `The data mover still misses ${m.blocks} blocks of disk ${m.diskId} after they were sent ${m.rounds} times.`,
  },
  LANE_CRASHED: {
    kind: 'bug',
    retry: 'same-request',
    status: 'INTERNAL',
    message: (m: { reason: string }) => `A thread of the worker ended unexpectedly (${m.reason}). Nothing was lost; please report it.`,
  },
  IDENTITY_EXPIRED: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'UNAUTHENTICATED',
    message: () =>
      "This worker's certificate has expired, or its clock is wrong. Worker VMs are made anew by themselves; enrol other workers again with a new token.",
  },
  WORKER_SLOTS_TAKEN: {
    kind: 'failure',
    retry: 'after-delay',
    status: 'RESOURCE_EXHAUSTED',
    message: (m: { slots: number }) => `The worker runs ${m.slots} tasks already, or is draining.`,
  },
});
