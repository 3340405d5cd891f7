/** The real program: enrols at a host, connects the lab's engine, lists, judges, notices changes, and comes back after kill -9. */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { request } from 'undici';
import type { IdentityServiceDefinition } from '../proto/gen/tidemark/plugin/v1/IdentityService';
import type { InventoryServiceDefinition } from '../proto/gen/tidemark/plugin/v1/InventoryService';
import type { PlatformServiceDefinition } from '../proto/gen/tidemark/plugin/v1/PlatformService';
import type { ProtectionServiceDefinition } from '../proto/gen/tidemark/plugin/v1/ProtectionService';
import { Secret } from '../common/log/redact';
import { Engine } from './engine/engine';
import { inspectEngine } from './engine/engine-trust';
import { startProgram } from './testing/child-process';
import type { RunningProgram } from './testing/child-process';
import { eventually } from './testing/eventually';
import { FakeHost } from './testing/fake-host';
import { quietLogger } from './testing/quiet-logger';

const settings = { deadlineMs: 120_000 };
const pretendedVms = 1500;
const plan = {
  vms: [
    {
      name: 'web',
      cluster: 'Default',
      nics: 1,
      tags: ['gold'],
      disks: [
        { name: 'web-system', sizeMib: 64, format: 'cow' },
        { name: 'web-data', sizeMib: 32, format: 'raw', domain: 'data-2' },
      ],
    },
  ],
  pretend: { vms: pretendedVms, clusters: 10, hosts: 20 },
};

interface Ready {
  readonly endpoint: string;
  readonly workerEndpoint: string;
  readonly enrolmentEndpoint: string;
  readonly instanceId: string;
}

let folder: string;
let lab: RunningProgram;
let access: { engineUrl: string; user: string; password: string; controlUrl: string };
let host: FakeHost;

beforeAll(async () => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-plugin-main-'));
  const readyFile = path.join(folder, 'lab.json');
  const seedFile = path.join(folder, 'seed.json');
  fs.writeFileSync(seedFile, JSON.stringify(plan));
  lab = startProgram('lab/main.js', [
    '--data-dir',
    path.join(folder, 'lab'),
    '--seed-file',
    seedFile,
    '--clock-factor',
    '20',
    '--ready-file',
    readyFile,
  ]);
  host = await FakeHost.start();
  await eventually('the lab is up', () => fs.existsSync(readyFile) || lab.child.exitCode !== null);
  if (!fs.existsSync(readyFile)) throw new Error(`the lab did not start:\n${lab.errors()}`);
  access = JSON.parse(fs.readFileSync(readyFile, 'utf8')) as typeof access;
});

afterAll(async () => {
  host.stop();
  await lab.end();
  fs.rmSync(folder, { recursive: true, force: true });
});

async function startPlugin(dataFolder: string): Promise<{ program: RunningProgram; ready: Ready }> {
  const tokenFile = path.join(folder, 'token');
  fs.writeFileSync(tokenFile, host.token);
  const program = startProgram('plugin/main.js', [], {
    TIDEMARK_DATA_FOLDER: dataFolder,
    TIDEMARK_LISTEN__ADDRESS: '127.0.0.1',
    TIDEMARK_LISTEN__PORT: '0',
    TIDEMARK_LISTEN__ENROLMENT_PORT: '0',
    TIDEMARK_ADDRESSES: '["127.0.0.1"]',
    TIDEMARK_HOST__ENDPOINT: host.endpoint,
    TIDEMARK_HOST__ENROLMENT_ENDPOINT: host.enrolmentEndpoint,
    TIDEMARK_HOST__ENROLMENT_TOKEN_FILE: tokenFile,
    TIDEMARK_INVENTORY__POLL_MS: '200',
    TIDEMARK_LOG_LEVEL: 'debug',
    // A setting of another role on the same machine.
    TIDEMARK_STORAGE__FOLDER: '/nowhere',
  });
  await eventually('the plug-in is ready', () => program.output().includes('\n') || program.child.exitCode !== null);
  if (program.child.exitCode !== null) throw new Error(`the plug-in did not start:\n${program.errors()}`);
  return { program, ready: JSON.parse(program.output()) as Ready };
}

