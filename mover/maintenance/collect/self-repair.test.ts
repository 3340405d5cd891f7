/** What maintenance itself needs and finds damaged, missing or rolled back: nothing is lost unnoticed, and nobody has to delete anything by hand. */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { planName } from '../../format/collection-plan';
import { rosterName } from '../../format/roster';
import { sealDocument } from '../../format/sealed-document';
import { packName } from '../../repository/blocks/pack-table';
import { readPlans } from '../../repository/sharing/collection-plans';
import { maintenanceState } from '../../repository/sharing/maintenance-lease';
import { sampleBlock } from '../../testing/test-disk';
import { temporaryFolder } from '../../testing/test-mover';
import { quiet, TestRepository, testKey, type TestRepositoryOptions } from '../../testing/test-repository';
import { Maintenance } from '../maintenance';
import { Verifier } from '../verifier';

const block = 65_536;
const size = 600 * block;
const hour = 60 * 60_000;

const blocksOf = (first: number, count: number) =>
  new Map(Array.from({ length: count }, (_, i) => [i, sampleBlock(first + i, block)] as const));

describe.each([
  ['in the clear', {}],
  ['encrypted', { key: testKey }],
] as [string, TestRepositoryOptions][])('maintenance repairs itself, %s', (_name, more) => {
  let scratch: ReturnType<typeof temporaryFolder>;
  let clock: { aheadMs: number };
  let maintenance: Maintenance;
  beforeEach(() => {
    scratch = temporaryFolder();
    clock = { aheadMs: 0 };
    const settings = { packAgeMs: 0, reserveBytes: 0, acknowledgeWaitMs: 0 };
    maintenance = new Maintenance(quiet, { settings, now: () => Date.now() + clock.aheadMs });
  });
  afterEach(() => scratch[Symbol.dispose]());

  const open = (instanceId = 'one') =>
    TestRepository.open(scratch.folder, {
      cacheFolder: path.join(scratch.folder, `cache-${instanceId}`),
      lock: { instanceId, leaseDurationMs: 600_000, waitMs: 0 },
      ...more,
    });
  const collect = async ({ repository }: TestRepository) => {
    const operation = maintenance.startCollect(randomUUID(), repository, { dryRun: false, bytesPerSecond: 0 });
    await operation.done;
    if (operation.failure) throw operation.failure;
    return operation.work.progress.totals;
  };
  /** Condemns, and deletes a day later what was condemned. */
  const collectTwice = async (one: TestRepository) => {
    await collect(one);
    clock.aheadMs += 48 * hour;
    return collect(one);
  };
  const verify = async ({ repository }: TestRepository) => {
    const verifier = new Verifier(repository, new AbortController().signal);
    await verifier.run(undefined);
    return verifier.findings.map(({ code, pointId, objectName }) => [code, pointId || objectName]);
  };
  const fileOf = (name: string) => path.join(scratch.folder, 'repository', name);
  const removeManifest = (pointId: string) => {
    const found = fs.readdirSync(fileOf('points')).find((name) => name.includes(pointId)) as string;
    const whole = fs.readFileSync(fileOf(`points/${found}`));
    fs.rmSync(fileOf(`points/${found}`));
    return () => fs.writeFileSync(fileOf(`points/${found}`), whole);
  };
  const flip = (name: string, at: number) => {
    const bytes = fs.readFileSync(fileOf(name));
    bytes[at] = (bytes[at] as number) ^ 1;
    fs.writeFileSync(fileOf(name), bytes);
  };
  const announcements = () => fs.readdirSync(fileOf('journal/one'));

  test('a manifest that goes when no announcement remembers it any more is missed, and what it needs is not condemned', async () => {
    let lost: string;
    let kept: string;
    {
      await using one = await open();
      lost = await one.backup(size, blocksOf(1, 3));
      kept = await one.backup(size, blocksOf(20, 3));
      await maintenance.removePoint(one.repository, await one.backup(size, blocksOf(40, 3)));
      expect(await collectTwice(one)).toMatchObject({ deletedPoints: 1, repaired: [] });
      expect(announcements()).toHaveLength(1);
    }
    const putBack = removeManifest(lost);
    await using one = await open();
    const missing = { code: 'REPOSITORY_DAMAGED', meta: { pointId: lost } };
    const listed = async () => {
      const ids: string[] = [];
      for await (const entry of one.repository.points.list())
        ids.push('damaged' in entry ? `damaged ${entry.damaged.pointId}` : entry.point.pointId);
      return ids;
    };
    expect(await verify(one)).toEqual([['MANIFEST_DAMAGED', lost]]);
    expect(await listed()).toEqual([kept, `damaged ${lost}`]);
    await expect(collect(one)).rejects.toMatchObject(missing);
    // Not forgotten by a run that failed, and not by what is collected beside it.
    await expect(collect(one)).rejects.toMatchObject(missing);
    putBack();
    expect(await verify(one)).toEqual([]);
    expect(await listed()).toEqual([lost, kept]);
    expect(await collect(one)).toMatchObject({ condemnedPacks: 0 });
    expect((await one.read(lost)).length).toBe(size);
    // Or it is given up: its pack goes, and nobody misses it any more.
    removeManifest(lost);
    await maintenance.removePoint(one.repository, lost);
    expect(await verify(one)).toEqual([]);
    expect(await collectTwice(one)).toMatchObject({ deletedPacks: 1, deletedPoints: 1 });
    expect(await verify(one)).toEqual([]);
    expect(one.repository.points.ids()).toEqual([kept]);
    await expect(maintenance.removePoint(one.repository, lost)).rejects.toMatchObject({ code: 'POINT_NOT_FOUND' });
  });

  test('a roster that is damaged, gone or rolled back is told and made anew', async () => {
    await using one = await open();
    const a = await one.backup(size, blocksOf(1, 3));
    await collect(one);
    expect(await maintenanceState(one.repository.store)).toMatchObject({ roster: 1 });
    const old = fs.readFileSync(fileOf(rosterName(1)));
    const b = await one.backup(size, blocksOf(20, 3));
    await collect(one);
    expect(fs.readdirSync(fileOf('roster'))).toEqual(['000000002.points']);
    // The same once more: nothing is written.
    await collect(one);
    expect(fs.readdirSync(fileOf('roster'))).toEqual(['000000002.points']);

    flip(rosterName(2), 60);
    expect(await verify(one)).toEqual([['OBJECT_DAMAGED', rosterName(2)]]);
    expect(await collect(one)).toMatchObject({ repaired: [rosterName(2)] });
    expect(await verify(one)).toEqual([]);

    fs.rmSync(fileOf(rosterName(3)));
    fs.writeFileSync(fileOf(rosterName(1)), old);
    expect(await verify(one)).toEqual([['OBJECT_DAMAGED', rosterName(3)]]);
    expect(await collect(one)).toMatchObject({ repaired: [rosterName(3)] });
    expect(await verify(one)).toEqual([]);
    expect(fs.readdirSync(fileOf('roster'))).toEqual(['000000004.points']);
    removeManifest(b);
    expect(await verify(one)).toEqual([['MANIFEST_DAMAGED', b]]);
    expect((await one.read(a)).length).toBe(size);
  });

  test('a mover that knows no rosters and collects takes nothing for lost that it deleted itself', async () => {
    await using one = await open();
    const kept = await one.backup(size, blocksOf(1, 3));
    const removed = await one.backup(size, blocksOf(20, 3));
    await collect(one);
    // As it does: the manifest goes, its plan and its announcements are forgotten, and what it does not know is left out of the lease.
    removeManifest(removed);
    const { roster: _, ...rest } = JSON.parse(fs.readFileSync(fileOf('maintenance'), 'utf8')) as { roster: number };
    fs.writeFileSync(fileOf('maintenance'), JSON.stringify({ ...rest, newestCollection: 1 }));
    fs.rmSync(fileOf('journal/one'), { recursive: true });
    await one.repository.points.reload();
    expect(await verify(one)).toEqual([]);
    await collect(one);
    expect(await verify(one)).toEqual([]);
    removeManifest(kept);
    expect(await verify(one)).toEqual([['MANIFEST_DAMAGED', kept]]);
  });

  test.each([
    ['content', 70],
    ['number of the version', 9],
  ])('a plan whose %s is damaged is settled by the next collection, whatever it was doing, and space is given back', async (_what, at) => {
    await using one = await open();
    await using two = await open('two');
    const kept = await one.backup(size, blocksOf(1, 3));
    const removed = await one.backup(size, blocksOf(20, 4));
    await maintenance.removePoint(one.repository, removed);
    await collect(one);
    await two.repository.acknowledge();
    const pack = (await planOf(one, 1)).packs[0]?.id as string;
    // It had begun to delete: one pack is gone already, and another mover was not told.
    fs.rmSync(fileOf(packName(pack)));
    flip(planName(1), at);
    await using three = await open('three');
    expect(three.repository.index.packs.isCondemned(three.repository.index.packs.ids()[0] as string)).toBe(true);
    expect(await verify(three)).toEqual([['OBJECT_DAMAGED', planName(1)]]);
    await expect(maintenance.undoCollect(one.repository)).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
    await expect(maintenance.undoRemovePoint(one.repository, removed)).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });

    clock.aheadMs += 48 * hour;
    // The settling run deletes nothing, and condemns anew.
    expect(await collect(one)).toMatchObject({ deletedPacks: 0, repaired: [planName(1)] });
    for (const mover of [two, three]) {
      await mover.repository.acknowledge();
      const { index } = mover.repository;
      // What was kept counts again, what is gone does not: the same blocks are stored again.
      expect(index.has(mover.digestOf(sampleBlock(1, block)))).toBe(true);
      expect(index.has(mover.digestOf(sampleBlock(20, block)))).toBe(false);
    }
    const again = await two.backup(size, blocksOf(20, 4));
    await three.repository.refresh();
    expect((await three.read(again)).subarray(0, block).equals(sampleBlock(20, block))).toBe(true);
    clock.aheadMs += 48 * hour;
    expect(await collect(one)).toMatchObject({ deletedPoints: 1, repaired: [] });
    expect(await verify(one)).toEqual([]);
    expect((await one.read(kept)).length).toBe(size);
  });

  test('a whole plan of a later version is nobody else’s: it stays, and nothing is deleted', async () => {
    await using one = await open();
    await maintenance.removePoint(one.repository, await one.backup(size, blocksOf(20, 4)));
    await collect(one);
    const packs = one.repository.index.packs.ids();
    const later = sealDocument({ magic: 'TDMKPLAN', version: 9 }, [{ codec: 'none', content: Buffer.from('as it will be') }]);
    fs.writeFileSync(fileOf(planName(1)), later);
    clock.aheadMs += 48 * hour;
    for (let i = 0; i < 2; i++) await expect(collect(one)).rejects.toMatchObject({ code: 'REPOSITORY_FORMAT_UNKNOWN' });
    await expect(maintenance.undoCollect(one.repository)).rejects.toMatchObject({ code: 'REPOSITORY_FORMAT_UNKNOWN' });
    expect(fs.readFileSync(fileOf(planName(1))).equals(later)).toBe(true);
    for (const id of packs) expect(fs.existsSync(fileOf(packName(id)))).toBe(true);
  });

  test('a plan that is gone: what it condemned counts again where it is there, and not where it was deleted', async () => {
    await using one = await open();
    await using two = await open('two');
    await one.backup(size, blocksOf(1, 3));
    await maintenance.removePoint(one.repository, await one.backup(size, blocksOf(20, 3)));
    await maintenance.removePoint(one.repository, await one.backup(size, blocksOf(40, 3)));
    await collect(one);
    await two.repository.acknowledge();
    const packs = (await planOf(one, 1)).packs.map(({ id }) => id);
    expect(packs).toHaveLength(2);
    const gone = one.repository.index.packs.idOf(one.repository.index.find(one.digestOf(sampleBlock(20, block)))?.pack ?? -1);
    fs.rmSync(fileOf(packName(gone)));
    fs.rmSync(fileOf(planName(1)));
    // Any later step of a maintainer makes the others look.
    await maintenance.undoCollect(one.repository);
    await two.repository.acknowledge();
    const has = (seed: number) => two.repository.index.has(two.digestOf(sampleBlock(seed, block)));
    expect([has(20), has(40)]).toEqual([false, true]);
    expect(await collect(one)).toMatchObject({ condemnedPacks: 1 });
  });

  test('without the object "maintenance" no plan gets a number that was acknowledged before', async () => {
    await using one = await open();
    await using two = await open('two');
    const kept = await one.backup(size, blocksOf(1, 3));
    await maintenance.removePoint(one.repository, await one.backup(size, blocksOf(20, 3)));
    await collectTwice(one);
    await two.repository.acknowledge();
    await collect(one);
    const before = await maintenanceState(one.repository.store);
    expect(before.newestCollection).toBe(1);
    for (const name of fs.readdirSync(fileOf('collections'))) fs.rmSync(fileOf(`collections/${name}`));
    for (const [seed, change] of [
      [100, () => fs.rmSync(fileOf('maintenance'))],
      [200, () => fs.truncateSync(fileOf('maintenance'), 20)],
    ] as const) {
      const { roster } = await maintenanceState(one.repository.store);
      change();
      await maintenance.removePoint(one.repository, await one.backup(size, blocksOf(seed, 3)));
      await collect(one);
      const after = await maintenanceState(one.repository.store);
      expect(after.newestCollection).toBeGreaterThan(before.newestCollection);
      expect(after.revision).toBeGreaterThan(before.revision);
      // The roster still counts, and the next one was written from it.
      expect(after.roster).toBe(roster + 1);
      await two.repository.acknowledge();
    }
    removeManifest(kept);
    expect(await verify(one)).toEqual([['MANIFEST_DAMAGED', kept]]);
  });
});

async function planOf({ repository }: TestRepository, number: number) {
  for await (const plan of readPlans(repository.store, repository.keys, () => undefined)) if (plan.number === number) return plan;
  throw new Error(`no plan ${number}`);
}
