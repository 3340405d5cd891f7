import { bytesFromWire, timestampFromWire } from '../../common/rpc/bytes';
import type { TransferCounters__Output } from '../../proto/gen/tidemark/common/v1/TransferCounters';
import type { ListPointsResponse__Output } from '../../proto/gen/tidemark/mover/v1/ListPointsResponse';
import type { Point__Output } from '../../proto/gen/tidemark/mover/v1/Point';
import type { StoredPoint } from '../catalogue/point-store';
import { zeroCounters } from '../jobs/task-record';
import type { Counters, ReadMode } from '../jobs/task-record';

/** `…_FULL` of either package to the word in the catalogue. */
export function readModeOf(wire: string): ReadMode {
  if (wire.endsWith('_FULL')) return 'full';
  if (wire.endsWith('_INCREMENTAL')) return 'incremental';
  return wire.endsWith('_DIGEST_COMPARE') ? 'digest-compare' : 'unknown';
}

export function countersFrom(wire: TransferCounters__Output | null | undefined): Counters {
  if (!wire) return zeroCounters;
  return {
    plannedBytes: bytesFromWire(wire.plannedBytes, 'plannedBytes'),
    readBytes: bytesFromWire(wire.readBytes, 'readBytes'),
    transferredBytes: bytesFromWire(wire.transferredBytes, 'transferredBytes'),
    storedBytes: bytesFromWire(wire.storedBytes, 'storedBytes'),
    zeroBytes: bytesFromWire(wire.zeroBytes, 'zeroBytes'),
    deduplicatedBytes: bytesFromWire(wire.deduplicatedBytes, 'deduplicatedBytes'),
  };
}

const consistencies: Readonly<Record<string, StoredPoint['consistency']>> = {
  CONSISTENCY_CRASH: 'crash',
  CONSISTENCY_QUIESCED: 'quiesced',
  CONSISTENCY_OFFLINE: 'offline',
};

export function pointFrom(repositoryId: string, wire: Point__Output): StoredPoint {
  return {
    repositoryId,
    id: wire.pointId,
    platformId: wire.platformId,
    vmId: wire.vmId,
    vmName: wire.vmName,
    pointInTime: timestampFromWire(wire.pointInTime)?.toISOString() ?? '',
    committedAt: timestampFromWire(wire.committedAt)?.toISOString() ?? '',
    jobName: wire.jobName,
    sessionId: wire.sessionId,
    checkpointId: wire.checkpointId,
    consistency: consistencies[wire.consistency] ?? 'unknown',
    damaged: false,
    message: '',
    disks: wire.disks.map((disk) => ({
      diskId: disk.diskId,
      name: disk.name,
      sizeBytes: bytesFromWire(disk.sizeBytes, 'sizeBytes'),
      format: disk.format,
      sparse: disk.sparse,
      storageDomainId: disk.storageDomainId,
      interface: disk.interface,
      bootable: disk.bootable,
      mode: readModeOf(disk.readMode),
      reason: disk.reason,
      counters: countersFrom(disk.counters),
    })),
  };
}

/** A listed point, also a damaged one; undefined for entries of a newer mover. */
export function listedPoint(repositoryId: string, entry: ListPointsResponse__Output): StoredPoint | undefined {
  if (entry.point) return pointFrom(repositoryId, entry.point);
  if (!entry.damaged) return undefined;
  return {
    repositoryId,
    id: entry.damaged.pointId,
    platformId: '',
    vmId: '',
    vmName: '',
    pointInTime: '',
    committedAt: '',
    jobName: '',
    sessionId: '',
    checkpointId: '',
    consistency: 'unknown',
    damaged: true,
    message: entry.damaged.message,
    disks: [],
  };
}
