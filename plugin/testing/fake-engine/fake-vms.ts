import { randomUUID } from 'node:crypto';
import type { NewNic, Nic } from '../../engine/nics';
import type { Disk } from '../../engine/disks';
import { emptyAttachment, emptyVm } from '../fake-rows';
import type { FakeVm, Mutable } from '../fake-rows';
import { addDisk } from './fake-disks';
import { conflict, refused } from './fake-world';
import type { FakeWorld } from './fake-world';

export function fakeVms(world: FakeWorld) {
  return {
    find: world.call('vms.find', (id: string) => world.view(world.vmsById.get(id))),
    get: world.call('vms.get', (id: string) => world.view(world.vm(id))),
    findByName: world.call('vms.findByName', (name: string) => world.view([...world.vmsById.values()].find((v) => v.vm.name === name))),
    raw: world.call('vms.raw', (id: string) => {
      const { vm, attachments } = world.vm(id);
      const locked = attachments.some((a) => world.disksById.get(a.diskId)?.status === 'locked');
      return {
        id,
        name: vm.name,
        description: vm.description,
        memory: '1073741824',
        cpu: { architecture: 'x86_64', topology: { sockets: '2' } },
        initialization: {
          host_name: 'web',
          root_password: '******',
          ...(locked ? {} : { configuration: { type: 'ovf', data: '<ovf:Envelope/>' } }),
        },
      };
    }),
    create: world.call('vms.create', (body: Record<string, unknown> & { name: string }) => {
      if ([...world.vmsById.values()].some((v) => v.vm.name === body.name))
        throw refused(409, 'Cannot add VM. The VM name is already in use.');
      const made = addVm(world, body.name, [], 'down');
      made.nics = [];
      made.vm.description = typeof body['description'] === 'string' ? body['description'] : '';
      made.vm.comment = typeof body['comment'] === 'string' ? body['comment'] : '';
      made.vm.deleteProtected = body['delete_protected'] === true;
      return world.view(made);
    }),
    update: world.call('vms.update', (id: string, body: Record<string, unknown>) => {
      const found = world.vm(id);
      if (typeof body['description'] === 'string') found.vm.description = body['description'];
      if (typeof body['name'] === 'string') found.vm.name = body['name'];
      if (typeof body['delete_protected'] === 'boolean') found.vm.deleteProtected = body['delete_protected'];
      return world.view(found);
    }),
    remove: world.call('vms.remove', (id: string) => {
      const found = world.vmsById.get(id);
      if (!found) return false;
      if (found.vm.status !== 'down') throw refused(409, 'Cannot remove VM. VM is running.');
      if (found.vm.deleteProtected) throw refused(409, 'Cannot remove VM. Delete protection is enabled.');
      if (found.attachments.some((a) => world.disksById.get(a.diskId)?.status === 'locked'))
        throw conflict('Cannot remove VM: disks are locked');
      world.later(() => {
        world.vmsById.delete(id);
        for (const a of found.attachments) if (a.snapshotId === undefined) world.disksById.delete(a.diskId);
      });
      return true;
    }),
    start: world.call('vms.start', (id: string) => {
      world.vm(id).vm.status = 'up';
    }),
    freezeFileSystems: world.call('vms.freezeFileSystems', (id: string) => {
      if (world.vm(id).vm.status !== 'up') throw refused(409, 'Cannot freeze file systems. VM is not up.');
      if (world.freezeFailure !== '') throw refused(400, world.freezeFailure);
      world.frozen.add(id);
    }),
    thawFileSystems: world.call('vms.thawFileSystems', (id: string) => {
      if (world.vm(id).vm.status !== 'up') throw refused(409, 'Cannot thaw file systems. VM is not up.');
      world.frozen.delete(id);
    }),
  };
}

export function fakeNics(world: FakeWorld) {
  return {
    add: world.call('nics.add', (vmId: string, body: NewNic) => {
      const used = [...world.vmsById.values()].some((v) =>
        v.nics.some((n) => n.macAddress !== undefined && n.macAddress === body.macAddress),
      );
      if (used) throw refused(409, `MAC Address ${body.macAddress} is already in use.`);
      const nic: Nic = { macAddress: `56:6f:ff:00:00:${world.calls.length % 90}`, vnicProfileId: undefined, ...body, id: randomUUID() };
      world.vm(vmId).nics.push(nic);
      return nic;
    }),
  };
}

export function addVm(world: FakeWorld, name: string, disks: readonly Partial<Mutable<Disk>>[], status: string): FakeVm {
  const id = randomUUID();
  const vm: FakeVm = {
    vm: { ...emptyVm, id, name, status, clusterId: 'cluster1' },
    attachments: [],
    nics: [
      {
        id: randomUUID(),
        name: 'nic1',
        interface: 'virtio',
        macAddress: `56:6f:00:00:00:0${world.vmsById.size}`,
        vnicProfileId: 'profile1',
        plugged: true,
        linked: true,
      },
    ],
    tags: [],
    snapshots: [
      {
        id: randomUUID(),
        description: 'Active VM',
        status: 'ok',
        type: 'active',
        createdAt: undefined,
        withMemory: false,
        ovf: undefined,
      },
    ],
    checkpoints: [],
    backups: [],
  };
  world.vmsById.set(id, vm);
  disks.forEach((more, index) => {
    const disk = addDisk(world, { name: `${name}_disk${index + 1}`, ...more });
    vm.attachments.push({ ...emptyAttachment, diskId: disk.id, vmId: id, bootable: index === 0, disk });
  });
  return vm;
}
