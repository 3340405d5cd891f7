import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { encodeSession, sessionName } from '../../format/session-record';
import { readPlans } from '../../repository/sharing/collection-plans';
import { packName, PackTable } from '../../repository/blocks/pack-table';
import { randomFrom, sampleBlock } from '../../testing/test-disk';
import { temporaryFolder } from '../../testing/test-mover';
import { quiet, testKey, TestRepository, type TestRepositoryOptions } from '../../testing/test-repository';
import { Maintenance } from '../maintenance';
import type { CollectSettings } from './collect-settings';
import { PackMarks } from './pack-marks';

const block = 65_536;
const size = 600 * block;
const minute = 60_000;
const hour = 60 * minute;

/** Blocks from a first seed on, from block `at` on. */
function blocksOf(first: number, count: number, at = 0): Map<number, Buffer> {
  return new Map(Array.from({ length: count }, (_, i) => [at + i, sampleBlock(first + i, block)] as const));
}

function imageOf(...contents: ReadonlyMap<number, Buffer>[]): Buffer {
  const image = Buffer.alloc(size);
  for (const content of contents) for (const [at, raw] of content) raw.copy(image, at * block);
  return image;
}

/** A mover's maintenance with a clock that can be put forward. */
function maintainer(settings: Partial<CollectSettings> = {}) {
  const clock = { aheadMs: 0 };
  const maintenance = new Maintenance(quiet, {
    settings: { packAgeMs: 0, reserveBytes: 0, acknowledgeWaitMs: 0, ...settings },
    now: () => Date.now() + clock.aheadMs,
  });
  const collect = async ({ repository }: TestRepository, dryRun = false, more: { graceMs?: number } = {}) => {
    const operation = maintenance.startCollect(randomUUID(), repository, { dryRun, bytesPerSecond: 0, ...more });
    await operation.done;
    if (operation.failure) throw operation.failure;
    return operation.work.progress.totals;
  };
  return { clock, maintenance, collect };
}

/** Names and sizes of everything in the repository's folder, but for leases. */
function contentOf(folder: string): string[] {
  const root = path.join(folder, 'repository');
  const files = fs.readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const names = files.map((entry) => path.relative(root, path.join(entry.parentPath, entry.name)));
  return names.filter((name) => !/^writers\/|^maintenance$/.test(name)).sort();
}

const packsIn = (folder: string) => contentOf(folder).filter((name) => name.startsWith('packs/'));

