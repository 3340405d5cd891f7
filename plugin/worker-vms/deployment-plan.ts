/**
 * Where a worker VM goes and what it looks like: settings against what the engine has, before anything is made. Reads only.
 * Shape of the VM: engine REST API §9.1; sizes and names: product defaults §1, §9.
 */
import type { Cluster } from '../engine/clusters';
import type { Host } from '../engine/hosts';
import type { Wire } from '../engine/mapping';
import { compact } from '../engine/mapping';
import type { StorageDomain } from '../engine/storage-domains';
import { isBlockStorage } from '../engine/storage-domains';
import { ProtectionErrors } from '../protection/protection-errors';
import type { WorkerEngine } from './engine-port';
import type { FleetPolicy } from './policy';
import { defaultNic, sizeOf } from './settings';
import type { WorkerNic, WorkerSettings, WorkerSize } from './settings';
import type { WorkerVmLimits } from './timing';
import type { WorkerImage } from './worker-image';
import { WorkerVmErrors } from './worker-vm-errors';

export interface DeploymentOrder {
  readonly clusterId: string;
  readonly settings: WorkerSettings;
  readonly policy: FleetPolicy;
  /** Of workers that are being made. */
  readonly takenNames: ReadonlySet<string>;
  /** The worker's present VM, which keeps its name until the new one has taken over. */
  readonly replaced?: { readonly vmId: string; readonly name: string } | undefined;
}

export interface DeploymentPlan {
  readonly cluster: Cluster;
  readonly dataCenterId: string;
  readonly domain: StorageDomain;
  readonly name: string;
  readonly size: WorkerSize;
  readonly nics: readonly WorkerNic[];
  /** Where it may run; empty for any host of the cluster. */
  readonly hostIds: readonly string[];
  readonly settings: WorkerSettings;
}

const blankTemplate = '00000000-0000-0000-0000-000000000000';
const longestName = 40;
/** Metadata and rounding of a volume on block storage. */
const slackBytes = 64 * 1024 ** 2;

/** Throws WORKER_TARGET_NOT_FOUND, WORKER_SETTINGS_INVALID, WORKER_NO_STORAGE, WORKER_NO_NETWORK, VM_NAME_TAKEN, and errors of the engine. */
export async function planDeployment(engine: WorkerEngine, order: DeploymentOrder, signal?: AbortSignal): Promise<DeploymentPlan> {
  const { clusterId, settings } = order;
  const cluster = await engine.clusters.find(clusterId, { signal });
  if (cluster?.dataCenterId === undefined) throw WorkerVmErrors.WORKER_TARGET_NOT_FOUND({ field: 'cluster_id', id: clusterId });
  if (cluster.architecture !== undefined && !['x86_64', 'undefined'].includes(cluster.architecture)) {
    throw WorkerVmErrors.WORKER_SETTINGS_INVALID({
      field: 'cluster_id',
      problem: `names a cluster for ${cluster.architecture}; the image is for x86_64`,
    });
  }
  const hosts = await hostsOf(engine, clusterId, settings, signal);
  for (const hostId of settings.hostIds) {
    if (!hosts.some((host) => host.id === hostId)) throw WorkerVmErrors.WORKER_TARGET_NOT_FOUND({ field: 'settings.host_ids', id: hostId });
  }
  const domain = chooseDomain(await engine.storageDomains.listOfDataCenter(cluster.dataCenterId, { signal }), settings, cluster);
  const nics = await chooseProfiles(engine, cluster, settings, signal);
  const name = await chooseName(engine, cluster, order, signal);
  const hostIds = isRestricted(settings) ? hosts.map((host) => host.id) : [];
  return { cluster, dataCenterId: cluster.dataCenterId, domain, name, size: sizeOf(settings), nics, hostIds, settings };
}

