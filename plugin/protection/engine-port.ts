/**
 * What protection and the janitor need of an engine: the methods of `plugin/engine` that they call, and nothing else, so that tests can
 * put an engine in memory in its place (`plugin/testing/fake-engine.ts`).
 */
import type { AffinityGroups } from '../engine/affinity-groups';
import type { Backups } from '../engine/backups';
import type { Checkpoints } from '../engine/checkpoints';
import type { Clusters } from '../engine/clusters';
import type { DiskAttachments } from '../engine/disk-attachments';
import type { Disks } from '../engine/disks';
import type { Events } from '../engine/events';
import type { ImageTransfers } from '../engine/image-transfers';
import type { Networks } from '../engine/networks';
import type { Nics } from '../engine/nics';
import type { Snapshots } from '../engine/snapshots';
import type { StorageDomains } from '../engine/storage-domains';
import type { Tags } from '../engine/tags';
import type { Vms } from '../engine/vms';

export interface EngineApi {
  readonly imageioCaPem: string;
  readonly affinityGroups: Pick<AffinityGroups, 'list' | 'addVm'>;
  readonly backups: Pick<Backups, 'start' | 'find' | 'list' | 'disks' | 'finalize'>;
  readonly checkpoints: Pick<Checkpoints, 'list' | 'disks' | 'remove'>;
  readonly clusters: Pick<Clusters, 'find'>;
  readonly diskAttachments: Pick<DiskAttachments, 'add' | 'find' | 'plug' | 'unplug' | 'detach'>;
  readonly disks: Pick<Disks, 'find' | 'create' | 'remove' | 'pages' | 'volumes'>;
  readonly events: Pick<Events, 'failureText'>;
  readonly networks: Pick<Networks, 'vnicProfiles'>;
  readonly nics: Pick<Nics, 'add'>;
  readonly snapshots: Pick<Snapshots, 'list' | 'find' | 'disks' | 'create' | 'remove'>;
  readonly storageDomains: Pick<StorageDomains, 'find' | 'listOfDataCenter'>;
  readonly tags: Pick<Tags, 'list' | 'assign'>;
  readonly transfers: Pick<ImageTransfers, 'create' | 'find' | 'list' | 'finalize' | 'cancel'>;
  readonly vms: Pick<
    Vms,
    'find' | 'raw' | 'findByName' | 'create' | 'update' | 'remove' | 'start' | 'stop' | 'freezeFileSystems' | 'thawFileSystems'
  >;
}

export interface EngineDirectory {
  /** Throws PLATFORM_NOT_FOUND. */
  of(platformId: string): EngineApi;
}
