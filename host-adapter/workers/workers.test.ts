import type { SelfTest } from '../../proto/gen/tidemark/common/v1/SelfTest';
import { TidemarkError } from '../../common/errors/tidemark-error';
import type { FakePlugin, Moment } from '../testing/fake-plugin';
import { until } from '../testing/fake-process';
import { TestInstallation } from '../testing/test-installation';

const failure = (code: string, retry: 'same-request' | 'never') =>
  new TidemarkError({ code, kind: 'operational', retry, status: 'UNAVAILABLE' }, `It failed with ${code}.`);
const minuteMs = 60_000;

describe('workers', () => {
  let at: TestInstallation;
  let plugin: FakePlugin;
  let platformId: string;
  let jobId: string;

  beforeAll(async () => {
    at = new TestInstallation();
    await at.start();
    await at.login();
    ({ plugin, jobId } = await at.furnish());
    platformId = (await at.api('GET', '/platforms')).body.items[0].id;
  });
  afterAll(() => at.remove());
  beforeEach(() => {
    plugin.at = () => Promise.resolve();
    plugin.operations.clear();
    plugin.fleet.requests.length = 0;
    plugin.fleet.prepared.length = 0;
  });

  const act = async (method: 'POST' | 'PATCH' | 'DELETE', url: string, body?: object) => {
    const answer = await at.api(method, url, body);
    expect(answer).toMatchObject({ status: 202, body: { kind: 'worker' } });
    return at.ended(answer.body.id as string);
  };
  const deploy = (name: string, body: object = {}) => act('POST', '/workers', { cluster: 'fast', name, ...body });
  const worker = async (name: string) => (await at.api('GET', `/workers/${name}`)).body;

  it('shows what a deployment would make, by the rule of sizes, and makes nothing', async () => {
    const answer = await at.api('POST', '/workers/preview', { cluster: 'fast', taskSlots: 8, storageDomain: 'fast' });
    expect(answer).toMatchObject({
      status: 200,
      body: {
        clusterId: 'target-1',
        imageVersion: '1.0.0',
        cpuCount: 4,
        memoryBytes: 3 * 1024 ** 3,
        settings: { storageDomainId: 'target-1' },
      },
    });
    expect(plugin.operations.size).toBe(0);
  });

  it('deploys a worker as a session, with names turned into ids and the one who asked', async () => {
    const nic = {
      vnicProfile: 'fast',
      ipv4: { method: 'static', address: '10.0.0.9/24', gateway: '10.0.0.1' },
      routes: [{ destination: '10.1.0.0/16', via: '10.0.0.1' }],
    };
    const session = await deploy('one', { nics: [nic], hosts: ['fast'], dnsServers: ['10.0.0.2'], taskSlots: 2 });
    expect(session).toMatchObject({ state: 'success', subject: 'deploy one', repositoryId: '', tasks: [{ vmName: 'one', attempt: 1 }] });
    expect(plugin.fleet.requests).toMatchObject([
      {
        requestedBy: 'admin',
        action: 'deploy',
        deploy: {
          platformId,
          clusterId: 'target-1',
          settings: {
            name: 'one',
            taskSlots: 2,
            hostIds: ['target-1'],
            nics: [
              {
                vnicProfileId: 'target-1',
                ipv4: { method: 'ADDRESS_METHOD_STATIC', address: '10.0.0.9/24', gateway: '10.0.0.1' },
                ipv6: { method: 'ADDRESS_METHOD_AUTOMATIC' },
                routes: [{ destination: '10.1.0.0/16', via: '10.0.0.1' }],
              },
            ],
          },
        },
      },
    ]);
    expect(await worker('one')).toMatchObject({
      id: session.tasks[0].createdId,
      state: 'connected',
      clusterName: 'fast',
      imageVersion: '1.0.0',
      selfTest: { verdict: 'passed', cells: [{ check: 'engine', latencyMs: 3 }, {}, {}] },
      settings: { taskSlots: 2, dnsServers: ['10.0.0.2'], cpuCount: null },
    });
    const history = (await at.api('GET', '/sessions?kind=worker')).body.items;
    expect(history[0]).toMatchObject({ id: session.id, subject: 'deploy one' });
  });

  it('is cancelled also when the answer to its start is still awaited: nothing goes on in the engine', async () => {
    let answer = () => {};
    plugin.fleet.answered = new Promise((resolve) => (answer = resolve));
    plugin.at = (moment, operation) =>
      moment === 'transferring'
        ? new Promise((resolve) => operation.cancel.signal.addEventListener('abort', () => resolve()))
        : Promise.resolve();
    const { id } = (await at.api('POST', '/workers', { cluster: 'fast', name: 'unwanted' })).body as { id: string };
    await until(() => plugin.running().length === 1);
    await at.api('POST', `/sessions/${id}/stop`);
    expect(await at.ended(id)).toMatchObject({ state: 'cancelled' });
    await until(() => plugin.running().length === 0);
    expect([...plugin.operations.values()].map(({ cancel }) => cancel.signal.aborted)).toEqual([true]);
    answer();
    plugin.fleet.answered = Promise.resolve();
  });

  it.each([
    [{ cluster: 'nowhere' }, 404, 'TARGET_NOT_FOUND'],
    [{ cluster: 'fast', nics: [{ vnicProfile: 'nothing' }] }, 404, 'TARGET_NOT_FOUND'],
    [{ cluster: 'fast', nics: [{ vnicProfile: 'fast', ipv4: { method: 'static' } }] }, 400, 'ARGUMENT_INVALID'],
    [{ cluster: 'fast', taskSlots: 17 }, 400, 'ARGUMENT_INVALID'],
    [{ cluster: 'fast', name: 'no/name' }, 400, 'ARGUMENT_INVALID'],
    [{ cluster: 'fast', dnsServers: ['not an address'] }, 400, 'ARGUMENT_INVALID'],
    [{ cluster: 'fast', platform: 'unknown' }, 404, 'PLATFORM_UNKNOWN'],
  ])('refuses %j before a session begins', async (body, status, code) => {
    expect(await at.api('POST', '/workers', body)).toMatchObject({ status, body: { code } });
    expect(plugin.operations.size).toBe(0);
  });

  it('refuses to deploy while there is no image', async () => {
    plugin.fleet.imageVersion = undefined;
    expect(await at.api('POST', '/workers', { cluster: 'fast' })).toMatchObject({ status: 409 });
    expect((await at.api('GET', '/worker-images')).body).toEqual({ items: [] });
    plugin.fleet.imageVersion = '1.1.0';
    expect((await at.api('GET', '/worker-images')).body.items).toMatchObject([{ version: '1.1.0', fileBytes: 1000 }]);
  });

  it('edits on top of the settings there are, and gives choices back', async () => {
    await deploy('two', { taskSlots: 6, dnsServers: ['10.0.0.2'] });
    expect(await act('PATCH', '/workers/two', { memoryBytes: 4 * 1024 ** 3, dnsServers: [], force: true })).toMatchObject({
      state: 'success',
    });
    expect(plugin.fleet.requests.at(-1)).toMatchObject({
      action: 'edit',
      edit: { force: true, settings: { name: 'two', taskSlots: 6, memoryBytes: String(4 * 1024 ** 3), dnsServers: [] } },
    });
    await act('PATCH', '/workers/two', { taskSlots: null });
    expect((await worker('two')).settings).toMatchObject({ taskSlots: null, memoryBytes: 4 * 1024 ** 3 });
  });

  it('drains, resumes, stops, starts, redeploys and removes', async () => {
    await deploy('three');
    expect((await at.api('POST', '/workers/three/drain')).body).toMatchObject({ state: 'drained' });
    expect((await at.api('POST', '/workers/three/resume')).body).toMatchObject({ state: 'connected' });
    for (const [verb, state] of [
      ['stop', 'stopped'],
      ['start', 'connected'],
      ['redeploy', 'connected'],
    ] as const) {
      expect(await act('POST', `/workers/three/${verb}`, {})).toMatchObject({ state: 'success', subject: `${verb} three` });
      expect((await worker('three')).state).toBe(state);
    }
    await act('DELETE', '/workers/three?force=true');
    expect(plugin.fleet.requests.at(-1)).toMatchObject({ action: 'remove', remove: { force: true } });
    expect(await at.api('GET', '/workers/three')).toMatchObject({ status: 404, body: { code: 'WORKER_UNKNOWN' } });
  });

  it('leaves a worker beside the server alone, but tests it', async () => {
    for (const verb of ['stop', 'redeploy'])
      expect(await at.api('POST', `/workers/beside/${verb}`, {})).toMatchObject({ status: 409, body: { code: 'WORKER_BESIDE_SERVER' } });
    expect(await at.api('PATCH', '/workers/beside', {})).toMatchObject({ status: 409 });
    expect(await act('POST', '/workers/beside/test')).toMatchObject({ state: 'success' });
  });

  it('keeps with the session what a self-test found, one note per place', async () => {
    const cell = (target: string, verdict: string, advice: string) => ({
      check: 'SELF_TEST_CHECK_HOST',
      target,
      targetName: target.split(':')[0],
      verdict: `SELF_TEST_VERDICT_${verdict}`,
      detail: 'no answer within 5 s',
      advice,
      code: verdict === 'PASSED' ? '' : 'CONNECTION_TIMED_OUT',
    });
    const matrix = (worst: string) =>
      ({
        verdict: `SELF_TEST_VERDICT_${worst}`,
        cells: [cell('a:54322', 'PASSED', ''), cell('b:54322', worst, 'Open 54322.'), cell('c:54322', worst, 'Open 54322.')],
      }) as unknown as SelfTest;
    const good = plugin.fleet.selfTest;
    plugin.fleet.selfTest = matrix('WARNING');
    await deploy('four');
    expect(await act('POST', '/workers/four/test')).toMatchObject({
      state: 'warning',
      tasks: [
        {
          notes: [
            { code: 'CONNECTION_TIMED_OUT', severity: 'warning', message: 'host b (b:54322): no answer within 5 s. Open 54322.' },
            { message: 'host c (c:54322): no answer within 5 s. Open 54322.' },
          ],
        },
      ],
    });
    plugin.fleet.selfTest = matrix('FAILED');
    const failed = await act('POST', '/workers/four/test');
    expect(failed).toMatchObject({
      state: 'failed',
      tasks: [{ failure: { code: 'WORKER_TEST_FAILED' }, notes: [{ severity: 'blocking' }, {}] }],
    });
    plugin.fleet.selfTest = good;
  });

  it('asks for what a self-test found until it is told', async () => {
    const good = plugin.fleet.selfTest;
    plugin.fleet.selfTest = { ...good, verdict: 'SELF_TEST_VERDICT_FAILED' };
    let refusals = 0;
    plugin.at = async (moment) => {
      if (moment !== 'ended') return;
      plugin.fleet.onList = async () => {
        refusals += 1;
        if (refusals <= 2) throw failure('PLUGIN_BUSY', 'same-request');
      };
    };
    expect(await act('POST', '/workers/beside/test')).toMatchObject({
      state: 'failed',
      tasks: [{ attempt: 1, waitingReason: null, failure: { code: 'WORKER_TEST_FAILED' } }],
    });
    expect(refusals).toBeGreaterThan(2);
    plugin.fleet.onList = () => Promise.resolve();
    plugin.fleet.selfTest = good;
  });

  it('tries again once what a restart of the plug-in interrupted, nothing else', async () => {
    plugin.failures.push(failure('PLUGIN_RESTARTED', 'same-request'));
    expect(await deploy('five')).toMatchObject({ state: 'success', tasks: [{ attempt: 2 }] });
    plugin.failures.push(failure('CLUSTER_WITHOUT_ROOM', 'same-request'));
    const failed = await deploy('six');
    expect(failed).toMatchObject({ state: 'failed', tasks: [{ attempt: 1, failure: { code: 'CLUSTER_WITHOUT_ROOM' } }] });
    const retried = await at.api('POST', `/sessions/${failed.id}/retry`);
    expect(await at.ended(retried.body.id)).toMatchObject({ state: 'success' });
    const [first, second] = plugin.fleet.requests.slice(-2).map((request) => request.deploy?.workerId);
    expect(first).not.toBe(second);
  });

  it('is cancelled like any session', async () => {
    plugin.at = (moment, operation) =>
      moment === 'transferring'
        ? new Promise((resolve) => operation.cancel.signal.addEventListener('abort', () => resolve()))
        : Promise.resolve();
    const { body } = await at.api('POST', '/workers', { cluster: 'fast', name: 'seven' });
    await until(() => plugin.running().some((operation) => operation.events.length >= 3));
    await at.api('POST', `/sessions/${body.id}/stop`);
    expect(await at.ended(body.id)).toMatchObject({ state: 'cancelled', tasks: [{ state: 'cancelled' }] });
  });

  it('lists and removes VMs that are nobody’s', async () => {
    plugin.fleet.orphans.push({ platformId, vmId: 'lost-vm', name: 'tidemark-worker-old-01', madeBy: 'another' });
    expect((await at.api('GET', '/orphan-workers')).body.items).toMatchObject([{ vmId: 'lost-vm', madeBy: 'another' }]);
    expect(await act('DELETE', '/orphan-workers/lost-vm')).toMatchObject({
      state: 'success',
      subject: 'remove-orphan tidemark-worker-old-01',
    });
    expect(await at.api('DELETE', '/orphan-workers/lost-vm')).toMatchObject({ status: 404 });
  });

  it('changes some rules of a fleet and keeps the others', async () => {
    expect((await at.api('GET', '/platforms/east/fleet-policy')).body).toMatchObject({ stopIdleAfterMs: 600_000, tasksPerHost: 2 });
    const change = { stopIdleAfterMs: 90_000, automaticSettings: { taskSlots: 8, storageDomain: 'fast' } };
    expect((await at.api('PATCH', '/platforms/east/fleet-policy', change)).body).toMatchObject({
      stopIdleAfterMs: 90_000,
      tasksPerHost: 2,
      namePrefix: 'tidemark',
      automaticSettings: { taskSlots: 8, storageDomainId: 'target-1' },
    });
    expect((await at.api('PATCH', '/platforms/east/fleet-policy', { deployAutomatically: false })).body).toMatchObject({
      deployAutomatically: false,
      automaticSettings: { taskSlots: 8 },
    });
    expect(await at.api('PATCH', '/platforms/east/fleet-policy', { tasksPerHost: 0 })).toMatchObject({ status: 400 });
  });

  it('are asked for at a manual run at once, and five minutes before a scheduled one', async () => {
    await at.ended((await at.api('POST', '/jobs/nightly/run', { vms: ['web1', 'web2'] })).body.id);
    expect(plugin.fleet.prepared).toMatchObject([{ vmIds: ['vm-1', 'vm-2'] }]);
    plugin.fleet.prepared.length = 0;
    const at4 = new Date(Date.now() + 4 * minuteMs);
    const cron = (time: Date) => `${time.getUTCMinutes()} ${time.getUTCHours()} * * *`;
    const later = new Date(Date.now() + 60 * minuteMs);
    await at.api('POST', '/jobs', {
      name: 'later',
      repository: 'main',
      selector: { include: ['web3'] },
      schedule: { cron: cron(later), timeZone: 'UTC' },
    });
    await at.api('PATCH', `/jobs/${jobId}`, { schedule: { cron: cron(at4), timeZone: 'UTC' } });
    await until(() => plugin.fleet.prepared.length > 0);
    expect(plugin.fleet.prepared).toMatchObject([{ vmIds: ['vm-1', 'vm-2', 'vm-3'] }]);
    expect(plugin.fleet.prepared[0]?.neededAt.getUTCMinutes()).toBe(at4.getUTCMinutes());
    await new Promise((resolve) => setTimeout(resolve, 2500));
    expect(plugin.fleet.prepared).toHaveLength(1);
  });

  it('get at disks as the job or restore says, and sessions tell how it was', async () => {
    const made = await at.api('PATCH', `/jobs/${jobId}`, { transport: 'attachment', schedule: null });
    expect(made.body).toMatchObject({ transport: 'attachment' });
    const session = await at.ended((await at.api('POST', '/jobs/nightly/run', { vms: ['web1'] })).body.id);
    expect([...plugin.operations.values()].at(-1)?.backup?.transport).toBe('DATA_TRANSPORT_DISK_ATTACHMENT');
    expect(session.tasks[0].disks).toMatchObject([
      { transport: 'attachment', workerId: 'worker-1', workerName: 'beside', workerHop: 'beside-server' },
    ]);
    const restore = { point: session.tasks[0].pointId, transport: 'image-transfer' };
    await at.ended((await at.api('POST', '/restores/vm', restore)).body.id);
    expect([...plugin.operations.values()].at(-1)?.restore?.transport).toBe('DATA_TRANSPORT_IMAGE_TRANSFER');
    expect(await at.api('PATCH', `/jobs/${jobId}`, { transport: 'carrier-pigeon' })).toMatchObject({ status: 400 });
  });

  it.each<Moment>(['started', 'transferring', 'ended'])('go on when the server is killed at "%s"', async (moment) => {
    const killed = new Promise<void>((resolve) => {
      let done = false;
      plugin.at = async (now) => {
        if (now !== moment || done) return;
        done = true;
        await at.kill();
        resolve();
      };
    });
    const { body } = await at.api('POST', '/workers', { cluster: 'fast', name: `through-${moment}` });
    await killed;
    await at.start();
    expect(await at.ended(body.id)).toMatchObject({ state: 'success', tasks: [{ attempt: 1 }] });
    expect(plugin.fleet.requests.filter((request) => request.deploy?.settings?.name === `through-${moment}`)).toHaveLength(1);
  });

  it('end when the server is killed after the result was told, and before the session had it', async () => {
    const killed = new Promise<void>((resolve) => {
      plugin.at = async (moment) => {
        if (moment !== 'ended') return;
        plugin.fleet.onList = async () => {
          plugin.fleet.onList = () => Promise.resolve();
          await at.kill();
          resolve();
        };
      };
    });
    const { body } = await at.api('POST', '/workers/beside/test');
    await killed;
    await at.start();
    expect(await at.ended(body.id)).toMatchObject({ state: 'success', tasks: [{ attempt: 1 }] });
  });
});