/** A cluster that is full gives a reason before anything is made. Throws WORKER_NO_HOST, WORKER_NO_MEMORY, WORKER_NO_STORAGE. */
export async function checkRoom(
  engine: WorkerEngine,
  plan: DeploymentPlan,
  image: WorkerImage,
  limits: WorkerVmLimits,
  signal?: AbortSignal,
): Promise<void> {
  await checkMemory(engine, plan.cluster, plan.settings, plan.size.memoryBytes, signal);
  const { name, status, availableBytes, usedBytes, criticalFreeBytes } = plan.domain;
  const refuse = (problem: string) => WorkerVmErrors.WORKER_NO_STORAGE({ domain: name, problem });
  if (status !== 'active') throw refuse(`it is ${status ?? 'not attached'}`);
  if (availableBytes === undefined) throw refuse('the engine does not tell how much is free');
  // Twice: the image is kept to make workers of, and the worker's own disk is a copy.
  const neededBytes = 2 * (image.fileBytes + slackBytes);
  const percent = (100 * availableBytes) / Math.max(1, availableBytes + (usedBytes ?? 0));
  const free = `${(availableBytes / 1024 ** 3).toFixed(1)} GiB (${percent.toFixed(0)} %) are free`;
  if (availableBytes < limits.minFreeBytes || percent < limits.minFreePercent) {
    throw refuse(`${free}, and workers leave ${(limits.minFreeBytes / 1024 ** 3).toFixed(0)} GiB and ${limits.minFreePercent} % to others`);
  }
  if (availableBytes - neededBytes < criticalFreeBytes)
    throw refuse(`${free}, which is too little for the disk above the domain's own limit`);
}

/** Also before each start. Throws WORKER_NO_HOST, WORKER_NO_MEMORY. Answers the hosts that the VM may run on, when those are not all. */
export async function checkMemory(
  engine: WorkerEngine,
  cluster: { readonly id: string; readonly name: string },
  settings: WorkerSettings,
  neededBytes: number,
  signal?: AbortSignal,
): Promise<readonly string[]> {
  const allowed = await hostsOf(engine, cluster.id, settings, signal);
  if (allowed.length === 0)
    throw WorkerVmErrors.WORKER_NO_HOST({ cluster: cluster.name, problem: 'it has no host that the worker may use' });
  const up = allowed.filter((host) => host.status === 'up');
  if (up.length === 0) throw WorkerVmErrors.WORKER_NO_HOST({ cluster: cluster.name, problem: 'no host that the worker may use is up' });
  const freeBytes = Math.max(...up.map((host) => host.schedulableMemoryBytes ?? Number.POSITIVE_INFINITY));
  if (freeBytes < neededBytes) throw WorkerVmErrors.WORKER_NO_MEMORY({ cluster: cluster.name, neededBytes, freeBytes });
  return isRestricted(settings) ? allowed.map((host) => host.id) : [];
}

/** Attributes of the VM in the engine's names. */
export function vmAttributes(plan: DeploymentPlan, words: { name: string; description: string; comment: string }): Wire & { name: string } {
  const { cpuCount, memoryBytes } = plan.size;
  return {
    ...compact({
      // A machine type with secure boot would need an image that is signed for it.
      bios: plan.cluster.biosType === 'q35_secure_boot' ? { type: 'q35_ovmf' } : undefined,
    }),
    ...words,
    cluster: { id: plan.cluster.id },
    template: { id: blankTemplate },
    type: 'server',
    memory: memoryBytes,
    memory_policy: { guaranteed: memoryBytes, max: memoryBytes },
    cpu: { topology: { sockets: cpuCount, cores: 1, threads: 1 } },
    os: { type: 'other_linux', boot: { devices: { device: ['hd'] } } },
    high_availability: { enabled: false, priority: 1 },
    virtio_scsi: { enabled: true },
    multi_queues_enabled: true,
    rng_device: { source: 'urandom' },
    console: { enabled: true },
    soundcard_enabled: false,
    tpm_enabled: false,
    usb: { enabled: false },
    placement_policy: placementOn(plan.hostIds),
    delete_protected: true,
  };
}

/** Where a VM may run and be moved to; anywhere in its cluster when no host is named. */
export function placementOn(hostIds: readonly string[]): Wire {
  return { affinity: 'migratable', ...(hostIds.length === 0 ? {} : { hosts: { host: hostIds.map((id) => ({ id })) } }) };
}

/** What is asked of a volume at its creation: block storage does not grow while it is written (engine REST API §6.6). */
export function initialBytes(domain: StorageDomain, image: WorkerImage): number | undefined {
  return isBlockStorage(domain.storageType) ? image.fileBytes + slackBytes : undefined;
}

function isRestricted({ hostIds, avoidedHostTags }: WorkerSettings): boolean {
  return hostIds.length + avoidedHostTags.length > 0;
}

