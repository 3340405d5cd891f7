/** What the main thread and a lane thread say to each other. All plain data; bulk data never crosses, shared counters do. */
import type { IdentityMaterial } from '../../common/tls/identity';
import type { BlockPlanData } from '../extents/block-plan';
import type { ErrorMessage } from '../errors/error-message';
import type { MoverAddress } from '../mover-client/dial-mover';
import type { SourceDescription } from '../sources/open-source';
import type { TargetDescription } from '../targets/open-target';

interface LaneBasics {
  readonly address: MoverAddress;
  /** How long the mover is waited for, in milliseconds; later connections have their own patience. */
  readonly patienceMs: number;
  readonly counters: SharedArrayBuffer;
  /** This lane's share; 0: no limit. */
  readonly rateBytesPerSecond: number;
}

export interface OpenBackup extends LaneBasics {
  readonly kind: 'backup';
  readonly disk: {
    readonly diskId: string;
    readonly sizeBytes: number;
    readonly basePointId: string;
    readonly baseDiskId: string;
    readonly contentId: string;
  };
}

export interface OpenRestore extends LaneBasics {
  readonly kind: 'restore';
  readonly pointId: string;
  readonly diskId: string;
}

export interface RunBackup {
  readonly kind: 'backup';
  readonly plan: BlockPlanData;
  readonly cursor: SharedArrayBuffer;
  readonly source: SourceDescription;
}

export interface RunRestore {
  readonly kind: 'restore';
  readonly cursor: SharedArrayBuffer;
  readonly blockCount: number;
  readonly target: TargetDescription;
}

/** Backup, before `run`: what the mover has is taken out of the plan. */
export interface SubtractMapped {
  readonly plan: BlockPlanData;
}

/** Steps of a lane, each answered once under its `request` number. */
export type LaneStep =
  | { readonly step: 'open'; readonly open: OpenBackup | OpenRestore }
  | { readonly step: 'subtract'; readonly subtract: SubtractMapped }
  | { readonly step: 'run'; readonly run: RunBackup | RunRestore }
  /** Backup: commit the disk. Restore: flush the target. */
  | { readonly step: 'conclude' }
  /** Ends the lane, whatever it does; what it was doing answers CANCELLED or an error. */
  | { readonly step: 'close' };

/** To a thread, unanswered: connections to movers that are opened from now on use this certificate and trust. */
export interface IdentityNotice {
  readonly step: 'identity';
  readonly identity: IdentityMaterial;
}

/** To a lane, unanswered: its mover is another one from now on. */
export interface AddressNotice {
  readonly step: 'address';
  readonly lane: number;
  readonly address: MoverAddress;
}

export type LaneRequest = LaneStep & { readonly lane: number; readonly request: number };

export interface OpenedBackup {
  readonly blockSizeBytes: number;
  readonly handle: number;
  readonly committed: boolean;
  readonly hasMapped: boolean;
}

export interface OpenedRestore {
  readonly blockSizeBytes: number;
  readonly sizeBytes: number;
  readonly allocatedBlocks: number;
}

export interface ConcludedBackup {
  readonly indexRoot: Uint8Array;
  readonly storedBytes: number;
}

export type LaneReply =
  | { readonly request: number; readonly value: OpenedBackup | OpenedRestore | ConcludedBackup | number | undefined }
  | { readonly request: number; readonly error: ErrorMessage };
