import type { SelfTest } from '../../../proto/gen/tidemark/common/v1/SelfTest';
import { loginWithCli, runCliIn } from '../../testing/cli-user';
import type { FakePlugin } from '../../testing/fake-plugin';
import { TestInstallation } from '../../testing/test-installation';
import { bytesOf, networkOf, settingsBody } from './worker-options';

describe('options of worker VMs', () => {
  it('read a NIC as it is written', () => {
    expect(
      networkOf(
        'profile=backup,ipv4=static:10.0.0.9/24,gw=10.0.0.1,ipv6=fd00::9/64,gw=fd00::1,mtu=9000,route=10.1.0.0/16@10.0.0.2,route=10.2.0.0/16',
      ),
    ).toEqual({
      vnicProfile: 'backup',
      ipv4: { method: 'static', address: '10.0.0.9/24', gateway: '10.0.0.1' },
      ipv6: { method: 'static', address: 'fd00::9/64', gateway: 'fd00::1' },
      mtu: 9000,
      routes: [{ destination: '10.1.0.0/16', via: '10.0.0.2' }, { destination: '10.2.0.0/16' }],
    });
    expect(networkOf('profile=a,ipv4=dhcp,ipv6=none')).toEqual({
      vnicProfile: 'a',
      ipv4: { method: 'automatic' },
      ipv6: { method: 'none' },
      routes: [],
    });
  });

  it.each([
    'ipv4=dhcp',
    'profile=a,gw=10.0.0.1',
    'profile=a,ipv4=dhcp,gw=10.0.0.1',
    'profile=a,speed=fast',
    'profile',
    'profile=a,mtu=big',
  ])('refuse the NIC "%s"', (text) => {
    expect(() => networkOf(text)).toThrow();
  });

  it('say only what was said, and give choices back', () => {
    expect(settingsBody({})).toEqual({});
    expect(settingsBody({ tasks: '8', memory: '4GiB', storageDomain: 'default', dns: ['default'], host: ['a', 'b'] })).toEqual({
      taskSlots: 8,
      memoryBytes: 4 * 1024 ** 3,
      storageDomain: null,
      dnsServers: [],
      hosts: ['a', 'b'],
    });
    expect(() => settingsBody({ tasks: 'many' })).toThrow('--tasks');
  });

  it.each([
    ['4GiB', 4 * 1024 ** 3],
    ['2048M', 2048 * 1024 ** 2],
    ['1 tb', 1024 ** 4],
    ['512', 512],
  ])('read the size %s', (text, bytes) => expect(bytesOf('--memory', text)).toBe(bytes));
});

