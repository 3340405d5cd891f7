/** A repository whose storage or cache fails while it is opened or closed: it is tried again for ever, so nothing may be left of a try. */
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { RepositoryErrors } from '../errors/mover-errors';
import { DirectoryStore } from '../stores/directory-store';
import { temporaryFolder } from '../testing/test-mover';
import { TestRepository } from '../testing/test-repository';

const block = 65_536;

/** Files of the index cache below a folder that this process has open. */
function openRuns(folder: string): string[] {
  const targets = fs.readdirSync('/proc/self/fd').map((descriptor) => {
    try {
      return fs.readlinkSync(`/proc/self/fd/${descriptor}`);
    } catch {
      return '';
    }
  });
  return targets.filter((target) => target.startsWith(folder) && target.endsWith('.run'));
}

/** A directory that does not answer for some names. */
class FailingStore extends DirectoryStore {
  failing = '';

  override async *list(prefix: string): AsyncGenerator<string> {
    if (prefix === this.failing) throw RepositoryErrors.REPOSITORY_IO({ what: prefix, reason: 'ETIMEDOUT' });
    yield* super.list(prefix);
  }

  override sizeOf(name: string): Promise<number> {
    if (this.failing !== '' && name.startsWith(this.failing))
      return Promise.reject(RepositoryErrors.REPOSITORY_IO({ what: name, reason: 'ETIMEDOUT' }));
    return super.sizeOf(name);
  }
}

describe('a repository', () => {
  let scratch: ReturnType<typeof temporaryFolder>;
  beforeEach(() => (scratch = temporaryFolder()));
  afterEach(() => scratch[Symbol.dispose]());

  const open = (store: DirectoryStore) =>
    TestRepository.open(scratch.folder, { store, lock: { instanceId: 'test', leaseDurationMs: 600_000, waitMs: 0 } });
  const store = () => new FailingStore(path.join(scratch.folder, 'repository'), { writer: 'test' });

  test.each(['quarantine/', 'packs'])('that cannot be opened (%s) leaves no file open, and no lease', async (failing) => {
    for (let i = 0; i < 2; i++) {
      await using test = await open(store());
      await test.backup(4 * block, new Map([[0, randomBytes(block)]]));
    }
    const runs = openRuns(scratch.folder);
    // A pack that the cache does not cover has to be read.
    for (const name of fs.readdirSync(path.join(scratch.folder, 'cache')))
      for (const run of fs.readdirSync(path.join(scratch.folder, 'cache', name)).slice(1))
        fs.rmSync(path.join(scratch.folder, 'cache', name, run));
    const failingStore = store();
    failingStore.failing = failing;
    for (let i = 0; i < 3; i++) await expect(open(failingStore)).rejects.toMatchObject({ code: 'REPOSITORY_IO' });
    expect(openRuns(scratch.folder)).toEqual(runs);
    failingStore.failing = '';
    await (await open(failingStore)).close();
  });

  test('that cannot write its cache when it is closed gives its lease up all the same', async () => {
    const first = await open(store());
    jest.spyOn(first.repository.index, 'close').mockRejectedValue(Object.assign(new Error('full'), { code: 'ENOSPC' }));
    await expect(first.close()).rejects.toThrow('full');
    await (await open(store())).close();
  });
});
