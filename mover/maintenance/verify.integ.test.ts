/** Verification of a whole repository, and what becomes of the damage it finds. */
import fs from 'node:fs';
import path from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { PACK_HEADER_BYTES } from '../format/pack';
import { QUARANTINE_PREFIX } from '../format/quarantine';
import { packName } from '../repository/blocks/pack-table';
import { ImageReader } from '../repository/blocks/image-reader';
import { BufferPool } from '../repository/blocks/buffer-pool';
import { sampleBlock } from '../testing/test-disk';
import { temporaryFolder } from '../testing/test-mover';
import { quiet, TestRepository, testKey, type TestRepositoryOptions } from '../testing/test-repository';
import { verifiedRawForm } from '../format/block';
import { VerifyLedger } from './verify-ledger';
import { VerifyOperations } from './verify-operations';
import { Verifier, type VerifierOptions } from './verifier';

const block = 65_536;
const size = 16 * block;
const day = 24 * 3600 * 1000;

describe.each([
  ['in the clear', undefined, 0],
  ['encrypted, compared by threads', testKey, 2],
] as const)('verification of everything, %s', (_name, key, threads) => {
  let scratch: ReturnType<typeof temporaryFolder>;
  let one: TestRepository;
  const open = (options: TestRepositoryOptions = {}) =>
    TestRepository.open(scratch.folder, { ...(key && { key }), packTargetBytes: 100_000, ...options });
  const blocks = (...seeds: number[]) => new Map(seeds.map((seed) => [seed % 16, sampleBlock(seed, block)] as const));
  const verify = async (options: VerifierOptions = {}, pointId?: string, on = one) => {
    const verifier = new Verifier(on.repository, new AbortController().signal, { threads, ...options });
    await verifier.run(pointId);
    return verifier;
  };
  const ledger = () => {
    const { packs } = one.repository.index;
    return VerifyLedger.open(path.join(scratch.folder, 'ledger'), one.repository.id, (id) => packs.numberOf(id) !== undefined);
  };
  const fileOf = (packId: string) => path.join(scratch.folder, 'repository', packName(packId));
  /** Damages the first block of a seed's content; returns its pack and offset. */
  const damage = (seed: number) => {
    const { index } = one.repository;
    const place = index.find(one.digestOf(sampleBlock(seed, block)));
    if (!place) throw new Error('it is not there');
    const packId = index.packs.idOf(place.pack);
    const file = fileOf(packId);
    const bytes = fs.readFileSync(file);
    bytes[place.offset + 1000] = (bytes[place.offset + 1000] as number) ^ 4;
    fs.writeFileSync(file, bytes);
    return { packId, offset: place.offset };
  };
  const records = () => {
    const folder = path.join(scratch.folder, 'repository', QUARANTINE_PREFIX);
    return fs.existsSync(folder) ? fs.readdirSync(folder) : [];
  };
  beforeEach(async () => {
    scratch = temporaryFolder();
    one = await open();
  });
  afterEach(async () => {
    await one.close();
    scratch[Symbol.dispose]();
  });

  test('reads every pack once and counts what it read', async () => {
    await one.backup(size, blocks(1, 2, 3));
    const { progress } = await verify();
    const { packs } = one.repository.index;
    expect(progress).toMatchObject({ checkedPacks: packs.count, totalPacks: packs.count, checkedPoints: 1, skippedPacks: 0 });
    expect(progress.checkedBlocks).toBe(packs.totalEntries);
    expect(progress.totalBlocks).toBe(packs.totalEntries);
    expect(progress.checkedBytes).toBe(3 * block + 8192);
  });

  test('a run that is stopped is gone on with, and each pack is read once per period', async () => {
    for (let i = 0; i < 6; i++) await one.backup(size, blocks(10 + i));
    const { packs } = one.repository.index;
    const total = packs.count;
    let now = Date.parse('2026-11-21T00:00:00Z');
    {
      const notes = ledger();
      const aborter = new AbortController();
      const verifier = new Verifier(one.repository, aborter.signal, { threads, ledger: notes, periodMs: 30 * day, now: () => now });
      const note = notes.note.bind(notes);
      // Stopped while the next packs are being read.
      notes.note = (id, at) => {
        note(id, at);
        if (notes.since(packs.ids().slice(0, 3))) aborter.abort();
      };
      await expect(verifier.run(undefined)).rejects.toMatchObject({ code: 'CANCELLED' });
      expect(verifier.progress.checkedPacks).toBe(3);
      expect(notes.since(packs.ids())).toBeUndefined();
      notes.close();
    }
    now += day;
    {
      const notes = ledger();
      const rest = await verify({ ledger: notes, periodMs: 30 * day, now: () => now });
      expect(rest.progress).toMatchObject({ checkedPacks: total - 3, skippedPacks: 3, totalPacks: total - 3 });
      expect(notes.since(packs.ids())).toEqual(new Date(now - day));
      notes.close();
    }
    now += 29.5 * day;
    const notes = ledger();
    // The first three are due again, the others are not.
    expect((await verify({ ledger: notes, periodMs: 30 * day, now: () => now })).progress).toMatchObject({ checkedPacks: 3 });
    expect((await verify({ ledger: notes, now: () => now })).progress).toMatchObject({ checkedPacks: total, skippedPacks: 0 });
    notes.close();
  });

  test('a damaged ledger makes packs be read again, nothing else', async () => {
    await one.backup(size, blocks(1));
    await one.backup(size, blocks(2));
    const notes = ledger();
    await verify({ ledger: notes });
    notes.close();
    const file = path.join(scratch.folder, 'ledger', `${one.repository.id}.verified`);
    const bytes = fs.readFileSync(file);
    bytes[20] = (bytes[20] as number) ^ 1;
    fs.writeFileSync(file, Buffer.concat([bytes, Buffer.from('torn')]));
    const again = ledger();
    expect((await verify({ ledger: again, periodMs: day })).progress).toMatchObject({ checkedPacks: 1 });
    again.close();
  });

  test('asks a store that is far away for several things at once, in a run over everything and of a point', async () => {
    let point = '';
    for (let i = 0; i < 3; i++) point = await one.backup(size, blocks(1 + i, 4 + i, 30 + i), point);
    const { store } = one.repository;
    const original = { read: store.read.bind(store), readWhole: store.readWhole.bind(store) };
    let running = 0;
    let most = 0;
    const far = async <T>(read: () => Promise<T>): Promise<T> => {
      most = Math.max(most, ++running);
      for (let turn = 0; turn < 10; turn++) await setImmediate();
      return read().finally(() => running--);
    };
    for (const pointId of [undefined, point]) {
      most = 0;
      store.read = (name, offset, target) => far(() => original.read(name, offset, target));
      expect((await verify({}, pointId)).findings).toEqual([]);
      expect(most).toBeGreaterThan(2);
      Object.assign(store, original);
    }
    most = 0;
    store.readWhole = (name, maxBytes) => far(() => original.readWhole(name, maxBytes));
    expect((await verify()).findings).toEqual([]);
    expect(most).toBeGreaterThan(2);
    Object.assign(store, original);
  });

  test('keeps to its rate', async () => {
    await one.backup(size, blocks(1, 2, 3, 4));
    const bytes = one.repository.index.packs.totalBytes;
    const startedAt = performance.now();
    await verify({ bytesPerSecond: bytes });
    // A quarter of a second passes ahead, and a pack's trailer is not counted.
    expect(performance.now() - startedAt).toBeGreaterThan(500);
  });

  test('a damaged block hurts every point and disk that has it, is stored again by the next backup, and is healed then', async () => {
    const a = await one.backup(size, blocks(1, 2));
    const b = await one.backup(size, blocks(3), a);
    const other = await one.backup(size, blocks(20));
    const place = damage(1);
    const notes = ledger();
    const found = await verify({ ledger: notes });
    expect(found.findings.map((f) => [f.code, f.pointId, f.diskId, f.offsetBytes, f.objectName])).toEqual([
      ['BLOCK_CORRUPT', a, 'disk', block, packName(place.packId)],
      ['BLOCK_CORRUPT', b, 'disk', block, packName(place.packId)],
    ]);
    expect(found.progress).toMatchObject({ quarantinedBlocks: 1, healedBlocks: 0 });
    expect(one.repository.quarantine.count()).toEqual({ damaged: 1, healed: 0 });
    expect(records()).toHaveLength(1);
    // Found again, even when all else was verified just now, and not put there twice.
    const second = await verify({ ledger: notes, periodMs: day });
    expect(second.findingCount).toBe(2);
    expect(second.progress).toMatchObject({ checkedPacks: 1, quarantinedBlocks: 0 });

    await one.close();
    one = await open();
    await expect(one.read(a)).rejects.toMatchObject({ code: 'BLOCK_CORRUPT' });
    const before = one.repository.index.packs.count;
    const again = await one.backup(size, blocks(1));
    expect(one.repository.index.packs.count).toBeGreaterThan(before);
    for (const point of [a, b, other, again]) expect((await one.read(point)).length).toBe(size);
    expect((await one.read(a)).subarray(block, 2 * block)).toEqual(sampleBlock(1, block));
    const healed = await verify();
    expect(healed.findings).toEqual([]);
    expect(healed.progress).toMatchObject({ quarantinedBlocks: 0, healedBlocks: 1 });
    // As long as the bad copy lies there it must not be taken for a good one.
    expect(records()).toHaveLength(1);
    fs.rmSync(fileOf(place.packId));
    one.repository.index.dropPacks([place.packId]);
    await verify();
    expect(records()).toEqual([]);
    expect(one.repository.quarantine.count()).toEqual({ damaged: 0, healed: 0 });
    notes.close();
  });

  test('a place that is good again leaves quarantine', async () => {
    const a = await one.backup(size, blocks(1));
    const { packId } = one.repository.index.packs.ids().map((id) => ({ packId: id }))[0] as { packId: string };
    const whole = fs.readFileSync(fileOf(packId));
    damage(1);
    expect((await verify()).findingCount).toBe(1);
    fs.writeFileSync(fileOf(packId), whole);
    expect((await verify()).findings).toEqual([]);
    expect(records()).toEqual([]);
    expect((await one.read(a)).subarray(block, 2 * block)).toEqual(sampleBlock(1, block));
    // A whole pack too.
    fs.truncateSync(fileOf(packId), 500);
    expect((await verify()).findings.map((f) => f.code)).toContain('PACK_DAMAGED');
    expect(one.repository.index.has(one.digestOf(sampleBlock(1, block)))).toBe(false);
    fs.writeFileSync(fileOf(packId), whole);
    expect((await verify()).findings).toEqual([]);
    expect(one.repository.index.has(one.digestOf(sampleBlock(1, block)))).toBe(true);
  });

  test('another mover learns of it, and does not count on the block', async () => {
    const a = await one.backup(size, blocks(1));
    await using two = await open({
      cacheFolder: path.join(scratch.folder, 'cache-two'),
      lock: { instanceId: 'two', leaseDurationMs: 600_000, waitMs: 0 },
    });
    damage(1);
    await verify();
    await two.repository.refresh();
    expect(two.repository.index.has(two.digestOf(sampleBlock(1, block)))).toBe(false);
    const again = await two.backup(size, blocks(1));
    expect((await two.read(again)).equals(await two.read(a))).toBe(true);
    await one.repository.refresh();
    expect((await verify()).findings).toEqual([]);
  });

  test('an index page that is damaged: what it covers is told, a backup over it fails with a code, a full one heals it', async () => {
    const a = await one.backup(size, blocks(1));
    const root = Buffer.from((await one.repository.points.readDisk(a, 'disk')).disk.indexRoot, 'hex');
    const place = one.repository.index.find(root);
    const packId = one.repository.index.packs.idOf(place?.pack ?? -1);
    const bytes = fs.readFileSync(fileOf(packId));
    bytes[(place?.offset ?? 0) + 3] = (bytes[(place?.offset ?? 0) + 3] as number) ^ 1;
    fs.writeFileSync(fileOf(packId), bytes);
    expect((await verify()).findings.map((f) => [f.code, f.pointId, f.offsetBytes])).toEqual([['INDEX_PAGE_DAMAGED', a, 0]]);
    await one.close();
    one = await open();
    await expect(one.backup(size, blocks(2), a)).rejects.toMatchObject({ code: 'INDEX_PAGE_DAMAGED' });
    const again = await one.backup(size, blocks(1));
    expect((await one.read(again)).equals(await one.read(a))).toBe(true);
    expect((await verify()).findings).toEqual([]);
  });

  test('what a restore finds damaged goes into quarantine, and is read from another copy when there is one', async () => {
    const a = await one.backup(size, blocks(1, 2));
    damage(1);
    const restore = async () => {
      const reader = await ImageReader.open(one.repository, a, 'disk');
      const pool = new BufferPool(1024 * 1024, 1);
      const found = new Map<number, Buffer>();
      const take = (group: Parameters<Parameters<ImageReader['read']>[3]>[0], buffer: Buffer) => {
        for (const view of group)
          found.set(
            view.block,
            Buffer.from(verifiedRawForm(one.repository.digestKey, view.payload, view.codec, view.rawLength, view.digest)),
          );
        pool.release(buffer);
        return Promise.resolve();
      };
      await reader.readChecked(0, reader.blocks, pool, take);
      return found;
    };
    await expect(restore()).rejects.toMatchObject({ code: 'BLOCK_CORRUPT' });
    expect(one.repository.quarantine.count().damaged).toBe(1);
    await one.backup(size, blocks(1));
    expect(await restore()).toEqual(blocks(1, 2));
  });

  test('points and packs that go while it runs are no damage', async () => {
    const a = await one.backup(size, blocks(1));
    const b = await one.backup(size, blocks(20));
    const { store, points, index } = one.repository;
    const read = store.read.bind(store);
    let gone = false;
    store.read = async (name, offset, target) => {
      if (!gone && name.endsWith('.pack')) {
        gone = true;
        // What a collection does: the manifest first, then its packs, in the order of its plan.
        await points.tombstones.put(a, new Date());
        for (const changed of await points.deleteRemoved(a)) await one.repository.announce({ changed });
        const packs = index.packs.ids().filter((id) => index.packs.numberOf(id) === index.find(one.digestOf(sampleBlock(1, block)))?.pack);
        index.packs.setCondemned(new Set(packs));
        for (const id of packs) await store.delete(packName(id));
      }
      return read(name, offset, target);
    };
    const run = await verify();
    store.read = read;
    expect(run.findings).toEqual([]);
    expect((await one.read(b)).length).toBe(size);
  });

  test('a manifest that is gone is missed as long as a mover remembers telling of it', async () => {
    const a = await one.backup(size, blocks(1));
    await one.backup(size, blocks(2));
    const folder = path.join(scratch.folder, 'repository', 'points');
    fs.rmSync(path.join(folder, fs.readdirSync(folder).find((name) => name.includes(a)) as string));
    await one.close();
    one = await open();
    expect((await verify()).findings.map((f) => [f.code, f.pointId])).toEqual([['MANIFEST_DAMAGED', a]]);
  });

  test('operations: a point does not wait for a run over everything; what waits for its turn is cancelled at once', async () => {
    const a = await one.backup(size, blocks(1, 2, 3, 4));
    const operations = new VerifyOperations(quiet, path.join(scratch.folder, 'ledger'));
    const slow = operations.start('slow', one.repository, undefined, { bytesPerSecond: 1, periodMs: 0 });
    const waiting = operations.start('waiting', one.repository, undefined);
    const point = operations.start('point', one.repository, a);
    await point.done;
    expect(point.work.verifier.progress.checkedBlocks).toBe(4);
    operations.cancel(waiting.operationId);
    await waiting.done;
    expect([waiting.cancelled, slow.ended]).toEqual([true, false]);
    expect(operations.verifiedSince(one.repository)).toBeUndefined();
    await operations.stop();
    expect(slow.cancelled).toBe(true);
  });

  test('a header that is not the pack’s own is found, though every block can be read', async () => {
    const a = await one.backup(size, blocks(1));
    const [packId] = one.repository.index.packs.ids() as [string];
    const bytes = fs.readFileSync(fileOf(packId));
    bytes[PACK_HEADER_BYTES - 20] = (bytes[PACK_HEADER_BYTES - 20] as number) ^ 1;
    fs.writeFileSync(fileOf(packId), bytes);
    const { findings } = await verify();
    expect(findings.map((f) => [f.code, f.objectName])).toEqual([['PACK_DAMAGED', packName(packId)]]);
    expect((await one.read(a)).subarray(block, 2 * block)).toEqual(sampleBlock(1, block));
  });
});
