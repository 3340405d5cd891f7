import { randomUUID } from 'node:crypto';
import type { NewAttachment } from '../../engine/disk-attachments';
import type { Disk, NewDisk } from '../../engine/disks';
import { emptyAttachment, emptyDisk } from '../fake-rows';
import type { Mutable } from '../fake-rows';
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
    pages: (options: { search?: string }) => pages(world, options),
  };
}

export function fakeDiskAttachments(world: FakeWorld) {
  return {
    list: world.call('diskAttachments.list', (vmId: string) => world.view(world.vm(vmId)).diskAttachments),
    add: world.call('diskAttachments.add', (vmId: string, body: NewAttachment) => {
      if (world.disksById.get(body.diskId)?.status !== 'ok') throw conflict('disk is locked');
      const attachment = { ...emptyAttachment, ...body, vmId, readOnly: body.readOnly ?? false, passDiscard: false, disk: undefined };
      world.vm(vmId).attachments.push(attachment);
      return attachment;
    }),
  };
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
