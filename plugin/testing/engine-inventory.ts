import { page } from './engine-server';
import type { EngineServer } from './engine-server';

export interface TestVm {
  id: string;
  name: string;
  status?: string;
  tags?: string[];
}

/** Gives an {@link EngineServer} a cluster, storage, a network and VMs with one disk and one NIC each; the list may change meanwhile. */
export function serveInventoryOf(engine: EngineServer, vms: TestVm[]): { event(vm: Partial<TestVm>): void } {
  const events: object[] = [{ index: '1', code: '1', time: 1735689600000 }];
  const attachment = (vm: TestVm) => ({
    id: `disk-${vm.id}`,
    active: 'true',
    bootable: 'true',
    interface: 'virtio_scsi',
    disk: disk(vm),
  });
  const disk = (vm: TestVm) => ({
    id: `disk-${vm.id}`,
    alias: `${vm.name}_Disk1`,
    provisioned_size: '1073741824',
    total_size: '4096',
    format: 'cow',
    status: 'ok',
    storage_type: 'image',
    content_type: 'data',
    storage_domains: { storage_domain: [{ id: 'SD' }] },
    vms: { vm: [{ id: vm.id }] },
  });
  const wire = (vm: TestVm) => ({
    id: vm.id,
    name: vm.name,
    status: vm.status ?? 'up',
    cluster: { id: 'C' },
    os: { type: 'rhel_9x64' },
    tags: { tag: (vm.tags ?? []).map((name) => ({ id: name, name })) },
    disk_attachments: { disk_attachment: [attachment(vm)] },
    nics: {
      nic: [
        {
          id: `nic-${vm.id}`,
          name: 'nic1',
          interface: 'virtio',
          mac: { address: '56:6f:00:00:00:01' },
          vnic_profile: { id: 'P' },
          plugged: 'true',
          linked: 'true',
        },
      ],
    },
  });
  const byName = () => [...vms].sort((a, b) => (a.name < b.name ? -1 : 1));
  engine.routes.set('GET /vms', ({ query }) => {
    const ids = [...(query.get('search') ?? '').matchAll(/id=(\S+)/g)].map((match) => match[1]);
    return {
      vm: page(
        byName()
          .filter((vm) => ids.length === 0 || ids.includes(vm.id))
          .map(wire),
        query,
      ),
    };
  });
  engine.routes.set('GET /vms/*', ({ path }) => {
    const vm = vms.find((one) => path === `/vms/${one.id}`);
    return vm ? wire(vm) : { status: 404 };
  });
  engine.routes.set('GET /disks', ({ query }) => ({ disk: page(vms.map(disk), query) }));
  engine.routes.set('GET /clusters', () => ({
    cluster: [{ id: 'C', name: 'Default', version: { major: '4', minor: '7' }, data_center: { id: 'DC' } }],
  }));
  engine.routes.set('GET /datacenters', () => ({ data_center: [{ id: 'DC', name: 'Default', status: 'up' }] }));
  engine.routes.set('GET /hosts', () => ({ host: [{ id: 'H', name: 'host1', status: 'up', cluster: { id: 'C' } }] }));
  engine.routes.set('GET /datacenters/*/storagedomains', () => ({
    storage_domain: [
      { id: 'SD', name: 'data1', type: 'data', status: 'active', available: '5000', storage: { type: 'nfs' } },
      { id: 'ISO', name: 'iso1', type: 'iso', status: 'active', storage: { type: 'nfs' } },
    ],
  }));
  engine.routes.set('GET /vnicprofiles', () => ({ vnic_profile: [{ id: 'P', name: 'gold', network: { id: 'N' } }] }));
  engine.routes.set('GET /networks', () => ({ network: [{ id: 'N', name: 'ovirtmgmt', data_center: { id: 'DC' } }] }));
  engine.routes.set('GET /events', ({ query }) => {
    const from = Number(query.get('from') ?? 0);
    const max = Number(query.get('max') ?? 100);
    return {
      event: [...events]
        .reverse()
        .filter((event) => Number((event as { index: string }).index) > from)
        .slice(0, max),
    };
  });
  return {
    event: (vm) => events.push({ index: String(events.length + 1), code: '34', vm: { ...vm } }),
  };
}
