import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { DirectoryStore } from '../../stores/directory-store';
import { StoppedClock } from '../../testing/stopped-clock';
import { temporaryFolder } from '../../testing/test-mover';
import { quiet } from '../../testing/test-repository';
import { MaintenanceLease, readMaintenance } from './maintenance-lease';
import { WriterLease } from './writer-lease';
import { Writers } from './writers';

const long = 600_000;

describe('leases', () => {
  let scratch: ReturnType<typeof temporaryFolder>;
  let store: DirectoryStore;
  const acquire = (leaseDurationMs = long, instanceId = 'me') =>
    WriterLease.acquire(store, 'id', { instanceId, leaseDurationMs, waitMs: 0 }, quiet);
  const file = (name: string) => path.join(scratch.folder, name);
  const edit = (name: string, change: object) =>
    fs.writeFileSync(file(name), JSON.stringify({ ...(JSON.parse(fs.readFileSync(file(name), 'utf8')) as object), ...change }));
  beforeEach(() => {
    scratch = temporaryFolder();
    store = new DirectoryStore(scratch.folder);
  });
  afterEach(() => scratch[Symbol.dispose]());

  describe('of writers', () => {
    const own = 'writers/me.lease';

    test('movers do not exclude each other; a second process of the same instance id is refused until the first gave up', async () => {
      const first = await acquire();
      const other = await acquire(long, 'you');
      await first.assertHeld();
      await other.assertHeld();
      await expect(acquire()).rejects.toMatchObject({ code: 'REPOSITORY_LOCKED' });
      await first.release();
      const second = await acquire();
      await expect(first.assertHeld()).rejects.toMatchObject({ code: 'REPOSITORY_LOCK_LOST' });
      await second.assertHeld();
      await second.release();
      await other.release();
    });

    test('a holder that died on this machine is found out at once', async () => {
      await acquire();
      // Another start time: the process id was given to somebody else since.
      edit(own, { processStartedAt: '1' });
      await (await acquire()).release();
    });

    test('a holder on another machine loses it only after a lease without a sign of life, however short the tries are', async () => {
      using clock = new StoppedClock();
      await acquire();
      edit(own, { hostBootId: 'elsewhere', leaseDurationMs: 2_000 });
      const watch = { text: '', since: 0 };
      const once = () => WriterLease.acquire(store, 'id', { instanceId: 'me', leaseDurationMs: long, waitMs: 0, watch }, quiet);
      const isRefused = () => expect(once()).rejects.toMatchObject({ code: 'REPOSITORY_LOCKED' });
      await isRefused();
      clock.pass(1_999);
      await isRefused();
      // Still renewed by its holder: the lease begins anew.
      edit(own, { renewedAt: 'x' });
      await isRefused();
      clock.pass(1_999);
      await isRefused();
      clock.pass(1);
      const next = await once();
      await next.assertHeld();
      await next.release();
    });

    test('a holder whose lease was taken stops and leaves it alone', async () => {
      const lease = await acquire();
      edit(own, { nonce: 'other' });
      await expect(lease.assertHeld()).rejects.toMatchObject({ code: 'REPOSITORY_LOCK_LOST' });
      expect(lease.isLost).toBe(true);
      await lease.release();
      expect(JSON.parse(fs.readFileSync(file(own), 'utf8'))).toMatchObject({ nonce: 'other', released: false });
    });

    test('a holder that could not renew for a lease stops', async () => {
      using clock = new StoppedClock();
      const lease = await acquire(1_000);
      clock.pass(999);
      await lease.assertHeld();
      clock.pass(1);
      await expect(lease.assertHeld()).rejects.toMatchObject({ code: 'REPOSITORY_LOCK_LOST' });
      expect(lease.isLost).toBe(true);
    });

    test('a lease that cannot be read is nobody’s', async () => {
      fs.mkdirSync(file('writers'));
      fs.writeFileSync(file(own), 'torn');
      await (await acquire()).release();
    });

    test('it is renewed with what is obeyed, also while that takes long', async () => {
      using clock = new StoppedClock();
      const lease = await acquire(900);
      let release: (collection: number) => void = () => undefined;
      lease.keep(() => new Promise((resolve) => (release = resolve)));
      const content = () => JSON.parse(fs.readFileSync(file(own), 'utf8')) as { acknowledged: number; renewedAt: string };
      const pause = () => new Promise((resolve) => setTimeout(resolve, 20));
      // Longer than the lease, and nothing was obeyed yet. A renewal that does not come runs out of the test's time.
      for (let renewal = 0; renewal < 4; renewal++) {
        const { renewedAt } = content();
        while (content().renewedAt === renewedAt) await pause();
        expect(lease.isLost).toBe(false);
        expect(content().acknowledged).toBe(0);
        clock.pass(400);
      }
      release(7);
      while (content().acknowledged !== 7) await pause();
      await lease.release();
    });

    test('everybody is listed, and who is gone is recognised', async () => {
      using clock = new StoppedClock();
      const writers = new Writers(store);
      const here = await acquire(long, 'here');
      await here.acknowledge(4);
      await (await acquire(long, 'released')).release();
      await acquire(long, 'dead');
      edit('writers/dead.lease', { processStartedAt: '1' });
      await acquire(long, 'away');
      edit('writers/away.lease', { hostBootId: 'elsewhere', leaseDurationMs: 50 });
      const gone = async () =>
        (await writers.list())
          .filter(({ isGone }) => isGone)
          .map(({ instanceId }) => instanceId)
          .sort();
      expect(await gone()).toEqual(['dead', 'released']);
      expect((await writers.list()).find(({ instanceId }) => instanceId === 'here')?.acknowledged).toBe(4);
      clock.pass(50);
      expect(await gone()).toEqual(['away', 'dead', 'released']);
      await here.release();
    });
  });

  describe('of maintenance', () => {
    const take = (instanceId: string, leaseDurationMs = long, watch = { text: '', since: 0 }) =>
      MaintenanceLease.acquire(store, { instanceId, leaseDurationMs, watch }, quiet);

    test('one holder at a time; each one raises the epoch; what was announced stays', async () => {
      expect(await readMaintenance(store)).toBeUndefined();
      const first = await take('a');
      await first.announce(3);
      const { revision = 0 } = (await readMaintenance(store)) ?? {};
      await expect(take('b')).rejects.toMatchObject({ code: 'MAINTENANCE_BUSY' });
      await first.release();
      const second = await take('b');
      expect(second.epoch).toBe(first.epoch + 1);
      const taken = await readMaintenance(store);
      expect(taken?.newestCollection).toBe(3);
      // One that nobody has seen.
      expect(taken?.revision).toBeGreaterThan(revision);
      await second.announce();
      expect(await readMaintenance(store)).toMatchObject({ newestCollection: 3, revision: (taken?.revision ?? 0) + 1 });
      await second.release();
    });

    test('a holder that slept loses its next step to the one that came after it', async () => {
      using clock = new StoppedClock();
      const sleeper = await take('a');
      edit('maintenance', { hostBootId: 'elsewhere', leaseDurationMs: 30 });
      const watch = { text: '', since: 0 };
      await expect(take('b', long, watch)).rejects.toMatchObject({ code: 'MAINTENANCE_BUSY' });
      clock.pass(30);
      const next = await take('b', long, watch);
      await expect(sleeper.announce(9)).rejects.toMatchObject({ code: 'MAINTENANCE_LOST' });
      await expect(sleeper.assertHeld()).rejects.toMatchObject({ code: 'MAINTENANCE_LOST' });
      await sleeper.release();
      await next.assertHeld();
      expect(await readMaintenance(store)).toMatchObject({ newestCollection: 0 });
      await next.release();
    });

    test('of many that try at the same time one gets it', async () => {
      const tries = await Promise.allSettled(Array.from({ length: 8 }, () => take(randomUUID())));
      const held = tries.filter((one) => one.status === 'fulfilled');
      expect(held.length).toBe(1);
      await held[0]?.value.release();
    });
  });
});
