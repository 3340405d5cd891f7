/** Worker VMs in the engines that belong to no worker of this plug-in: of a lost server, or of another one that lives. */
import type { Vm } from '../engine/vms';
import type { FlowParts } from './flow-parts';
import { isWorkerVm, parseWorkerComment } from './marks';
import { WorkerVmErrors } from './worker-vm-errors';

export interface OrphanWorker {
  readonly platformId: string;
  readonly vmId: string;
  readonly name: string;
  readonly description: string;
  readonly status: string;
  readonly clusterId: string;
  /** Instance id of the plug-in that made it; empty when its comment was edited. */
  readonly madeBy: string;
  readonly createdAt: Date | undefined;
}

type Parts = Pick<FlowParts, 'engines' | 'store' | 'journal'>;

export async function listOrphans(parts: Parts, signal?: AbortSignal): Promise<OrphanWorker[]> {
  const lists = await Promise.all(parts.engines.platformIds().map((platformId) => orphansOf(parts, platformId, signal)));
  return lists.flat();
}

/** Throws WORKER_ORPHAN_NOT_FOUND. */
export async function findOrphan(parts: Parts, platformId: string, vmId: string, signal?: AbortSignal): Promise<OrphanWorker> {
  const vm = await parts.engines.of(platformId).vms.find(vmId, { signal, with: ['tags'] });
  if (!vm) throw WorkerVmErrors.WORKER_ORPHAN_NOT_FOUND({ vmId, problem: 'the engine does not know it' });
  if (!isWorkerVm(vm)) throw WorkerVmErrors.WORKER_ORPHAN_NOT_FOUND({ vmId, problem: 'it does not carry the tag tidemark-worker' });
  if (isOurs(parts, platformId, vmId))
    throw WorkerVmErrors.WORKER_ORPHAN_NOT_FOUND({ vmId, problem: 'it belongs to a worker of this plug-in' });
  return orphanOf(platformId, vm);
}

async function orphansOf(parts: Parts, platformId: string, signal?: AbortSignal): Promise<OrphanWorker[]> {
  const orphans: OrphanWorker[] = [];
  for await (const page of parts.engines.of(platformId).vms.pages({ signal, search: 'tag=tidemark-worker', with: ['tags'] })) {
    for (const vm of page) if (isWorkerVm(vm) && !isOurs(parts, platformId, vm.id)) orphans.push(orphanOf(platformId, vm));
  }
  return orphans;
}

/** A worker's, or one that an operation or the janitor is at. */
function isOurs({ store, journal }: Parts, platformId: string, vmId: string): boolean {
  const journalled = journal
    .openEntries()
    .some((entry) => entry.kind === 'vm' && entry.platformId === platformId && entry.objectId === vmId);
  return journalled || store.hasVm(platformId, vmId);
}

function orphanOf(platformId: string, vm: Vm): OrphanWorker {
  const { id: vmId, name, description, status = 'unknown', clusterId, comment, createdAt } = vm;
  return { platformId, vmId, name, description, status, clusterId, madeBy: parseWorkerComment(comment)?.madeBy ?? '', createdAt };
}
