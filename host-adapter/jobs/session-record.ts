import type { WorkerOrder } from '../workers/worker-order';
import type { FinalState } from './task-machine';
import type { StoredFailure } from './task-record';
import type { Transport } from './transport';

export type SessionKind = 'backup' | 'restore' | 'verify' | 'collect' | 'worker';
export type SessionState = 'running' | 'retry-wait' | FinalState;

export interface BackupOrder {
  readonly kind: 'backup';
  readonly full: boolean;
  /** Names or ids; empty for all that the job selects. */
  readonly vms: readonly string[];
}

export interface VmRestoreOrder {
  readonly target: 'vm';
  readonly name: string;
  readonly clusterId: string;
  readonly storageDomainId: string;
  readonly storageDomains: readonly { readonly fromId: string; readonly toId: string }[];
  readonly vnicProfiles: readonly { readonly fromId: string; readonly toId: string }[];
  readonly macPolicy: 'keep' | 'keep-if-free' | 'new';
  readonly powerOn: boolean;
}

export interface RestoreOrder {
  readonly kind: 'restore';
  readonly pointId: string;
  readonly platformId: string;
  readonly pluginId: string;
  readonly diskIds: readonly string[];
  /** Absent in orders of older servers: the plug-in chooses. */
  readonly transport?: Transport | undefined;
  readonly to:
    | VmRestoreOrder
    | { readonly target: 'disk'; readonly storageDomainId: string; readonly name: string }
    | { readonly target: 'file'; readonly path: string; readonly format: 'raw' | 'qcow2' };
}

export interface VerifyOrder {
  readonly kind: 'verify';
  /** Empty for all points of the repository. */
  readonly pointId: string;
  /** Bytes read per second at most; absent or 0: no limit. */
  readonly bytesPerSecond?: number | undefined;
  /** Of a repository: packs verified within so many days are not read again; absent or 0: everything is read. */
  readonly periodDays?: number | undefined;
}

export interface CollectOrder {
  readonly kind: 'collect';
  /** Finds out and tells, changes nothing. */
  readonly dryRun: boolean;
  /** Bytes read and written per second at most; 0: no limit. */
  readonly bytesPerSecond: number;
  /** Of this run, instead of the repository's; absent: the repository's. */
  readonly graceMs?: number | undefined;
}

/** What a session was asked to do; kept so that it can go on after a restart and be run again. */
export type SessionOrder = BackupOrder | RestoreOrder | VerifyOrder | CollectOrder | WorkerOrder;

export interface SessionRecord {
  readonly id: string;
  readonly kind: SessionKind;
  readonly jobId: string | null;
  readonly jobName: string;
  readonly repositoryId: string;
  readonly repositoryName: string;
  state: SessionState;
  readonly trigger: 'user' | 'schedule';
  stopping: boolean;
  readonly order: SessionOrder;
  failure: StoredFailure | null;
  sequence: number;
  readonly startedAt: string;
  endedAt: string | null;
}
