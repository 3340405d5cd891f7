import { CommonErrors } from '../../common/errors/common-errors';
import { bytesFromWire, durationFromWire } from '../../common/rpc/bytes';
import type { IdentityMaterial } from '../../common/tls/identity';
import type { DataPath__Output } from '../../proto/gen/tidemark/common/v1/DataPath';
import type { AttachedDisk__Output } from '../../proto/gen/tidemark/worker/v1/AttachedDisk';
import type { BackupDiskTask__Output } from '../../proto/gen/tidemark/worker/v1/BackupDiskTask';
import type { ByteRange__Output } from '../../proto/gen/tidemark/worker/v1/ByteRange';
import type { ImageTransfer__Output } from '../../proto/gen/tidemark/worker/v1/ImageTransfer';
import type { RestoreDiskTask__Output } from '../../proto/gen/tidemark/worker/v1/RestoreDiskTask';
import type { StartTask__Output } from '../../proto/gen/tidemark/worker/v1/StartTask';
import type { TransferLimits__Output } from '../../proto/gen/tidemark/worker/v1/TransferLimits';
import type { MoverAddress } from '../mover-client/dial-mover';
import { maxConnections } from './disk-task';
import type { AttachedDisk, BackupDisk, DiskTask, ImageTransfer, RestoreDisk, TransferLimits } from './disk-task';

/** For a disk that was just plugged to appear. */
const usualPatienceMs = 60_000;

/** A task as the contract carries it, judged. Throws ARGUMENT_INVALID. `identity` opens the mover. */
export function taskFromWire(start: StartTask__Output, identity: IdentityMaterial): DiskTask {
  if (start.backupDisk) return backupFromWire(start.backupDisk, identity);
  if (start.restoreDisk) return restoreFromWire(start.restoreDisk, identity);
  throw CommonErrors.ARGUMENT_INVALID({ field: 'task', problem: 'this worker does not know this kind of task' });
}

function backupFromWire(task: BackupDiskTask__Output, identity: IdentityMaterial): BackupDisk {
  return {
    kind: 'backup',
    source: sourceFromWire(task),
    address: addressFromWire(task.dataPath, identity),
    diskId: needed('disk_id', task.diskId),
    scope: scopeFromWire(task),
    basePointId: task.basePointId,
    baseDiskId: task.baseDiskId,
    limits: limitsFromWire(task.limits),
  };
}

function restoreFromWire(task: RestoreDiskTask__Output, identity: IdentityMaterial): RestoreDisk {
  return {
    kind: 'restore',
    target: targetFromWire(task),
    address: addressFromWire(task.dataPath, identity),
    pointId: needed('point_id', task.pointId),
    diskId: needed('disk_id', task.diskId),
    limits: limitsFromWire(task.limits),
  };
}

function sourceFromWire(task: BackupDiskTask__Output): BackupDisk['source'] {
  if (task.imageTransfer) return { kind: 'image', transfer: transferFromWire(task.imageTransfer) };
  if (task.attachedDisk) return attachedFromWire(task.attachedDisk);
  if (!task.localDevice) throw CommonErrors.ARGUMENT_INVALID({ field: 'source', problem: 'it is missing' });
  return {
    kind: 'device',
    path: needed('local_device.path', task.localDevice.path),
    sizeBytes: bytesFromWire(task.localDevice.sizeBytes, 'local_device.size_bytes'),
  };
}

function targetFromWire(task: RestoreDiskTask__Output): RestoreDisk['target'] {
  if (task.imageTransfer) return { kind: 'image', transfer: transferFromWire(task.imageTransfer) };
  if (task.attachedDisk) return attachedFromWire(task.attachedDisk);
  if (!task.localFile) throw CommonErrors.ARGUMENT_INVALID({ field: 'target', problem: 'it is missing' });
  const { format } = task.localFile;
  if (format !== 'FILE_FORMAT_RAW' && format !== 'FILE_FORMAT_QCOW2') {
    throw CommonErrors.ARGUMENT_INVALID({ field: 'local_file.format', problem: `${format} is not raw or qcow2` });
  }
  return { kind: 'file', path: needed('local_file.path', task.localFile.path), format: format === 'FILE_FORMAT_RAW' ? 'raw' : 'qcow2' };
}

