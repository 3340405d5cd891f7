import { conflict } from '../http/fault';
import { unfinishedTransfers } from '../inventory/usage';
import type { Core } from '../model/core';
import type { Vm } from '../model/entities';

/** Removes the VM's own disks with their files; given by the composition. */
export type RemoveDisk = (diskId: string) => Promise<void>;

export interface RemovalOptions {
  /** Keep the disks; refused while the VM has snapshots. */
  readonly detachOnly: boolean;
  readonly force: boolean;
}

/** Throws the refusal that stands in the way of removing the VM (reference §8.3, §15). */
export function requireRemovable(core: Core, vm: Vm, options: RemovalOptions): void {
  const { db } = core;
  const cannot = (code: string, why: string): Error => conflict(code, `Cannot remove VM. ${why}`);
  if (vm.deleteProtected) {
    throw cannot('DELETE_PROTECTION_ENABLED', `Delete protection is enabled for VM ${vm.name}.`);
  }
  const removable = vm.status === 'down' || (vm.status === 'image_locked' && options.force);
  if (!removable) {
    throw cannot('VM_IS_RUNNING', `VM ${vm.name} is not down but ${vm.status}.`);
  }
  if (db.backups.find((backup) => backup.vmId === vm.id && backup.phase !== 'SUCCEEDED' && backup.phase !== 'FAILED')) {
    throw cannot('VM_IS_DURING_BACKUP', `The VM ${vm.name} is during a backup operation.`);
  }
  if (db.snapshots.find((snapshot) => snapshot.vmId === vm.id && snapshot.status === 'locked')) {
    throw cannot('VM_IS_DURING_SNAPSHOT', `A snapshot operation is in progress for VM ${vm.name}.`);
  }
  const own = new Set(
    db.attachments.list((attachment) => attachment.vmId === vm.id && attachment.snapshotId === undefined).map(({ diskId }) => diskId),
  );
  if (db.attachments.find((attachment) => attachment.snapshotId !== undefined && own.has(attachment.diskId))) {
    throw cannot('VM_DISK_SNAPSHOT_IS_ATTACHED_TO_ANOTHER_VM', `Disk snapshots of ${vm.name} are attached to another VM.`);
  }
  if (unfinishedTransfers(core).some((transfer) => own.has(transfer.diskId))) {
    throw cannot('DISK_IS_BEING_TRANSFERRED', `A disk of VM ${vm.name} is being transferred.`);
  }
  const locked = [...own].flatMap((id) => db.disks.get(id) ?? []).filter((disk) => disk.status === 'locked');
  if (locked.length > 0 && !options.force) {
    throw cannot('DISKS_LOCKED', `The following disks are locked: ${locked.map((disk) => disk.name).join(', ')}.`);
  }
  const holder = core.locks.blocker(`vm:${vm.id}`, true);
  if (holder !== undefined) {
    throw cannot(holder, `Another operation is in progress on VM ${vm.name}.`);
  }
  if (options.detachOnly && db.snapshots.find((snapshot) => snapshot.vmId === vm.id && snapshot.type === 'regular')) {
    throw cannot('CANNOT_DETACH_DISKS_WITH_SNAPSHOTS', `VM ${vm.name} has snapshots; its disks cannot be kept.`);
  }
}

/** Rows of the VM go at once, the files of its disks afterwards. */
export async function removeVm(core: Core, vm: Vm, options: RemovalOptions, removeDisk: RemoveDisk): Promise<void> {
  const { db } = core;
  const attached = db.attachments.list((attachment) => attachment.vmId === vm.id);
  const doomed = options.detachOnly
    ? []
    : attached.filter(({ diskId, snapshotId }) => snapshotId === undefined && db.disks.get(diskId)?.shareable === false);
  db.transaction(() => {
    for (const attachment of attached) {
      db.attachments.delete(attachment.id);
      const leaf = db.disks.get(attachment.diskId)?.activeVolumeId;
      if (options.detachOnly && leaf !== undefined && attachment.snapshotId === undefined) {
        db.volumes.update(leaf, { snapshotId: undefined });
      }
    }
    for (const { diskId } of doomed) {
      db.disks.update(diskId, { status: 'locked', pending: 'remove' });
    }
    const ofVm = <E extends { readonly id: string; readonly vmId: string }>(collection: {
      list(f: (e: E) => boolean): E[];
      delete(id: string): boolean;
    }): void => {
      for (const entity of collection.list((candidate) => candidate.vmId === vm.id)) {
        collection.delete(entity.id);
      }
    };
    ofVm(db.nics);
    ofVm(db.cdroms);
    ofVm(db.graphicsConsoles);
    ofVm(db.permissions);
    ofVm(db.snapshots);
    ofVm(db.checkpoints);
    ofVm(db.backups);
    for (const group of db.affinityGroups.list(({ vmIds }) => vmIds.includes(vm.id))) {
      db.affinityGroups.update(group.id, { vmIds: group.vmIds.filter((id) => id !== vm.id) });
    }
    db.vms.delete(vm.id);
  });
  for (const { diskId } of doomed) {
    await removeDisk(diskId);
  }
}
