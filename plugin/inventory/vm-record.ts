import type { Cluster } from '../engine/clusters';
import type { Disk } from '../engine/disks';
import { versionText } from '../engine/mapping';
import type { Vm } from '../engine/vms';

/** A VM as the lists show it. Plain data: two records are the same when their JSON is. */
export interface VmRecord {
  readonly platformId: string;
  readonly vmId: string;
  readonly name: string;
  readonly status: string;
  readonly clusterId: string;
  readonly clusterName: string;
  /** The VM's own level when it has one, else the cluster's. */
  readonly compatibilityLevel: string;
  readonly tags: readonly string[];
  readonly description: string;
  readonly operatingSystem: string;
  readonly diskCount: number;
  readonly provisionedBytes: number;
  readonly deleteProtected: boolean;
}

export interface DiskSum {
  readonly count: number;
  readonly provisionedBytes: number;
}

export const noDisks: DiskSum = { count: 0, provisionedBytes: 0 };

export function recordOf(platformId: string, vm: Vm, cluster: Cluster | undefined, disks: DiskSum): VmRecord {
  return {
    platformId,
    vmId: vm.id,
    name: vm.name,
    status: vm.status ?? 'unknown',
    clusterId: vm.clusterId,
    clusterName: cluster?.name ?? '',
    compatibilityLevel: versionText(vm.customCompatibilityVersion ?? cluster?.version),
    tags: (vm.tags ?? []).map((tag) => tag.name).sort(),
    description: vm.description,
    operatingSystem: vm.operatingSystem,
    diskCount: disks.count,
    provisionedBytes: disks.provisionedBytes,
    deleteProtected: vm.deleteProtected,
  };
}

/** Disks that are a VM's own data; memory volumes, OVF stores and scratch disks are not. */
export function sumOf(disks: readonly Disk[]): DiskSum {
  const own = disks.filter((disk) => disk.contentType === 'data');
  return { count: own.length, provisionedBytes: own.reduce((sum, disk) => sum + disk.provisionedBytes, 0) };
}

/** What the order of lists looks at. Two engines may have VMs of the same id: one was copied from the other's backup. */
export type ListPosition = Pick<VmRecord, 'name' | 'vmId' | 'platformId'>;

/** Order of lists: by name, then id. */
export function compareRecords(a: ListPosition, b: ListPosition): number {
  return compareTexts(a.name, b.name) || compareTexts(a.vmId, b.vmId) || compareTexts(a.platformId, b.platformId);
}

function compareTexts(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
