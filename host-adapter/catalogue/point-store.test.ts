import { openCatalogue, type Database } from './catalogue';
import { PointStore, type StoredPoint } from './point-store';

describe('the cache of points', () => {
  let db: Database;
  let store: PointStore;
  beforeEach(async () => {
    db = await openCatalogue(':memory:');
    store = new PointStore(db);
    for (const id of ['r', 'other'])
      await db
        .insertInto('repository')
        .values({ id, name: id, location: 'l', moverId: 'm', gatewaysJson: null, sealedJson: null, lastKnownJson: '{}' })
        .execute();
  });
  afterEach(() => db.destroy());

  const point = (id: string, message = ''): StoredPoint => ({
    repositoryId: 'r',
    id,
    platformId: 'p',
    vmId: 'v',
    vmName: 'web',
    pointInTime: '2026-01-01T00:00:00.000Z',
    committedAt: '2026-01-01T00:00:01.000Z',
    jobName: 'nightly',
    sessionId: 's',
    checkpointId: '',
    consistency: 'crash',
    damaged: false,
    message,
    disks: [],
  });
  const ids = async () => (await store.list(100, undefined, {})).map(({ id, message }) => id + message).sort();

  it('keeps what was put, and leaves out what was removed, while a repository was listed', async () => {
    await store.put(point('old'));
    await store.put(point('gone'));
    await store.replaceAll('r', async () => {
      const listed = [point('old'), point('gone'), point('listed'), point('changed')];
      await store.put(point('new'));
      await store.put(point('changed', ' since'));
      await store.remove('r', 'gone');
      await store.put({ ...point('elsewhere'), repositoryId: 'other' });
      return listed;
    });
    expect(await ids()).toEqual(['changed since', 'elsewhere', 'listed', 'new', 'old']);
  });

  it('changes nothing when the listing fails, and lists one after the other', async () => {
    await store.put(point('old'));
    await expect(store.replaceAll('r', () => Promise.reject(new Error('away')))).rejects.toThrow('away');
    expect(await ids()).toEqual(['old']);
    const order: string[] = [];
    const list = (name: string) => async () => {
      order.push(`${name} begins`);
      await new Promise((resolve) => setImmediate(resolve));
      order.push(`${name} ends`);
      return [point(name)];
    };
    await Promise.all([store.replaceAll('r', list('a')), store.replaceAll('r', list('b'))]);
    expect(order).toEqual(['a begins', 'a ends', 'b begins', 'b ends']);
    expect(await ids()).toEqual(['b']);
  });
});
