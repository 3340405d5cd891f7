import fs from 'node:fs';
import path from 'node:path';
import { temporaryFolder } from '../testing/test-mover';
import { alignedBuffer } from './aligned-buffer';
import { DirectoryStore, type StepObserver } from './directory-store';
import { STORE_PIECE_BYTES } from './store';

const full: StepObserver = () => {
  throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
};

/** Fails the n-th step of a kind. */
function failing(step: string, code: string, nth = 1): StepObserver {
  let seen = 0;
  return (at) => {
    if (at === step && ++seen === nth) throw Object.assign(new Error(code), { code });
  };
}

async function names(store: DirectoryStore, prefix: string): Promise<string[]> {
  const found: string[] = [];
  for await (const name of store.list(prefix)) found.push(name);
  return found.sort();
}

describe('DirectoryStore', () => {
  let scratch: ReturnType<typeof temporaryFolder>;
  beforeEach(() => (scratch = temporaryFolder()));
  afterEach(() => scratch[Symbol.dispose]());

  test('puts, replaces, reads parts, lists and deletes', async () => {
    const store = new DirectoryStore(scratch.folder);
    await store.put('points/a', Buffer.from('one'));
    await store.put('points/a', Buffer.from('two!'));
    await store.put('packs/aa/b', Buffer.from('three'));
    expect((await store.readWhole('points/a', 10)).toString()).toBe('two!');
    const target = Buffer.alloc(10);
    expect(await store.read('packs/aa/b', 2, target)).toBe(3);
    expect(target.toString('latin1', 0, 3)).toBe('ree');
    expect(await names(store, 'packs/')).toEqual(['packs/aa/b']);
    expect(await names(store, 'nothing/')).toEqual([]);
    await store.delete('points/a');
    await store.delete('points/a');
    await expect(store.readWhole('points/a', 10)).rejects.toMatchObject({ code: 'OBJECT_NOT_FOUND' });
    await expect(store.read('points/a', 0, target)).rejects.toMatchObject({ code: 'OBJECT_NOT_FOUND' });
    await expect(store.readWhole('packs/aa/b', 4)).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
    expect(await store.freeBytes()).toBeGreaterThan(0);
    expect(fs.readdirSync(path.join(scratch.folder, 'tmp'))).toEqual([]);
    await store.close();
  });

  test('putNew takes a name once; take empties it', async () => {
    const store = new DirectoryStore(scratch.folder);
    expect(await store.putNew('lock', Buffer.from('a'))).toBe(true);
    expect(await store.putNew('lock', Buffer.from('b'))).toBe(false);
    expect((await store.take('lock'))?.toString()).toBe('a');
    expect(await store.take('lock')).toBeUndefined();
  });

  test.each([0, 1, 4095, 4096, STORE_PIECE_BYTES])('large objects have exactly their bytes (%i in the last piece)', async (last) => {
    const store = new DirectoryStore(scratch.folder);
    const writer = await store.create('packs/aa/x');
    const piece = alignedBuffer(STORE_PIECE_BYTES).fill(1);
    await writer.append(piece);
    piece.fill(2);
    expect(fs.existsSync(path.join(scratch.folder, 'packs/aa/x'))).toBe(false);
    await writer.finish(piece, last);
    const bytes = fs.readFileSync(path.join(scratch.folder, 'packs/aa/x'));
    expect(bytes.length).toBe(STORE_PIECE_BYTES + last);
    expect(bytes.subarray(0, STORE_PIECE_BYTES).every((b) => b === 1)).toBe(true);
    expect(bytes.subarray(STORE_PIECE_BYTES).every((b) => b === 2)).toBe(true);
    await store.close();
  });

  test.each(['open', 'write', 'sync', 'rename'])('a failing %s leaves the old content and no remains', async (step) => {
    await new DirectoryStore(scratch.folder).put('points/a', Buffer.from('old'));
    const store = new DirectoryStore(scratch.folder, failing(step, 'EIO'));
    await expect(store.put('points/a', Buffer.from('new'))).rejects.toMatchObject({ code: 'REPOSITORY_IO', meta: { reason: 'EIO' } });
    expect((await store.readWhole('points/a', 10)).toString()).toBe('old');
    expect(fs.readdirSync(path.join(scratch.folder, 'tmp'))).toEqual([]);
  });

  test('no space is told as such', async () => {
    const store = new DirectoryStore(scratch.folder, full);
    await expect(store.put('a', Buffer.from('x'))).rejects.toMatchObject({ code: 'REPOSITORY_FULL' });
    await expect(store.create('a')).rejects.toMatchObject({ code: 'REPOSITORY_FULL' });
  });
});