describe('tidemark worker', () => {
  let at: TestInstallation;
  let plugin: FakePlugin;

  beforeAll(async () => {
    at = new TestInstallation();
    await at.start();
    await at.login();
    ({ plugin } = await at.furnish());
    await loginWithCli(at);
  });
  afterAll(() => at.remove());

  const run = (...argv: string[]) => runCliIn(at.folder, argv);

  it('shows first what it would deploy, then deploys and follows to the end', async () => {
    const dry = await run('worker', 'deploy', '--cluster', 'fast', '--tasks', '8', '--dry-run');
    expect(dry).toMatchObject({ code: 0, out: expect.stringMatching(/size: +4 vCPUs, 3.0 GiB/) });
    expect(plugin.fleet.requests).toHaveLength(0);
    const made = await run(
      ...['worker', 'deploy', '--platform', 'east', '--cluster', 'fast', '--name', 'w1', '--network', 'profile=fast,ipv4=dhcp'],
    );
    expect(made).toMatchObject({ code: 0, out: expect.stringContaining('(worker: deploy w1): success') });
    const shown = await run('worker', 'show', 'w1');
    expect(shown.out).toMatch(/NIC 1: +fast, IPv4 automatic/);
    expect(shown.out).toMatch(/ok +host +host-1 host-1:54322 +connected in 3 ms/);
    const listed = await run('worker', 'list');
    expect(listed.out.split('\n')[0]).toMatch(/^WORKER +STATE +CLUSTER +TASKS/);
    expect(listed.out).toMatch(/^w1 +connected +fast +0\/4/m);
    expect((await run('session', 'list', '--kind', 'worker')).out).toContain('deploy w1');
  });

  it('returns at once with --no-wait', async () => {
    const { code, out } = await run('worker', 'deploy', '--cluster', 'fast', '--name', 'w2', '--no-wait', '--json');
    expect(code).toBe(0);
    const session = JSON.parse(out) as { id: string; kind: string };
    expect(session.kind).toBe('worker');
    expect(await at.ended(session.id)).toMatchObject({ state: 'success' });
  });

  it('prints the matrix with advice, and its exit code is how bad it is', async () => {
    const good = plugin.fleet.selfTest;
    const verdict = (worst: string) =>
      ({
        verdict: `SELF_TEST_VERDICT_${worst}`,
        cells: [
          { ...good.cells?.[0] },
          {
            check: 'SELF_TEST_CHECK_HOST',
            target: '10.0.0.5:54322',
            targetName: 'h5',
            verdict: `SELF_TEST_VERDICT_${worst}`,
            detail: 'no answer within 5 s',
            advice: 'Open TCP 54322 from 10.0.0.9 to 10.0.0.5.',
            code: 'CONNECTION_TIMED_OUT',
          },
        ],
      }) as unknown as SelfTest;
    expect((await run('worker', 'test', 'w1')).code).toBe(0);
    plugin.fleet.selfTest = verdict('WARNING');
    expect(await run('worker', 'test', 'w1')).toMatchObject({ code: 3, out: expect.stringContaining('Open TCP 54322 from') });
    plugin.fleet.selfTest = verdict('FAILED');
    expect(await run('worker', 'test', 'w1')).toMatchObject({ code: 1, out: expect.stringMatching(/^FAILED +host +h5 10.0.0.5:54322/m) });
    const { code, out } = await run('worker', 'test', 'w1', '--json');
    expect([code, (JSON.parse(out) as { selfTest: { verdict: string } }).selfTest.verdict]).toEqual([1, 'failed']);
    plugin.fleet.selfTest = good;
  });

  it('drains, edits and removes; --force is said', async () => {
    expect((await run('worker', 'drain', 'w1')).out).toBe('worker w1 is drained\n');
    expect((await run('worker', 'resume', 'w1')).out).toBe('worker w1 is connected\n');
    expect((await run('worker', 'edit', 'w1', '--tasks', '2')).code).toBe(0);
    expect(plugin.fleet.requests.at(-1)).toMatchObject({ edit: { force: false, settings: { taskSlots: 2 } } });
    expect((await run('worker', 'remove', 'w1', '--force')).code).toBe(0);
    expect(plugin.fleet.requests.at(-1)).toMatchObject({ remove: { force: true } });
    expect((await run('worker', 'show', 'w1')).code).toBe(4);
    expect((await run('worker', 'stop', 'beside')).code).toBe(5);
  });

  it('shows and changes the rules', async () => {
    expect((await run('worker', 'policy')).out).toMatch(/stop when idle for: +10 minutes/);
    const changed = await run('worker', 'policy', '--other-clusters', 'off', '--idle-minutes', '30', '--tasks', '8');
    expect(changed.out).toMatch(/workers of other clusters: +off/);
    expect(changed.out).toMatch(/stop when idle for: +30 minutes/);
    expect(changed.out).toMatch(/automatic: tasks: +8/);
    expect((await run('worker', 'policy', '--beside-server', 'perhaps')).code).toBe(2);
  });

  it('lists images and what a lost server left, and removes it', async () => {
    expect((await run('worker', 'image')).out).toContain('1.0.0');
    expect((await run('worker', 'orphans')).out).toContain('every worker VM belongs');
    plugin.fleet.orphans.push({ platformId: 'platform-1', vmId: 'lost', name: 'old', madeBy: 'another' });
    expect((await run('worker', 'orphans')).out).toMatch(/^old +lost/m);
    expect(await run('worker', 'orphans', 'remove', 'old')).toMatchObject({ code: 0 });
    expect((await run('worker', 'orphans', '--json')).out).toBe('{\n  "items": []\n}\n');
  });
});
