/**
 * Where worker VMs stand: two clusters that know nothing of each other, NAT between cluster and server, IPv6 only, closed ports. Network
 * namespaces of this machine (needs root); the workers in them are the appliance as processes, told by real config drives.
 */
import fs from 'node:fs';
import path from 'node:path';
import { engineClean } from '../harness/engine-state';
import { Site, endOf } from '../harness/site';
import type { Session } from '../harness/site';

interface ClusterPlan {
  readonly family?: 'ipv4' | 'ipv6' | 'dual';
  readonly nat?: boolean;
}

/** A cluster with a host and a VM of the same name each. */
function planOf(clusters: Readonly<Record<string, ClusterPlan>>) {
  const names = Object.keys(clusters);
  return {
    clusters: names.map((name) => ({ name, level: '4.6', hosts: [`host-${name}`] })),
    storageDomains: ['data-1'],
    networks: { clusters },
    vms: names.map((name) => ({ name, cluster: name, disks: [{ name: `${name}-a`, sizeMib: 48, format: 'cow' }] })),
  };
}

async function startSite(clusters: Readonly<Record<string, ClusterPlan>>): Promise<Site> {
  const site = await Site.start({ plan: planOf(clusters), workerVms: 'process' });
  await site.installation.cli(
    ...['worker', 'policy', '--beside-server', 'off', '--other-clusters', 'off', '--deploy-automatically', 'off'],
  );
  for (const name of Object.keys(clusters)) {
    await site.lab.startVm(name);
    await site.dirty(name, `${name}-a`, 2, 10, 3);
    await site.installation.cli('job', 'create', name, '--repository', 'main', '--vm', name);
  }
  return site;
}

async function deploy(site: Site, cluster: string, warnings: readonly object[] = []): Promise<void> {
  const session = await site.session('worker', 'deploy', '--cluster', cluster, '--name', `worker-${cluster}`);
  expect([endOf(session), session.tasks[0]?.failure]).toEqual([warnings.length === 0 ? 'success' : 'warning', null]);
  expect(session.tasks[0]?.notes).toEqual(expect.arrayContaining(warnings.map((warning) => expect.objectContaining(warning))));
}

async function backUp(site: Site, name: string): Promise<Session> {
  const session = await site.run(name);
  expect(session.tasks.map(({ failure }) => failure)).toEqual([null]);
  expect(session.tasks[0]?.disks.map((disk) => [disk.workerName, disk.workerHop])).toEqual([[`worker-${name}`, 'same-cluster']]);
  expect(await site.pointDifferences(session.tasks[0]!)).toEqual([]);
  return session;
}

/** Kept by the all-in-one server from its first start on. */
function portsOf(site: Site): { readonly plugin: number; readonly pluginEnrolment: number; readonly moverData: number } {
  return JSON.parse(fs.readFileSync(path.join(site.installation.dataDir, 'ports.json'), 'utf8')) as ReturnType<typeof portsOf>;
}

describe('clusters on networks of their own', () => {
  let site: Site;

  beforeAll(async () => {
    site = await startSite({ east: {}, west: {}, north: { nat: true } });
    await Promise.all(['east', 'west'].map((name) => deploy(site, name)));
  }, 900_000);
  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  }, 900_000);

  it('each back up through their own worker, which knows its own hosts only', async () => {
    for (const name of ['east', 'west']) {
      await backUp(site, name);
      const tested = await site.installation.tryCli('worker', 'test', `worker-${name}`);
      expect(tested.stdout).toMatch(new RegExp(`ok +host +host-${name}`, 'i'));
      expect(tested.stdout).not.toContain(`host-${name === 'east' ? 'west' : 'east'}`);
    }
    await engineClean(site.lab);
  }, 900_000);

  it('name the closed port and what to do', async () => {
    const test = async (...blocks: object[]) => {
      await site.lab.control('POST', '/clusters/east/network/blocks', { blocks });
      return site.installation.tryCli('worker', 'test', 'worker-east');
    };
    const host = await test({ port: 54322, at: 'hosts', how: 'drop' });
    expect(host.code).toBe(1);
    expect(host.stdout).toMatch(/failed +host +host-east[^]*open[^]*54322/i);
    const { moverData } = portsOf(site);
    const mover = await test({ port: moverData, at: 'server', how: 'reject' });
    expect(mover.code).toBe(1);
    expect(mover.stdout).toMatch(new RegExp(`failed +mover[^]*${moverData}`, 'i'));
    expect(mover.stdout).toMatch(/ok +host +host-east/i);
    expect((await test()).code).not.toBe(1);
  }, 900_000);

  it('reach the server at its forward address from behind NAT, and back up', async () => {
    const forward = site.lab.access.network?.clusters['north']?.serverAddress ?? '';
    expect(forward).not.toBe(site.lab.access.network?.serverAddress);
    const { plugin, pluginEnrolment } = portsOf(site);
    const endpoints = ['--worker-endpoint', `${forward}:${plugin}`, '--worker-enrolment-endpoint', `${forward}:${pluginEnrolment}`];
    await site.installation.cli('worker', 'policy', ...endpoints);
    // The mover also tells the addresses that only the other clusters reach.
    await deploy(site, 'north', [{ code: 'CONNECTION_TIMED_OUT', message: expect.stringMatching(/connected to .* could not be reached/) }]);
    await backUp(site, 'north');
    await engineClean(site.lab);
  }, 900_000);
});

describe('a cluster with IPv6 only', () => {
  let site: Site;

  beforeAll(async () => {
    site = await startSite({ east: { family: 'ipv6' } });
  }, 900_000);
  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  }, 900_000);

  it('deploys, tests and backs up', async () => {
    await deploy(site, 'east');
    const tested = await site.installation.tryCli('worker', 'test', 'worker-east');
    expect(tested.stdout).toMatch(/ok +host +host-east/i);
    await backUp(site, 'east');
    await engineClean(site.lab);
  }, 900_000);
});
