/** Two movers that have one repository open, in one process, over one folder: what docs/formats/concurrency.md promises. */
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { announcementName, decodeAnnouncement, encodeAnnouncement } from '../../format/announcement';
import { planName, type CollectionPlan } from '../../format/collection-plan';
import { RepositoryErrors } from '../../errors/mover-errors';
import { DirectoryStore } from '../../stores/directory-store';
import { temporaryFolder } from '../../testing/test-mover';
import { quiet, TestRepository, testKey, type TestRepositoryOptions } from '../../testing/test-repository';
import { putPlan } from './collection-plans';
import { MaintenanceLease } from './maintenance-lease';

const blockBytes = 65_536;
const sizeBytes = 8 * blockBytes;

/** A directory that can lose the answers to announcements, after it took them. */
class LossyStore extends DirectoryStore {
  isLossy = false;

  override async put(name: string, bytes: Uint8Array): Promise<void> {
    await super.put(name, bytes);
    if (this.isLossy && name.startsWith('journal/')) throw RepositoryErrors.REPOSITORY_IO({ what: name, reason: 'ETIMEDOUT' });
  }
}

describe.each([
  ['in the clear', undefined],
  ['encrypted', testKey],
] as const)('two movers on one repository, %s', (_, key) => {
  let scratch: ReturnType<typeof temporaryFolder>;
  let one: TestRepository;
  let two: TestRepository;
  const open = (instanceId: string, options: TestRepositoryOptions = {}) =>
    TestRepository.open(scratch.folder, {
      cacheFolder: path.join(scratch.folder, `cache-${instanceId}`),
      // Long: what happens does so because it is called for, not because a timer ran.
      lock: { instanceId, leaseDurationMs: 600_000, waitMs: 0 },
      packTargetBytes: 100_000,
      ...(key && { key }),
      ...options,
    });
  const content = (blocks: ReadonlyMap<number, Buffer>, base?: Buffer) => {
    const image = base ? Buffer.from(base) : Buffer.alloc(sizeBytes);
    for (const [block, raw] of blocks) raw.copy(image, block * blockBytes);
    return image;
  };
  const takeOver = (sessionId: string) => ({ sessionId, kind: 'backup' as const, pointIds: [], leaseDurationMs: 60_000, takeOver: true });
  const someBlocks = (...numbers: number[]) => new Map(numbers.map((n) => [n, randomBytes(blockBytes)]));
  beforeEach(async () => {
    scratch = temporaryFolder();
    one = await open('one');
    two = await open('two');
  });
  afterEach(async () => {
    await one.close();
    await two.close();
    scratch[Symbol.dispose]();
  });

  test('each sees, reads and builds on the points of the other, and does not store what the other has', async () => {
    const first = someBlocks(0, 1, 5);
    const a = await one.backup(sizeBytes, first);
    expect(two.repository.points.has(a)).toBe(false);
    await two.repository.refresh();
    expect((await two.read(a)).equals(content(first))).toBe(true);
    const packsBefore = two.repository.index.packs.count;
    const changed = new Map([...someBlocks(1), [6, first.get(0) as Buffer] as const]);
    const b = await two.backup(sizeBytes, changed, a);
    await one.repository.refresh();
    expect((await one.read(b)).equals(content(changed, content(first)))).toBe(true);
    // One new block and its page; block 6 is the other mover's block 0.
    expect(two.repository.index.packs.count).toBe(packsBefore + 1);
    const third = await open('three');
    expect((await third.read(b)).equals(await one.read(b))).toBe(true);
    await third.close();
  });

  test('a block that is not known is looked for with the others before it counts as missing', async () => {
    const blocks = someBlocks(2);
    const a = await one.backup(sizeBytes, blocks);
    two.repository.points.note((await nameOf(a)) as string);
    expect((await two.read(a)).equals(content(blocks))).toBe(true);
  });

  test('what is announced after an announcement whose answer got lost is heard of', async () => {
    await one.close();
    const store = new LossyStore(path.join(scratch.folder, 'repository'), { writer: 'one' });
    one = await open('one', { store });
    const a = await one.backup(sizeBytes, someBlocks(3));
    store.isLossy = true;
    await one.repository.announce({ manifest: (await nameOf(a)) as string });
    // The other one reads it, and will not read it again.
    await two.repository.refresh();
    store.isLossy = false;
    const blocks = someBlocks(2);
    const b = await one.backup(sizeBytes, blocks);
    await two.repository.refresh();
    expect(two.repository.points.has(b)).toBe(true);
    expect((await two.read(b)).equals(content(blocks))).toBe(true);
  });

  test('what a mover announced that is gone for good is still found', async () => {
    const a = await one.backup(sizeBytes, someBlocks(2));
    await one.vanish();
    await two.repository.refresh();
    expect(two.repository.points.has(a)).toBe(true);
    one = await open('one');
  });

  test('a damaged announcement costs a listing, nothing else', async () => {
    const a = await one.backup(sizeBytes, someBlocks(1));
    const folder = path.join(scratch.folder, 'repository', 'journal', 'one');
    for (const name of fs.readdirSync(folder)) fs.writeFileSync(path.join(folder, name), 'torn');
    const b = await one.backup(sizeBytes, someBlocks(3));
    await two.repository.refresh();
    expect([two.repository.points.has(a), two.repository.points.has(b)]).toEqual([true, true]);
    expect((await two.read(a)).length).toBe(sizeBytes);
  });

  if (key)
    test('keys that one rotates are known to the other, and rotations at the same time are both kept', async () => {
      const old = await one.backup(sizeBytes, someBlocks(1));
      await Promise.all([one.repository.keys?.rotate(new Date()), two.repository.keys?.rotate(new Date())]);
      await one.repository.keys?.reload();
      expect(one.repository.keys?.ringSize).toBe(3);
      const blocks = someBlocks(2);
      const next = await one.backup(sizeBytes, blocks);
      await two.repository.refresh();
      expect((await two.read(next)).equals(content(blocks))).toBe(true);
      expect((await two.read(old)).length).toBe(sizeBytes);
    });

  if (key)
    test('what is found by looking, and not by being told, is read with the keys of whoever rotated them', async () => {
      await one.repository.keys?.rotate(new Date());
      const session = await one.openSession();
      const point = await one.backup(sizeBytes, someBlocks(2));
      // As a collection or a verification finds it between two looks at the journal.
      await two.repository.points.reload();
      expect((await two.repository.points.read(point)).pointId).toBe(point);
      await two.close();
      two = await open('two');
      await two.repository.keys?.rotate(new Date());
      const other = await two.openSession();
      expect((await two.sessions.open(two.repository, takeOver(session.id))).wasTakenOver).toBe(true);
      expect((await one.sessions.open(one.repository, takeOver(other.id))).wasTakenOver).toBe(true);
    });

  test('a point that another mover removes while a session begins with it is not begun with', async () => {
    const a = await one.backup(sizeBytes, someBlocks(0));
    await two.repository.refresh();
    // Written and not announced yet.
    await one.repository.points.tombstones.put(a, new Date());
    await expect(two.openSession([a])).rejects.toMatchObject({ code: 'POINT_NOT_FOUND' });
    expect(two.sessions.openCount(two.repository)).toBe(0);
    expect(two.repository.points.has(a)).toBe(false);
  });

  describe('and a collection', () => {
    const condemn = async (packs: string[]) => {
      const lease = await MaintenanceLease.acquire(
        one.repository.store,
        { instanceId: 'one', leaseDurationMs: 600_000, watch: { text: '', since: 0 } },
        quiet,
      );
      const number = lease.newestCollection + 1;
      const now = new Date().toISOString();
      const plan: CollectionPlan = {
        number,
        state: 'condemned',
        createdAt: now,
        deleteAfter: now,
        journals: [],
        packs: packs.map((id) => ({ id, length: 1 })),
        points: [],
      };
      expect(await putPlan(one.repository.store, plan, one.repository.keys)).toBe(true);
      await lease.announce(number);
      await lease.release();
      return number;
    };
    const acknowledged = async (instanceId: string) =>
      (await one.repository.writers.list()).find((writer) => writer.instanceId === instanceId)?.acknowledged;

    test('a writer that obeys it stores anew what lies in condemned packs alone', async () => {
      const blocks = someBlocks(0, 1);
      await one.backup(sizeBytes, blocks);
      await two.repository.refresh();
      const number = await condemn(two.repository.index.packs.ids());
      expect(await acknowledged('two')).toBe(0);
      await two.repository.acknowledge();
      expect(await acknowledged('two')).toBe(number);
      const before = new Set(two.repository.index.packs.ids());
      const point = await two.backup(sizeBytes, blocks);
      const made = two.repository.index.packs.ids().filter((id) => !before.has(id));
      expect(made.length).toBeGreaterThan(0);
      // Nothing of the new point needs what is condemned.
      for (const id of before) await two.repository.store.delete(`packs/${id.slice(0, 2)}/${id}.pack`);
      two.repository.index.dropPacks(before);
      expect((await two.read(point)).equals(content(blocks))).toBe(true);
    });

    test('it is acknowledged only when references that were being made have been made', async () => {
      await one.backup(sizeBytes, someBlocks(0));
      const number = await condemn(one.repository.index.packs.ids());
      let finish: () => void = () => undefined;
      const referring = two.repository.referencing(() => new Promise<void>((resolve) => (finish = resolve)));
      let done = false;
      const acknowledging = two.repository.acknowledge().then(() => (done = true));
      await new Promise((resolve) => setTimeout(resolve, 100));
      expect([done, await acknowledged('two')]).toEqual([false, 0]);
      // What begins now obeys already and is not waited for.
      const later = two.repository.referencing(() => new Promise<void>(() => undefined));
      finish();
      await Promise.all([referring, acknowledging]);
      expect(await acknowledged('two')).toBe(number);
      void later;
    });

    test('a mover that comes later obeys it before it answers anybody', async () => {
      await one.backup(sizeBytes, someBlocks(0));
      const number = await condemn(one.repository.index.packs.ids());
      const three = await open('three');
      expect(await acknowledged('three')).toBe(number);
      for (const id of three.repository.index.packs.ids())
        expect(three.repository.index.packs.counts(three.repository.index.packs.numberOf(id) as number)).toBe(false);
      await three.close();
    });

    test('a plan that cannot be read may condemn anything: nothing that is there counts for new backups', async () => {
      await one.backup(sizeBytes, someBlocks(0));
      const number = await condemn(one.repository.index.packs.ids());
      await one.repository.store.put(planName(number), Buffer.from('torn'));
      await two.repository.acknowledge();
      expect(await acknowledged('two')).toBe(number);
      const { packs } = two.repository.index;
      expect(packs.count).toBeGreaterThan(0);
      for (const id of packs.ids()) expect(packs.counts(packs.numberOf(id) as number)).toBe(false);
    });
  });

  async function nameOf(pointId: string): Promise<string | undefined> {
    for await (const name of one.repository.store.list('points/')) if (name.includes(pointId)) return name;
    return undefined;
  }
});

test('announcements have their bytes', () => {
  const announcement = {
    announcedAt: '2026-11-21T04:30:43.000Z',
    manifests: ['points/20261121T043043123Z-7a0a1b1c-0000-4000-8000-000000000001.manifest'],
    changed: [],
    packs: ['01234567-89ab-4def-8123-456789abcdef'],
  };
  const name = announcementName('mover', 7);
  expect(name).toBe('journal/mover/000000000007.packs');
  const bytes = encodeAnnouncement(announcement);
  expect(decodeAnnouncement(bytes, name)).toEqual(announcement);
  expect(bytes.toString('latin1', 0, 8)).toBe('TDMKJRNL');
  expect(bytes.subarray(-48, -32).toString('hex')).toBe('0123456789ab4def8123456789abcdef');
  expect(() => decodeAnnouncement(bytes.subarray(0, -1), name)).toThrow();
});
