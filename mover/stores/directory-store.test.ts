import fs from 'node:fs';
import path from 'node:path';
import { temporaryFolder } from '../testing/test-mover';
import { describeStore } from '../testing/store-suite';
import { alignedBuffer } from './aligned-buffer';
import { DirectoryStore, type StepObserver } from './directory-store';
import { DurableFiles } from './durable-files';
import { ExclusiveFiles } from './exclusive-files';
import { OpenFiles } from './open-files';
import { STORE_PIECE_BYTES } from './store';

const full: StepObserver = () => {
  throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
};

/** Fails the n-th step, counted from 1. */
function failingAt(nth: number, code: string): { step: StepObserver; reached: () => boolean } {
  let seen = 0;
  return {
    step: () => {
      if (++seen === nth) throw Object.assign(new Error(code), { code });
    },
    reached: () => seen >= nth,
  };
}

describe('DirectoryStore', () => {
  let scratch: ReturnType<typeof temporaryFolder>;
  beforeEach(() => (scratch = temporaryFolder()));
  afterEach(() => scratch[Symbol.dispose]());

  const store = (step?: StepObserver, writer = 'writer') => new DirectoryStore(scratch.folder, { writer, ...(step && { step }) });
  const temporaries = () => fs.readdirSync(path.join(scratch.folder, 'tmp'));

  describe('does what every store does', () => {
    describeStore(async () => store());
  });

  test('tells its free space and size, and leaves nothing temporary', async () => {
    const open = store();
    await open.put('points/a', Buffer.from('one'));
    expect(await open.freeBytes()).toBeGreaterThan(0);
    expect(await open.totalBytes()).toBeGreaterThan((await open.freeBytes()) ?? 0);
    await open.putNew('points/b', Buffer.from('two'));
    await open.swap('points/b', Buffer.from('two'), Buffer.from('three'));
    expect(temporaries()).toEqual([]);
    await open.close();
  });

  const large = async (open: DirectoryStore): Promise<void> => {
    const writer = await open.create('packs/aa/x');
    try {
      await writer.append(alignedBuffer(STORE_PIECE_BYTES).fill(1));
      await writer.finish(alignedBuffer(STORE_PIECE_BYTES).fill(2), 5000);
    } catch (error) {
      await writer.abandon();
      throw error;
    }
  };
  const old = Buffer.from('old');
  const fresh = Buffer.from('new');
  const works: [string, string, (open: DirectoryStore) => Promise<unknown>][] = [
    ['put', 'points/a', (open) => open.put('points/a', fresh)],
    ['putNew', 'new/b', (open) => open.putNew('new/b', fresh)],
    ['swap', 'points/a', (open) => open.swap('points/a', old, fresh)],
    ['removing swap', 'points/a', (open) => open.swap('points/a', old, undefined)],
    ['delete', 'points/a', (open) => open.delete('points/a')],
    ['a large object', 'packs/aa/x', large],
  ];

  test.each(works.flatMap(([what, name, work]) => (['EIO', 'ENOSPC'] as const).map((code) => [code, what, name, work] as const)))(
    '%s at each single step of %s leaves the old or the new object, whole, and no remains; then it succeeds',
    async (code, what, name, work) => {
      let steps = 0;
      for (;;) {
        await store().put('points/a', old);
        await store().delete(name === 'points/a' ? 'nothing' : name);
        const fault = failingAt(steps + 1, code);
        const outcome = await work(store(fault.step)).then(
          () => 'done',
          (error: unknown) => error,
        );
        if (!fault.reached()) {
          expect(outcome).toBe('done');
          break;
        }
        steps += 1;
        expect(outcome).toMatchObject(code === 'EIO' ? { code: 'REPOSITORY_IO', meta: { reason: 'EIO' } } : { code: 'REPOSITORY_FULL' });
        expect(temporaries()).toEqual([]);
        const found = fs.existsSync(path.join(scratch.folder, name)) ? fs.readFileSync(path.join(scratch.folder, name)) : undefined;
        if (name === 'packs/aa/x') expect([undefined, STORE_PIECE_BYTES + 5000]).toContain(found?.length);
        else expect([undefined, 'old', 'new']).toContain(found?.toString());
        if (what === 'put' || what === 'swap') expect(found).toBeDefined();
      }
      // As many as docs/formats/directory.md lists, or more.
      expect(steps).toBeGreaterThanOrEqual(what === 'delete' ? 2 : what === 'removing swap' ? 2 : 5);
    },
  );

  test('no space is told as such', async () => {
    const open = store(full);
    await expect(open.put('a', Buffer.from('x'))).rejects.toMatchObject({ code: 'REPOSITORY_FULL' });
    await expect(open.create('a')).rejects.toMatchObject({ code: 'REPOSITORY_FULL' });
  });

  test('one writer’s leftovers are removed, another’s are not', async () => {
    const piece = alignedBuffer(STORE_PIECE_BYTES);
    const [mine, theirs] = [store(undefined, 'mine'), store(undefined, 'theirs')];
    for (const open of [mine, theirs]) await (await open.create('packs/aa/x')).append(piece);
    await store(undefined, 'mine').removeLeftovers('mine');
    expect(temporaries()).toEqual([expect.stringMatching(/^theirs\./)]);
    await mine.removeLeftovers('theirs');
    expect(temporaries()).toEqual([]);
  });

  test('swap never lets the name be missing, whoever looks', async () => {
    const [one, other] = [store(undefined, 'one'), store(undefined, 'other')];
    await one.put('state', Buffer.from('0'));
    let done = false;
    const counting = async (open: DirectoryStore) => {
      for (let round = 0; round < 20;) {
        const held = await open.readWhole('state', 10);
        if (await open.swap('state', held, Buffer.from(String(Number(held) + 1)))) round++;
      }
    };
    const looking = (async () => {
      while (!done) expect((await one.readWhole('state', 10)).length).toBeGreaterThan(0);
    })();
    await Promise.all([counting(one), counting(other)]).finally(() => (done = true));
    await looking;
    // No change got lost.
    expect((await one.readWhole('state', 10)).toString()).toBe('40');
  });

  test('works without hard links, as on SMB', async () => {
    const linkless = jest.spyOn(fs.promises, 'link').mockRejectedValue(Object.assign(new Error('no links'), { code: 'EOPNOTSUPP' }));
    try {
      const [one, other] = [store(undefined, 'one'), store(undefined, 'other')];
      const made = await Promise.all([one, other, one, other].map((open, i) => open.putNew('lock', Buffer.from(String(i)))));
      expect(made.filter(Boolean)).toHaveLength(1);
      expect((await one.readWhole('lock', 9)).toString()).toBe(String(made.indexOf(true)));
      expect(temporaries()).toEqual([]);
      expect(linkless).toHaveBeenCalled();
    } finally {
      linkless.mockRestore();
    }
  });

  describe('a lock that its holder left', () => {
    /** Does a swap, and puts back the lock that it held, as a kill in its middle would have left it. */
    const leaveLock = async (writer: string): Promise<string> => {
      const locks = new Map<string, Buffer>();
      const step: StepObserver = (at) => {
        for (const name of at === 'rename' ? temporaries() : []) {
          const file = path.join(scratch.folder, 'tmp', name);
          if (name.endsWith('.lock')) locks.set(file, fs.readFileSync(file));
        }
      };
      await store(undefined, writer).put('state', Buffer.from('a'));
      await store(step, writer).swap('state', Buffer.from('a'), Buffer.from('b'));
      expect(locks.size).toBe(1);
      for (const [file, content] of locks) fs.writeFileSync(file, content);
      return [...locks.keys()][0] as string;
    };

    test('does not delay the next life of the same writer', async () => {
      const lock = await leaveLock('writer');
      expect(await store().swap('state', Buffer.from('b'), Buffer.from('c'))).toBe(true);
      expect(fs.existsSync(lock)).toBe(false);
    });

    test('is never there without its content, so that nobody waits for one who was killed while making it', async () => {
      await store().put('state', Buffer.from('a'));
      // Killed between making the file and writing it.
      const kill = jest.spyOn(fs.promises, 'writeFile').mockImplementationOnce((file) => {
        fs.writeFileSync(file as string, '');
        return Promise.reject(Object.assign(new Error('killed'), { code: 'EIO', syscall: 'open' }));
      });
      try {
        await expect(store(undefined, 'killed').swap('state', Buffer.from('a'), Buffer.from('b'))).rejects.toMatchObject({
          code: 'REPOSITORY_IO',
        });
      } finally {
        kill.mockRestore();
      }
      expect(temporaries().filter((name) => name.endsWith('.lock'))).toEqual([]);
      expect(await store(undefined, 'other').swap('state', Buffer.from('a'), Buffer.from('c'))).toBe(true);
    });

    test('is ours when the answer that says so got lost', async () => {
      await store().put('state', Buffer.from('a'));
      const { link } = fs.promises;
      const lossy = jest.spyOn(fs.promises, 'link').mockImplementationOnce(async (from, to) => {
        await link(from, to);
        throw Object.assign(new Error('there already'), { code: 'EEXIST' });
      });
      try {
        expect(await store().swap('state', Buffer.from('a'), Buffer.from('b'))).toBe(true);
      } finally {
        lossy.mockRestore();
      }
      expect(temporaries()).toEqual([]);
    });

    test('and is empty, as earlier versions could leave it, is broken like any other', async () => {
      const lock = await leaveLock('gone');
      fs.writeFileSync(lock, '');
      const files = new DurableFiles(scratch.folder, 'other', () => undefined);
      expect(await new ExclusiveFiles(files, 100).swap('state', Buffer.from('b'), Buffer.from('c'))).toBe(true);
      expect(fs.existsSync(lock)).toBe(false);
    });

    test('is broken by others after a while in which it did not change', async () => {
      const lock = await leaveLock('gone');
      const files = new DurableFiles(scratch.folder, 'other', () => undefined);
      const changes = Array.from({ length: 4 }, () => new ExclusiveFiles(files, 300).swap('state', Buffer.from('b'), Buffer.from('c')));
      expect((await Promise.all(changes)).filter(Boolean)).toHaveLength(1);
      expect(fs.readFileSync(path.join(scratch.folder, 'state'), 'utf8')).toBe('c');
      expect(fs.existsSync(lock)).toBe(false);
    });
  });

  test('a stale handle is opened anew', async () => {
    const open = store();
    await open.put('packs/aa/x', Buffer.from('content'));
    const files = new OpenFiles(scratch.folder);
    const target = Buffer.alloc(7);
    expect(await files.read('packs/aa/x', 0, target)).toBe(7);
    const handle = await (files as unknown as { entries: Map<string, { handle: Promise<fs.promises.FileHandle> }> }).entries.get(
      'packs/aa/x',
    )?.handle;
    jest.spyOn(handle as fs.promises.FileHandle, 'read').mockRejectedValue(Object.assign(new Error('stale'), { code: 'ESTALE' }));
    expect(await files.read('packs/aa/x', 0, target.fill(0))).toBe(7);
    expect(target.toString()).toBe('content');
    await files.close();
  });
});
