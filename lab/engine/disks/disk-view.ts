import type { ApiObject } from '../http/api-object';
import { hrefOf, refOf } from '../http/href';
import type { Core } from '../model/core';
import type { Disk, DiskAttachment, Volume } from '../model/entities';
import { attachmentsOfDisk } from './images';

export interface DiskViewOptions {
  /** `vms` is an expensive field, shown only with All-Content. */
  readonly allContent?: boolean;
  /** The disk as one of its snapshots holds it. */
  readonly volume?: Volume;
  readonly backupMode?: 'full' | 'incremental';
  /** Where it is shown, when not at `/disks/ID`. */
  readonly href?: string;
  readonly snapshotId?: string;
}

/** A disk in the API's shape. LUNs have neither status nor image id. */
export function diskView(core: Core, disk: Disk, options: DiskViewOptions = {}): ApiObject {
  const { db } = core;
  const volume = options.volume;
  const isImage = disk.storageType !== 'lun';
  const format = volume?.format ?? disk.format;
  return {
    href: options.href ?? hrefOf('disks', disk.id),
    id: disk.id,
    name: disk.name,
    alias: disk.name,
    description: disk.description,
    storage_type: disk.storageType,
    content_type: disk.contentType,
    shareable: disk.shareable,
    wipe_after_delete: disk.wipeAfterDelete,
    propagate_errors: disk.propagateErrors,
    provisioned_size: volume?.virtualSizeBytes ?? disk.provisionedSizeBytes,
    actual_size: volume?.actualSizeBytes ?? disk.actualSizeBytes,
    total_size: disk.totalSizeBytes,
    backup: disk.backup,
    format,
    ...(format === 'cow' && { qcow_version: 'qcow2_v3' }),
    sparse: volume?.sparse ?? disk.sparse,
    ...(isImage && { status: volume?.status ?? disk.status, image_id: volume?.id ?? disk.activeVolumeId }),
    ...(!isImage && { lun_storage: { type: 'iscsi', logical_units: [] } }),
    backup_mode: options.backupMode,
    storage_domains: disk.storageDomainId === undefined ? undefined : [refOf('storagedomains', disk.storageDomainId)],
    disk_profile: refOf('diskprofiles', disk.diskProfileId),
    quota: disk.quotaId === undefined ? undefined : { id: disk.quotaId },
    snapshot: options.snapshotId === undefined ? undefined : { id: options.snapshotId },
    vms: options.allContent === true ? attachmentsOfDisk(db, disk.id).map(({ vmId }) => refOf('vms', vmId)) : undefined,
  };
}

export function attachmentView(core: Core, attachment: DiskAttachment): ApiObject {
  const { vmId, diskId } = attachment;
  const running = core.db.vms.get(vmId)?.status === 'up';
  return {
    href: hrefOf('vms', vmId, 'diskattachments', diskId),
    id: diskId,
    active: attachment.active,
    bootable: attachment.bootable,
    interface: attachment.interface,
    logical_name: running && attachment.active ? logicalName(core, attachment) : undefined,
    pass_discard: attachment.passDiscard,
    read_only: attachment.readOnly,
    uses_scsi_reservation: attachment.usesScsiReservation,
    disk: {
      ...refOf('disks', diskId),
      ...(attachment.snapshotId !== undefined && { snapshot: { id: attachment.snapshotId } }),
    },
    vm: refOf('vms', vmId),
  };
}

/** What a guest agent would report: letters in order of attachment, by bus. */
function logicalName(core: Core, attachment: DiskAttachment): string {
  const prefix = attachment.interface === 'virtio' ? '/dev/vd' : '/dev/sd';
  const isVirtio = attachment.interface === 'virtio';
  const same = core.db.attachments.list(
    (other) => other.vmId === attachment.vmId && other.active && (other.interface === 'virtio') === isVirtio,
  );
  const index = same.findIndex((other) => other.id === attachment.id);
  return `${prefix}${String.fromCharCode('a'.charCodeAt(0) + (Math.max(0, index) % 26))}`;
}

/** One volume of a chain: its id is the volume's, which an image transfer takes as `snapshot.id`. */
export function diskSnapshotView(disk: Disk, volume: Volume, collectionHref: string): ApiObject {
  return {
    href: `${collectionHref}/${volume.id}`,
    id: volume.id,
    name: disk.name,
    alias: disk.name,
    description: disk.description,
    image_id: volume.id,
    parent: volume.parentId === undefined ? undefined : { id: volume.parentId },
    disk: refOf('disks', disk.id),
    snapshot: volume.snapshotId === undefined ? undefined : { id: volume.snapshotId },
    actual_size: volume.actualSizeBytes,
    provisioned_size: volume.virtualSizeBytes,
    format: volume.format,
    sparse: volume.sparse,
    status: volume.status,
    content_type: disk.contentType,
    storage_type: disk.storageType,
    backup: disk.backup,
    shareable: disk.shareable,
    wipe_after_delete: disk.wipeAfterDelete,
    propagate_errors: disk.propagateErrors,
    storage_domain: refOf('storagedomains', volume.domainId),
    storage_domains: [refOf('storagedomains', volume.domainId)],
  };
}
