/**
 * Tasks on one disk, as a plug-in gives them. This folder owns the order of steps of a backup or restore of a disk and the result; what happens to
 * blocks is the pipeline's, what a task is part of is the plug-in's.
 */
import type { ImagePath } from '../../proto/gen/tidemark/worker/v1/ImagePath';
import type { MoverAddress } from '../mover-client/dial-mover';
import type { MoverRoute } from '../mover-client/mover-route';
import type { DeviceTree } from '../attached-disks/device-tree';
import type { WantedDisk } from '../attached-disks/find-disk';
import type { SharedCounters } from '../pipeline/counters';

export interface ImageTransfer {
  readonly transferUrl: string;
  readonly proxyUrl: string;
  readonly caPem: string;
  readonly sizeBytes: number;
}

/** A disk that the engine plugs into the worker's own VM. */
export interface AttachedDisk extends WantedDisk {
  readonly kind: 'attached';
  /** Restore: it is new and thin. */
  readonly readsZero: boolean;
  /** Backup: known to be zero without being read; ascending, without overlaps, within the disk. */
  readonly zeroRanges: readonly { readonly start: number; readonly length: number }[];
}

export interface TransferLimits {
  /** Connections to the image service, 1 to 8. */
  readonly connections: number;
  /** 0: no limit. */
  readonly rateBytesPerSecond: number;
}

export interface BackupDisk {
  readonly kind: 'backup';
  readonly source:
    | { readonly kind: 'image'; readonly transfer: ImageTransfer }
    | { readonly kind: 'device'; readonly path: string; readonly sizeBytes: number }
    | AttachedDisk;
  readonly address: MoverAddress;
  readonly diskId: string;
  readonly scope: 'allocated' | 'changed';
  /** Empty without a base. */
  readonly basePointId: string;
  readonly baseDiskId: string;
  readonly limits: TransferLimits;
}

export interface RestoreDisk {
  readonly kind: 'restore';
  readonly target:
    | { readonly kind: 'image'; readonly transfer: ImageTransfer }
    | { readonly kind: 'file'; readonly path: string; readonly format: 'raw' | 'qcow2' }
    | AttachedDisk;
  readonly address: MoverAddress;
  readonly pointId: string;
  readonly diskId: string;
  readonly limits: TransferLimits;
}

export type DiskTask = BackupDisk | RestoreDisk;

/** What a task tells while and after it runs, beside its counters. */
export interface TaskOutcome {
  imagePath: ImagePath;
  /** Why the direct path was not used. */
  imagePathReason: string;
  indexRoot: Uint8Array;
}

export interface TaskContext {
  readonly taskId: string;
  /** Another way to the mover than the task's own, when there is one. */
  readonly route: MoverRoute;
  readonly counters: SharedCounters;
  readonly signal: AbortSignal;
  /** Filled in as things become known, so that a failed task tells them too. */
  readonly outcome: TaskOutcome;
  /** Where plugged disks show. */
  readonly devices: DeviceTree;
}

export const defaultConnections = 4;
/** The image service's storage side serves no more than 8 connections to one image; a ninth one hangs. */
export const maxConnections = 8;

/** Connections of each lane, so that all together stay within the limit; at least one each. */
export function connectionsPerLane(limits: TransferLimits, offered: number, lanes: number): number {
  const allowed = Math.min(limits.connections > 0 ? limits.connections : defaultConnections, offered, maxConnections);
  return Math.max(1, Math.floor(allowed / lanes));
}

/** Lanes that a transfer may use: never more than connections. */
export function usableLanes(limits: TransferLimits, offered: number, lanes: number): number {
  return Math.max(1, Math.min(lanes, offered, limits.connections > 0 ? limits.connections : defaultConnections, maxConnections));
}
