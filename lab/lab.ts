import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ControlError } from './engine/control/control-route';
import { ControlServer } from './engine/control/control-server';
import { engineControls } from './engine/control/engine-controls';
import { EngineServer } from './engine/engine-server';
import type { EngineLogger } from './engine/model/core';
import type { EngineSettings } from './engine/model/settings';
import { pretendInventory } from './engine/scale/pretended-inventory';
import type { HostFleet } from './hosts/driver';
import { createHostFleet } from './hosts/fleet';
import { freePort } from '../common/net/free-port';
import { issueServerCertificate } from './hosts/pki';
import { buildGuest } from './images/build-guest';
import { networkControls } from './networks/network-controls';
import { LabNetworks, type NetworkAccess } from './networks/lab-networks';
import { LAB_ADDRESS, openLayout, saveLayout, type LabLayout } from './seed/lab-layout';
import { ADMIN_USER, seedInventory } from './seed/seed-inventory';
import type { SeedPlan } from './seed/seed-plan';
import { seedVms } from './seed/seed-vms';

/**
 * The lab as one thing: hosts, engine and control endpoint over one data directory. Owns their order of starting and stopping; it
 * must not know how any of them works.
 */
const IMAGEIO_PORT = 54_322;
const IMAGEIO_PROXY_PORT = 54_323;

export interface LabOptions {
  readonly dataDir: string;
  /** Used at the first start of a data directory only. */
  readonly plan: SeedPlan;
  /** 0: a free port at the first start, the same one later. */
  readonly port: number;
  readonly controlPort: number;
  /** Another authority and engine certificate than at the last start. */
  readonly renewCa: boolean;
  readonly settings: Partial<EngineSettings>;
  readonly pythonVenvDir: string;
  /** Kernel and initramfs of the `linux` guest are built into it once. */
  readonly guestCacheDir: string;
  /** Script of the product's worker appliance, for worker VMs that run as processes. */
  readonly appliance: string;
  readonly log: EngineLogger;
}

/** How to reach a running lab. */
export interface LabAccess {
  readonly engineUrl: string;
  readonly apiUrl: string;
  readonly caFile: string;
  readonly user: string;
  readonly passwordFile: string;
  readonly controlUrl: string;
  readonly dataDir: string;
  /** Absent when everything stands on loopback. */
  readonly network?: NetworkAccess;
}

export interface Lab {
  readonly access: LabAccess;
  readonly password: string;
  readonly caPem: string;
  /** Stops engine and hosts; everything is there again at the next start. */
  stop(): Promise<void>;
}

export async function startLab(options: LabOptions): Promise<Lab> {
  const layout = await openLayout(options.dataDir, options.plan, options.renewCa);
  const networks = await openNetworks(options, layout);
  const addresses = addressesOf(options, layout, networks);
  const fleet = openFleet(options, layout, networks, addresses);
  const engineCertificate =
    addresses.engine === LAB_ADDRESS
      ? layout.engineCertificate
      : await issueServerCertificate(layout.ca, 'engine.lab', [
          ...new Set(['engine.lab', 'localhost', LAB_ADDRESS, '::1', addresses.engine, ...(networks?.serverAddresses() ?? [])]),
        ]);
  // On networks also at every address of the server side.
  const host = networks === undefined ? addresses.engine : '::';
  const server = new EngineServer({
    fleet,
    dataDir: options.dataDir,
    settings: options.settings,
    log: options.log,
    host,
    port: options.port || layout.enginePort || (await freePort(host)),
    privateKeyPem: engineCertificate.privateKeyPem,
    certificatePem: engineCertificate.certificatePem,
    caPem: layout.ca.certificatePem,
  });
  const control = new ControlServer([
    ...engineControls(server, fleet, (vmId) => {
      crashVmProcess(join(options.dataDir, 'hosts'), vmId);
    }),
    ...networkControls(networks, () => server.run?.core.db.vms.list() ?? []),
  ]);
  const engineUrl = (port: number): string =>
    `https://${addresses.engine.includes(':') ? `[${addresses.engine}]` : addresses.engine}:${String(port)}/ovirt-engine`;
  try {
    const enginePort = await server.start((run) => {
      seedInventory(run.core.db, layout);
      if (layout.plan.pretend) {
        pretendInventory(run.core.db, layout.plan.pretend);
      }
    });
    await networks?.openEngine([enginePort, IMAGEIO_PROXY_PORT]);
    const controlPort = await control.listen(LAB_ADDRESS, options.controlPort || layout.controlPort || (await freePort(LAB_ADDRESS)));
    if (server.run) {
      await seedVms(server.run.core, layout.plan);
    }
    saveLayout(options.dataDir, { ...layout, enginePort, controlPort });
    return {
      access: {
        engineUrl: engineUrl(enginePort),
        apiUrl: `${engineUrl(enginePort)}/api`,
        caFile: join(options.dataDir, 'ca.pem'),
        user: ADMIN_USER,
        passwordFile: join(options.dataDir, 'password'),
        controlUrl: `http://${LAB_ADDRESS}:${String(controlPort)}`,
        dataDir: options.dataDir,
        ...(networks === undefined ? {} : { network: networks.access }),
      },
      password: layout.adminPassword,
      caPem: layout.ca.certificatePem,
      stop: async () => {
        await control.close();
        await server.stop();
        await fleet.close();
        await networks?.close();
      },
    };
  } catch (error) {
    await control.close().catch(() => undefined);
    await server.stop().catch(() => undefined);
    await fleet.close();
    await networks?.close();
    throw error;
  }
}

