import { randomUUID } from 'node:crypto';
import { EngineServer } from '../testing/engine-server';
import { serveInventoryOf } from '../testing/engine-inventory';
import type { TestVm } from '../testing/engine-inventory';
import { eventually } from '../testing/eventually';
import { pluginFixture } from '../testing/plugin-fixture';

const settings = { deadlineMs: 120_000 };

async function connected(vms: TestVm[], timing?: { pollMs: number; refreshMs: number }) {
  const engine = await EngineServer.start();
  const feed = serveInventoryOf(engine, vms);
  const plugin = await pluginFixture(timing);
  const platformId = randomUUID();
  await (
    await plugin.platform()
  ).call(
    'PutPlatform',
    { platformId, name: 'lab', url: engine.url, username: 'admin@internal', password: 'right', caFingerprint: engine.fingerprint },
    settings,
  );
  return {
    engine,
    feed,
    plugin,
    platformId,
    client: await plugin.inventory(),
    [Symbol.asyncDispose]: async () => {
      await plugin[Symbol.asyncDispose]();
      await engine.stop();
    },
  };
}

const many = (count: number): TestVm[] =>
  Array.from({ length: count }, (_, index) => ({ id: `vm-${index}`, name: `web${String(index).padStart(5, '0')}` }));

describe('InventoryService', () => {
  it('lists VMs in pages, ordered, with cluster, level, tags and disks', async () => {
    const vms = many(7);
    vms[3]!.tags = ['gold', 'backup'];
    // A worker VM, ours or another server's: no job may select it.
    const worker = { id: 'vm-w', name: 'web00003-worker', tags: ['tidemark', 'tidemark-worker'] };
    await using at = await connected([...vms, worker]);
    const seen: string[] = [];
    let pageToken = '';
    do {
      const page = await at.client.call('ListVms', { platformId: at.platformId, pageSize: 3, pageToken }, settings);
      expect(page.vms.length).toBeLessThanOrEqual(3);
      expect(Number(page.readAt?.seconds)).toBeGreaterThan(0);
      seen.push(...page.vms.map((vm) => vm.name));
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
    expect(seen).toEqual(vms.map((vm) => vm.name));
    const all = await at.client.call('ListVms', {}, settings);
    expect(all.vms[3]).toMatchObject({
      platformId: at.platformId,
      vmId: 'vm-3',
      clusterName: 'Default',
      compatibilityLevel: '4.7',
      tags: ['backup', 'gold'],
      diskCount: 1,
      provisionedBytes: '1073741824',
      operatingSystem: 'rhel_9x64',
    });
  });

  it('reads thousands of VMs with a request per page, not per VM', async () => {
    await using at = await connected(many(3000), { pollMs: 60_000, refreshMs: 60_000 });
    const { vmCount } = await at.client.call('RescanPlatform', { platformId: at.platformId }, settings);
    expect(vmCount).toBe(3000);
    at.engine.received.length = 0;
    await at.client.call('RescanPlatform', { platformId: at.platformId }, settings);
    expect(at.engine.received.length).toBeLessThan(20);
    at.engine.received.length = 0;
    const page = await at.client.call('ListVms', { pageSize: 1000 }, settings);
    expect(page.vms).toHaveLength(1000);
    expect(at.engine.received).toHaveLength(0);
  });

  it('reads one VM afresh with disks and NICs', async () => {
    const vms = many(2);
    await using at = await connected(vms);
    vms[1]!.status = 'down';
    const { vm, disks, nics } = await at.client.call('GetVm', { platformId: at.platformId, vmId: 'vm-1' }, settings);
    expect(vm).toMatchObject({ name: 'web00001', status: 'down', diskCount: 1 });
    expect(disks).toMatchObject([
      {
        diskId: 'disk-vm-1',
        interface: 'virtio_scsi',
        provisionedBytes: '1073741824',
        actualBytes: '4096',
        storageDomainId: 'SD',
        active: true,
      },
    ]);
    expect(nics).toMatchObject([{ macAddress: '56:6f:00:00:00:01', vnicProfileName: 'gold', networkName: 'ovirtmgmt' }]);
    await expect(at.client.call('GetVm', { platformId: at.platformId, vmId: 'gone' }, settings)).rejects.toMatchObject({
      code: 'VM_NOT_FOUND',
      status: 'NOT_FOUND',
    });
    await expect(at.client.call('GetVm', { platformId: 'x', vmId: 'vm-1' }, settings)).rejects.toMatchObject({
      code: 'PLATFORM_NOT_FOUND',
    });
  });

  it('lists where to restore to', async () => {
    await using at = await connected(many(1));
    const targets = await at.client.call('ListTargets', { platformId: at.platformId }, settings);
    expect(targets.clusters).toMatchObject([{ id: 'C', name: 'Default', dataCenterId: 'DC' }]);
    expect(targets.storageDomains).toMatchObject([{ id: 'SD', name: 'data1', freeBytes: '5000', detail: 'active', dataCenterId: 'DC' }]);
    expect(targets.vnicProfiles).toMatchObject([{ id: 'P', name: 'gold', detail: 'ovirtmgmt', dataCenterId: 'DC' }]);
    expect(targets.hosts).toMatchObject([{ id: 'H', name: 'host1', detail: 'up', dataCenterId: 'DC' }]);
  });

  it('tells changes as the engine’s events name them, and goes on from a cursor', async () => {
    const vms = many(5);
    await using at = await connected(vms);
    await at.client.call('RescanPlatform', { platformId: at.platformId }, settings);
    const aborter = new AbortController();
    const stream = at.client.stream('WatchInventory', { cursor: '' }, { idleTimeoutMs: 120_000, signal: aborter.signal });
    const next = async () => (await stream.next()).value!;
    const reset = await next();
    expect(reset.change).toBe('reset');
    vms[2]!.status = 'down';
    at.feed.event({ id: 'vm-2', name: 'web00002' });
    const changed = await next();
    expect(changed).toMatchObject({ change: 'changed', changed: { vmId: 'vm-2', status: 'down' } });
    vms.splice(4, 1);
    at.feed.event({ name: 'web00004' });
    expect(await next()).toMatchObject({ change: 'removed', removed: { platformId: at.platformId, vmId: 'vm-4' } });
    aborter.abort();
    await expect(stream.next()).rejects.toMatchObject({ code: 'CANCELLED' });
    // Resumed behind the first change: only the second comes again.
    const resumed = at.client.stream('WatchInventory', { cursor: changed.cursor }, { idleTimeoutMs: 120_000 });
    expect((await resumed.next()).value).toMatchObject({ change: 'removed' });
    await resumed.return();
    const stale = at.client.stream('WatchInventory', { cursor: 'other.5' }, { idleTimeoutMs: 120_000 });
    expect((await stale.next()).value).toMatchObject({ change: 'reset' });
    await stale.return();
  });

  it('notices an engine that goes away and comes back, and still lists what it knew', async () => {
    await using at = await connected(many(2));
    const platform = await at.plugin.platform();
    await at.client.call('RescanPlatform', { platformId: at.platformId }, settings);
    await at.engine.stop();
    await eventually('lost', () => at.plugin.events.some((event) => event.code === 'PLATFORM_LOST'));
    const [lost] = (await platform.call('ListPlatforms', {}, settings)).platforms;
    expect(lost?.unavailable).toMatchObject({ code: 'ENGINE_UNAVAILABLE' });
    expect((await at.client.call('ListVms', { platformId: at.platformId }, settings)).vms).toHaveLength(2);
    await expect(at.client.call('RescanPlatform', { platformId: at.platformId }, settings)).rejects.toMatchObject({
      code: 'ENGINE_UNAVAILABLE',
    });
    await at.engine.restart();
    await eventually('back', () => at.plugin.events.some((event) => event.code === 'PLATFORM_BACK'));
    expect((await platform.call('ListPlatforms', {}, settings)).platforms[0]?.unavailable).toBeNull();
  });

  it('forgets the VMs of a platform that is removed', async () => {
    await using at = await connected(many(2));
    await at.client.call('RescanPlatform', { platformId: at.platformId }, settings);
    await (await at.plugin.platform()).call('RemovePlatform', { platformId: at.platformId }, settings);
    expect((await at.client.call('ListVms', {}, settings)).vms).toEqual([]);
  });

  it('refuses pages that cannot be', async () => {
    await using at = await connected(many(2));
    await expect(at.client.call('ListVms', { pageSize: 1001 }, settings)).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
    await expect(at.client.call('ListVms', { pageToken: 'nonsense' }, settings)).rejects.toMatchObject({ code: 'PAGE_TOKEN_INVALID' });
    await expect(at.client.call('ListVms', { platformId: 'x' }, settings)).rejects.toMatchObject({ code: 'PLATFORM_NOT_FOUND' });
    await expect((await at.plugin.inventory('worker')).call('ListVms', {}, settings)).rejects.toMatchObject({ code: 'ROLE_NOT_ALLOWED' });
  });
});