function attachedFromWire(disk: AttachedDisk__Output): AttachedDisk {
  const sizeBytes = bytesFromWire(disk.sizeBytes, 'attached_disk.size_bytes');
  // Without it a disk with the right serial and the wrong content would be taken.
  if (sizeBytes === 0) throw CommonErrors.ARGUMENT_INVALID({ field: 'attached_disk.size_bytes', problem: 'it is missing' });
  const patienceMs = durationFromWire(disk.patience) ?? 0;
  return {
    kind: 'attached',
    serial: needed('attached_disk.serial', disk.serial),
    sizeBytes,
    readsZero: disk.readsZero,
    zeroRanges: zeroRangesFromWire(disk.zeroRanges, sizeBytes),
    patienceMs: patienceMs > 0 ? patienceMs : usualPatienceMs,
  };
}

/** Whatever is wrong with them: a block that is skipped for a wrong one would be lost. */
function zeroRangesFromWire(ranges: readonly ByteRange__Output[], sizeBytes: number): AttachedDisk['zeroRanges'] {
  const field = 'attached_disk.zero_ranges';
  let end = 0;
  return ranges.map((range) => {
    const start = bytesFromWire(range.startBytes, field);
    const length = bytesFromWire(range.lengthBytes, field);
    if (start < end || length === 0 || start + length > sizeBytes) {
      throw CommonErrors.ARGUMENT_INVALID({ field, problem: `${length} bytes from ${start} overlap, are none or are not of the disk` });
    }
    end = start + length;
    return { start, length };
  });
}

function transferFromWire(transfer: ImageTransfer__Output): ImageTransfer {
  return {
    transferUrl: transfer.transferUrl,
    proxyUrl: transfer.proxyUrl,
    caPem: needed('image_transfer.ca_pem', transfer.caPem),
    sizeBytes: bytesFromWire(transfer.sizeBytes, 'image_transfer.size_bytes'),
  };
}

function scopeFromWire(task: BackupDiskTask__Output): BackupDisk['scope'] {
  if (task.readScope === 'READ_SCOPE_ALLOCATED') return 'allocated';
  if (task.readScope !== 'READ_SCOPE_CHANGED')
    throw CommonErrors.ARGUMENT_INVALID({ field: 'read_scope', problem: `${task.readScope} is not known` });
  // Without a base the unchanged rest would silently be zero.
  if (task.basePointId === '') throw CommonErrors.ARGUMENT_INVALID({ field: 'base_point_id', problem: 'changes need a base' });
  return 'changed';
}

/** Throws ARGUMENT_INVALID. `identity` opens the mover. */
export function addressFromWire(dataPath: DataPath__Output | null, identity: IdentityMaterial): MoverAddress {
  if (!dataPath || dataPath.endpoints.length === 0) throw CommonErrors.ARGUMENT_INVALID({ field: 'data_path', problem: 'no endpoint' });
  return { endpoints: dataPath.endpoints, serverName: dataPath.serverName, ticket: needed('data_path.ticket', dataPath.ticket), identity };
}

function limitsFromWire(limits: TransferLimits__Output | null): TransferLimits {
  const connections = limits?.connections ?? 0;
  if (connections < 0 || connections > maxConnections) {
    throw CommonErrors.ARGUMENT_INVALID({ field: 'limits.connections', problem: `${connections} is not from 0 to ${maxConnections}` });
  }
  return { connections, rateBytesPerSecond: bytesFromWire(limits?.rateBytesPerSecond ?? 0, 'limits.rate_bytes_per_second') };
}

function needed(field: string, value: string): string {
  if (value === '') throw CommonErrors.ARGUMENT_INVALID({ field, problem: 'it is empty' });
  return value;
}
