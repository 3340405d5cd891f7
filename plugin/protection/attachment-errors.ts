import { defineErrors } from '../../common/errors/define-errors';

/** What stands in the way of a snapshot and of attaching a disk to a worker VM; conditions of engine REST API §5.3 and §7.1. */
export const AttachmentErrors = defineErrors({
  SNAPSHOT_FAILED: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { vmId: string; detail: string }) =>
      `The engine could not take the snapshot of VM ${m.vmId}: ${m.detail === '' ? 'it gives no reason; look at its events' : m.detail}`,
  },
  SNAPSHOT_LATE: {
    kind: 'operational',
    retry: 'same-request',
    status: 'DEADLINE_EXCEEDED',
    message: (m: { vmId: string; snapshotId: string; waitedMs: number }) =>
      `The snapshot ${m.snapshotId} of VM ${m.vmId} was not ready after ${Math.round(m.waitedMs / 60_000)} minutes. Look at the engine's tasks.`,
  },
  ATTACH_DISK_LOCKED: {
    kind: 'operational',
    retry: 'after-delay',
    status: 'ABORTED',
    message: (m: { diskId: string; workerVmId: string; detail: string }) =>
      `Disk ${m.diskId} stayed locked, so it could not be attached to worker VM ${m.workerVmId} (${m.detail}). It is tried again when nothing else works on the disk.`,
  },
  ATTACH_TRANSFER_OPEN: {
    kind: 'operational',
    retry: 'after-delay',
    status: 'ABORTED',
    message: (m: { diskId: string; workerVmId: string; transferId: string; phase: string; hostId: string }) =>
      `Disk ${m.diskId} could not be attached to worker VM ${m.workerVmId}: image transfer ${m.transferId}, by which this run asked what the disk holds, is ${m.phase}, as the image service of host ${m.hostId} does not let go of it. Restart ovirt-imageio there; the engine then ends the transfer by itself, and the disk is tried again.`,
  },
  ATTACH_DISK_TAKEN: {
    kind: 'operational',
    retry: 'after-delay',
    status: 'ABORTED',
    message: (m: { diskId: string; workerVmId: string }) =>
      `Disk ${m.diskId} hangs on worker VM ${m.workerVmId} or on another VM already, and not through this run. Ours are detached by the janitor; detach others in the engine.`,
  },
  ATTACH_SNAPSHOT_UNUSABLE: {
    kind: 'operational',
    retry: 'same-request',
    status: 'FAILED_PRECONDITION',
    message: (m: { diskId: string; snapshotId: string; detail: string }) =>
      `Snapshot ${m.snapshotId} of disk ${m.diskId} cannot be attached (${m.detail}): it was removed, or the VM is in a preview. End the preview in the engine; the next run takes a new snapshot.`,
  },
  ATTACH_OTHER_DATA_CENTER: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { diskId: string; workerVmId: string }) =>
      `Disk ${m.diskId} and worker VM ${m.workerVmId} are in different data centres. Deploy a worker into a cluster of the disk's data centre, or use image transfer.`,
  },
  ATTACH_NO_CONTROLLER: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { workerVmId: string; detail: string }) =>
      `Worker VM ${m.workerVmId} takes no more disks (${m.detail}). Switch its VirtIO-SCSI controller on, or replace the worker.`,
  },
  ATTACH_NOT_ALLOWED: {
    kind: 'failure',
    retry: 'never',
    status: 'FAILED_PRECONDITION',
    message: (m: { diskId: string; detail: string }) =>
      `The engine lets disk ${m.diskId} be attached to no worker (${m.detail}). Leave it out of the job, or back it up inside the guest.`,
  },
  ATTACH_WORKER_VM_STATE: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { workerVmId: string; status: string }) =>
      `Worker VM ${m.workerVmId} is ${m.status}, so no disk can be plugged into it. It is tried again with a worker that is up.`,
  },
  ATTACH_PLUG_FAILED: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { diskId: string; workerVmId: string; detail: string }) =>
      `The host could not plug disk ${m.diskId} into worker VM ${m.workerVmId} (${m.detail}). vdsm.log on the host says why.`,
  },
});
