import fs from 'node:fs';
import path from 'node:path';
import { describeStore } from '../testing/store-suite';
import { temporaryFolder } from '../testing/test-mover';
import { DirectoryStore, type StepObserver } from './directory-store';

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

describe('DirectoryStore', () => {
  let scratch: ReturnType<typeof temporaryFolder>;
  beforeEach(() => (scratch = temporaryFolder()));
  afterEach(() => scratch[Symbol.dispose]());

  describe('does what every store does', () => {
    describeStore(async () => new DirectoryStore(scratch.folder));
  });

  test('tells its free space, and leaves nothing temporary', async () => {
    const store = new DirectoryStore(scratch.folder);
    await store.put('points/a', Buffer.from('one'));
    expect(await store.freeBytes()).toBeGreaterThan(0);
    expect(fs.readdirSync(path.join(scratch.folder, 'tmp'))).toEqual([]);
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