/** Kills the qemu process that the hosts' record names (see hosts/paths.ts): they learn of it as of any crash. */
function crashVmProcess(hostsDir: string, vmId: string): void {
  const file = join(hostsDir, 'run', `vm-${vmId}.json`);
  if (!existsSync(file)) {
    throw new ControlError(409, `VM ${vmId} does not run`);
  }
  const { pid } = JSON.parse(readFileSync(file, 'utf8')) as { pid: number };
  process.kill(pid, 'SIGKILL');
}

/** A plan makes networks; without one, guests of worker VMs need at least the plain one. */
async function openNetworks(options: LabOptions, layout: LabLayout): Promise<LabNetworks | undefined> {
  const plan = layout.plan.networks ?? (options.settings.workerVms === 'guest' ? { clusters: {} } : undefined);
  const clusters = layout.plan.clusters.map(({ name }) => name);
  return plan === undefined ? undefined : await LabNetworks.open(options.dataDir, plan, clusters, layout.hosts);
}

interface Addresses {
  readonly engine: string;
  host(id: string, position: number): string;
  /** Each host has an address of its own, and so the ports that oVirt gives imageio. */
  readonly ownPorts: boolean;
}

/**
 * Everything on one loopback address, unless somebody must find a host's imageio by its address and oVirt's port: then each has an address of
 * its own, on the networks or else within 127.0.0.0/8.
 */
function addressesOf(options: LabOptions, layout: LabLayout, networks: LabNetworks | undefined): Addresses {
  if (networks !== undefined) {
    return { engine: networks.engineAddress(), host: (id) => networks.hostAddress(id), ownPorts: true };
  }
  if (options.settings.workerVms !== 'process') {
    return { engine: LAB_ADDRESS, host: () => LAB_ADDRESS, ownPorts: false };
  }
  const [b = 0, c = 0] = createHash('sha256').update(options.dataDir).digest();
  const loopback = (last: number): string => `127.${String(1 + (b % 254))}.${String(c)}.${String(last)}`;
  return { engine: loopback(1), host: (_, position) => loopback(10 + position), ownPorts: true };
}

function openFleet(options: LabOptions, layout: LabLayout, networks: LabNetworks | undefined, addresses: Addresses): HostFleet {
  return createHostFleet({
    dataDir: join(options.dataDir, 'hosts'),
    pythonVenvDir: options.pythonVenvDir,
    ca: layout.ca,
    hosts: layout.hosts.map(({ id, name }, position) => ({
      id,
      name: `${name}.lab`,
      address: addresses.host(id, position),
      port: addresses.ownPorts ? IMAGEIO_PORT : 0,
    })),
    proxy: { name: 'engine.lab', address: addresses.engine, port: addresses.ownPorts ? IMAGEIO_PROXY_PORT : 0 },
    ...(networks === undefined ? {} : { networks }),
    guest: () => buildGuest(options.guestCacheDir),
    worker: { command: [process.execPath, options.appliance] },
    log: (level, message) => {
      if (level === 'warn') {
        options.log.error('host', message);
      } else {
        options.log.info(message);
      }
    },
  });
}
