import { randomUUID } from 'node:crypto';
import type { Wire } from '../../engine/mapping';
import { EngineErrors } from '../../engine/engine-errors';
import { addDisk } from './fake-disks';
import { conflict, copy, refused } from './fake-world';
import type { FakeWorld } from './fake-world';

/** What worker VMs need of VMs beside the rest: runs with a config drive, power, lists. Engine REST API §9, §14.7. */
export function fakeWorkerVms(world: FakeWorld) {
  const goDown = (id: string) => {
    const found = world.vmsById.get(id);
    if (!found || found.vm.status === 'down') return;
    found.vm.status = 'powering_down';
    world.poweredOff(id);
    world.later(() => (found.vm.status = 'down'));
  };
  return {
    startWithCloudInit: world.call('vms.startWithCloudInit', (id: string, runOnce: Wire) => {
      const { vm, attachments } = world.vm(id);
      if (vm.status !== 'down') throw refused(409, 'Cannot run VM. VM is running.');
      const boot = attachments.find((a) => a.bootable);
      if (!boot) throw refused(409, 'Cannot run VM without at least one bootable disk.');
      if (world.disksById.get(boot.diskId)?.status === 'locked') throw conflict('Cannot run VM: disks are locked');
      if (world.failingStarts > 0) {
        world.failingStarts -= 1;
        world.lastFailure = 'Failed to run VM: the host has no memory left';
        return;
      }
      vm.status = 'wait_for_launch';
      world.later(() => {
        if (vm.status !== 'wait_for_launch') return;
        vm.status = 'up';
        world.poweredOn(id, runOnce);
      });
    }),
    stop: world.call('vms.stop', (id: string) => goDown(id)),
    shutdown: world.call('vms.shutdown', (id: string) => {
      if (!world.deafGuests) goDown(id);
    }),
    async *pages(options: { search?: string }) {
      await Promise.resolve();
      world.calls.push('vms.pages');
      if (world.away) throw EngineErrors.ENGINE_UNAVAILABLE({ engine: 'fake', problem: 'restarting' });
      const search = options.search ?? '';
      const tag = /^tag=(.*)$/.exec(search)?.[1];
      const stem = /^name=(.*)\*$/.exec(search)?.[1];
      const ids = [...search.matchAll(/id=(\S+)/g)].map((match) => match[1]);
      yield [...world.vmsById.values()]
        .filter((found) => tag === undefined || found.tags.includes(tag))
        .filter((found) => stem === undefined || found.vm.name.startsWith(stem))
        .filter((found) => ids.length === 0 || ids.includes(found.vm.id))
        .map((found) => world.view(found));
    },
  };
}

export function fakeWorkerDisks(world: FakeWorld) {
  const copying = new Set<string>();
  return {
    copy: world.call('disks.copy', (id: string, target: { name: string; storageDomainId: string }) => {
      if (!world.copiesDisks) throw EngineErrors.ENGINE_NOT_FOUND({ what: `disks/${id}/copy` });
      const source = world.disksById.get(id);
      if (!source) throw EngineErrors.ENGINE_NOT_FOUND({ what: `disks/${id}` });
      if (source.status !== 'ok' || copying.has(id)) throw conflict('Cannot copy disk. The disk is locked.');
      copying.add(id);
      const made = addDisk(world, {
        ...source,
        id: randomUUID(),
        name: target.name,
        storageDomainId: target.storageDomainId,
        status: 'locked',
      });
      world.contents.set(made.id, world.contents.get(id) ?? '');
      world.later(() => {
        made.status = 'ok';
        copying.delete(id);
      });
    }),
    update: world.call('disks.update', (id: string, body: Record<string, unknown>) => {
      const disk = world.disksById.get(id);
      if (!disk) throw EngineErrors.ENGINE_NOT_FOUND({ what: `disks/${id}` });
      if (disk.status === 'locked') throw conflict('disk is locked');
      if (typeof body['description'] === 'string') disk.description = body['description'];
      return copy(disk);
    }),
  };
}

export function fakeWorkerSurroundings(world: FakeWorld) {
  return {
    ensureTag: world.call('tags.ensure', (name: string) => {
      world.tagNames.add(name);
      return { id: name, name };
    }),
    nics: { list: world.call('nics.list', (vmId: string) => [...world.vm(vmId).nics]) },
    networksOfCluster: world.call('networks.ofCluster', () => [{ id: 'n1', name: 'ovirtmgmt', dataCenterId: 'dc1', management: true }]),
    graphicsConsoles: { removeAll: world.call('graphicsConsoles.removeAll', (vmId: string) => void world.headless.add(vmId)) },
    affinityGroups: {
      list: world.call('affinityGroups.list', () =>
        [...world.antiAffinity.values()].map((group) => ({ ...group, vmIds: [...group.vmIds] })),
      ),
      createSoftAntiAffinity: world.call('affinityGroups.create', (_clusterId: string, name: string) => {
        const group = { id: randomUUID(), name, vmIds: [] as string[] };
        world.antiAffinity.set(group.id, group);
        return { ...group };
      }),
      addVm: world.call('affinityGroups.addVm', (_clusterId: string, groupId: string, vmId: string) => {
        world.antiAffinity.get(groupId)?.vmIds.push(vmId);
      }),
    },
  };
}