async function hostsOf(engine: WorkerEngine, clusterId: string, settings: WorkerSettings, signal?: AbortSignal): Promise<readonly Host[]> {
  const { hostIds, avoidedHostTags } = settings;
  const hosts = await engine.hosts.list({ signal, withTags: avoidedHostTags.length > 0 });
  return hosts.filter(
    (host) =>
      host.clusterId === clusterId &&
      (hostIds.length === 0 || hostIds.includes(host.id)) &&
      !(host.tags ?? []).some((tag) => avoidedHostTags.includes(tag)),
  );
}

function chooseDomain(domains: readonly StorageDomain[], settings: WorkerSettings, cluster: Cluster): StorageDomain {
  const data = domains.filter((domain) => domain.type === 'data' && !domain.backup);
  if (settings.storageDomainId !== '') {
    const chosen = data.find((domain) => domain.id === settings.storageDomainId);
    if (chosen) return chosen;
    throw WorkerVmErrors.WORKER_TARGET_NOT_FOUND({ field: 'settings.storage_domain_id', id: settings.storageDomainId });
  }
  const active = data.filter((domain) => domain.status === 'active');
  const [best] = active.sort((a, b) => (b.availableBytes ?? 0) - (a.availableBytes ?? 0));
  if (best) return best;
  throw WorkerVmErrors.WORKER_NO_STORAGE({
    domain: `any of cluster ${cluster.name}`,
    problem: 'no data domain of its data centre is active',
  });
}

async function chooseProfiles(
  engine: WorkerEngine,
  cluster: Cluster,
  settings: WorkerSettings,
  signal?: AbortSignal,
): Promise<WorkerNic[]> {
  const wanted = settings.nics.length === 0 ? [defaultNic] : settings.nics;
  const networks = await engine.networks.ofCluster(cluster.id, { signal });
  const profiles = await engine.networks.vnicProfiles({ signal });
  const inCluster = profiles.filter((profile) => networks.some((network) => network.id === profile.networkId));
  return wanted.map((nic, index) => {
    if (nic.vnicProfileId !== '') {
      if (inCluster.some((profile) => profile.id === nic.vnicProfileId)) return nic;
      throw WorkerVmErrors.WORKER_TARGET_NOT_FOUND({ field: `settings.nics.${index}.vnic_profile_id`, id: nic.vnicProfileId });
    }
    const rank = (networkId: string | undefined) => {
      const network = networks.find((one) => one.id === networkId);
      return network?.management === true ? 0 : network?.name === 'ovirtmgmt' ? 1 : 2;
    };
    const [best] = inCluster.filter((profile) => !profile.passThrough).sort((a, b) => rank(a.networkId) - rank(b.networkId));
    if (!best) throw WorkerVmErrors.WORKER_NO_NETWORK({ cluster: cluster.name });
    return { ...nic, vnicProfileId: best.id };
  });
}

async function chooseName(engine: WorkerEngine, cluster: Cluster, order: DeploymentOrder, signal?: AbortSignal): Promise<string> {
  const { settings, policy, takenNames, replaced } = order;
  if (settings.name !== '' || replaced) {
    const name = settings.name === '' ? (replaced?.name ?? '') : settings.name;
    const found = takenNames.has(name) ? { id: '' } : await engine.vms.findByName(name, { signal });
    if (found && found.id !== replaced?.vmId) throw ProtectionErrors.VM_NAME_TAKEN({ name });
    return name;
  }
  const stem = workerNameStem(policy.namePrefix, cluster.name);
  const used = new Set(takenNames);
  for await (const page of engine.vms.pages({ signal, search: `name=${stem}*` })) for (const vm of page) used.add(vm.name);
  for (let number = 1; ; number += 1) {
    const name = `${stem}${String(number).padStart(2, '0')}`;
    if (!used.has(name)) return name;
  }
}

/** `<prefix>-worker-<cluster>-`, cut so that two digits fit into what names may have. */
export function workerNameStem(prefix: string, clusterName: string): string {
  const clean = clusterName
    .normalize('NFKD')
    .replaceAll(/[^0-9A-Za-z]+/g, '-')
    .replaceAll(/^-+|-+$/g, '');
  const start = `${prefix}-worker-`;
  return `${start}${(clean === '' ? 'cluster' : clean).slice(0, longestName - start.length - '-00'.length)}-`;
}
