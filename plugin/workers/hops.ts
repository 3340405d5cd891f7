/**
 * Which worker a task goes to: one of its own cluster; else one of another cluster of the engine; else one beside the server (product
 * defaults §1). A farther hop is taken only when nobody can be hoped for nearer by, or when those nearer by have been busy for long, and
 * always with the reason. Pure; the rules are written in docs/operations/worker-scheduling.md.
 */
import type { TaskTaker } from './connected-fleet';
import type { Expectation, PlacementPolicy, WorkerVm } from './ports';
import type { Placement } from './tasks';

export type Hop = 'same-cluster' | 'other-cluster' | 'beside-server';

/** Why a nearer hop was not taken. */
export interface HopReason {
  readonly code: string;
  readonly message: string;
}

/** A worker that may do a task. */
export interface Candidate {
  readonly workerId: string;
  readonly vmId: string | undefined;
  readonly hop: Hop;
  readonly usedSlots: number;
  readonly freeSlots: number;
  readonly stuck: boolean;
}

export type Choice =
  | { readonly kind: 'worker'; readonly worker: Candidate; readonly hopReason: HopReason | undefined }
  | { readonly kind: 'busy' }
  | { readonly kind: 'coming'; readonly reason: 'worker-starting' | 'worker-deploying' }
  | { readonly kind: 'none'; readonly hops: string };

export interface Outlook {
  /** Told to bring up a worker for the task's own cluster. */
  expectation(): Expectation;
  /** Busy workers have been waited for long enough. */
  readonly busyForLong: boolean;
  /** A worker that was said to come has been waited for long enough. */
  readonly comingForLong: boolean;
  /** Taken only when there is no other of the same hop: it has just lost the task. */
  readonly avoid?: string | undefined;
}

const attachment = 'disk-attachment';
const names: Record<Hop, string> = {
  'same-cluster': "the VM's own cluster",
  'other-cluster': 'other clusters',
  'beside-server': 'beside the server',
};
const forbidden: HopReason = { code: 'hop-forbidden', message: "not allowed by the fleet's rules" };
const busy: HopReason = { code: 'worker-slots', message: 'all workers are busy' };
const absent: HopReason = { code: 'worker-none', message: 'no worker is connected' };
const late: HopReason = { code: 'worker-late', message: 'a worker was to come, and has not' };

/** The hops of a task, nearest first. The first one is always allowed. */
export function hopsOf({ platformId, clusterId, needsAttachment }: Placement): readonly Hop[] {
  if (platformId === '') return ['beside-server'];
  const hops: readonly Hop[] = clusterId === '' ? ['other-cluster'] : ['same-cluster', 'other-cluster'];
  return needsAttachment ? hops : [...hops, 'beside-server'];
}

export function isAllowed(placement: Placement, hop: Hop, policy: PlacementPolicy): boolean {
  if (hop === hopsOf(placement)[0] || hop === 'same-cluster') return true;
  return hop === 'other-cluster' ? policy.allowOtherClusters : policy.allowBesideServer;
}

/** The way from a worker to a task's disks; undefined when there is none. */
export function hopTo(placement: Placement, worker: TaskTaker, vm: WorkerVm | undefined): Hop | undefined {
  const { platformId, clusterId } = vm ?? worker;
  const { needsAttachment } = placement;
  if (needsAttachment && (!vm || !worker.can(attachment))) return undefined;
  if (clusterId === '') return needsAttachment ? undefined : 'beside-server';
  if (placement.platformId === '' || platformId !== placement.platformId) return undefined;
  if (clusterId === placement.clusterId) return 'same-cluster';
  return needsAttachment && vm?.dataCenterId !== needsAttachment.dataCenterId ? undefined : 'other-cluster';
}

export function choose(placement: Placement, policy: PlacementPolicy, candidates: readonly Candidate[], outlook: Outlook): Choice {
  const passed: { hop: Hop; reason: HopReason }[] = [];
  const [own, ...farther] = hopsOf(placement);
  let anyBusy = false;
  for (const hop of own === undefined ? [] : [own, ...farther]) {
    if (!isAllowed(placement, hop, policy)) {
      passed.push({ hop, reason: forbidden });
      continue;
    }
    const there = candidates.filter((candidate) => candidate.hop === hop);
    const worker = best(there, outlook.avoid);
    if (worker) return { kind: 'worker', worker, hopReason: reasonOf(passed) };
    let nobody = absent;
    if (hop === own && placement.platformId !== '') {
      const expectation = outlook.expectation();
      if (expectation.kind === 'none') nobody = expectation;
      else if (outlook.comingForLong) nobody = late;
      else return { kind: 'coming', reason: expectation.reason };
    }
    if (there.length > 0) {
      if (!outlook.busyForLong) return { kind: 'busy' };
      anyBusy = true;
    }
    passed.push({ hop, reason: there.length > 0 ? busy : nobody });
  }
  return anyBusy ? { kind: 'busy' } : { kind: 'none', hops: told(passed) };
}

/** The least busy one with a free slot; one that is stuck, or is to be avoided, last. */
export function best(there: readonly Candidate[], avoid?: string): Candidate | undefined {
  const last = (candidate: Candidate) => (candidate.workerId === avoid ? 2 : 0) + (candidate.stuck ? 1 : 0);
  return there.filter(({ freeSlots }) => freeSlots > 0).sort((a, b) => last(a) - last(b) || a.usedSlots - b.usedSlots)[0];
}

function reasonOf(passed: readonly { hop: Hop; reason: HopReason }[]): HopReason | undefined {
  return passed[0] && { code: passed[0].reason.code, message: told(passed) };
}

function told(passed: readonly { hop: Hop; reason: HopReason }[]): string {
  return passed.map(({ hop, reason }) => `${names[hop]}: ${reason.message}`).join('; ');
}
