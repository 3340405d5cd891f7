/**
 * What the engine refuses in the areas of disks, snapshots, backups, transfers and power, by the engine's own message names.
 *
 * The names are the engine's; the sentences are ours, so a client must not match on them. `{subject}` is replaced by what the
 * caller names (aliases of disks, the VM's name).
 *
 * Source: reference "oVirt engine REST API" sections 4.5, 5.3, 5.4, 6.5, 7.1 and 15.
 */
import { EngineFault } from '../http/fault';

const REFUSALS = {
  ACTIVE_IMAGE_TRANSFER_FOR_VM_BACKUP: [409, 'Cannot stop VM backup. There are active image transfers for VM backup {subject}'],
  CANNOT_DETACH_DISK_WITH_SNAPSHOT: [409, 'Cannot detach Virtual Disk. The disk {subject} has snapshots; collapse them first'],
  CANNOT_PAUSE_IMAGE_DOWNLOAD: [400, 'Cannot pause image transfer. Pausing a download is not supported'],
  CANNOT_PLUG_VM_STATUS: [409, 'Cannot change disk attachment. VM {subject} must be up, paused or down'],
  CANNOT_RESUME_IMAGE_TRANSFER: [409, 'Cannot resume image transfer. The transfer is not paused'],
  CANNOT_START_BACKUP_VM_SHOULD_BE_IN_UP_OR_DOWN_STATUS: [409, 'Cannot backup VM. VM {subject} must be in status up or down'],
  CHECKPOINT_INVALID: [400, 'Cannot backup VM. Checkpoint {subject} is invalid; take a full backup'],
  CHECKPOINT_NOT_EXIST: [400, 'The specified checkpoint {subject} does not exist'],
  COLD_BACKUP_NOT_SUPPORTED: [400, 'Cannot backup VM. The cluster level of {subject} does not support backing up a stopped VM'],
  DISKS_ARE_NOT_ACTIVE: [409, 'The following disks are not active: {subject}'],
  DISKS_ILLEGAL: [500, 'The following attached disks are in ILLEGAL status: {subject}. Remove them and try again'],
  DISKS_LOCKED: [409, 'The following disks are locked: {subject}. Try again in a few minutes'],
  DISKS_NOT_EXIST: [400, 'The following disks do not exist: {subject}'],
  DISK_ALREADY_ATTACHED: [409, 'Cannot attach Virtual Disk. The disk {subject} is already attached to the VM'],
  DISK_BOOT_IN_USE: [409, 'Cannot attach Virtual Disk. Disk {subject} is already marked as bootable'],
  DISK_CONFIGURATION_NOT_SUPPORTED: [409, 'Disk configuration ({subject}) is incompatible with the storage domain type'],
  DISK_ID_IN_USE: [409, 'Cannot add Virtual Disk. A disk or volume with id {subject} already exists'],
  DISK_IS_BEING_TRANSFERRED: [409, 'Disk {subject} is being transferred. Try again when the transfer has ended'],
  DISK_IS_LOCKED: [409, 'Disk {subject} is locked by another operation. Try again in a few minutes'],
  DISK_NOT_IN_BACKUP: [400, 'Cannot transfer image. Disk {subject} is not part of the backup'],
  DISK_PLUGGED_TO_NON_DOWN_VMS: [409, 'Disk {subject} is plugged to a VM that is not down'],
  DISK_SNAPSHOT_NOT_SUPPORTED: [400, 'Cannot create Snapshot. Snapshots of disk {subject} are not supported'],
  DISK_SPACE_LOW_ON_STORAGE_DOMAIN: [409, 'Low disk space on storage domain {subject}'],
  FORMAT_NOT_APPLICABLE_FOR_BACKUP: [400, 'Cannot transfer image. Format {subject} is not applicable for a backup; only raw is'],
  HOSTED_ENGINE_VM_BACKUP_NOT_SUPPORTED: [409, 'Cannot backup VM. Backing up the hosted engine VM {subject} is not supported'],
  HOSTED_ENGINE_DISK: [409, 'Cannot change disk attachment. VM {subject} is the hosted engine'],
  INCREMENTAL_BACKUP_NOT_SUPPORTED: [400, 'Incremental backup is not supported at the compatibility level of {subject}'],
  INCREMENTAL_BACKUP_NOT_SUPPORTED_FOR_RAW_DISK: [
    400,
    'Cannot edit Virtual Disk. Incremental backup is not supported for RAW disk {subject}',
  ],
  MEMORY_SNAPSHOT_NOT_SUPPORTED: [409, 'Cannot create Snapshot. VM {subject} does not support saving its memory'],
  MIGRATION_IN_PROGRESS: [409, 'VM {subject} is being migrated'],
  MIXED_INCREMENTAL_AND_FULL: [400, 'Cannot backup VM. Disks {subject} need a full backup and cannot be mixed at this compatibility level'],
  NO_BOOTABLE_DISK: [409, 'Cannot run VM {subject} without a bootable disk'],
  NO_HOST_FITS: [409, 'Cannot run VM. There is no host that satisfies the requirements of {subject}'],
  DISK_SHRINK_NOT_SUPPORTED: [400, 'Cannot edit Virtual Disk. The new size of {subject} must not be smaller than the present one'],
  OBJECT_LOCKED: [409, 'Related operation is currently in progress on {subject}. Try again later'],
  SNAPSHOT_IS_BEING_TAKEN_FOR_VM: [409, 'Snapshot is currently being created for VM {subject}'],
  SNAPSHOT_NOT_USABLE: [409, 'The snapshot of {subject} is not in status ok'],
  STORAGE_DOMAIN_NOT_ACTIVE: [409, 'The relevant storage domain {subject} is not active'],
  STORAGE_DOMAIN_NOT_EXIST: [400, 'Storage domain {subject} does not exist'],
  STORAGE_POOL_NOT_MATCH: [409, 'Cannot attach Virtual Disk. Disk {subject} and the VM are in different data centers'],
  STATELESS_VM: [409, 'Cannot create Snapshot. VM {subject} runs stateless'],
  TRANSFER_NOT_SUPPORTED: [400, 'Cannot transfer image. Disk {subject} is of a type that cannot be transferred'],
  UPLOAD_FOR_BACKUP_NOT_SUPPORTED: [400, 'Cannot transfer image. A backup can only be downloaded'],
  VIRTIO_SCSI_DISABLED: [409, 'Cannot attach Virtual Disk. The VirtIO-SCSI controller of VM {subject} is disabled'],
  VM_BACKUP_DESCRIPTION_IS_TOO_LONG: [400, 'Cannot backup VM. The description has more than 1024 characters'],
  VM_BACKUP_ID_ALREADY_EXIST: [400, 'Cannot backup VM. A backup with id {subject} already exists'],
  VM_BACKUP_NOT_EXIST: [400, 'VM backup {subject} does not exist'],
  VM_BACKUP_NOT_READY: [409, 'Cannot transfer image. VM backup {subject} is not ready'],
  VM_BACKUP_STOPPED_TOO_EARLY: [400, 'VM backup was stopped before it was ready; it is in phase {subject}'],
  VM_BACKUP_ALREADY_STOPPED: [400, 'VM backup is already in phase {subject}'],
  VM_DISK_SNAPSHOT_IS_ATTACHED_TO_ANOTHER_VM: [409, 'Disk snapshots of {subject} are attached to another VM'],
  VM_TEMPLATE_IMAGE_IS_LOCKED: [409, 'Disk {subject} is locked. Try again in a few minutes'],
  VM_IMAGE_IS_LOCKED: [409, 'VM {subject} is locked. Try again in a few minutes'],
  VM_IN_PREVIEW: [409, 'VM {subject} is in the middle of a snapshot preview'],
  VM_IS_DURING_BACKUP: [409, 'VM {subject} is during a backup operation'],
  VM_IS_DURING_A_BACKUP_CHECKPOINT_REMOVAL: [409, 'A checkpoint of VM {subject} is being removed'],
  VM_IS_DURING_SNAPSHOT: [409, 'A snapshot operation is in progress for VM {subject}'],
  VM_IS_NOT_DOWN: [409, 'VM {subject} must be down'],
  VM_IS_NOT_RUNNING: [409, 'VM {subject} is not running'],
  VM_IS_NOT_UP: [409, 'VM {subject} is not up'],
  VM_IS_RUNNING: [409, 'VM {subject} is already running'],
  VM_NOT_IN_PREVIEW: [409, 'VM {subject} is not in the middle of a snapshot preview'],
  VM_SNAPSHOT_DOES_NOT_EXIST: [409, 'The snapshot of {subject} does not exist'],
  VM_SNAPSHOT_TYPE_NOT_REGULAR: [409, 'Cannot remove Snapshot. Only regular snapshots can be removed'],
  VM_STATUS_ILLEGAL: [409, 'Cannot perform this in the present status of VM {subject}'],
} as const satisfies Readonly<Record<string, readonly [status: number, text: string]>>;

export type Refusal = keyof typeof REFUSALS;

export function refuse(name: Refusal, subject = ''): EngineFault {
  const [status, text] = REFUSALS[name];
  return new EngineFault(status, name, [text.replace('{subject}', subject)]);
}