describe.each([
  ['in the clear', {}],
  ['encrypted', { key: testKey }],
] as [string, TestRepositoryOptions][])('a collection, %s', (_name, more) => {
  let scratch: ReturnType<typeof temporaryFolder>;
  beforeEach(() => (scratch = temporaryFolder()));
  afterEach(() => scratch[Symbol.dispose]());

  /** A mover of its own on the repository. */
  const open = (instanceId = 'one', options: TestRepositoryOptions = {}) =>
    TestRepository.open(scratch.folder, {
      cacheFolder: path.join(scratch.folder, `cache-${instanceId}`),
      lock: { instanceId, leaseDurationMs: 30_000, waitMs: 0 },
      ...more,
      ...options,
    });

  test('gives the space of a removed point back after its grace time, and of nothing else', async () => {
    await using one = await open();
    const { collect, maintenance, clock } = maintainer();
    const shared = blocksOf(1, 4);
    const kept = await one.backup(size, shared);
    const own = blocksOf(100, 8, 20);
    const removed = await one.backup(size, new Map([...shared, ...own]));
    const before = packsIn(scratch.folder);
    await maintenance.removePoint(one.repository, removed);
    expect(await collect(one)).toMatchObject({ condemnedPacks: 1, deletedPacks: 0, deletedPoints: 0 });
    expect(await collect(one)).toMatchObject({ condemnedPacks: 0, deletedPacks: 0, waitingCollections: 1 });
    clock.aheadMs += 23 * hour;
    expect(await collect(one)).toMatchObject({ deletedPacks: 0, waitingCollections: 1 });
    expect(packsIn(scratch.folder)).toEqual(before);
    clock.aheadMs += 2 * hour;
    expect(await collect(one)).toMatchObject({ deletedPacks: 1, deletedPoints: 1, waitingCollections: 0 });
    expect(packsIn(scratch.folder)).toHaveLength(before.length - 1);
    expect(contentOf(scratch.folder).filter((name) => name.startsWith('removed/') || name.includes(removed))).toEqual([]);
    expect((await one.read(kept)).equals(imageOf(shared))).toBe(true);
    await expect(maintenance.undoRemovePoint(one.repository, removed)).rejects.toMatchObject({ code: 'POINT_NOT_FOUND' });
    expect((await one.read(await one.backup(size, own))).equals(imageOf(own))).toBe(true);
  });

  test('what is condemned does not count for new backups, is read all the same, and undo makes it count again', async () => {
    await using one = await open();
    const { collect, maintenance, clock } = maintainer();
    const content = blocksOf(1, 6);
    const first = await one.backup(size, content);
    await maintenance.removePoint(one.repository, first);
    await collect(one);
    expect(one.repository.blocks.isDurable(one.digestOf(sampleBlock(1, block)))).toBe(false);
    const second = await one.backup(size, content);
    expect(await maintenance.undoCollect(one.repository)).toMatchObject({ packs: 1 });
    expect((await maintenance.undoRemovePoint(one.repository, first)).pointId).toBe(first);
    expect((await one.read(first)).equals(imageOf(content))).toBe(true);
    // Both copies count now; one of them is waste.
    clock.aheadMs += 48 * hour;
    expect(await collect(one)).toMatchObject({ condemnedPacks: 1 });
    clock.aheadMs += 48 * hour;
    expect(await collect(one)).toMatchObject({ deletedPacks: 1 });
    for (const id of [first, second]) expect((await one.read(id)).equals(imageOf(content))).toBe(true);
  });

  test('the last look takes out of the plan what is needed after all', async () => {
    await using one = await open();
    const { collect, maintenance, clock } = maintainer();
    const content = blocksOf(1, 6);
    const point = await one.backup(size, content);
    const other = await one.backup(size, blocksOf(50, 3));
    await maintenance.removePoint(one.repository, point);
    await maintenance.removePoint(one.repository, other);
    expect(await collect(one)).toMatchObject({ condemnedPacks: 2 });
    await maintenance.undoRemovePoint(one.repository, point);
    clock.aheadMs += 48 * hour;
    expect(await collect(one)).toMatchObject({ deletedPacks: 1, deletedPoints: 1 });
    expect((await one.read(point)).equals(imageOf(content))).toBe(true);
    expect(one.repository.blocks.isDurable(one.digestOf(sampleBlock(1, block)))).toBe(true);
  });

  test('a pack whose list cannot be read now stays while a needed block may lie in it, though it was condemned', async () => {
    const { collect, maintenance, clock } = maintainer();
    const content = blocksOf(1, 6);
    const more = new Map([...content, ...blocksOf(60, 1, 9)]);
    let pack: string;
    let second: string;
    await using two = await open('two');
    {
      await using one = await open();
      const first = await one.backup(size, content);
      [pack = ''] = one.repository.index.packs.ids();
      await two.repository.refresh();
      await maintenance.removePoint(one.repository, first);
      expect(await collect(one)).toMatchObject({ condemnedPacks: 1 });
      // The other mover has not heard of that yet, and refers to what is there.
      second = await two.backup(size, more);
      await two.repository.acknowledge();
    }
    const file = path.join(scratch.folder, 'repository', packName(pack));
    const flip = () => {
      const bytes = fs.readFileSync(file);
      bytes[bytes.length - 10] = (bytes[bytes.length - 10] as number) ^ 1;
      fs.writeFileSync(file, bytes);
    };
    flip();
    fs.rmSync(path.join(scratch.folder, 'cache-one'), { recursive: true });
    await using one = await open();
    expect([...one.repository.index.damagedPacks.keys()]).toEqual([pack]);
    clock.aheadMs += 48 * hour;
    expect(await collect(one)).toMatchObject({ deletedPacks: 0, deletedPoints: 1 });
    // It was the device's mood.
    flip();
    await using three = await open('three');
    expect((await three.read(second)).equals(imageOf(more))).toBe(true);
  });

  test('a point whose removal was taken back and that was removed again can be taken back again, with all its blocks', async () => {
    await using one = await open();
    const { collect, maintenance, clock } = maintainer();
    const content = blocksOf(1, 6);
    const point = await one.backup(size, content);
    await maintenance.removePoint(one.repository, point);
    expect(await collect(one)).toMatchObject({ condemnedPacks: 1 });
    await maintenance.undoRemovePoint(one.repository, point);
    await maintenance.removePoint(one.repository, point);
    clock.aheadMs += 48 * hour;
    expect(await collect(one)).toMatchObject({ deletedPacks: 0, deletedPoints: 0 });
    await maintenance.undoRemovePoint(one.repository, point);
    expect((await one.read(point)).equals(imageOf(content))).toBe(true);
  });

  test('of a removed point with a damaged page all the rest can be taken back', async () => {
    await using one = await open();
    const { collect, maintenance, clock } = maintainer();
    const leaf = 256;
    const leaves = 200;
    const large = leaves * leaf * block;
    // What the last page holds lies in a pack of another point.
    const first = await one.backup(large, new Map([[0, sampleBlock(leaves - 1, block)]]));
    const second = await one.backup(large, new Map(Array.from({ length: leaves }, (_, i) => [i * leaf, sampleBlock(i, block)] as const)));
    const tree = one.repository.tree((await one.repository.points.readDisk(second, 'disk')).disk);
    const { index } = one.repository;
    const place = index.find(await tree.pageDigest(0, 0)) ?? { pack: -1, offset: 0 };
    await maintenance.removePoint(one.repository, first);
    await maintenance.removePoint(one.repository, second);
    expect(await collect(one)).toMatchObject({ condemnedPacks: 2 });
    await maintenance.undoRemovePoint(one.repository, second);
    await maintenance.removePoint(one.repository, second);
    const file = path.join(scratch.folder, 'repository', packName(index.packs.idOf(place.pack)));
    const bytes = fs.readFileSync(file);
    bytes[place.offset + 20] = (bytes[place.offset + 20] as number) ^ 1;
    fs.writeFileSync(file, bytes);
    clock.aheadMs += 48 * hour;
    expect(await collect(one)).toMatchObject({ deletedPacks: 0, deletedPoints: 1 });
    await maintenance.undoRemovePoint(one.repository, second);
    const { raw } = await one.repository.blocks.readChecked(await tree.blockDigest((leaves - 1) * leaf));
    expect(raw.equals(sampleBlock(leaves - 1, block))).toBe(true);
  });

  test('nothing is deleted before every mover that lives has acknowledged it', async () => {
    await using one = await open();
    await using two = await open('two');
    const { collect, maintenance, clock } = maintainer();
    const content = blocksOf(1, 6);
    const point = await one.backup(size, content);
    await two.repository.refresh();
    // The other one has been told that it need not send these blocks, and has not committed yet.
    const session = await two.openSession();
    const draft = await two.openDisk(session, 'disk', size);
    for (const [at, raw] of content) await two.send(draft, at, raw, session);
    await maintenance.removePoint(one.repository, point);
    expect(await collect(one)).toMatchObject({ condemnedPacks: 1 });
    clock.aheadMs += 48 * hour;
    expect(await collect(one)).toMatchObject({ deletedPacks: 0, waitingCollections: 1 });
    await two.repository.acknowledge();
    expect(await collect(one)).toMatchObject({ deletedPacks: 1 });
    // Its commit asks for them again.
    expect(await session.commitDisk(draft, 100)).toEqual({ missing: [...content.keys()] });
    for (const [at, raw] of content) await two.send(draft, at, raw, session);
    await two.commitDisk(session, draft);
    const second = await two.commit(session, [{ diskId: 'disk', sizeBytes: size }]);
    await one.repository.refresh();
    for (const test of [one, two]) expect((await test.read(second)).equals(imageOf(content))).toBe(true);
  });

  test('an open session keeps its base, though that was removed, and what it has committed', async () => {
    await using one = await open();
    const { collect, maintenance, clock } = maintainer();
    const base = await one.backup(size, blocksOf(1, 6));
    const session = await one.openSession([base]);
    const draft = await one.openDisk(session, 'disk', size, base);
    for (const [at, raw] of blocksOf(50, 3, 100)) await one.send(draft, at, raw, session);
    await one.commitDisk(session, draft);
    await expect(maintenance.removePoint(one.repository, base)).rejects.toMatchObject({ code: 'POINT_IN_USE' });
    // Removed by somebody who did not see the session.
    await one.repository.points.tombstones.put(base, new Date());
    for (let round = 0; round < 3; round++, clock.aheadMs += 48 * hour)
      expect(await collect(one)).toMatchObject({ deletedPacks: 0, deletedPoints: 0 });
    const point = await one.commit(session, [{ diskId: 'disk', sizeBytes: size }]);
    await collect(one);
    clock.aheadMs += 48 * hour;
    expect(await collect(one)).toMatchObject({ deletedPoints: 1 });
    expect((await one.read(point)).equals(imageOf(blocksOf(1, 6), blocksOf(50, 3, 100)))).toBe(true);
  });

  test('packs that are mostly waste are rewritten, index pages too; others are left alone', async () => {
    await using one = await open();
    const { collect, maintenance, clock } = maintainer();
    const little = blocksOf(1, 3, 10);
    const wasteful = await one.backup(size, new Map([...little, ...blocksOf(100, 20, 300)]));
    const kept = await one.backup(size, little);
    const mostly = await one.backup(size, new Map([...blocksOf(200, 20, 50), ...blocksOf(300, 1, 400)]));
    const alsoKept = await one.backup(size, blocksOf(200, 20, 50));
    await maintenance.removePoint(one.repository, wasteful);
    await maintenance.removePoint(one.repository, mostly);
    const totals = await collect(one);
    expect(totals).toMatchObject({ rewrittenPacks: 1 });
    expect(totals.rewrittenBytes).toBeGreaterThan(3 * 0.4 * block);
    expect(totals.rewrittenBytes).toBeLessThan(5 * block);
    clock.aheadMs += 48 * hour;
    expect(await collect(one)).toMatchObject({ deletedPacks: 1 });
    expect((await one.read(kept)).equals(imageOf(little))).toBe(true);
    expect((await one.read(alsoKept)).equals(imageOf(blocksOf(200, 20, 50)))).toBe(true);
    // A mover that starts with nothing finds it all.
    await using two = await open('two');
    expect((await two.read(kept)).equals(imageOf(little))).toBe(true);
  });

  test('a damaged block is not copied: its pack stays, and everything else goes on', async () => {
    const { collect, maintenance } = maintainer();
    const keep = blocksOf(1, 3, 10);
    let kept: string;
    let pack: string;
    {
      await using one = await open();
      const removed = await one.backup(size, new Map([...keep, ...blocksOf(100, 20, 300)]));
      [pack] = one.repository.index.packs.ids() as [string];
      kept = await one.backup(size, keep);
      await maintenance.removePoint(one.repository, removed);
      const { offset } = one.repository.index.find(one.digestOf(sampleBlock(2, block))) as { offset: number };
      const file = path.join(scratch.folder, 'repository', packName(pack));
      const bytes = fs.readFileSync(file);
      bytes[offset + 100] = (bytes[offset + 100] as number) ^ 1;
      fs.writeFileSync(file, bytes);
    }
    await using one = await open();
    expect(await collect(one)).toMatchObject({ rewrittenPacks: 0, condemnedPacks: 0 });
    expect(one.repository.index.packs.numberOf(pack)).toBeDefined();
    await expect(one.read(kept)).rejects.toMatchObject({ code: 'BLOCK_CORRUPT' });
  });

  test('while an index page of a point cannot be read nothing is condemned; once that point is removed it goes on', async () => {
    const { collect, maintenance, clock } = maintainer();
    let broken: string;
    {
      await using one = await open();
      broken = await one.backup(size, blocksOf(1, 3));
      const [pack] = one.repository.index.packs.ids() as [string];
      await maintenance.removePoint(one.repository, await one.backup(size, blocksOf(50, 3)));
      const { disk } = await one.repository.points.readDisk(broken, 'disk');
      const { offset } = one.repository.index.find(Buffer.from(disk.indexRoot, 'hex')) as { offset: number };
      const file = path.join(scratch.folder, 'repository', packName(pack));
      const bytes = fs.readFileSync(file);
      bytes[offset + 10] = (bytes[offset + 10] as number) ^ 1;
      fs.writeFileSync(file, bytes);
    }
    await using one = await open();
    await expect(collect(one)).rejects.toMatchObject({ code: 'REPOSITORY_DAMAGED', meta: { pointId: broken } });
    const plans = [];
    for await (const plan of readPlans(one.repository.store, one.repository.keys, () => undefined)) plans.push(plan);
    expect(plans).toEqual([]);
    await maintenance.removePoint(one.repository, broken);
    expect(await collect(one)).toMatchObject({ condemnedPacks: 2 });
    clock.aheadMs += 48 * hour;
    expect(await collect(one)).toMatchObject({ deletedPacks: 2, deletedPoints: 2 });
  });

  test('a pack that its maker did not live to announce becomes known to all, and goes when nothing needs it', async () => {
    await using one = await open();
    const lost = await open('two');
    const session = await lost.openSession();
    const draft = await lost.openDisk(session, 'disk', size);
    for (const [at, raw] of blocksOf(1, 3)) await lost.send(draft, at, raw, session);
    await lost.repository.blocks.flush();
    await lost.vanish();
    const [orphan] = packsIn(scratch.folder) as [string];
    await one.repository.refresh();
    expect(one.repository.index.packs.count).toBe(0);
    const { collect, clock } = maintainer({ packAgeMs: hour });
    expect(await collect(one)).toMatchObject({
      condemnedPacks: 0,
      storedBytes: fs.statSync(path.join(scratch.folder, 'repository', orphan)).size,
    });
    clock.aheadMs += 2 * hour;
    expect(await collect(one)).toMatchObject({ condemnedPacks: 1 });
    clock.aheadMs += 48 * hour;
    expect(await collect(one)).toMatchObject({ deletedPacks: 1 });
    expect(packsIn(scratch.folder)).toEqual([]);
  });

  test('who refers to a pack that its maker did not live to announce announces it', async () => {
    await using one = await open();
    const content = blocksOf(1, 3);
    {
      const dying = await open('two');
      const session = await dying.openSession();
      const draft = await dying.openDisk(session, 'disk', size);
      for (const [at, raw] of content) await dying.send(draft, at, raw, session);
      await dying.repository.blocks.flush();
      await dying.vanish();
    }
    await using two = await open('two');
    const point = await two.backup(size, content);
    expect(two.repository.index.packs.count).toBe(2);
    await one.repository.refresh();
    expect((await one.read(point)).equals(imageOf(content))).toBe(true);
  });

  test('what ended sessions and others left behind is cleared away, and the journal does not grow', async () => {
    await using one = await open();
    const { collect, maintenance, clock } = maintainer();
    const { store, keys } = one.repository;
    for (let i = 0; i < 5; i++) await maintenance.removePoint(one.repository, await one.backup(size, blocksOf(i * 10, 2)));
    const abandoned = {
      sessionId: randomUUID(),
      repositoryId: one.repository.id,
      kind: 'backup' as const,
      pointIds: [],
      state: 'open' as const,
    };
    const record = { ...abandoned, openedAt: new Date().toISOString(), leaseDurationMs: 0, disks: [], owner: 'gone', generation: 1 };
    const name = sessionName(abandoned.sessionId);
    await store.put(name, encodeSession(record, keys?.document(name)));
    for (let round = 0; round < 4; round++, clock.aheadMs += 48 * hour) await collect(one);
    const left = contentOf(scratch.folder);
    expect(left.filter((one) => /^(sessions|drafts|removed|packs|points|tmp)\//.test(one))).toEqual([]);
    expect(left.filter((one) => one.startsWith('journal/')).length).toBeLessThan(4);
    expect(left.filter((one) => one.startsWith('collections/'))).toHaveLength(1);
    // Its numbering goes on where it was: another mover misses nothing.
    await using two = await open('two');
    const point = await one.backup(size, blocksOf(1, 2));
    await two.repository.refresh();
    expect((await two.read(point)).equals(imageOf(blocksOf(1, 2)))).toBe(true);
  });
});

test('young packs are left alone, and a dry run changes nothing and tells what would be', async () => {
  using scratch = temporaryFolder();
  await using one = await TestRepository.open(scratch.folder);
  const { collect, maintenance, clock } = maintainer({ packAgeMs: hour });
  await maintenance.removePoint(one.repository, await one.backup(size, blocksOf(1, 6)));
  expect(await collect(one, true)).toMatchObject({ condemnedPacks: 0 });
  clock.aheadMs += 2 * hour;
  const before = contentOf(scratch.folder);
  const told = await collect(one, true);
  expect(told).toMatchObject({ condemnedPacks: 1, neededBytes: 0 });
  expect(contentOf(scratch.folder)).toEqual(before);
  expect(fs.existsSync(path.join(scratch.folder, 'repository', 'maintenance'))).toBe(false);
  expect((await collect(one)).condemnedBytes).toBe(told.condemnedBytes);
});

test('below the soft watermark the grace time is cut, but not below the least', async () => {
  using scratch = temporaryFolder();
  await using one = await TestRepository.open(scratch.folder);
  const { collect, maintenance, clock } = maintainer({ minimumGraceMs: 10 * minute });
  await maintenance.removePoint(one.repository, await one.backup(size, blocksOf(1, 6)));
  await collect(one);
  await one.repository.updateSettings({ softFreeBytes: Number.MAX_SAFE_INTEGER });
  clock.aheadMs += 9 * minute;
  expect(await collect(one)).toMatchObject({ deletedPacks: 0, waitingCollections: 1 });
  clock.aheadMs += 2 * minute;
  expect(await collect(one)).toMatchObject({ deletedPacks: 1 });
});

test('a run that asks for a shorter grace time gets it for what it condemns, but never less than two leases', async () => {
  using scratch = temporaryFolder();
  await using one = await TestRepository.open(scratch.folder);
  const { collect, maintenance, clock } = maintainer();
  const condemn = async (seed: number, graceMs?: number) => {
    await maintenance.removePoint(one.repository, await one.backup(size, blocksOf(seed, 6)));
    const { deletedAfter } = await collect(one, false, graceMs === undefined ? {} : { graceMs });
    return Math.round(((deletedAfter?.getTime() ?? 0) - Date.now() - clock.aheadMs) / minute);
  };
  expect(await condemn(1)).toBe(24 * 60);
  expect(await condemn(100, 3 * minute)).toBe(3);
  expect(await condemn(200, 0)).toBe(1);
  clock.aheadMs += 4 * minute;
  // What was condemned without being asked for less keeps its day.
  expect(await collect(one)).toMatchObject({ deletedPoints: 2, waitingCollections: 1 });
});

test('rewriting leaves what has to stay free; what is wholly dead goes without', async () => {
  using scratch = temporaryFolder();
  await using one = await TestRepository.open(scratch.folder);
  const { collect, maintenance, clock } = maintainer();
  const keep = blocksOf(1, 3, 10);
  const wasteful = await one.backup(size, new Map([...keep, ...blocksOf(100, 20, 300)]));
  const kept = await one.backup(size, keep);
  await maintenance.removePoint(one.repository, wasteful);
  await maintenance.removePoint(one.repository, await one.backup(size, blocksOf(200, 10)));
  await one.repository.updateSettings({ hardFreeBytes: Number.MAX_SAFE_INTEGER });
  expect(await collect(one)).toMatchObject({ condemnedPacks: 1, rewrittenPacks: 0 });
  await one.repository.updateSettings({ hardFreeBytes: 1 });
  expect(await collect(one)).toMatchObject({ condemnedPacks: 1, rewrittenPacks: 1 });
  clock.aheadMs += 48 * hour;
  expect(await collect(one)).toMatchObject({ deletedPacks: 2 });
  expect((await one.read(kept)).equals(imageOf(keep))).toBe(true);
});

test('of two maintainers one works and the other is told who does', async () => {
  using scratch = temporaryFolder();
  await using one = await TestRepository.open(scratch.folder);
  await using two = await TestRepository.open(scratch.folder, {
    cacheFolder: path.join(scratch.folder, 'cache-two'),
    lock: { instanceId: 'two', leaseDurationMs: 30_000, waitMs: 0 },
  });
  const { maintenance } = maintainer();
  await one.backup(size, blocksOf(1, 3));
  const slow = maintenance.startCollect(randomUUID(), one.repository, { dryRun: false, bytesPerSecond: 1 });
  const name = path.join(scratch.folder, 'repository', 'maintenance');
  while (!fs.existsSync(name)) await new Promise((resolve) => setTimeout(resolve, 5));
  const busy = maintenance.startCollect(randomUUID(), two.repository, { dryRun: false, bytesPerSecond: 0 });
  await busy.done;
  expect(busy.failure?.code).toBe('MAINTENANCE_BUSY');
  maintenance.cancel(slow.operationId);
  await slow.done;
  expect([slow.cancelled, slow.failure]).toEqual([true, undefined]);
  await expect(maintenance.undoCollect(two.repository)).resolves.toEqual({ packs: 0, bytes: 0 });
});

test('places are marked once and never forgotten, in packs of any size', () => {
  const packs = new PackTable();
  const random = randomFrom(7);
  for (const entries of [1, 100, 5000]) {
    const pack = packs.add(randomUUID());
    packs.describe(pack, 64 * 2 ** 20, entries);
    const marks = new PackMarks(packs);
    expect(marks.hasAny(pack)).toBe(false);
    // Aligned offsets are the hard case for a filter.
    const offsets = new Set(Array.from({ length: entries }, () => 64 + 4096 * Math.floor(random() * 16_000)));
    let fresh = 0;
    for (const offset of offsets) if (marks.mark({ pack, offset, storedLength: 10, rawLength: 0, codec: 0, kind: 0 })) fresh++;
    for (const offset of offsets) expect(marks.has(pack, offset)).toBe(true);
    expect(fresh).toBeGreaterThan(offsets.size * 0.85);
    expect(marks.neededBytes(pack)).toBe(fresh * 10);
    let wrong = 0;
    for (let i = 0; i < 1000; i++) if (marks.has(pack, 65 + 4096 * i)) wrong++;
    expect(wrong).toBeLessThan(180);
  }
});
