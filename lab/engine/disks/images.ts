/**
 * What the engine knows of a disk's volumes: chains, states, who uses it. Pure reads and row changes on the database; no file,
 * no process. All of disks, snapshots, backups and transfers work through this.
 */
import type { DiskChain, VmDisk, VolumeId } from '../../hosts/driver';
import type { Core } from '../model/core';
import type { Database } from '../model/database';
import type { Disk, DiskAttachment, ImageStatus, Snapshot, StorageDomain, Version, Vm, Volume } from '../model/entities';
import { refuse, type Refusal } from '../states/refusals';

const GIB = 1024 ** 3;

export function volumeIdOf(volume: Volume): VolumeId {
  return { domainId: volume.domainId, diskId: volume.diskId, volumeId: volume.id };
}

/** Volumes from the base up to `leafId`, which comes last. */
export function volumesUpTo(db: Database, leafId: string): Volume[] {
  const chain: Volume[] = [];
  for (let id: string | undefined = leafId; id !== undefined;) {
    const volume: Volume = db.volumes.require(id);
    chain.unshift(volume);
    id = volume.parentId;
  }
  return chain;
}

/** The chain as the hosts see it; up to the active volume unless another one is named. */
export function chainOf(db: Database, disk: Disk, leafId?: string): DiskChain {
  const last = leafId ?? disk.activeVolumeId;
  const volumes = last === undefined ? [] : volumesUpTo(db, last);
  return {
    diskId: disk.id,
    virtualSizeBytes: volumes.at(-1)?.virtualSizeBytes ?? disk.provisionedSizeBytes,
    chain: volumes.map((volume) => ({ ...volumeIdOf(volume), format: volume.format })),
  };
}

/** Attachments of the whole disk; those of its snapshots to other machines are not counted. */
export function attachmentsOfDisk(db: Database, diskId: string): DiskAttachment[] {
  return db.attachments.list((attachment) => attachment.diskId === diskId && attachment.snapshotId === undefined);
}

/** The machines that own the disk: several only for a shareable one. */
export function vmsOfDisk(db: Database, diskId: string): Vm[] {
  return attachmentsOfDisk(db, diskId).flatMap(({ vmId }) => db.vms.get(vmId) ?? []);
}

export interface AttachedDisk {
  readonly disk: Disk;
  readonly attachment: DiskAttachment;
}

/** A machine's own disks in order of attachment, without snapshots of others. */
export function disksOfVm(db: Database, vmId: string): AttachedDisk[] {
  return db.attachments
    .list((attachment) => attachment.vmId === vmId && attachment.snapshotId === undefined)
    .flatMap((attachment) => {
      const disk = db.disks.get(attachment.diskId);
      return disk === undefined ? [] : [{ disk, attachment }];
    });
}

/** Can be part of snapshots and backups: an image disk with data that belongs to one machine. */
export function isSnapable(disk: Disk): boolean {
  return disk.storageType === 'image' && !disk.shareable && disk.contentType === 'data';
}

export function vmDisk(db: Database, { disk, attachment }: AttachedDisk): VmDisk {
  return {
    ...chainOf(db, disk),
    interface: attachment.interface === 'spapr_vscsi' ? 'virtio_scsi' : attachment.interface,
    bootable: attachment.bootable,
    readOnly: attachment.readOnly,
  };
}

/** The status of a disk is that of its active volume. */
export function setImageStatus(db: Database, diskId: string, status: ImageStatus): void {
  db.transaction(() => {
    const disk = db.disks.update(diskId, { status });
    if (disk?.activeVolumeId !== undefined) db.volumes.update(disk.activeVolumeId, { status });
  });
}

export function activeSnapshot(db: Database, vmId: string): Snapshot | undefined {
  return db.snapshots.find((snapshot) => snapshot.vmId === vmId && snapshot.type === 'active');
}

export const aliases = (disks: readonly Disk[]): string => disks.map((disk) => disk.name).join(', ');

/** Throws DISKS_LOCKED or DISKS_ILLEGAL when one of them is. */
export function requireUsable(disks: readonly Disk[], locked: Refusal = 'DISKS_LOCKED'): void {
  const busy = disks.filter((disk) => disk.status === 'locked');
  if (busy.length > 0) throw refuse(locked, aliases(busy));
  const broken = disks.filter((disk) => disk.status === 'illegal');
  if (broken.length > 0) throw refuse('DISKS_ILLEGAL', aliases(broken));
}

/** What the domain says it has free. */
export async function freeBytesOf(core: Core, domain: StorageDomain): Promise<number> {
  const free = domain.pretended?.availableBytes ?? (await core.fleet.freeBytes(domain.id));
  return Math.min(free, domain.mostFreeBytes ?? free);
}

/** Throws DISK_SPACE_LOW_ON_STORAGE_DOMAIN below the domain's critical limit. */
export async function requireSpace(core: Core, domain: StorageDomain): Promise<void> {
  if ((await freeBytesOf(core, domain)) < domain.criticalSpaceGib * GIB) throw refuse('DISK_SPACE_LOW_ON_STORAGE_DOMAIN', domain.name);
}

/** The machine's own level, or its cluster's: the engine switches features by it. */
export function effectiveLevel(db: Database, vm: Vm): Version {
  return vm.customCompatibilityVersion ?? db.clusters.get(vm.clusterId)?.version ?? { major: 4, minor: 7 };
}

export function dataCenterOfVm(db: Database, vm: Vm): string | undefined {
  return db.clusters.get(vm.clusterId)?.dataCenterId;
}

/** Reads the allocated sizes of a disk's files again; a disk without files keeps what it has. */
export async function measureDisk(core: Core, diskId: string): Promise<void> {
  const { db, fleet } = core;
  const disk = db.disks.get(diskId);
  if (disk?.activeVolumeId === undefined || disk.pretended) return;
  let total = 0;
  let leaf = 0;
  for (const volume of volumesUpTo(db, disk.activeVolumeId)) {
    leaf = await fleet.volumeActualBytes(volumeIdOf(volume));
    total += leaf;
    db.volumes.update(volume.id, { actualSizeBytes: leaf });
  }
  db.disks.update(diskId, { actualSizeBytes: leaf, totalSizeBytes: total });
}

/** True when the machine's process runs, so that changes to its disks go through it. */
export function isLive(vm: Vm): boolean {
  return ['up', 'powering_up', 'paused', 'reboot_in_progress', 'migrating', 'wait_for_launch'].includes(vm.status);
}
