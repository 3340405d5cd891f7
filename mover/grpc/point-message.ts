/** Points between the contract (tidemark.mover.v1.Point) and the manifest's record. */
import { CommonErrors } from '../../common/errors/common-errors';
import { bytesFromWire, timestampFromWire, timestampToWire } from '../../common/rpc/bytes';
import type { TransferCounters, TransferCounters__Output } from '../../proto/gen/tidemark/common/v1/TransferCounters';
import type { Point, Point__Output } from '../../proto/gen/tidemark/mover/v1/Point';
import type { PointDisk, PointDisk__Output } from '../../proto/gen/tidemark/mover/v1/PointDisk';
import type { PointDiskRecord, PointRecord } from '../format/manifest';
import type { PointDraft } from '../sessions/session';
import { isUuid } from './identifiers';

const consistencies = {
  unspecified: 'CONSISTENCY_UNSPECIFIED',
  crash: 'CONSISTENCY_CRASH',
  quiesced: 'CONSISTENCY_QUIESCED',
  offline: 'CONSISTENCY_OFFLINE',
} as const;

const readModes = {
  unspecified: 'READ_MODE_UNSPECIFIED',
  full: 'READ_MODE_FULL',
  incremental: 'READ_MODE_INCREMENTAL',
  'digest-compare': 'READ_MODE_DIGEST_COMPARE',
} as const;

export function pointToWire(point: PointRecord): Point {
  const { disks, pointInTime, committedAt, consistency, blockSizeBytes: _blockSizeBytes, ...same } = point;
  return {
    ...same,
    pointInTime: timestampToWire(new Date(pointInTime)),
    committedAt: timestampToWire(new Date(committedAt)),
    consistency: consistencies[consistency],
    disks: disks.map(diskToWire),
  };
}

function diskToWire(disk: PointDiskRecord): PointDisk {
  const { allocatedBlocks: _allocatedBlocks, readMode, indexRoot, counters, ...same } = disk;
  return { ...same, readMode: readModes[readMode], indexRoot: Buffer.from(indexRoot, 'hex'), counters: countersToWire(counters) };
}

function countersToWire(counters: PointDiskRecord['counters']): TransferCounters {
  return { ...counters };
}

/** Throws ARGUMENT_INVALID. */
export function pointFromWire(point: Point__Output | null): PointDraft {
  const invalid = (field: string, problem: string) => CommonErrors.ARGUMENT_INVALID({ field: `point.${field}`, problem });
  if (!point) throw CommonErrors.ARGUMENT_INVALID({ field: 'point', problem: 'it is missing' });
  if (!isUuid(point.pointId)) throw invalid('point_id', 'it is no UUID in lower case');
  const { platformId, vmId, vmName, jobName, checkpointId, pointId } = point;
  if (vmId === '') throw invalid('vm_id', 'it is empty');
  const pointInTime = timestampFromWire(point.pointInTime);
  if (!pointInTime || Number.isNaN(pointInTime.getTime())) throw invalid('point_in_time', 'it is missing');
  const ids = new Set(point.disks.map((d) => d.diskId));
  if (ids.size !== point.disks.length) throw invalid('disks', 'a disk is named twice');
  return {
    pointId,
    platformId,
    vmId,
    vmName,
    jobName,
    checkpointId,
    pointInTime: pointInTime.toISOString(),
    consistency: keyOf(consistencies, point.consistency) ?? 'unspecified',
    disks: point.disks.map(diskFromWire),
  };
}

function diskFromWire(disk: PointDisk__Output): PointDraft['disks'][number] {
  const { indexRoot: _indexRoot, sizeBytes, readMode, counters, diskId, name, format, sparse, storageDomainId, bootable, reason } = disk;
  return {
    diskId,
    name,
    format,
    sparse,
    storageDomainId,
    interface: disk.interface,
    bootable,
    reason,
    sizeBytes: bytesFromWire(sizeBytes, 'point.disks.size_bytes'),
    readMode: keyOf(readModes, readMode) ?? 'unspecified',
    counters: countersFromWire(counters),
  };
}

function countersFromWire(counters: TransferCounters__Output | null): PointDiskRecord['counters'] {
  const read = (name: keyof TransferCounters__Output) => bytesFromWire(counters?.[name] ?? 0, `point.disks.counters.${name}`);
  return {
    plannedBytes: read('plannedBytes'),
    readBytes: read('readBytes'),
    transferredBytes: read('transferredBytes'),
    storedBytes: read('storedBytes'),
    zeroBytes: read('zeroBytes'),
    deduplicatedBytes: read('deduplicatedBytes'),
  };
}

function keyOf<K extends string>(table: Readonly<Record<K, string>>, value: string): K | undefined {
  return (Object.keys(table) as K[]).find((key) => table[key] === value);
}