it('serves the host from enrolment to the inventory of a large engine, and after kill -9', async () => {
  const dataFolder = path.join(folder, 'plugin');
  let { program, ready } = await startPlugin(dataFolder);
  try {
    await eventually('registered', () => host.registrations.length > 0);
    expect(host.registrations[0]).toMatchObject({
      pluginId: 'ovirt',
      endpoint: ready.endpoint,
      workerEnrolmentEndpoint: ready.enrolmentEndpoint,
    });
    const identity = host.client<IdentityServiceDefinition>('identity_service', 'IdentityService', ready.endpoint);
    await expect(identity.call('GetPluginInfo', {}, settings)).resolves.toMatchObject({
      pluginId: 'ovirt',
      process: { instanceId: ready.instanceId },
    });
    identity.close();

    const platforms = host.client<PlatformServiceDefinition>('platform_service', 'PlatformService', ready.endpoint);
    const { caFingerprint } = await platforms.call('InspectPlatform', { url: access.engineUrl }, settings);
    const platform = {
      platformId: randomUUID(),
      name: 'lab',
      url: access.engineUrl,
      username: access.user,
      password: access.password,
      caFingerprint,
    };
    await expect(platforms.call('PutPlatform', { ...platform, password: 'wrong' }, settings)).rejects.toMatchObject({
      code: 'ENGINE_LOGIN_REFUSED',
    });
    await platforms.call('PutPlatform', platform, settings);
    const { findings } = await platforms.call('TestPlatform', { platformId: platform.platformId }, settings);
    expect(findings.filter((finding) => !finding.passed)).toEqual([]);
    expect(findings.map((finding) => finding.check)).toEqual(expect.arrayContaining(['login', 'version', 'hosts', 'storage-domains']));

    const inventory = host.client<InventoryServiceDefinition>('inventory_service', 'InventoryService', ready.endpoint);
    const { vmCount } = await inventory.call('RescanPlatform', { platformId: platform.platformId }, { deadlineMs: 120_000 });
    expect(vmCount).toBe(pretendedVms + 1);
    const listed = new Map<string, { vmId: string; tags: string[]; diskCount: number; provisionedBytes: string; clusterName: string }>();
    for (let pageToken = ''; ;) {
      const page = await inventory.call('ListVms', { pageSize: 1000, pageToken }, settings);
      for (const vm of page.vms) listed.set(vm.name, vm);
      pageToken = page.nextPageToken;
      if (pageToken === '') break;
    }
    expect(listed.size).toBe(pretendedVms + 1);
    const web = listed.get('web')!;
    expect(web).toMatchObject({ tags: ['gold'], diskCount: 2, provisionedBytes: String(96 * 1024 * 1024), clusterName: 'Default' });

    const details = await inventory.call('GetVm', { platformId: platform.platformId, vmId: web.vmId }, settings);
    expect(details.disks.map((disk) => [disk.name, disk.format]).sort()).toEqual([
      ['web-data', 'raw'],
      ['web-system', 'cow'],
    ]);
    expect(details.nics).toMatchObject([{ name: 'nic1', macAddress: expect.stringMatching(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/) }]);
    const targets = await inventory.call('ListTargets', { platformId: platform.platformId }, settings);
    expect(
      targets.storageDomains.filter((domain) => domain.detail === 'active' && Number(domain.freeBytes) > 0).map((domain) => domain.name),
    ).toEqual(expect.arrayContaining(['data-1', 'data-2']));
    expect(targets.vnicProfiles.length).toBeGreaterThan(0);

    const protection = host.client<ProtectionServiceDefinition>('protection_service', 'ProtectionService', ready.endpoint);
    const { verdicts } = await protection.call('Preflight', { vms: [{ platformId: platform.platformId, vmId: web.vmId }] }, settings);
    expect(verdicts[0]).toMatchObject({ vmName: 'web', canBackUp: true, retryLater: false });
    expect(verdicts[0]?.disks.map((disk) => [disk.name, disk.mode, disk.reason]).sort()).toEqual([
      ['web-data', 'DISK_READ_MODE_FULL', 'cbt-raw'],
      ['web-system', 'DISK_READ_MODE_FULL', 'first-backup'],
    ]);
    protection.close();

    // A change in the engine reaches a watcher by the engine's events, without a full reading.
    const watch = inventory.stream('WatchInventory', { cursor: '' }, { idleTimeoutMs: 120_000 });
    expect((await watch.next()).value?.change).toBe('reset');
    await startVm(web.vmId);
    const until = Date.now() + 150_000;
    for (;;) {
      const { value } = await watch.next();
      if (Date.now() > until) throw new Error('the VM was not seen up');
      if (value?.change === 'changed' && value.changed?.vmId === web.vmId && value.changed.status === 'up') break;
    }
    await watch.return();

    // The engine goes and comes back; sessions were dropped meanwhile.
    const isLost = () => host.events.some((event) => event.code === 'PLATFORM_LOST');
    // Away for longer than the plug-in asks again, also where a busy machine kept it from asking for most of that time.
    for (let downMs = 9_000; !isLost(); downMs *= 2) await steer('/engine/restart', { downMs });
    await eventually('back', () => host.events.some((event) => event.code === 'PLATFORM_BACK'));

    // Killed: engines, identity and numbering of events are kept.
    inventory.close();
    platforms.close();
    await program.end('SIGKILL');
    expect(program.errors()).not.toContain(access.password);
    ({ program, ready } = await startPlugin(dataFolder));
    await eventually('registered again', () => host.registrations.at(-1)?.endpoint === ready.endpoint);
    const again = host.client<InventoryServiceDefinition>('inventory_service', 'InventoryService', ready.endpoint);
    await expect(again.call('RescanPlatform', { platformId: platform.platformId }, { deadlineMs: 120_000 })).resolves.toEqual({ vmCount });
    again.close();
    await program.end('SIGTERM');
    expect(program.child.exitCode).toBe(0);
  } finally {
    await program.end('SIGKILL');
  }
}, 480_000);

it('says what is wrong with its configuration, all at once', async () => {
  const program = startProgram('plugin/main.js', [], { TIDEMARK_LISTEN__PORT: 'x', TIDEMARK_HOST__ENDPOINT: 'nowhere' });
  await eventually('ended', () => program.child.exitCode !== null);
  expect(program.child.exitCode).toBe(1);
  expect(program.errors()).toContain('dataFolder');
  expect(program.errors()).toContain('listen.port');
  expect(program.errors()).toContain('host.endpoint');
});

async function startVm(vmId: string): Promise<void> {
  const inspection = await inspectEngine(access.engineUrl);
  const engine = Engine.connect({ ...inspection, username: access.user, password: new Secret(access.password) }, quietLogger().logger);
  try {
    await engine.vms.start(vmId);
  } finally {
    await engine.close();
  }
}

async function steer(route: string, body: object): Promise<void> {
  const answer = await request(`${access.controlUrl}${route}`, { method: 'POST', body: JSON.stringify(body) });
  const text = await answer.body.text();
  if (answer.statusCode >= 300) throw new Error(`${route}: ${answer.statusCode} ${text}`);
}
