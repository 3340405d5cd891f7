import { randomUUID } from 'node:crypto';
import { EngineErrors } from '../../engine/engine-errors';
import type { Snapshot } from '../../engine/snapshots';
import type { FakeVm, Mutable } from '../fake-rows';
import { conflict, copy, finalBackup, finalTransfer, refused } from './fake-world';
import type { FakeWorld } from './fake-world';

/** Engine REST API §14.5. */
export function fakeSnapshots(world: FakeWorld) {
  return {
    list: world.call('snapshots.list', (vmId: string) => world.vm(vmId).snapshots.map((s) => ({ ...s }))),
    find: world.call('snapshots.find', (vmId: string, id: string) => copy(world.vm(vmId).snapshots.find((s) => s.id === id))),
    disks: world.call('snapshots.disks', (vmId: string, id: string) => {
      if (!world.vm(vmId).snapshots.some((s) => s.id === id)) throw EngineErrors.ENGINE_NOT_FOUND({ what: `snapshots/${id}` });
      const disks = world.vm(vmId).attachments.flatMap((a) => copy(world.disksById.get(a.diskId)) ?? []);
      return disks.map((disk) => ({ ...disk, imageId: volumeOf(id, disk.id) }));
    }),
    create: world.call('snapshots.create', (vmId: string, body: { description: string; diskIds?: readonly string[] }) =>
      createSnapshot(world, vmId, body.description, body.diskIds ?? []),
    ),
    remove: world.call('snapshots.remove', (vmId: string, id: string) => {
      const vm = world.vm(vmId);
      if (vm.backups.some((b) => !finalBackup.includes(b.phase))) throw conflict('VM is during a backup');
      if (transfersOfVolumes(world).some((t) => vm.attachments.some((a) => a.diskId === t.diskId)))
        throw conflict('Disk is being transferred');
      const found = vm.snapshots.find((s) => s.id === id);
      if (!found) return false;
      if ([...world.vmsById.values()].some((v) => v.attachments.some((a) => a.snapshotId === id)))
        throw refused(409, 'Cannot remove Snapshot. Disk snapshots of the VM are attached to another VM.');
      if (found.status !== 'ok') throw conflict('Cannot remove Snapshot. The VM is performing an operation on a snapshot.');
      mergeSnapshot(world, vm, found);
      return true;
    }),
  };
}

/** Id of the volume that holds a disk as it was in a snapshot. */
export function volumeOf(snapshotId: string, diskId: string): string {
  return `volume/${snapshotId}/${diskId}`;
}

/** They lock the volume, and share a lock on the VM. */
export function transfersOfVolumes(world: FakeWorld) {
  return [...world.transfersById.values()].filter((t) => t.volumeId !== undefined && !finalTransfer.includes(t.phase));
}

function createSnapshot(world: FakeWorld, vmId: string, description: string, diskIds: readonly string[]): Snapshot {
  const vm = world.vm(vmId);
  const disks = diskIds.flatMap((id) => world.disksById.get(id) ?? []);
  if (disks.length < diskIds.length) throw refused(400, 'Cannot create Snapshot. Disks do not exist.');
  if (disks.some((d) => d.status === 'locked')) throw conflict('Cannot create Snapshot. Disks are locked.');
  if (disks.some((d) => d.shareable)) throw refused(400, 'Cannot create Snapshot. Snapshots of the disk are not supported.');
  if (vm.snapshots.some((s) => s.status === 'locked')) throw conflict('The VM is performing an operation on a snapshot.');
  if (vm.attachments.some((a) => a.snapshotId !== undefined)) throw refused(409, 'Disk snapshots of others are attached to the VM.');
  // The new snapshot takes over the id of what was the active one.
  const active = vm.snapshots.find((s) => s.type === 'active')!;
  Object.assign(active, { type: 'regular', description, status: 'locked', createdAt: new Date(world.clock.now()) });
  vm.snapshots.push({ ...active, id: randomUUID(), description: 'Active VM', type: 'active', status: 'ok' });
  for (const disk of disks) disk.status = 'locked';
  world.later(() => {
    for (const disk of disks) disk.status = 'ok';
    if (world.failingSnapshots > 0) {
      world.failingSnapshots -= 1;
      world.lastFailure = 'Failed to create the snapshot.';
      vm.snapshots = vm.snapshots.filter((s) => s !== active);
    } else {
      active.status = 'ok';
    }
  });
  return { ...active };
}

/** Locked while it merges, then gone, or `ok` again when the merge fails. */
export function mergeSnapshot(world: FakeWorld, vm: FakeVm, snapshot: Mutable<Snapshot>): void {
  if (snapshot.status === 'locked' && vm.backups.every((b) => finalBackup.includes(b.phase))) return;
  snapshot.status = 'locked';
  world.later(() => {
    if (world.failingMerges > 0) {
      world.failingMerges -= 1;
      snapshot.status = 'ok';
    } else {
      vm.snapshots = vm.snapshots.filter((s) => s !== snapshot);
    }
  });
}
