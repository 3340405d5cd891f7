/**
 * Where the parts that deal with workers meet. `plugin/workers` has the workers that are connected and hands tasks to them;
 * `plugin/worker-vms` has the VMs that it deploys, their settings and rules; `plugin/host` passes trust from the host to workers. They
 * know each other by these interfaces only.
 */
import type { SelfTest__Output } from '../../proto/gen/tidemark/common/v1/SelfTest';
import type { TrustState__Output } from '../../proto/gen/tidemark/common/v1/TrustState';
import type { SelfTestTarget } from '../../proto/gen/tidemark/worker/v1/SelfTestTarget';
import type { Placement } from './tasks';

/** Which workers a task may go to, and how many tasks may run at the same time; see tidemark.plugin.v1.FleetPolicy. */
export interface PlacementPolicy {
  readonly allowOtherClusters: boolean;
  readonly allowBesideServer: boolean;
  readonly tasksPerHost: number;
  readonly tasksPerStorageDomain: number;
  readonly tasksPerPlatform: number;
}

/** What may be hoped for when a task finds no slot in its own cluster. */
export type Expectation =
  | { readonly kind: 'coming'; readonly reason: 'worker-starting' | 'worker-deploying' }
  /** No worker of the cluster will come; the next hop is taken, and this is told as its reason. */
  | { readonly kind: 'none'; readonly code: string; readonly message: string };

/** Where the VM of a worker is. */
export interface WorkerVm {
  readonly platformId: string;
  readonly vmId: string;
  readonly clusterId: string;
  /** For disks to be attached to it by tasks of other clusters; while it is not known only those of its own cluster come. */
  readonly dataCenterId?: string | undefined;
}

/** Brings workers up. Served by `plugin/worker-vms`, asked by the dispatcher. */
export interface WorkerSupply {
  policy(platformId: string): PlacementPolicy;
  /**
   * A task waits and the cluster has no free slot: starts a stopped worker, or deploys one where the rules let it. Cheap, idempotent; asked
   * again after each change. An empty cluster means that any of the platform will do.
   */
  want(placement: Placement): Expectation;
  /** False while a worker VM is not tested yet, or is being taken down. Always true for workers beside the server. */
  admits(workerId: string): boolean;
  /** The VM of a deployed worker; undefined for one beside the server. */
  vmOf(workerId: string): WorkerVm | undefined;
  /** Called when an answer of the methods above may have changed; returns the way to stop. */
  onChanged(listener: () => void): () => void;
}

/** A worker that has a stream now. */
export interface ConnectedWorker {
  readonly workerId: string;
  readonly version: string;
  readonly imageVersion: string;
  readonly capabilities: readonly string[];
  readonly addresses: readonly string[];
  readonly runningTasks: number;
  /** Slots taken, running or about to. */
  readonly usedSlots: number;
  /** Asked to take no new tasks, and none has a slot any more. */
  readonly drained: boolean;
  /** It lost a task while its heartbeats went on, and was not restarted since: it is taken last, and should be made anew. */
  readonly stuck: boolean;
  /** For how long it has had no slot in use; undefined while it has. */
  readonly idleMs: number | undefined;
  readonly trust: TrustState__Output | undefined;
}

/** What the connected workers do for others. Served by `plugin/workers`. */
export interface ConnectedWorkers {
  connected(): readonly ConnectedWorker[];
  /** For how long a worker has had no stream, in milliseconds; 0 while it has one, undefined for one that was not seen since this process began. */
  awayMs(workerId: string): number | undefined;
  /** How long this process has been there for workers to dial, in milliseconds: after a restart of it they take a moment. */
  readonly openMs: number;
  /** Slots taken of a worker, also while it has no stream: it dials again, and its tasks go on meanwhile. */
  usedSlots(workerId: string): number;
  /** No new tasks until resumed, also after a restart of the worker. Idempotent. Throws WORKER_NOT_FOUND. */
  drain(workerId: string): void;
  /** Undoes a drain. Idempotent. Throws WORKER_NOT_FOUND. */
  resume(workerId: string): void;
  /** Gives up its tasks at once: they fail with WORKER_LOST and are tried elsewhere; and cuts its stream. Unknown is fine. */
  abandon(workerId: string): void;
  /** Forgets a worker that is gone for good. */
  forget(workerId: string): void;
  /** Rejects with WORKER_LOST, CAPABILITY_MISSING (an older worker), DEADLINE_EXCEEDED soon after the worker's 60 s, CANCELLED. */
  selfTest(workerId: string, targets: readonly SelfTestTarget[], signal: AbortSignal): Promise<SelfTest__Output>;
  /** Passes on new trust to a worker that can take it; older ones get it at their renewal. */
  updateTrust(workerId: string, update: { readonly trustBundlePem: string; readonly renewCertificate: boolean }): void;
  /** Called after each connect, disconnect, drain and change of slots; returns the way to stop. */
  onChanged(listener: () => void): () => void;
}
