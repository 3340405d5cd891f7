import type { TaskState } from './task-machine';
import type { Transport } from './transport';

export interface Counters {
  readonly plannedBytes: number;
  readonly readBytes: number;
  readonly transferredBytes: number;
  readonly storedBytes: number;
  readonly zeroBytes: number;
  readonly deduplicatedBytes: number;
}

export const zeroCounters: Counters = {
  plannedBytes: 0,
  readBytes: 0,
  transferredBytes: 0,
  storedBytes: 0,
  zeroBytes: 0,
  deduplicatedBytes: 0,
};

export function sumCounters(all: readonly Counters[]): Counters {
  const sum = { ...zeroCounters } as Record<keyof Counters, number>;
  for (const counters of all) for (const key of Object.keys(sum) as (keyof Counters)[]) sum[key] += counters[key];
  return sum;
}

export type ReadMode = 'unknown' | 'full' | 'incremental' | 'digest-compare';

export interface TaskDisk {
  diskId: string;
  name: string;
  sizeBytes: number;
  mode: ReadMode;
  reason: string;
  path: 'direct' | 'proxy' | 'attached';
  /** How the worker got at it and which worker that was; null until the disk is done. Absent in records of older servers. */
  transport?: Exclude<Transport, 'auto'> | null;
  workerId?: string | null;
  workerName?: string | null;
  /** same-cluster, other-cluster or beside-server. */
  workerHop?: string | null;
  counters: Counters;
  startedAt: string | null;
  endedAt: string | null;
}

export interface TaskNote {
  readonly at: string;
  readonly code: string;
  readonly severity: 'info' | 'warning' | 'blocking';
  readonly message: string;
  readonly diskId: string;
}

export interface StoredFailure {
  readonly code: string;
  readonly message: string;
  readonly retry: 'never' | 'same-request' | 'after-delay' | 'after-operator' | 'full-backup' | 'fresh-ticket';
  readonly correlationId?: string | undefined;
}

/** The mover that carries a task's session, and why it does. */
export interface TaskPath {
  readonly moverId: string;
  readonly moverName: string;
  /** `ChoiceReason` of data-paths/resolve.ts. */
  readonly reason: string;
  readonly message: string;
  /** What the session was opened for; the same at every mover. */
  readonly kind: 'backup' | 'restore';
  readonly pointIds: readonly string[];
  /** Names of the movers that had the session before, oldest first. */
  readonly before: readonly string[];
  /** False until the plug-in knows of a change of movers. */
  told: boolean;
  /** When the ticket that the plug-in has was made, or before; tasks of former versions have none. */
  ticketAt?: string;
}

/** How far a collection is, and what came of it. */
export interface TaskCollection {
  /** preparing, deleting, marking, repacking, condemning, done. */
  readonly step: string;
  /** Of this step, in what the step counts. */
  readonly done: number;
  readonly total: number;
  readonly result: {
    readonly deletedPacks: number;
    readonly deletedBytes: number;
    readonly deletedPoints: number;
    readonly condemnedPacks: number;
    readonly condemnedBytes: number;
    readonly rewrittenPacks: number;
    readonly rewrittenBytes: number;
    readonly storedBytes: number;
    readonly neededBytes: number;
    /** When what was condemned may be deleted. */
    readonly deletedAfter: string | null;
    readonly waitingCollections: number;
  } | null;
}

/** One damaged thing and whom it hurts; empty ids: nobody in particular. Names as the catalogue had them, empty when it did not; absent in records of older servers. */
export interface TaskFinding {
  readonly code: string;
  readonly pointId: string;
  readonly pointInTime?: string;
  readonly vmId?: string;
  readonly vmName?: string;
  readonly diskId: string;
  readonly diskName?: string;
  readonly offsetBytes: number | null;
  readonly objectName: string;
  readonly message: string;
}

/** How far an attempt is; written before the step is taken, so that a server that starts again knows what may exist. */
export type TaskStep =
  /** Nothing of this attempt exists anywhere. */
  | 'waiting'
  /** Mover session and operation may exist. */
  | 'started'
  /** The point is visible; the plug-in may not know yet. */
  | 'committed'
  /** The plug-in was told. */
  | 'concluded'
  | 'ended';

/** One task as it is kept; changed only by its runner. */
export interface TaskRecord {
  readonly id: string;
  readonly sessionId: string;
  readonly ordinal: number;
  readonly platformId: string;
  readonly vmId: string;
  readonly vmName: string;
  state: TaskState;
  step: TaskStep;
  sequence: number;
  waitingReason: string | null;
  attempt: number;
  nextAttemptAt: string | null;
  /** The next try reads everything. */
  forceFull: boolean;
  /** Where the VM runs; absent when unknown. */
  readonly clusterId?: string | undefined;
  /** Null or absent: no session was opened yet. Kept after the end. */
  path?: TaskPath | null;
  /** Movers that a worker could not reach in a try before. */
  unreachedMovers?: string[];
  operationId: string | null;
  /** By which an operation of a mover is started, kept before it is sent: sent again it names the same one. Absent in records of older servers and of other kinds. */
  request?: { readonly id: string; readonly moverId: string } | null;
  moverSessionId: string | null;
  /** Chosen before the commit, so that a repeated commit names the same point. */
  pointId: string | null;
  /** Last event of the operation that needs not be seen again. */
  watchedSequence: number;
  totalBytes: number;
  disks: TaskDisk[];
  notes: TaskNote[];
  failure: StoredFailure | null;
  createdId: string | null;
  leftForJanitor: string[];
  /** Absent in records of older servers and of other kinds. */
  collection?: TaskCollection;
  findings: TaskFinding[];
  startedAt: string | null;
  endedAt: string | null;
}

export function newTask(
  at: Pick<TaskRecord, 'id' | 'sessionId' | 'ordinal' | 'platformId' | 'vmId' | 'vmName' | 'clusterId'>,
  pointId: string | null = null,
): TaskRecord {
  return {
    ...at,
    state: 'queued',
    step: 'waiting',
    sequence: 0,
    waitingReason: null,
    attempt: 1,
    nextAttemptAt: null,
    forceFull: false,
    operationId: null,
    moverSessionId: null,
    pointId,
    watchedSequence: 0,
    totalBytes: 0,
    disks: [],
    notes: [],
    failure: null,
    createdId: null,
    leftForJanitor: [],
    findings: [],
    startedAt: null,
    endedAt: null,
  };
}
