import fc from 'fast-check';
import { parse } from 'yaml';
import { workerNameStem } from './deployment-plan';
import { checkPolicy, defaultPolicy } from './policy';
import { applianceSeed, cloudConfig } from './seed';
import { checkSettings, defaultNic, defaultSettings, sizeOf } from './settings';
import { isLocalEndpoint } from './worker-starter';

const gibibyte = 1024 ** 3;

describe('settings', () => {
  it('size a worker by its tasks unless sizes are chosen', () => {
    expect(sizeOf(defaultSettings)).toEqual({ taskSlots: 4, cpuCount: 2, memoryBytes: 2 * gibibyte });
    expect(sizeOf({ ...defaultSettings, taskSlots: 9 })).toEqual({ taskSlots: 9, cpuCount: 5, memoryBytes: 3.25 * gibibyte });
    expect(sizeOf({ taskSlots: 1, cpuCount: 8, memoryBytes: 4 * gibibyte })).toEqual({
      taskSlots: 1,
      cpuCount: 8,
      memoryBytes: 4 * gibibyte,
    });
  });

  const nic = (more: object) => ({ nics: [{ ...defaultNic, ...more }] });
  const fixed = (address: string, gateway = '') => ({ method: 'static', address, gateway });
  it.each([
    ['settings.name', { name: 'a.b' }],
    ['settings.name', { name: 'x'.repeat(41) }],
    ['settings.task_slots', { taskSlots: 17 }],
    ['settings.task_slots', { taskSlots: -1 }],
    ['settings.cpu_count', { cpuCount: 65 }],
    ['settings.memory_bytes', { memoryBytes: 512 * 1024 ** 2 }],
    ['settings.memory_bytes', { memoryBytes: 2 * gibibyte + 1 }],
    ['settings.nics.0.ipv4.address', nic({ ipv4: fixed('10.0.0.9') })],
    ['settings.nics.0.ipv4.address', nic({ ipv4: fixed('fd00::9/64') })],
    ['settings.nics.0.ipv4.gateway', nic({ ipv4: fixed('10.0.0.9/24', 'fd00::1') })],
    ['settings.nics.0.ipv6.method', nic({ ipv6: { method: 'automatic', address: 'fd00::9/64', gateway: '' } })],
    ['settings.nics.0.ipv4', nic({ ipv4: { ...defaultNic.ipv4, method: 'none' }, ipv6: { ...defaultNic.ipv6, method: 'none' } })],
    ['settings.nics.0.mtu', nic({ mtu: 500 })],
    ['settings.nics.0.routes.0.destination', nic({ routes: [{ destination: '10.0.0.0', via: '' }] })],
    ['settings.nics.0.routes.0.via', nic({ routes: [{ destination: '10.1.0.0/16', via: 'fd00::1' }] })],
    ['settings.dns_servers.0', { dnsServers: ['dns.example'] }],
    ['settings.dns_search.0', { dnsSearch: ['not a domain'] }],
    ['settings.ntp_servers.0', { ntpServers: ['not a name'] }],
  ])('with a wrong %s are refused by that name', (field, change) => {
    let thrown: unknown;
    try {
      checkSettings({ ...defaultSettings, ...change });
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toMatchObject({ code: 'WORKER_SETTINGS_INVALID', status: 'INVALID_ARGUMENT', meta: { field } });
  });

  it('accept what a site has', () => {
    const settings = {
      ...defaultSettings,
      name: 'backup-worker-1',
      nics: [
        {
          ...defaultNic,
          ipv4: fixed('10.0.0.9/24', '10.0.0.1'),
          ipv6: fixed('fd00::9/64', 'fd00::1'),
          mtu: 9000,
          routes: [{ destination: '10.1.0.0/16', via: '10.0.0.2' }],
        },
      ],
      dnsServers: ['10.0.0.2', 'fd00::2'],
      dnsSearch: ['example.com'],
      ntpServers: ['ntp.example.com', '10.0.0.3'],
    };
    expect(checkSettings(settings)).toEqual(settings);
  });
});

describe('the policy', () => {
  it('refuses what cannot be, by field', () => {
    const policy = defaultPolicy('p1');
    expect(checkPolicy(policy)).toEqual(policy);
    const refused = (change: object) => {
      try {
        checkPolicy({ ...policy, ...change });
        return 'accepted';
      } catch (error) {
        return error;
      }
    };
    for (const [field, change] of [
      ['policy.tasks_per_host', { tasksPerHost: -1 }],
      ['policy.stop_idle_after', { stopIdleAfterMs: 1000 }],
      ['policy.name_prefix', { namePrefix: '-x' }],
      ['policy.worker_endpoint', { workerEndpoint: 'nat.example' }],
      ['policy.worker_endpoint', { workerEndpoint: 'nat.example:8446' }],
      ['policy.automatic_settings.task_slots', { automaticSettings: { ...defaultSettings, taskSlots: 99 } }],
    ] as const) {
      expect(refused(change)).toMatchObject({ code: 'WORKER_SETTINGS_INVALID', meta: { field } });
    }
  });
});

it('worker names fit, whatever the cluster is called', () => {
  expect(workerNameStem('tidemark', 'Default')).toBe('tidemark-worker-Default-');
  expect(workerNameStem('tidemark', 'Köln / Süd (2)')).toBe('tidemark-worker-Ko-ln-Su-d-2-');
  fc.assert(
    fc.property(fc.string(), (cluster) => {
      expect(`${workerNameStem('tidemark', cluster)}99`).toMatch(/^[0-9A-Za-z-]{1,40}$/);
    }),
  );
});

it('the seed is one of the files of the cloud-config, whatever it holds', () => {
  const seed = applianceSeed({
    workerId: '7d4e2f4e-2f9b-4a53-9c34-0c5a86b1b0ad',
    name: 'w1',
    platformId: 'platform: {1}',
    clusterId: "c'1",
    settings: { ...defaultSettings, nics: [{ ...defaultNic, mtu: 1400, ipv6: { method: 'none', address: '', gateway: '' } }] },
    macAddresses: ['56:6F:00:00:00:0A'],
    endpoint: '[fd00::1]:8446',
    enrolmentEndpoint: 'plugin.example:8448',
    enrolmentToken: 'tmk1.a.b',
    engineHost: 'engine.example',
  });
  expect(seed).toMatchObject({
    taskSlots: 4,
    ntpServers: ['engine.example'],
    interfaces: [{ macAddress: '56:6f:00:00:00:0a', mtu: 1400, ipv4: { method: 'automatic' }, ipv6: { method: 'none' }, routes: [] }],
  });
  const document = parse(`#cloud-config\nruncmd:\n- true\n${cloudConfig(seed)}`) as { write_files: { path: string; content: string }[] };
  expect(document.write_files).toHaveLength(1);
  expect(document.write_files[0]?.path).toBe('/etc/tidemark/worker.json');
  expect(JSON.parse(document.write_files[0]?.content ?? '')).toEqual(seed);
});

it('knows addresses that mean this machine only', () => {
  for (const local of ['localhost:1', '127.0.0.1:1', '127.9.9.9:1', '[::1]:1']) expect(isLocalEndpoint(local)).toBe(true);
  for (const other of ['backup.example:8446', '10.0.0.1:8446', '[fd00::1]:8446']) expect(isLocalEndpoint(other)).toBe(false);
});
