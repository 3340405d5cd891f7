import type { EngineBackup } from '../engine/backups';
import type { Checkpoint } from '../engine/checkpoints';
import type { DiskAttachment } from '../engine/disk-attachments';
import type { Disk } from '../engine/disks';
import type { ImageTransfer } from '../engine/image-transfers';
import type { Nic } from '../engine/nics';
import type { Snapshot } from '../engine/snapshots';
import type { Vm } from '../engine/vms';

export type Mutable<T> = { -readonly [K in keyof T]: T[K] };
/** A VM and everything that hangs on it. */
export interface FakeVm {
  vm: Mutable<Vm>;
  attachments: Mutable<DiskAttachment>[];
  nics: Nic[];
  tags: string[];
  snapshots: Mutable<Snapshot>[];
  checkpoints: (Mutable<Checkpoint> & { diskIds: string[] })[];
  backups: FakeBackup[];
}

/** A backup with what the engine keeps of it inside. */
export interface FakeBackup extends Mutable<EngineBackup> {
  disks: Disk[];
  mode: 'live' | 'cold' | 'hybrid';
  stopping: boolean;
}

export interface FakeTransfer extends Mutable<ImageTransfer> {
  backupId: string | undefined;
  incremental: boolean;
  volumeId: string | undefined;
}

/** Rows of the engine in memory, before a test says what is special about them. */
export const emptyVm: Vm = {
  id: '',
  name: '',
  description: '',
  comment: '',
  status: 'up',
  statusDetail: undefined,
  origin: 'ovirt',
  type: 'server',
  clusterId: '',
  hostId: undefined,
  templateId: undefined,
  customCompatibilityVersion: undefined,
  operatingSystem: 'other_linux',
  biosType: 'q35_sea_bios',
  memoryBytes: 2 ** 30,
  fqdn: undefined,
  guestAgentReports: true,
  deleteProtected: false,
  stateless: false,
  poolId: undefined,
  hasIllegalImages: false,
  nextRunConfigurationExists: false,
  tpmEnabled: false,
  leaseStorageDomainId: undefined,
  highlyAvailable: false,
  createdAt: undefined,
  startedAt: undefined,
  ovf: undefined,
  diskAttachments: undefined,
  nics: undefined,
  snapshots: undefined,
  tags: undefined,
};

export const emptyDisk: Disk = {
  id: '',
  name: '',
  description: '',
  imageId: undefined,
  provisionedBytes: 2 ** 30,
  actualBytes: 2 ** 20,
  totalBytes: 2 ** 20,
  format: 'cow',
  sparse: true,
  status: 'ok',
  storageType: 'image',
  contentType: 'data',
  incrementalBackup: true,
  backupMode: undefined,
  shareable: false,
  wipeAfterDelete: false,
  propagateErrors: false,
  storageDomainId: 'sd1',
  diskProfileId: undefined,
  quotaId: undefined,
  snapshotId: undefined,
  vmIds: undefined,
};

export const emptyAttachment: DiskAttachment = {
  diskId: '',
  vmId: undefined,
  active: true,
  bootable: false,
  readOnly: false,
  passDiscard: false,
  interface: 'virtio_scsi',
  logicalName: undefined,
  snapshotId: undefined,
  disk: undefined,
};
