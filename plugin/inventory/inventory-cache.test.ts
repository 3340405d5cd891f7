import { InventoryCache } from './inventory-cache';
import type { VmRecord } from './vm-record';

const vm = (vmId: string, status = 'up') => ({ platformId: 'p', vmId, name: vmId, status, tags: [] }) as unknown as VmRecord;

describe('InventoryCache', () => {
  it('takes an equal record as no change', () => {
    const cache = new InventoryCache();
    cache.put([vm('1')]);
    const { cursor } = cache;
    cache.put([vm('1')]);
    cache.remove('p', ['unknown']);
    expect(cache.cursor).toBe(cursor);
  });

  it('wakes who waits at a change, and lets go after the time or an abort', async () => {
    const cache = new InventoryCache();
    const never = new AbortController();
    const changed = cache.waitForChange(5_000, never.signal);
    cache.put([vm('1')]);
    await expect(changed).resolves.toBe(true);
    await expect(cache.waitForChange(5, never.signal)).resolves.toBe(false);
    const aborted = cache.waitForChange(5_000, never.signal);
    never.abort();
    await expect(aborted).resolves.toBe(false);
  });

  it('goes on with a page token whose VM is gone', () => {
    const cache = new InventoryCache();
    cache.put(['1', '2', '3', '4'].map((id) => vm(id)));
    const first = cache.page('p', 2, '');
    cache.remove('p', ['2']);
    expect(cache.page('p', 2, first.nextPageToken).vms.map((one) => one.vmId)).toEqual(['3', '4']);
    expect(() => cache.page('', 2, first.nextPageToken)).toThrow(expect.objectContaining({ code: 'PAGE_TOKEN_INVALID' }));
  });

  it('answers no cursor of another run', () => {
    const cache = new InventoryCache();
    expect(cache.changesAfter(new InventoryCache().cursor)).toBeUndefined();
    expect(cache.changesAfter('')).toBeUndefined();
    expect(cache.changesAfter(`${cache.cursor}9`)).toBeUndefined();
  });

  it('keeps few removed VMs in mind, and tells those who ask for more to list again', () => {
    const cache = new InventoryCache(10);
    const old = cache.cursor;
    for (let index = 0; index < 100; index += 1) {
      cache.put([vm(`v${index}`)]);
      cache.remove('p', [`v${index}`]);
    }
    expect(cache.changesAfter(old)).toBeUndefined();
    const { cursor } = cache;
    cache.put([vm('new')]);
    expect(cache.changesAfter(cursor)).toHaveLength(1);
  });
});
