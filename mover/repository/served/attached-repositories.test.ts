/** Repositories that are attached while the mover's own disk, or what is told of them, fails. */
import fs from 'node:fs';
import path from 'node:path';
import { temporaryFolder } from '../../testing/test-mover';
import { quiet } from '../../testing/test-repository';
import { defaultSettings, type Repository } from '../repository';
import { AttachedRepositories, type RepositoryListener } from './attached-repositories';

describe('repositories', () => {
  let scratch: ReturnType<typeof temporaryFolder>;
  beforeEach(() => (scratch = temporaryFolder()));
  afterEach(() => scratch[Symbol.dispose]());

  const start = (listener: Partial<RepositoryListener> = {}) => {
    const lost: Repository[] = [];
    const told = {
      attached: () => Promise.resolve(),
      detaching: () => Promise.resolve(),
      lost: (repository: Repository) => Promise.resolve(void lost.push(repository)),
      ...listener,
    };
    const times = { lockLeaseMs: 600_000, retryIntervalMs: 600_000, sharePatienceMs: 1_000 };
    const options = { dataFolder: path.join(scratch.folder, 'data'), instanceId: 'one', ...times };
    fs.mkdirSync(options.dataFolder, { recursive: true });
    return { repositories: new AttachedRepositories(options, told, quiet), lost };
  };
  const location = () => `directory:${path.join(scratch.folder, 'repository')}`;
  const listFile = () => path.join(scratch.folder, 'data', 'repositories.json');
  const breakList = () => {
    fs.rmSync(listFile(), { force: true });
    fs.mkdirSync(listFile());
  };

  test('one that cannot be noted is not served, and can be attached when that is mended', async () => {
    const { repositories, lost } = start();
    breakList();
    await expect(repositories.create(location(), 'request', defaultSettings)).rejects.toThrow();
    expect(lost).toHaveLength(1);
    expect(() => repositories.get((lost[0] as Repository).id)).toThrow(expect.objectContaining({ code: 'REPOSITORY_NOT_FOUND' }) as Error);
    fs.rmdirSync(listFile());
    // Its lease was given up: nobody waits for this very process.
    expect((await repositories.attach(location(), '')).id).toBe((lost[0] as Repository).id);
    await repositories.stop();
  });

  test('one that cannot be taken from the list is closed all the same', async () => {
    const { repositories } = start();
    const { repository } = await repositories.create(location(), 'request', defaultSettings);
    breakList();
    await expect(repositories.detach(repository.id)).rejects.toThrow();
    fs.rmdirSync(listFile());
    expect((await repositories.attach(location(), '')).id).toBe(repository.id);
    await repositories.stop();
  });

  test('one whose sessions cannot be loaded is let go of, whatever of that fails', async () => {
    const failure = () => Promise.reject(new Error('not now'));
    let isFailing = true;
    const { repositories } = start({ attached: () => (isFailing ? failure() : Promise.resolve()), lost: failure });
    await expect(repositories.create(location(), 'request', defaultSettings)).rejects.toThrow('not now');
    isFailing = false;
    const { repository } = await repositories.create(location(), 'request', defaultSettings);
    expect(repositories.get(repository.id)).toBe(repository);
    await repositories.stop();
  });
});
