/**
 * Which host a machine starts on: filters in the order of the engine's scheduler (state, pinning, affinity that is enforced, memory), then
 * the one with the fewest machines, away from those that a soft rule keeps apart.
 */
import { numberOf, objectOf, objectsOf, textOf, type ApiObject } from '../http/api-object';
import { EngineFault } from '../http/fault';
import type { Core } from '../model/core';
import type { AffinityGroup, Host, Vm } from '../model/entities';
import { refuse } from '../states/refusals';

const MIB = 1024 ** 2;
/** What vdsm keeps for the host and counts for each machine's process. */
const HOST_RESERVED_BYTES = 321 * MIB;
const GUEST_OVERHEAD_BYTES = 65 * MIB;

export function chooseHost(core: Core, vm: Vm, body: ApiObject): Host {
  const { db } = core;
  const pinned = [objectOf(body, 'vm'), vm.attributes].flatMap((source) => objectsOf(objectOf(source, 'placement_policy'), 'hosts') ?? []);
  const wanted = new Set(pinned.flatMap((host) => textOf(host, 'id') ?? []));
  const candidates = db.hosts.list((host) => isFit(host, vm) && (wanted.size === 0 || wanted.has(host.id)));
  if (candidates.length === 0) throw refuse('NO_HOST_FITS', vm.name);
  const groups = db.affinityGroups.list(({ vmIds, vmsRule }) => vmsRule.enabled && vmIds.includes(vm.id));
  const apart = candidates.filter((host) => conflicts(core, vm, host, groups, true) === 0);
  if (apart.length === 0)
    throw filteredOut(candidates.map((host) => `The host ${host.name} did not satisfy internal filter VmAffinityGroups.`));
  const needed = guaranteedBytes(vm) + GUEST_OVERHEAD_BYTES;
  const roomy = apart.filter((host) => host.pretended || schedulableBytes(core, host) >= needed);
  if (roomy.length === 0) {
    throw filteredOut(
      apart.map((host) => {
        const mib = Math.trunc(schedulableBytes(core, host) / MIB);
        return `The host ${host.name} did not satisfy internal filter Memory because it has too little memory available (${String(mib)} MB).`;
      }),
    );
  }
  const load = (host: Host): number =>
    conflicts(core, vm, host, groups, false) * 1_000 + db.vms.list((other) => other.hostId === host.id).length;
  return roomy.sort((a, b) => load(a) - load(b))[0]!;
}

/** Machines without processes run on hosts without processes only, and real ones on real ones. */
export function isFit(host: Host, vm: Vm): boolean {
  return host.clusterId === vm.clusterId && host.status === 'up' && host.pretended === vm.pretended;
}

/** `max_scheduling_memory`: what the guaranteed memory of another machine may take. */
export function schedulableBytes(core: Core, host: Host): number {
  const committed = core.db.vms
    .list((vm) => vm.hostId === host.id)
    .reduce((sum, vm) => sum + guaranteedBytes(vm) + GUEST_OVERHEAD_BYTES, HOST_RESERVED_BYTES);
  return Math.max(0, host.memoryBytes - committed);
}

function guaranteedBytes(vm: Vm): number {
  return numberOf(objectOf(vm.attributes, 'memory_policy'), 'guaranteed') ?? vm.memoryBytes;
}

/** Rules between machines that this host would break. */
function conflicts(core: Core, vm: Vm, host: Host, groups: readonly AffinityGroup[], enforcing: boolean): number {
  return groups.filter(({ vmsRule, vmIds }) => {
    if (vmsRule.enforcing !== enforcing) return false;
    const others = vmIds.flatMap((id) => (id === vm.id ? [] : (core.db.vms.get(id)?.hostId ?? [])));
    return vmsRule.positive ? others.length > 0 && !others.includes(host.id) : others.includes(host.id);
  }).length;
}

function filteredOut(reasons: readonly string[]): EngineFault {
  return new EngineFault(409, 'SCHEDULING_ALL_HOSTS_FILTERED_OUT', [
    'Cannot run VM. No host satisfies the present scheduling constraints. Details follow:',
    ...reasons,
  ]);
}
