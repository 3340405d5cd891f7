/** What the engine refuses when a snapshot is asked for or deleted. Source: reference "oVirt engine REST API" sections 5.3 and 5.4. */
import { aliases, disksOfVm, isLive, isSnapable, requireSpace, requireUsable } from '../disks/images';
import type { Core } from '../model/core';
import type { Disk, Snapshot, Vm } from '../model/entities';
import { refuse } from '../states/refusals';
import type { SnapshotRequest } from './snapshot-request';

export function requireCreatable(core: Core, vm: Vm, request: SnapshotRequest): Disk[] {
  const { db } = core;
  if (vm.status === 'image_locked') throw refuse('VM_IMAGE_IS_LOCKED', vm.name);
  if (vm.status === 'migrating') throw refuse('MIGRATION_IN_PROGRESS', vm.name);
  if (!['up', 'down', 'powering_up', 'paused'].includes(vm.status)) throw refuse('VM_STATUS_ILLEGAL', vm.name);
  const snapshots = db.snapshots.list((snapshot) => snapshot.vmId === vm.id);
  if (snapshots.some((snapshot) => snapshot.status === 'locked')) throw refuse('VM_IS_DURING_SNAPSHOT', vm.name);
  if (snapshots.some((snapshot) => snapshot.status === 'in_preview')) throw refuse('VM_IN_PREVIEW', vm.name);
  if (vm.stateless && vm.status !== 'down') throw refuse('STATELESS_VM', vm.name);
  if (request.persistMemory && vm.attributes['tpm_enabled'] === true) throw refuse('MEMORY_SNAPSHOT_NOT_SUPPORTED', vm.name);
  const foreign = db.attachments.find((attachment) => attachment.vmId === vm.id && attachment.snapshotId !== undefined);
  if (foreign !== undefined) throw refuse('DISK_SNAPSHOT_NOT_SUPPORTED', db.disks.get(foreign.diskId)?.name);
  const own = disksOfVm(db, vm.id).map(({ disk }) => disk);
  const wanted = request.diskIds?.map((id) => own.find((disk) => disk.id === id) ?? db.disks.get(id));
  if (wanted?.some((disk) => disk === undefined || !own.includes(disk)) === true)
    throw refuse('DISKS_NOT_EXIST', request.diskIds?.join(', '));
  const named = wanted?.flatMap((disk) => disk ?? []);
  const unsuitable = named?.filter((disk) => !isSnapable(disk)) ?? [];
  if (unsuitable.length > 0) throw refuse('DISK_SNAPSHOT_NOT_SUPPORTED', aliases(unsuitable));
  const disks = named ?? own.filter(isSnapable);
  requireUnlocked(core, disks, request.onBehalfOf);
  return disks;
}

function requireUnlocked(core: Core, disks: readonly Disk[], onBehalfOf: string | undefined): void {
  requireUsable(disks);
  for (const disk of disks) {
    const blocker = core.locks.blocker(`disk:${disk.id}`, false, onBehalfOf);
    // The locks of a hybrid backup allow more snapshots once its own is done.
    if (blocker !== undefined && blocker !== 'DISK_IS_LOCKED') throw refuse(blocker, disk.name);
  }
}

export async function requireSpaceOn(core: Core, disks: readonly Disk[]): Promise<void> {
  const { db } = core;
  for (const domainId of new Set(disks.map((disk) => disk.storageDomainId ?? ''))) {
    const domain = db.storageDomains.get(domainId);
    if (domain === undefined) continue;
    if (domain.status !== 'active') throw refuse('STORAGE_DOMAIN_NOT_ACTIVE', domain.name);
    await requireSpace(core, domain);
  }
}

export function requireRemovable(core: Core, vm: Vm, snapshot: Snapshot, onBehalfOf: string | undefined): void {
  const { db, locks } = core;
  if (snapshot.type !== 'regular') throw refuse('VM_SNAPSHOT_TYPE_NOT_REGULAR');
  const snapshots = db.snapshots.list((other) => other.vmId === vm.id);
  if (snapshots.some((other) => other.status === 'in_preview')) throw refuse('VM_IN_PREVIEW', vm.name);
  if (snapshots.some((other) => other.status === 'locked')) throw refuse('VM_IS_DURING_SNAPSHOT', vm.name);
  const backup = db.backups.find((other) => other.vmId === vm.id && other.phase !== 'SUCCEEDED' && other.phase !== 'FAILED');
  if (backup !== undefined && backup.id !== onBehalfOf) throw refuse('VM_IS_DURING_BACKUP', vm.name);
  if (db.attachments.find((attachment) => attachment.snapshotId === snapshot.id))
    throw refuse('VM_DISK_SNAPSHOT_IS_ATTACHED_TO_ANOTHER_VM', vm.name);
  const disks = db.volumes.list(({ snapshotId }) => snapshotId === snapshot.id).flatMap((volume) => db.disks.get(volume.diskId) ?? []);
  requireUsable(disks);
  for (const disk of disks) {
    const blocker = locks.blocker(`disk:${disk.id}`, true, onBehalfOf);
    if (blocker !== undefined) throw refuse(blocker, disk.name);
    const unplugged = disksOfVm(db, vm.id).find((entry) => entry.disk.id === disk.id)?.attachment.active === false;
    if (isLive(vm) && unplugged) throw refuse('DISKS_ARE_NOT_ACTIVE', disk.name);
  }
  if (!['up', 'powering_up', 'paused', 'reboot_in_progress', 'down'].includes(vm.status)) throw refuse('VM_STATUS_ILLEGAL', vm.name);
}
