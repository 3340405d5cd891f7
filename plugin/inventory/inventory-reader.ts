/**
 * Reads VMs of one engine for the lists: all of them page by page, or just those that its events name. Never a request per VM. Disks come
 * from one listing of all disks, joined by the VMs that each names.
 */
import type { Cluster } from '../engine/clusters';
import type { Disk } from '../engine/disks';
import type { Engine } from '../engine/engine';
import { isWorkerVm } from '../worker-vms/marks';
import { noDisks, recordOf, sumOf } from './vm-record';
import type { DiskSum, VmRecord } from './vm-record';

/** VMs asked for in one search by id. */
const idsPerSearch = 40;
/** The hosted engine's own disks and the like aside, a search by id answers no more rows than ids. */
const diskPageSize = 1000;

export class InventoryReader {
  #clusters: ReadonlyMap<string, Cluster> = new Map();

  constructor(
    private readonly platformId: string,
    private readonly engine: Engine,
  ) {}

  /** All VMs but workers, which no job may select. */
  async readAll(signal: AbortSignal): Promise<readonly VmRecord[]> {
    await this.#readClusters(signal);
    const disks = await this.#readDisks(signal);
    const records = new Map<string, VmRecord>();
    for await (const page of this.engine.vms.pages({ signal, with: ['tags'] })) {
      for (const vm of page) {
        if (isWorkerVm(vm)) continue;
        records.set(vm.id, recordOf(this.platformId, vm, this.#clusters.get(vm.clusterId), disks.get(vm.id) ?? noDisks));
      }
    }
    return [...records.values()];
  }

  /** The named VMs; those that are not answered are gone. */
  async readSome(vmIds: readonly string[], signal: AbortSignal): Promise<readonly VmRecord[]> {
    const records: VmRecord[] = [];
    for (let from = 0; from < vmIds.length; from += idsPerSearch) {
      const ids = vmIds.slice(from, from + idsPerSearch);
      const search = ids.map((id) => `id=${id}`).join(' or ');
      for await (const page of this.engine.vms.pages({ signal, search, with: ['tags', 'diskAttachments'] })) {
        if (page.some((vm) => !this.#clusters.has(vm.clusterId))) await this.#readClusters(signal);
        for (const vm of page) {
          if (isWorkerVm(vm)) continue;
          const disks = (vm.diskAttachments ?? []).flatMap((attachment) => attachment.disk ?? []);
          records.push(recordOf(this.platformId, vm, this.#clusters.get(vm.clusterId), sumOf(disks)));
        }
      }
    }
    return records;
  }

  async #readClusters(signal: AbortSignal): Promise<void> {
    this.#clusters = new Map((await this.engine.clusters.list({ signal })).map((cluster) => [cluster.id, cluster]));
  }

  async #readDisks(signal: AbortSignal): Promise<ReadonlyMap<string, DiskSum>> {
    const byVm = new Map<string, Map<string, Disk>>();
    for await (const page of this.engine.disks.pages({ signal, pageSize: diskPageSize })) {
      for (const disk of page) {
        for (const vmId of disk.vmIds ?? []) {
          const known = byVm.get(vmId) ?? new Map<string, Disk>();
          known.set(disk.id, disk);
          byVm.set(vmId, known);
        }
      }
    }
    return new Map([...byVm].map(([vmId, disks]) => [vmId, sumOf([...disks.values()])]));
  }
}
