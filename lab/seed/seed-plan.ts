import { readFileSync } from 'node:fs';
import { plannedClusters, type NetworksPlan } from '../networks/network-plan';

/**
 * What a new lab holds, as a seed file says it. Everything has a default, so `{}` is a valid file: one data center with three
 * clusters at the levels that behave differently, and a few stopped VMs.
 */
export interface SeedPlan {
  readonly dataCenter: string;
  readonly clusters: readonly SeedCluster[];
  readonly storageDomains: readonly string[];
  readonly tags: readonly string[];
  readonly vms: readonly SeedVm[];
  /** Bridges and namespaces instead of loopback; needs root. */
  readonly networks?: NetworksPlan;
  /** A pretended large inventory beside the real one. */
  readonly pretend?: SeedPretence;
}

export interface SeedCluster {
  readonly name: string;
  /** Compatibility level, `4.7`. */
  readonly level: string;
  /** Names of its hosts; each runs an imageio of its own. */
  readonly hosts: readonly string[];
  /** Memory of each of them; 256 when not said. */
  readonly hostMemoryGib?: number;
}

export interface SeedVm {
  readonly name: string;
  readonly cluster: string;
  readonly guest?: 'none' | 'linux';
  readonly memoryMib?: number;
  readonly disks: readonly SeedDisk[];
  readonly nics?: number;
  readonly tags?: readonly string[];
}

export interface SeedDisk {
  readonly name: string;
  readonly sizeMib: number;
  readonly format: 'raw' | 'cow';
  readonly domain?: string;
  /** The first disk of a `linux` guest gets a file system with this much in it (seeded); others are empty. */
  readonly filesMib?: number;
}

export interface SeedPretence {
  readonly vms: number;
  readonly clusters: number;
  readonly hosts: number;
}

const defaults: SeedPlan = {
  dataCenter: 'Default',
  clusters: [
    { name: 'Default', level: '4.7', hosts: ['host-1', 'host-2'] },
    { name: 'Level45', level: '4.5', hosts: ['host-3'] },
    { name: 'Level46', level: '4.6', hosts: ['host-4'] },
  ],
  storageDomains: ['data-1', 'data-2'],
  tags: ['gold'],
  vms: [
    {
      name: 'web',
      cluster: 'Default',
      guest: 'linux',
      nics: 1,
      tags: ['gold'],
      disks: [
        { name: 'web-system', sizeMib: 512, format: 'cow', filesMib: 32 },
        { name: 'web-data', sizeMib: 128, format: 'raw', domain: 'data-2' },
      ],
    },
    { name: 'db', cluster: 'Level45', guest: 'linux', nics: 1, disks: [{ name: 'db-system', sizeMib: 512, format: 'cow', filesMib: 32 }] },
    { name: 'mail', cluster: 'Level46', nics: 2, disks: [{ name: 'mail-system', sizeMib: 256, format: 'cow' }] },
    { name: 'archive', cluster: 'Default', disks: [{ name: 'archive-data', sizeMib: 1024, format: 'cow' }] },
  ],
};

/** `--empty`: the infrastructure without VMs. */
export const emptyPlan: SeedPlan = { ...defaults, vms: [] };

export const defaultPlan: SeedPlan = defaults;

/** Reads a seed file; throws with the reason when it is not one. */
export function readSeedPlan(file: string): SeedPlan {
  const given = JSON.parse(readFileSync(file, 'utf8')) as Partial<SeedPlan>;
  const plan: SeedPlan = { ...defaults, ...given };
  const clusterNames = new Set(plan.clusters.map((cluster) => cluster.name));
  for (const cluster of plan.clusters) {
    if (!/^\d+\.\d+$/.test(cluster.level)) {
      throw new Error(`cluster ${cluster.name}: level ${cluster.level} is not like 4.7`);
    }
  }
  for (const vm of plan.vms) {
    if (!clusterNames.has(vm.cluster)) {
      throw new Error(`VM ${vm.name}: there is no cluster ${vm.cluster}`);
    }
    for (const disk of vm.disks) {
      if (disk.domain !== undefined && !plan.storageDomains.includes(disk.domain)) {
        throw new Error(`disk ${disk.name}: there is no storage domain ${disk.domain}`);
      }
    }
  }
  if (plan.networks !== undefined) {
    plannedClusters(plan.networks, [...clusterNames]);
  }
  return plan;
}
