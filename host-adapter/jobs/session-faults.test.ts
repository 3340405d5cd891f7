/** What becomes of sessions when the server itself has to do with faults: its catalogue, its own end in the middle of a wait, two at once. */
import path from 'node:path';
import { openCatalogue } from '../catalogue/catalogue';
import { PointStore } from '../catalogue/point-store';
import { SessionStore } from '../catalogue/session-store';
import type { FakeMover } from '../testing/fake-mover';
import type { FakePlugin } from '../testing/fake-plugin';
import { until } from '../testing/fake-process';
import { TestInstallation } from '../testing/test-installation';
import type { TaskRecord } from './task-record';

describe('sessions of a server with faults', () => {
  let at: TestInstallation;
  let plugin: FakePlugin;
  let mover: FakeMover;

  beforeAll(async () => {
    at = new TestInstallation();
    await at.start();
    await at.login();
    ({ plugin, mover } = await at.furnish());
  });
  afterAll(() => at.remove());
  afterEach(() => jest.restoreAllMocks());

  const run = async (body: object = {}): Promise<string> => (await at.api('POST', '/jobs/nightly/run', body)).body.id as string;
  /** Keeps tasks as before, except where `failure` says otherwise. */
  const failSaves = (failure: (task: TaskRecord) => Error | undefined) => {
    // eslint-disable-next-line @typescript-eslint/unbound-method -- called with its own this below
    const save = SessionStore.prototype.saveTask;
    jest.spyOn(SessionStore.prototype, 'saveTask').mockImplementation(function (this: SessionStore, task) {
      const error = failure(task);
      return error ? Promise.reject(error) : save.call(this, task);
    });
  };

  it('wait while the catalogue cannot be written, and go on', async () => {
    let failures = 0;
    failSaves(({ state }) => {
      if (state !== 'transferring' || failures >= 3) return undefined;
      failures += 1;
      return Object.assign(new Error('database or disk is full'), { code: 'SQLITE_FULL' });
    });
    expect(await at.ended(await run())).toMatchObject({ state: 'success' });
    expect(failures).toBe(3);
  });

  it('end when one of their tasks breaks, after the others, and leave the VM and the job free', async () => {
    let isBroken = true;
    failSaves(({ vmId }) => (isBroken && vmId === 'vm-1' ? new TypeError('broken') : undefined));
    const session = await at.ended(await run());
    expect(session.state).toBe('failed');
    const states = session.tasks.map((task: { vmName: string; state: string }) => [task.vmName, task.state]);
    expect(Object.fromEntries(states)).toMatchObject({ web2: 'success', web3: 'success' });
    expect(mover.openSessions()).toEqual([]);
    isBroken = false;
    expect(await at.ended(await run())).toMatchObject({ state: 'success', taskCount: 3 });
  });

  it('of one job begin once, however many ask at a time', async () => {
    const { engine } = at.server;
    const begin = () => engine.startBackup('nightly', { full: false, vms: [] }, 'user');
    const ends = await Promise.allSettled([begin(), begin(), begin()]);
    const [first, ...others] = ends;
    expect(others).toMatchObject([1, 2].map(() => ({ status: 'rejected', reason: { code: 'JOB_ALREADY_RUNNING' } })));
    if (first.status === 'rejected') throw first.reason;
    expect(await at.ended(first.value.id)).toMatchObject({ state: 'success' });
  });

  it('that wait for a mover are taken up by the next server, and wait on', async () => {
    await at.api('POST', `/movers/${mover.id}/drain`);
    const id = await run({ vms: ['web1'] });
    const waits = () =>
      until(async () => (await at.api('GET', `/sessions/${id}`)).body.tasks[0]?.waitingReason === 'repository-mover-draining');
    await waits();
    await at.kill();
    await at.start();
    await waits();
    await at.api('POST', `/movers/${mover.id}/resume`);
    expect(await at.ended(id)).toMatchObject({ state: 'success' });
    expect(mover.openSessions()).toEqual([]);
    expect(plugin.running()).toEqual([]);
  });

  it('that were stopped while the server was killed give the VM free', async () => {
    const later = { code: 'disk-locked', severity: 'SEVERITY_BLOCKING' as const, message: 'A disk is locked.', advice: '' };
    plugin.verdicts.set('vm-1', { canBackUp: false, retryLater: true, findings: [later] });
    const id = await run({ vms: ['web1'] });
    await until(async () => (await at.api('GET', `/sessions/${id}`)).body.tasks[0]?.waitingReason === 'disk-locked');
    await at.kill();
    const db = await openCatalogue(path.join(at.folder, 'catalogue.sqlite'));
    await db.updateTable('session').set({ stopping: 1 }).where('id', '=', id).execute();
    await db.destroy();
    plugin.verdicts.clear();
    await at.start();
    expect(await at.ended(id)).toMatchObject({ state: 'cancelled' });
    expect(await at.ended(await run({ vms: ['web1'] }))).toMatchObject({ state: 'success' });
  });

  it('keep a point that the catalogue could not take at once', async () => {
    jest.spyOn(PointStore.prototype, 'put').mockRejectedValueOnce(new TypeError('the catalogue cannot be written'));
    const session = await at.ended(await run({ vms: ['web1'] }));
    expect(session).toMatchObject({ state: 'success' });
    await until(async () => (await at.api('GET', `/points/${session.tasks[0].pointId}`)).status === 200);
  });

  it('of maintenance are taken up by the next server', async () => {
    let finish = () => {};
    mover.maintenance.atWork = new Promise((resolve) => (finish = resolve));
    const { id } = (await at.api('POST', '/repositories/main/collect', {})).body as { id: string };
    await until(async () => (await at.api('GET', `/sessions/${id}`)).body.tasks[0]?.state === 'transferring');
    const before = mover.maintenance.collections.length;
    await at.kill();
    await at.start();
    finish();
    expect(await at.ended(id)).toMatchObject({ state: 'success', tasks: [{ attempt: 1 }] });
    expect(mover.maintenance.collections).toHaveLength(before);
  });
});
