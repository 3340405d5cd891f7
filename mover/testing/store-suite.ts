/** What every store must do, whatever it keeps its objects in. */
import { alignedBuffer } from '../stores/aligned-buffer';
import { STORE_PIECE_BYTES, type Store } from '../stores/store';

async function names(store: Store, prefix: string): Promise<string[]> {
  const found: string[] = [];
  for await (const name of store.list(prefix)) found.push(name);
  return found.sort();
}

/** Declares the tests. `open` gives a store of the writer called `writer` on an empty place, each time the same place within one test. */
export function describeStore(open: () => Promise<Store>): void {
  let store: Store;
  beforeEach(async () => {
    store = await open();
  });
  afterEach(() => store.close());

  test('puts, replaces, reads parts, lists and deletes', async () => {
    await store.put('points/a', Buffer.from('one'));
    await store.put('points/a', Buffer.from('two!'));
    await store.put('packs/aa/b', Buffer.from('three'));
    expect((await store.readWhole('points/a', 10)).toString()).toBe('two!');
    const target = Buffer.alloc(10);
    expect(await store.read('packs/aa/b', 2, target)).toBe(3);
    expect(target.toString('latin1', 0, 3)).toBe('ree');
    expect(await store.read('packs/aa/b', 5, target)).toBe(0);
    expect(await store.sizeOf('packs/aa/b')).toBe(5);
    expect(await names(store, 'packs/')).toEqual(['packs/aa/b']);
    expect(await names(store, 'nothing/')).toEqual([]);
    await store.delete('points/a');
    await store.delete('points/a');
    await expect(store.readWhole('points/a', 10)).rejects.toMatchObject({ code: 'OBJECT_NOT_FOUND' });
    await expect(store.read('points/a', 0, target)).rejects.toMatchObject({ code: 'OBJECT_NOT_FOUND' });
    await expect(store.sizeOf('points/a')).rejects.toMatchObject({ code: 'OBJECT_NOT_FOUND' });
    await expect(store.readWhole('packs/aa/b', 4)).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
  });

  test('putNew takes a name once; swap changes only what is as expected', async () => {
    expect(await store.putNew('lock', Buffer.from('a'))).toBe(true);
    expect(await store.putNew('lock', Buffer.from('b'))).toBe(false);
    expect(await store.swap('lock', Buffer.from('b'), Buffer.from('c'))).toBe(false);
    expect((await store.readWhole('lock', 10)).toString()).toBe('a');
    expect(await store.swap('lock', Buffer.from('a'), Buffer.from('c'))).toBe(true);
    expect((await store.readWhole('lock', 10)).toString()).toBe('c');
    expect(await store.swap('lock', Buffer.from('c'), undefined)).toBe(true);
    expect(await store.swap('lock', Buffer.from('c'), Buffer.from('d'))).toBe(false);
    expect(await names(store, '')).toEqual([]);
  });

  test('of many who want a name at once, at most one gets it, and others may try again', async () => {
    const tries = await Promise.all(Array.from({ length: 6 }, (_, i) => store.putNew('lock', Buffer.from(String(i)))));
    const winners = tries.filter(Boolean).length;
    expect(winners).toBeLessThanOrEqual(1);
    if (winners === 0) expect(await store.putNew('lock', Buffer.from('late'))).toBe(true);
    const held = await store.readWhole('lock', 10);
    const swaps = await Promise.all(Array.from({ length: 6 }, (_, i) => store.swap('lock', held, Buffer.from(`next ${i}`))));
    expect(swaps.filter(Boolean).length).toBeLessThanOrEqual(1);
  });

  test.each([
    [0, 1],
    [1, 0],
    [1, 4095],
    [2, 1],
    [5, 4096],
    [8, STORE_PIECE_BYTES],
  ])('large objects have exactly their bytes (%i whole pieces, %i in the last)', async (whole, last) => {
    const writer = await store.create('packs/aa/x');
    const piece = alignedBuffer(STORE_PIECE_BYTES);
    for (let i = 0; i < whole; i++) await writer.append(piece.fill(i + 1));
    await expect(store.sizeOf('packs/aa/x')).rejects.toMatchObject({ code: 'OBJECT_NOT_FOUND' });
    await writer.finish(piece.fill(0xee), last);
    expect(await store.sizeOf('packs/aa/x')).toBe(whole * STORE_PIECE_BYTES + last);
    const read = Buffer.alloc(STORE_PIECE_BYTES);
    for (let i = 0; i < whole; i++) {
      expect(await store.read('packs/aa/x', i * STORE_PIECE_BYTES, read)).toBe(STORE_PIECE_BYTES);
      expect(read.equals(Buffer.alloc(STORE_PIECE_BYTES, i + 1))).toBe(true);
    }
    expect(await store.read('packs/aa/x', whole * STORE_PIECE_BYTES, read)).toBe(last);
    expect(read.subarray(0, last).every((b) => b === 0xee)).toBe(true);
  });

  test('an abandoned object leaves nothing, also when its writer is gone', async () => {
    const piece = alignedBuffer(STORE_PIECE_BYTES).fill(7);
    const abandoned = await store.create('packs/aa/x');
    for (let i = 0; i < 3; i++) await abandoned.append(piece);
    await abandoned.abandon();
    const forgotten = await store.create('packs/aa/y');
    for (let i = 0; i < 3; i++) await forgotten.append(piece);
    await store.removeLeftovers('writer');
    expect(await names(store, '')).toEqual([]);
    // Its file is gone; left to the garbage collector it would be closed on a file system that may be unmounted by then.
    await forgotten.abandon();
  });
}
