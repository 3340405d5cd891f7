import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { blake3 } from '@napi-rs/blake-hash';
import type { PackEntry } from '../format/pack';
import { packHeader, packTrailer, PACK_HEADER_BYTES } from '../format/pack';
import { DirectoryStore } from '../stores/directory-store';
import { temporaryFolder } from '../testing/test-mover';
import { quiet } from '../testing/test-repository';
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

describe('DigestTable', () => {
  test('finds what was set and nothing else, over growth, the last setting counting', () => {
    const table = new DigestTable(16);
    for (let n = 0; n < 5000; n++) table.set(digestOf(n), 1, n, 2, 3);
    for (let n = 0; n < 5000; n += 7) table.set(digestOf(n), 9, n, 2, 3);
    expect(table.size).toBe(5000);
    for (let n = 0; n < 5000; n++) expect(table.find(digestOf(n))).toMatchObject({ pack: n % 7 === 0 ? 9 : 1, offset: n });
    for (let n = 5000; n < 6000; n++) expect(table.has(digestOf(n))).toBe(false);
    const sorted = [...table.sorted()].length;
    expect(sorted).toBe(5000);
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
});
