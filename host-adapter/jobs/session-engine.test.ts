import { TidemarkError } from '../../common/errors/tidemark-error';
import type { FakeMover } from '../testing/fake-mover';
import type { FakePlugin, Moment } from '../testing/fake-plugin';
import { until } from '../testing/fake-process';
import { TestInstallation } from '../testing/test-installation';
import { startClock } from '../testing/time-that-ran';

const failure = (code: string, retry: 'same-request' | 'never' | 'full-backup') =>
  new TidemarkError({ code, kind: 'operational', retry, status: 'UNAVAILABLE' }, `It failed with ${code}.`);

describe('session engine', () => {
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
  beforeEach(() => {
    plugin.at = () => Promise.resolve();
    mover.onCommit = () => Promise.resolve();
    plugin.verdicts.clear();
    plugin.operations.clear();
    mover.calls.length = 0;
  });

  const run = async (body: object = {}): Promise<string> => {
    const answer = await at.api('POST', '/jobs/nightly/run', body);
    expect(answer.status).toBe(202);
    return answer.body.id as string;
  };

  it('backs up every selected VM and keeps the points', async () => {
    const before = mover.points.length;
    const session = await at.ended(await run());
    expect(session).toMatchObject({ state: 'success', taskCount: 3, finishedTaskCount: 3, jobName: 'nightly' });
    expect(session.counters).toMatchObject({ readBytes: 300, transferredBytes: 180, storedBytes: 150 });
    for (const task of session.tasks) {
      expect(task).toMatchObject({ state: 'success', attempt: 1, failure: null });
      expect(task.disks).toMatchObject([{ name: 'disk', mode: 'full', reason: 'first-backup', sizeBytes: 1000, path: 'direct' }]);
    }
    expect(mover.points.length).toBe(before + 3);
    expect(mover.openSessions()).toEqual([]);
    const points = (await at.api('GET', '/points?limit=3')).body.items;
    expect(points.map((point: { id: string }) => point.id).sort()).toEqual(
      session.tasks.map((task: { pointId: string }) => task.pointId).sort(),
    );
    const vms = (await at.api('GET', '/vms')).body.items;
    expect(vms).toHaveLength(3);
    expect(vms[0].protection).toMatchObject({ state: 'protected' });
  });

  it('builds on the newest point, and gives the plug-in a ticket for just this session', async () => {
    const first = await at.ended(await run({ vms: ['web1'] }));
    await at.ended(await run({ vms: ['web1'], full: true }));
    const operation = [...plugin.operations.values()].at(-1);
    expect(operation?.backup).toMatchObject({ jobName: 'nightly', forceFull: true, diskParallel: 2 });
    expect(operation?.backup?.base).toMatchObject({ pointId: first.tasks[0].pointId, diskIds: ['vm-1-disk'] });
    const claims = mover.ticketClaims(operation?.backup?.dataPath?.ticket ?? '');
    expect(claims).toMatchObject({ rights: ['write'], sessionId: operation?.backup?.dataPath?.sessionId, repositoryId: 'repository-1' });
    expect(mover.sessions.get(claims?.sessionId ?? '')).toMatchObject({ pointIds: [first.tasks[0].pointId] });
  });

  it('tries again on advice only', async () => {
    plugin.failures.push(failure('WORKER_LOST', 'same-request'), failure('CHECKPOINT_GONE', 'full-backup'));
    const session = await at.ended(await run({ vms: ['web1'] }));
    expect(session).toMatchObject({ state: 'success', tasks: [{ attempt: 3 }] });
    expect([...plugin.operations.values()].map((operation) => operation.backup?.forceFull)).toEqual([false, false, true]);
    expect(mover.calls.filter((call) => call === 'abort')).toHaveLength(2);

    plugin.failures.push(failure('DISK_BROKEN', 'never'));
    const failed = await at.ended(await run({ vms: ['web1'] }));
    expect(failed).toMatchObject({ state: 'failed', tasks: [{ state: 'failed', attempt: 1, failure: { code: 'DISK_BROKEN' } }] });
    expect((await at.api('GET', '/vms?protection=failed')).body.items).toMatchObject([{ name: 'web1' }]);

    const retried = await at.api('POST', `/sessions/${failed.id}/retry`);
    expect(await at.ended(retried.body.id)).toMatchObject({ state: 'success', taskCount: 1 });
  });

  it('skips what preflight refuses and waits for what passes', async () => {
    const finding = {
      code: 'vm-hosted-engine',
      severity: 'SEVERITY_BLOCKING' as const,
      message: 'It is the engine.',
      advice: 'Exclude it.',
    };
    plugin.verdicts.set('vm-2', { canBackUp: false, findings: [finding] });
    plugin.verdicts.set('vm-3', { canBackUp: false, retryLater: true, findings: [{ ...finding, code: 'disk-locked' }] });
    const id = await run();
    await until(async () => {
      const { tasks } = (await at.api('GET', `/sessions/${id}`)).body;
      return tasks.some((task: { waitingReason: string }) => task.waitingReason === 'disk-locked');
    });
    await at.api('POST', `/sessions/${id}/stop`);
    const session = await at.ended(id);
    const states = session.tasks.map((task: { vmName: string; state: string }) => [task.vmName, task.state]);
    expect(Object.fromEntries(states)).toMatchObject({ web2: 'skipped', web3: 'cancelled' });
    expect(session.state).toBe('cancelled');
  });

  it('fails with what the engine refuses, and does not call the VM unfit for it', async () => {
    const changed = { code: 'ENGINE_CERTIFICATE_CHANGED', kind: 'FAILURE_KIND_FAILURE', retry: 'RETRY_ADVICE_AFTER_OPERATOR' } as const;
    plugin.verdicts.set('vm-1', { canBackUp: false, failure: { ...changed, message: 'another CA' } });
    const session = await at.ended(await run({ vms: ['web1'] }));
    expect(session).toMatchObject({
      state: 'failed',
      tasks: [{ state: 'failed', attempt: 1, failure: { code: 'ENGINE_CERTIFICATE_CHANGED', message: 'another CA' } }],
    });
  });

  it('passes a cancel on and leaves nothing behind', async () => {
    plugin.at = (moment, operation) =>
      moment === 'transferring'
        ? new Promise((resolve) => operation.cancel.signal.addEventListener('abort', () => resolve()))
        : Promise.resolve();
    const before = mover.points.length;
    const id = await run({ vms: ['web1'] });
    await until(() => plugin.running().some((operation) => operation.events.length >= 3));
    const clock = startClock();
    await at.api('POST', `/sessions/${id}/stop`);
    const session = await at.ended(id);
    expect(session).toMatchObject({ state: 'cancelled', stopping: true, tasks: [{ state: 'cancelled' }] });
    expect(clock.elapsedMs()).toBeLessThan(10_000);
    clock.stop();
    expect(mover.points.length).toBe(before);
    expect(mover.openSessions()).toEqual([]);
  });

  it('refuses a second run, and lets one VM have one operation', async () => {
    let release = () => {};
    const held = new Promise<void>((resolve) => (release = resolve));
    plugin.at = (moment) => (moment === 'transferring' ? held : Promise.resolve());
    await at.api('POST', '/jobs', { name: 'other', repository: 'main', selector: { include: ['web1'] } });
    const first = await run({ vms: ['web1'] });
    await until(() => plugin.running().length === 1);
    expect((await at.api('POST', '/jobs/nightly/run', {})).body).toMatchObject({ code: 'JOB_ALREADY_RUNNING' });
    const second = (await at.api('POST', '/jobs/other/run', {})).body.id as string;
    await until(async () => (await at.api('GET', `/sessions/${second}`)).body.tasks[0]?.waitingReason === 'vm-in-backup');
    release();
    expect(await at.ended(first)).toMatchObject({ state: 'success' });
    expect(await at.ended(second)).toMatchObject({ state: 'success' });
  });

  it('commits again when the answer was lost, without a second point', async () => {
    let lost = 0;
    mover.onCommit = (when) => {
      if (when === 'before' || lost > 0) return Promise.resolve();
      lost += 1;
      return Promise.reject(failure('REPOSITORY_IO', 'same-request'));
    };
    const before = mover.points.length;
    expect(await at.ended(await run({ vms: ['web1'] }))).toMatchObject({ state: 'success' });
    expect(mover.calls.filter((call) => call === 'commit')).toHaveLength(2);
    expect(mover.points.length).toBe(before + 1);
  });

  it('tells the plug-in when nothing was committed', async () => {
    mover.onCommit = (when) => (when === 'before' ? Promise.reject(failure('REPOSITORY_FULL', 'never')) : Promise.resolve());
    const session = await at.ended(await run({ vms: ['web1'] }));
    expect(session.tasks[0]).toMatchObject({ state: 'failed', failure: { code: 'REPOSITORY_FULL' } });
    expect([...plugin.operations.values()].at(-1)?.concluded).toBe(false);
    expect(mover.openSessions()).toEqual([]);
  });

  it('goes on with another try when the plug-in lost the operation, and keeps a point that was committed', async () => {
    let forgotten = 0;
    plugin.at = (moment) => {
      if (moment === 'transferring' && forgotten === 0) {
        forgotten += 1;
        plugin.forgetOperations();
      }
      return Promise.resolve();
    };
    expect(await at.ended(await run({ vms: ['web1'] }))).toMatchObject({ state: 'success', tasks: [{ attempt: 2 }] });
    plugin.at = (moment) => {
      if (moment === 'concluded') plugin.forgetOperations();
      return Promise.resolve();
    };
    const session = await at.ended(await run({ vms: ['web1'] }));
    expect(session.tasks[0]).toMatchObject({ state: 'warning', attempt: 1, notes: [{ code: 'cleanup-interrupted' }] });
    expect(mover.points.some(({ point }) => point.pointId === session.tasks[0].pointId)).toBe(true);
  });

  it('ends with a reason when nothing is selected', async () => {
    await at.api('POST', '/jobs', { name: 'nothing', repository: 'main', selector: { include: ['tag:none'] } });
    const { body } = await at.api('POST', '/jobs/nothing/run', {});
    expect(await at.ended(body.id)).toMatchObject({ state: 'failed', failure: { code: 'JOB_SELECTS_NOTHING' } });
  });

  it('restores a VM, a disk and a file, and verifies', async () => {
    const backup = await at.ended(await run({ vms: ['web1'] }));
    const point = backup.tasks[0].pointId as string;
    const restores: [string, object, object][] = [
      [
        'vm',
        { name: 'copy', storageDomain: 'fast', vnicProfiles: { old: null } },
        { newVm: { name: 'copy', storageDomainId: 'target-1' } },
      ],
      ['disk', { disk: 'disk', storageDomain: 'fast' }, { newDisk: { storageDomainId: 'target-1' } }],
      ['file', { disk: 'disk', path: '/tmp/x.raw' }, { file: { path: '/tmp/x.raw', format: 'raw' } }],
    ];
    for (const [kind, body, target] of restores) {
      const started = await at.api('POST', `/restores/${kind}`, { point, ...body });
      expect(started.status).toBe(202);
      const session = await at.ended(started.body.id);
      expect(session).toMatchObject({ kind: 'restore', state: 'success', tasks: [{ createdId: 'new-vm', pointId: point }] });
      const operation = [...plugin.operations.values()].at(-1)?.restore;
      expect(operation).toMatchObject({ pointId: point, configuration: '{"ovf":"secret"}', ...target });
      expect(mover.ticketClaims(operation?.dataPath?.ticket ?? '')).toMatchObject({ rights: ['read'], pointIds: [point] });
      expect(mover.openSessions()).toEqual([]);
    }
    const sound = await at.ended((await at.api('POST', `/points/${point}/verify`)).body.id);
    expect(sound).toMatchObject({ kind: 'verify', state: 'success' });
    mover.verifyFindings = [{ code: 'BLOCK_CORRUPT', message: 'digest differs' }];
    const damaged = await at.ended((await at.api('POST', '/repositories/main/verify')).body.id);
    expect(damaged.tasks[0]).toMatchObject({
      state: 'failed',
      failure: { code: 'VERIFY_FOUND_DAMAGE' },
      findings: [{ code: 'BLOCK_CORRUPT' }],
    });
  });

  describe('of a server that is killed', () => {
    /** Kills the server when the moment comes, and lets the other side go on meanwhile. */
    const killAt = (moment: Moment | 'commit-before' | 'commit-after'): Promise<void> =>
      new Promise((resolve) => {
        let done = false;
        const kill = async () => {
          if (done) return;
          done = true;
          await at.kill();
          resolve();
        };
        plugin.at = async (now) => {
          if (now === moment) await kill();
        };
        mover.onCommit = async (when) => {
          if (`commit-${when}` === moment) await kill();
        };
      });

    it.each(['started', 'transferring', 'awaiting-commit', 'commit-before', 'commit-after', 'concluded', 'ended'] as const)(
      'at "%s" is taken up by the next one',
      async (moment) => {
        const before = mover.points.length;
        const killed = killAt(moment);
        const id = await run({ vms: ['web1'] });
        await killed;
        await at.start();
        const session = await at.ended(id);
        expect(session).toMatchObject({ state: 'success', tasks: [{ state: 'success', attempt: 1 }] });
        expect(mover.points.length).toBe(before + 1);
        expect(mover.openSessions()).toEqual([]);
        expect(plugin.running()).toEqual([]);
        expect(plugin.operations.size).toBe(1);
      },
    );

    it('while the plug-in forgets everything runs the task anew', async () => {
      const killed = killAt('transferring');
      const id = await run({ vms: ['web1'] });
      await killed;
      plugin.forgetOperations();
      await at.start();
      expect(await at.ended(id)).toMatchObject({ state: 'success', tasks: [{ state: 'success', attempt: 2 }] });
      expect(mover.openSessions()).toEqual([]);
    });
  });
});
