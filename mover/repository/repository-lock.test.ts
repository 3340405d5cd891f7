import fs from 'node:fs';
import path from 'node:path';
import { DirectoryStore } from '../stores/directory-store';
import { temporaryFolder } from '../testing/test-mover';
import { quiet } from '../testing/test-repository';
import { RepositoryLock } from './repository-lock';

const options = (leaseDurationMs: number, waitMs = 0) => ({ instanceId: 'me', leaseDurationMs, waitMs });

describe('RepositoryLock', () => {
  let scratch: ReturnType<typeof temporaryFolder>;
  let store: DirectoryStore;
  const acquire = (leaseDurationMs: number, waitMs?: number) =>
    RepositoryLock.acquire(store, 'id', options(leaseDurationMs, waitMs), quiet);
  const file = () => path.join(scratch.folder, 'lock');
  const edit = (change: object) =>
    fs.writeFileSync(file(), JSON.stringify({ ...(JSON.parse(fs.readFileSync(file(), 'utf8')) as object), ...change }));
  beforeEach(() => {
    scratch = temporaryFolder();
    store = new DirectoryStore(scratch.folder);
  });
  afterEach(() => scratch[Symbol.dispose]());

  test('one holder at a time; release lets the next one in', async () => {
    const first = await acquire(10_000);
    await first.assertHeld();
    await expect(acquire(10_000)).rejects.toMatchObject({ code: 'REPOSITORY_LOCKED' });
    await first.release();
    const second = await acquire(10_000);
    await expect(first.assertHeld()).rejects.toMatchObject({ code: 'REPOSITORY_LOCK_LOST' });
    await second.assertHeld();
    await second.release();
    expect(fs.existsSync(file())).toBe(false);
  });

  test('a holder that died on this machine is found out at once', async () => {
    await acquire(600_000);
    // Another start time: the process id was given to somebody else since.
    edit({ processStartedAt: '1' });
    const next = await acquire(10_000);
    await next.release();
  });

  test('a holder on another machine loses it only after a lease without a sign of life', async () => {
    const first = await acquire(300);
    edit({ hostBootId: 'elsewhere', renewedAt: 'x' });
    // Still renewed by its holder: the content goes on changing.
    await expect(acquire(300, 700)).rejects.toMatchObject({ code: 'REPOSITORY_LOCKED' });
    await first.release();
    const gone = await acquire(300);
    const content = fs.readFileSync(file(), 'utf8').replace(/"hostBootId":"[^"]*"/, '"hostBootId":"elsewhere"');
    await gone.release();
    fs.writeFileSync(file(), content);
    const started = performance.now();
    const next = await acquire(300, 2_000);
    expect(performance.now() - started).toBeGreaterThanOrEqual(300);
    await next.release();
  });

  test('a holder that is gone is found out by tries that are each shorter than its lease', async () => {
    const gone = await acquire(400);
    const content = fs.readFileSync(file(), 'utf8').replace(/"hostBootId":"[^"]*"/, '"hostBootId":"before the machine was started again"');
    await gone.release();
    fs.writeFileSync(file(), content);
    const watch = { text: '', since: 0 };
    const once = () => RepositoryLock.acquire(store, 'id', { ...options(400, 50), watch }, quiet);
    const started = performance.now();
    await expect(once()).rejects.toMatchObject({ code: 'REPOSITORY_LOCKED' });
    let next: RepositoryLock | undefined;
    while (!next && performance.now() - started < 5_000) next = await once().catch(() => undefined);
    expect(performance.now() - started).toBeGreaterThanOrEqual(400);
    await next?.assertHeld();
    expect(next).toBeDefined();
    await next?.release();
  });

  test('a holder whose lock was taken, or that could not renew it for a lease, stops', async () => {
    const lock = await acquire(300);
    fs.writeFileSync(file(), fs.readFileSync(file(), 'utf8').replace(/"nonce":"[^"]*"/, '"nonce":"other"'));
    await expect(lock.assertHeld()).rejects.toMatchObject({ code: 'REPOSITORY_LOCK_LOST' });
    expect(lock.isLost).toBe(true);
    await lock.release();
    expect(fs.existsSync(file())).toBe(true);
  });

  test('a lock that cannot be read is nobody’s', async () => {
    fs.writeFileSync(file(), 'torn');
    const lock = await acquire(1_000);
    await lock.release();
  });
});
