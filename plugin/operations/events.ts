/**
 * What an operation tells, in the plug-in's own words; `plugin/grpc/protection-mapping.ts` turns it into the contract's messages.
 */
import type { TidemarkError } from '../../common/errors/tidemark-error';

export type Phase = 'preparing' | 'starting' | 'transferring' | 'committing' | 'cleaning';
export type ReadMode = 'full' | 'incremental' | 'digest-compare';
export type Severity = 'info' | 'warning' | 'blocking';
export type Outcome = 'success' | 'warning' | 'partial' | 'failed' | 'cancelled' | 'skipped';

/** Bytes moved; see tidemark.common.v1.TransferCounters. */
export interface Counters {
  readonly plannedBytes: number;
  readonly readBytes: number;
  readonly transferredBytes: number;
  readonly storedBytes: number;
  readonly zeroBytes: number;
  readonly deduplicatedBytes: number;
}

export const noBytes: Counters = {
  plannedBytes: 0,
  readBytes: 0,
  transferredBytes: 0,
  storedBytes: 0,
  zeroBytes: 0,
  deduplicatedBytes: 0,
};

/** A disk as the point keeps it. */
export interface StoredDisk {
  readonly diskId: string;
  readonly name: string;
  readonly sizeBytes: number;
  /** raw or cow. */
  readonly format: string;
  readonly sparse: boolean;
  readonly storageDomainId: string;
  readonly interface: string;
  readonly bootable: boolean;
  readonly allocatedBytes: number;
}

export interface StateEvent {
  readonly type: 'state';
  readonly phase: Phase;
  /** Reason code of product defaults §7; empty while it moves. */
  readonly waitingReason: string;
}

export interface ProgressEvent {
  readonly type: 'progress';
  readonly diskId: string;
  readonly diskName: string;
  readonly counters: Counters;
  readonly totalBytes: number;
  readonly mode: ReadMode;
  readonly reason: string;
}

export interface NoteEvent {
  readonly type: 'note';
  readonly code: string;
  readonly severity: Severity;
  readonly message: string;
  /** Empty when it is about the VM. */
  readonly diskId: string;
}

/** How a worker got at a disk; `local` is a file beside it. */
export type Transport = 'image-transfer' | 'disk-attachment' | 'local';

export interface DiskOutcome {
  readonly disk: StoredDisk;
  readonly mode: ReadMode;
  readonly reason: string;
  readonly counters: Counters;
  readonly startedAt: number;
  readonly endedAt: number;
  /** This and what follows is absent in results that an older version journalled. */
  readonly transport?: Transport | undefined;
  readonly workerId?: string | undefined;
  /** same-cluster, other-cluster or beside-server. */
  readonly workerHop?: string | undefined;
}

export interface AwaitingCommitEvent {
  readonly type: 'awaiting-commit';
  /** Milliseconds since the epoch. */
  readonly pointInTime: number;
  readonly checkpointId: string;
  readonly consistency: 'crash' | 'quiesced' | 'offline';
  readonly disks: readonly DiskOutcome[];
  /** Secret: holds the OVF. */
  readonly configuration: string;
  readonly vmName: string;
}

export interface ResultEvent {
  readonly type: 'result';
  readonly outcome: Outcome;
  readonly failure?: TidemarkError | undefined;
  readonly createdId: string;
  readonly disks: readonly DiskOutcome[];
  readonly leftForJanitor: readonly string[];
}

export type OperationEvent = StateEvent | ProgressEvent | NoteEvent | AwaitingCommitEvent | ResultEvent;

/** An event with its place in the operation. Sequences only grow; gaps are events that no longer matter. */
export interface SequencedEvent {
  readonly sequence: number;
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly event: OperationEvent;
}
