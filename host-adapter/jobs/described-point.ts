import type { AwaitingCommit__Output } from '../../proto/gen/tidemark/plugin/v1/AwaitingCommit';
import type { Point } from '../../proto/gen/tidemark/mover/v1/Point';
import type { TaskContext } from './task-context';

const consistencies: Readonly<Record<string, NonNullable<Point['consistency']>>> = {
  crash: 'CONSISTENCY_CRASH',
  quiesced: 'CONSISTENCY_QUIESCED',
  offline: 'CONSISTENCY_OFFLINE',
};
const readModes = {
  DISK_READ_MODE_UNSPECIFIED: 'READ_MODE_UNSPECIFIED',
  DISK_READ_MODE_FULL: 'READ_MODE_FULL',
  DISK_READ_MODE_INCREMENTAL: 'READ_MODE_INCREMENTAL',
  DISK_READ_MODE_DIGEST_COMPARE: 'READ_MODE_DIGEST_COMPARE',
} as const;

/** The point as the plug-in described it. */
export function describedPoint(context: TaskContext, event: AwaitingCommit__Output): Point {
  const { task, session } = context;
  return {
    pointId: task.pointId ?? '',
    repositoryId: session.repositoryId,
    platformId: task.platformId,
    vmId: task.vmId,
    vmName: event.vmName || task.vmName,
    pointInTime: event.pointInTime,
    jobName: session.jobName,
    sessionId: session.id,
    checkpointId: event.checkpointId,
    consistency: consistencies[event.consistency] ?? 'CONSISTENCY_UNSPECIFIED',
    disks: event.disks.map(({ disk, mode, reason, counters }) => ({
      diskId: disk?.diskId ?? '',
      name: disk?.name ?? '',
      sizeBytes: disk?.sizeBytes ?? '0',
      format: disk?.format ?? '',
      sparse: disk?.sparse ?? false,
      storageDomainId: disk?.storageDomainId ?? '',
      interface: disk?.interface ?? '',
      bootable: disk?.bootable ?? false,
      readMode: readModes[mode],
      reason,
      counters,
    })),
  };
}
