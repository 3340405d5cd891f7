import { randomUUID } from 'node:crypto';
import type { NewAttachment } from '../../engine/disk-attachments';
import type { Disk, NewDisk } from '../../engine/disks';
import { EngineErrors } from '../../engine/engine-errors';
import { emptyAttachment, emptyDisk } from '../fake-rows';
import type { Mutable } from '../fake-rows';
import { transfersOfVolumes, volumeOf } from './fake-snapshots';
import { conflict, copy, refused } from './fake-world';
import type { FakeWorld } from './fake-world';

export function fakeDisks(world: FakeWorld) {
  return {
    find: world.call('disks.find', (id: string) => copy(world.disksById.get(id))),
    create: world.call('disks.create', (body: NewDisk) => {
      if (world.disksById.has(body.id)) throw refused(409, 'disk id exists');
      const disk = addDisk(world, {
        id: body.id,
        name: body.name,
        description: body.description ?? '',
        provisionedBytes: body.provisionedBytes,
        format: body.format,
        sparse: body.sparse,
        storageDomainId: body.storageDomainId,
        status: 'locked',
      });
      world.later(() => (disk.status = 'ok'));
      return { ...disk };
    }),
    remove: world.call('disks.remove', (id: string) => {
      const disk = world.disksById.get(id);
      if (!disk) return false;
      if (disk.status === 'locked') throw conflict('disk is locked');
      disk.status = 'locked';
      world.later(() => world.disksById.delete(id));
      return true;
    }),
    volumes: world.call('disks.volumes', (id: string) => {
      const snapshots = [...world.vmsById.values()].filter((v) => v.attachments.some((a) => a.diskId === id)).flatMap((v) => v.snapshots);
      return snapshots.map((snapshot) => {
        const volumeId = volumeOf(snapshot.id, id);
        const status = transfersOfVolumes(world).some((t) => t.volumeId === volumeId) ? 'locked' : 'ok';
        return { id: volumeId, parentId: undefined, snapshotId: snapshot.id, status, format: 'cow', actualBytes: 0 };
      });
    }),
    pages: (options: { search?: string }) => pages(world, options),
  };
}

/** Engine REST API §7. */
export function fakeDiskAttachments(world: FakeWorld) {
  const plugging = (failing: 'failingPlugs' | 'failingUnplugs', detail: string) => {
    if (world[failing] <= 0) return;
    world[failing] -= 1;
    throw conflict(detail);
  };
  return {
    list: world.call('diskAttachments.list', (vmId: string) => world.view(world.vm(vmId)).diskAttachments),
    find: world.call('diskAttachments.find', (vmId: string, diskId: string) =>
      copy(world.vmsById.get(vmId)?.attachments.find((a) => a.diskId === diskId)),
    ),
    add: world.call('diskAttachments.add', (vmId: string, body: NewAttachment) => {
      const { diskId, snapshotId } = body;
      const vm = world.vm(vmId);
      if (vm.attachments.some((a) => a.diskId === diskId))
        throw refused(409, 'Cannot attach Virtual Disk. The disk is already attached to the VM.');
      if (world.disksById.get(diskId)?.status !== 'ok') throw conflict('disk is locked');
      if (transfersOfVolumes(world).some((t) => t.diskId === diskId)) throw conflict('disk is locked');
      if (snapshotId !== undefined) requireSnapshot(world, snapshotId);
      else if ([...world.vmsById.values()].some((v) => v.attachments.some((a) => a.diskId === diskId && a.snapshotId === undefined)))
        throw refused(409, 'Cannot attach Virtual Disk. The disk is already attached to another VM and is not shareable.');
      const plugged = body.active && vm.vm.status === 'up';
      const readOnly = body.readOnly ?? false;
      const attachment = { ...emptyAttachment, ...body, snapshotId, vmId, readOnly, passDiscard: false, disk: undefined };
      vm.attachments.push(attachment);
      if (plugged && world.failingPlugs > 0) attachment.active = false;
      if (plugged) plugging('failingPlugs', 'Failed to hot-plug disk');
      return { ...attachment };
    }),
    plug: world.call('diskAttachments.plug', (vmId: string, diskId: string) => {
      const found = attachmentOf(world, vmId, diskId);
      plugging('failingPlugs', 'Failed to hot-plug disk');
      found.active = true;
    }),
    unplug: world.call('diskAttachments.unplug', (vmId: string, diskId: string) => {
      const found = attachmentOf(world, vmId, diskId);
      plugging('failingUnplugs', 'Failed to hot-unplug disk');
      found.active = false;
    }),
    detach: world.call('diskAttachments.detach', (vmId: string, diskId: string) => {
      const vm = world.vm(vmId);
      const found = vm.attachments.find((a) => a.diskId === diskId);
      if (!found) return false;
      if (found.active && vm.vm.status === 'up') plugging('failingUnplugs', 'Failed to hot-unplug disk');
      vm.attachments = vm.attachments.filter((a) => a !== found);
      if (world.detachWipesCheckpoints) wipeCheckpoints(world, diskId);
      return true;
    }),
  };
}

function attachmentOf(world: FakeWorld, vmId: string, diskId: string) {
  const found = world.vm(vmId).attachments.find((a) => a.diskId === diskId);
  if (!found) throw EngineErrors.ENGINE_NOT_FOUND({ what: `vms/${vmId}/diskattachments/${diskId}` });
  return found;
}

function requireSnapshot(world: FakeWorld, snapshotId: string): void {
  const snapshot = [...world.vmsById.values()].flatMap((v) => v.snapshots).find((s) => s.id === snapshotId);
  if (!snapshot) throw EngineErrors.ENGINE_NOT_FOUND({ what: `snapshots/${snapshotId}` });
  if (snapshot.type !== 'regular' || snapshot.status !== 'ok') throw refused(409, 'The snapshot is not in status ok.');
}

/** All bitmaps of the disk, on whatever VM; checkpoints that cover no disk any more go too. */
function wipeCheckpoints(world: FakeWorld, diskId: string): void {
  for (const vm of world.vmsById.values()) {
    for (const checkpoint of vm.checkpoints) checkpoint.diskIds = checkpoint.diskIds.filter((id) => id !== diskId);
    vm.checkpoints = vm.checkpoints.filter((checkpoint) => checkpoint.diskIds.length > 0);
  }
}

export function addDisk(world: FakeWorld, more: Partial<Mutable<Disk>>): Mutable<Disk> {
  const disk = { ...emptyDisk, id: randomUUID(), ...more };
  world.disksById.set(disk.id, disk);
  return disk;
}

async function* pages(world: FakeWorld, options: { search?: string }): AsyncGenerator<readonly Disk[], void, undefined> {
  await Promise.resolve();
  const wanted = /^alias=\*(.*)\*$/.exec(options.search ?? '')?.[1] ?? '';
  yield [...world.disksById.values()].filter((d) => d.name.includes(wanted)).map((d) => ({ ...d }));
}
