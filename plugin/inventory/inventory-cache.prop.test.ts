import fc from 'fast-check';
import { InventoryCache } from './inventory-cache';
import type { VmRecord } from './vm-record';

const record = (platformId: string, vmId: string, name: string, status = 'up'): VmRecord => ({
  platformId,
  vmId,
  name,
  status,
  clusterId: 'C',
  clusterName: 'Default',
  compatibilityLevel: '4.7',
  tags: [],
  description: '',
  operatingSystem: '',
  diskCount: 1,
  provisionedBytes: 1,
  deleteProtected: false,
});

type Step = { platform: string; vm: string; name: string; status: string; gone: boolean };
const step: fc.Arbitrary<Step> = fc.record({
  platform: fc.constantFrom('p', 'q'),
  vm: fc.constantFrom('1', '2', '3', '4', '5'),
  name: fc.constantFrom('a', 'b', 'c'),
  status: fc.constantFrom('up', 'down'),
  gone: fc.boolean(),
});

function apply(cache: InventoryCache, { platform, vm, name, status, gone }: Step): void {
  if (gone) cache.remove(platform, [vm]);
  else cache.put([record(platform, vm, name, status)]);
}

function all(cache: InventoryCache, platform: string, pageSize: number): VmRecord[] {
  const found: VmRecord[] = [];
  for (let token = ''; ;) {
    const page = cache.page(platform, pageSize, token);
    found.push(...page.vms);
    token = page.nextPageToken;
    if (token === '') return found;
  }
}

describe('InventoryCache', () => {
  it('lists by pages exactly what there is, in order, whatever the page size', () => {
    fc.assert(
      fc.property(fc.array(step), fc.integer({ min: 1, max: 7 }), (steps, pageSize) => {
        const cache = new InventoryCache();
        const model = new Map<string, VmRecord>();
        for (const one of steps) {
          apply(cache, one);
          if (one.gone) model.delete(one.platform + one.vm);
          else model.set(one.platform + one.vm, record(one.platform, one.vm, one.name, one.status));
        }
        for (const platform of ['', 'p', 'q']) {
          const expected = [...model.values()]
            .filter((vm) => platform === '' || vm.platformId === platform)
            .sort((a, b) => a.name.localeCompare(b.name) || a.vmId.localeCompare(b.vmId) || a.platformId.localeCompare(b.platformId));
          const listed = all(cache, platform, pageSize);
          expect(listed).toEqual(expected);
        }
      }),
    );
  });

  it('brings a follower who resumes at any moment to the same state, or tells it to start over', () => {
    fc.assert(
      fc.property(fc.array(step), fc.array(step), fc.constantFrom(0, 2, 1000), (before, after, mostRemoved) => {
        const cache = new InventoryCache(mostRemoved);
        for (const one of before) apply(cache, one);
        const follower = new Map(all(cache, '', 3).map((vm) => [vm.platformId + vm.vmId, JSON.stringify(vm)]));
        const { cursor } = cache;
        for (const one of after) apply(cache, one);
        const changes = cache.changesAfter(cursor);
        if (!changes) return mostRemoved < 1000;
        for (const change of changes) {
          if ('changed' in change) follower.set(change.changed.platformId + change.changed.vmId, JSON.stringify(change.changed));
          else follower.delete(change.removed.platformId + change.removed.vmId);
        }
        expect(follower).toEqual(new Map(all(cache, '', 100).map((vm) => [vm.platformId + vm.vmId, JSON.stringify(vm)])));
        expect(cache.changesAfter(cache.cursor)).toEqual([]);
        return true;
      }),
    );
  });
});
