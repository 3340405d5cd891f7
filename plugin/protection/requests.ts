/** What the host asks for, in the plug-in's own words; `plugin/grpc/protection-mapping.ts` makes it from the contract's messages. */
import type { DataPath } from '../../proto/gen/tidemark/common/v1/DataPath';
import type { VmKey } from '../operations/operation';
import type { StoredDisk } from '../operations/events';

/** The point that a backup may build on. */
export interface BasePoint {
  readonly pointId: string;
  readonly checkpointId: string;
  readonly diskIds: readonly string[];
}

/** `auto`: image transfer, and disk attachment when no image daemon can be reached. */
export type WantedTransport = 'auto' | 'image-transfer' | 'disk-attachment';

export interface BackupRequest {
  readonly operationId: string;
  readonly vm: VmKey;
  readonly jobName: string;
  readonly sessionId: string;
  /** Handed on to the worker unread. */
  readonly dataPath: DataPath;
  readonly base?: BasePoint | undefined;
  readonly forceFull: boolean;
  readonly excludedDiskIds: readonly string[];
  readonly requireConsistency: boolean;
  readonly diskParallel: number;
  readonly transport: WantedTransport;
}

export type MacPolicy = 'keep' | 'keep-if-free' | 'new';

export interface NewVmTarget {
  readonly kind: 'new-vm';
  readonly name: string;
  readonly clusterId: string;
  readonly storageDomainId: string;
  readonly storageDomains: ReadonlyMap<string, string>;
  /** Stored profile id to target profile id; empty for a NIC without profile. */
  readonly vnicProfiles: ReadonlyMap<string, string>;
  readonly macPolicy: MacPolicy;
  readonly powerOn: boolean;
}

export interface NewDiskTarget {
  readonly kind: 'new-disk';
  readonly storageDomainId: string;
  readonly name: string;
}

export interface FileTarget {
  readonly kind: 'file';
  readonly path: string;
  readonly format: string;
}

export type RestoreTarget = NewVmTarget | NewDiskTarget | FileTarget;

export interface RestoreRequest {
  readonly operationId: string;
  readonly platformId: string;
  readonly sessionId: string;
  readonly dataPath: DataPath;
  readonly pointId: string;
  readonly disks: readonly StoredDisk[];
  readonly configuration: string;
  readonly target: RestoreTarget;
  /** Not used for files. */
  readonly transport: WantedTransport;
}
