import { defineErrors } from '../../common/errors/define-errors';

export const ProtectionErrors = defineErrors({
  VM_CANNOT_BE_BACKED_UP: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { vmId: string; reason: string; problem: string }) => `VM ${m.vmId} cannot be backed up (${m.reason}): ${m.problem}`,
  },
  VM_NOT_READY: {
    kind: 'operational',
    retry: 'after-delay',
    status: 'ABORTED',
    message: (m: { vmId: string; reason: string; waitedMs: number }) =>
      `VM ${m.vmId} could not be backed up for ${Math.round(m.waitedMs / 60_000)} minutes (${m.reason}). It will be tried again.`,
  },
  ENGINE_BACKUP_FAILED: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { vmId: string; backupId: string; detail: string }) =>
      `The engine could not start the backup of VM ${m.vmId}: ${m.detail === '' ? 'it gives no reason; look at its events' : m.detail}`,
  },
  ENGINE_BACKUP_LATE: {
    kind: 'operational',
    retry: 'same-request',
    status: 'DEADLINE_EXCEEDED',
    message: (m: { vmId: string; backupId: string; phase: string; waitedMs: number }) =>
      `The engine's backup of VM ${m.vmId} was still ${m.phase} after ${Math.round(m.waitedMs / 60_000)} minutes. Look at the engine's tasks.`,
  },
  FREEZE_FAILED: {
    kind: 'operational',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { vmId: string; detail: string }) =>
      `VM ${m.vmId} was to be backed up with frozen file systems only, and the guest could not be frozen (${m.detail}). Check its guest agent, or allow crash-consistent backups in the job.`,
  },
  TRANSFER_NOT_STARTED: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { diskId: string; phase: string }) =>
      `The engine could not give access to disk ${m.diskId} (image transfer ${m.phase}). Check that a host of the data centre is up and its ovirt-imageio runs.`,
  },
  TRANSFER_STALLED: {
    kind: 'operational',
    retry: 'fresh-ticket',
    status: 'DEADLINE_EXCEEDED',
    message: (m: { diskId: string; waitedMs: number }) =>
      `Disk ${m.diskId} made no progress for ${Math.round(m.waitedMs / 60_000)} minutes. Check network and storage between the host and the worker.`,
  },
  POINT_NOT_COMMITTED: {
    kind: 'operational',
    retry: 'same-request',
    status: 'ABORTED',
    message: (m: { operationId: string }) =>
      `The backup server did not make a restore point of operation ${m.operationId}; what the engine kept for it was let go.`,
  },
  CONFIGURATION_UNREADABLE: {
    kind: 'failure',
    retry: 'never',
    status: 'INVALID_ARGUMENT',
    message: (m: { problem: string }) =>
      `The stored configuration of the VM cannot be used (${m.problem}). Restore its disks one by one, or upgrade the plug-in when the point was made by a newer one.`,
  },
  RESTORE_TARGET_NOT_FOUND: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'NOT_FOUND',
    message: (m: { field: string; id: string }) =>
      `The place to restore to does not exist: ${m.field} ${m.id === '' ? 'is not given and the stored one is unknown here' : m.id}. Choose another one.`,
  },
  VM_NAME_TAKEN: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'ALREADY_EXISTS',
    message: (m: { name: string }) => `There is a VM "${m.name}" already. Choose another name.`,
  },
  VM_NAME_INVALID: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'INVALID_ARGUMENT',
    message: (m: { name: string }) => `"${m.name}" cannot be the name of a VM: 1 to 64 letters, digits, points, hyphens and underscores.`,
  },
  TARGET_PATH_INVALID: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'INVALID_ARGUMENT',
    message: (m: { path: string; problem: string }) => `"${m.path}" cannot be restored to: ${m.problem}.`,
  },
  MAC_IN_USE: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'ALREADY_EXISTS',
    message: (m: { macAddress: string; nic: string }) =>
      `The MAC address ${m.macAddress} of ${m.nic} is in use by another VM. Restore with "keep if free" or with new addresses.`,
  },
  RESTORED_DISK_LOST: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { diskId: string; status: string }) =>
      `The engine did not accept the restored disk ${m.diskId} (${m.status}). Look at its events; the half-made copy is removed.`,
  },
});
