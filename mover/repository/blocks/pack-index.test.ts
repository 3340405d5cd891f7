import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { blake3 } from '@napi-rs/blake-hash';
import type { PackEntry } from '../../format/pack';
import { packHeader, packTrailer, PACK_HEADER_BYTES } from '../../format/pack';
import { DirectoryStore } from '../../stores/directory-store';
import { temporaryFolder } from '../../testing/test-mover';
import { quiet } from '../../testing/test-repository';
import { DigestTable } from './digest-table';
import { PackIndex } from './pack-index';
import { packName, uuidBytes } from './pack-table';

const digestOf = (n: number) => blake3(Buffer.from(`block ${n}`));
const limits = { memoryEntries: 500, maxRuns: 3 };

/** Puts a pack into the store that says it holds the blocks; their content is of no interest here. */
async function addPack(store: DirectoryStore, index: PackIndex | undefined, numbers: readonly number[]): Promise<string> {
  const id = randomUUID();
  const entries: PackEntry[] = numbers.map((n, i) => ({
    digest: digestOf(n),
    offset: PACK_HEADER_BYTES + i,
    storedLength: 1,
    rawLength: n,
    codec: 1,
    kind: 0,
  }));
  const length = PACK_HEADER_BYTES + numbers.length;
  const trailer = packTrailer(uuidBytes(id), entries, length);
  await store.put(packName(id), Buffer.concat([packHeader(uuidBytes(id), uuidBytes(id)), Buffer.alloc(numbers.length), trailer]));
  index?.addPack(id, length + trailer.length, entries);
  return id;
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

const any = () => true;

describe('DigestTable', () => {
  test('finds what was set and nothing else, over growth', () => {
    const table = new DigestTable(16);
    for (let n = 0; n < 5000; n++) table.set(digestOf(n), 1, n, 2, 3);
    for (let n = 0; n < 5000; n++) expect(table.find(digestOf(n), any)).toMatchObject({ pack: 1, offset: n });
    for (let n = 5000; n < 6000; n++) expect(table.find(digestOf(n), any)).toBeUndefined();
    expect([...table.sorted()].length).toBe(5000);
  });

  test('a digest in several packs is found in each; setting it again for one replaces that one', () => {
    const table = new DigestTable(16);
    for (const pack of [1, 2, 3]) for (let n = 0; n < 1000; n++) table.set(digestOf(n), pack, n, 2, 3);
    for (let n = 0; n < 1000; n++) table.set(digestOf(n), 2, n + 7, 2, 3);
    expect(table.size).toBe(3000);
    for (const wanted of [1, 2, 3])
      for (let n = 0; n < 1000; n++)
        expect(table.find(digestOf(n), (pack) => pack === wanted)).toMatchObject({ pack: wanted, offset: wanted === 2 ? n + 7 : n });
    expect(table.find(digestOf(5), () => false)).toBeUndefined();
  });
});

describe('PackIndex', () => {
  let scratch: ReturnType<typeof temporaryFolder>;
  let store: DirectoryStore;
  let cache: string;
  const open = () => PackIndex.open(store, cache, quiet, limits);
  const runs = () => fs.readdirSync(cache).filter((n) => n.endsWith('.run'));
  const expectAll = (index: PackIndex, numbers: readonly number[], found: boolean) => {
    for (const n of numbers) expect(index.find(digestOf(n))?.rawLength).toBe(found ? n : undefined);
  };
  beforeEach(() => {
    scratch = temporaryFolder();
    fs.mkdirSync(path.join(scratch.folder, 'store'));
    store = new DirectoryStore(path.join(scratch.folder, 'store'));
    cache = path.join(scratch.folder, 'cache');
  });
  afterEach(async () => {
    await store.close();
    scratch[Symbol.dispose]();
  });

  test('goes from memory to runs to one merged run, finding everything at each moment', async () => {
    const index = await open();
    for (let p = 0; p < 30; p++) {
      await addPack(store, index, range(p * 200, (p + 1) * 200));
      expectAll(index, range(0, (p + 1) * 200), true);
      expectAll(index, range(6000, 6050), false);
    }
    await index.close(true);
    expect(runs().length).toBeLessThanOrEqual(limits.maxRuns + 1);
    const again = await open();
    expectAll(again, range(0, 6000), true);
    expectAll(again, range(6000, 6500), false);
    expect(again.packs.totalEntries).toBe(6000);
    await again.close(true);
  });

  test('is rebuilt from the packs when there is no cache, or when it was not written before a kill', async () => {
    const index = await open();
    await addPack(store, index, range(0, 300));
    await index.close(true);
    const second = await open();
    await addPack(store, second, range(300, 400));
    // Killed: nothing is closed.
    const third = await open();
    expectAll(third, range(0, 400), true);
    await third.close(false);
    await second.close(false);
    fs.rmSync(cache, { recursive: true });
    const fourth = await open();
    expectAll(fourth, range(0, 400), true);
    expect(fourth.damagedPacks.size).toBe(0);
    await fourth.close(true);
  });

  test('does not find blocks of packs that are gone', async () => {
    const index = await open();
    const gone = await addPack(store, index, range(0, 100));
    await addPack(store, index, range(100, 200));
    await index.close(true);
    await store.delete(packName(gone));
    const again = await open();
    expectAll(again, range(0, 100), false);
    expectAll(again, range(100, 200), true);
    await again.close(true);
  });

  test('drops a run that turns out damaged in use, and finds everything again', async () => {
    const index = await open();
    await addPack(store, index, range(0, 400));
    await index.close(true);
    const file = path.join(cache, runs()[0] as string);
    const again = await open();
    const bytes = fs.readFileSync(file);
    for (let at = bytes.length - 400 * 48; at < bytes.length; at += 48) bytes[at + 40] = 0xff;
    fs.writeFileSync(file, bytes);
    expect(again.find(digestOf(7))).toBeUndefined();
    expect(await again.locate(digestOf(7))).toMatchObject({ rawLength: 7 });
    expectAll(again, range(0, 400), true);
    await again.close(true);
  });

  test('notes packs that cannot be read and goes on with the others', async () => {
    const bad = await addPack(store, undefined, range(0, 100));
    await addPack(store, undefined, range(100, 200));
    fs.truncateSync(path.join(store.folder, packName(bad)), 90);
    const index = await open();
    expect([...index.damagedPacks.keys()]).toEqual([bad]);
    expectAll(index, range(100, 200), true);
    await index.close(true);
  });

  describe('with a block in more than one pack', () => {
    const placesOf = (index: PackIndex, n: number) => index.findAll(digestOf(n)).map(({ pack }) => index.packs.idOf(pack));

    // In memory, in one run, in several runs, and after another start.
    test.each([1, 10, 40])('%i copies of each are all found, over runs, merges and another start', async (copies) => {
      let index = await open();
      const ids: string[] = [];
      for (let copy = 0; copy < copies; copy++) ids.push(await addPack(store, index, range(0, 150)));
      for (let pass = 0; pass < 2; pass++) {
        for (const n of [0, 77, 149]) expect(placesOf(index, n).sort()).toEqual([...ids].sort());
        await index.close(true);
        index = await open();
      }
      await index.close(false);
    });

    test('a condemned pack is read only when there is no other, and is not referred to any more', async () => {
      const index = await open();
      const old = await addPack(store, index, range(0, 100));
      const alone = await addPack(store, index, range(100, 200));
      const next = await addPack(store, index, range(0, 100));
      index.packs.setCondemned(new Set([old, alone, randomUUID()]));
      for (let n = 0; n < 100; n++) expect(placesOf(index, n)).toEqual([next, old]);
      expect(index.has(digestOf(50))).toBe(true);
      expect(index.has(digestOf(150))).toBe(false);
      expect(placesOf(index, 150)).toEqual([alone]);
      index.packs.setCondemned(new Set());
      expect(index.has(digestOf(150))).toBe(true);
      await index.close(false);
    });

    test('a pack that is condemned before it is known counts as condemned', async () => {
      const index = await open();
      const id = await addPack(store, undefined, range(0, 10));
      index.packs.setCondemned(new Set([id]));
      await index.addAnnounced([id]);
      expect(index.has(digestOf(1))).toBe(false);
      expect(placesOf(index, 1)).toEqual([id]);
      await index.close(false);
    });

    test('what is in quarantine is sent again, read last, and heals', async () => {
      const index = await open();
      const bad = await addPack(store, index, range(0, 10));
      index.quarantine([{ packId: bad, offset: PACK_HEADER_BYTES + 3 }]);
      expect(index.has(digestOf(3))).toBe(false);
      expect(index.has(digestOf(4))).toBe(true);
      const good = await addPack(store, index, [3]);
      expect(index.has(digestOf(3))).toBe(true);
      expect(placesOf(index, 3)).toEqual([good, bad]);
      await index.close(false);
    });

    test('of a pack that was deleted nothing is found, also after it was in a run, and numbers stay right', async () => {
      const index = await open();
      const gone = await addPack(store, index, range(0, 600));
      const kept = await addPack(store, index, range(500, 1100));
      index.dropPacks([gone]);
      expectAll(index, range(0, 500), false);
      expectAll(index, range(500, 1100), true);
      expect(index.packs.count).toBe(1);
      expect(index.packs.totalEntries).toBe(600);
      for (let more = 0; more < 6; more++) await addPack(store, index, range(2000 + more * 500, 2500 + more * 500));
      expectAll(index, range(0, 500), false);
      expect(placesOf(index, 550)).toEqual([kept]);
      await index.close(true);
      await store.delete(packName(gone));
      const again = await open();
      expectAll(again, range(0, 500), false);
      expectAll(again, range(2000, 5000), true);
      await again.close(false);
    });
  });
});
