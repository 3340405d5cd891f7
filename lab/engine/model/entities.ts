import type { ApiObject } from '../http/api-object';

/**
 * What the simulated engine remembers. Every entity is immutable: change it with `Collection.update`, so that the store sees it.
 * Sizes are bytes, durations carry their unit, dates are epoch milliseconds of the machine's clock.
 * The API's shape of each is made by the `…View` function of the resource's folder.
 */

export interface Entity {
  readonly id: string;
}

export interface Version {
  readonly major: number;
  readonly minor: number;
}

export interface DataCenter extends Entity {
  readonly name: string;
  readonly description: string;
  readonly comment: string;
  readonly version: Version;
  readonly status: 'uninitialized' | 'up' | 'maintenance' | 'not_operational' | 'problematic' | 'contend';
  readonly local: boolean;
  readonly storageFormat: 'v1' | 'v2' | 'v3' | 'v4' | 'v5';
  readonly quotaMode: 'disabled' | 'audit' | 'enabled';
  readonly macPoolId: string;
}

export interface Cluster extends Entity {
  readonly name: string;
  readonly description: string;
  readonly comment: string;
  readonly dataCenterId: string;
  /** The compatibility level: this, not the engine's version, switches features. */
  readonly version: Version;
  readonly cpuType: string;
  readonly architecture: 'x86_64' | 'ppc64' | 's390x' | 'undefined';
  readonly biosType: 'i440fx_sea_bios' | 'q35_sea_bios' | 'q35_ovmf' | 'q35_secure_boot' | 'cluster_default';
  readonly macPoolId: string;
}

export type HostStatus =
  | 'down'
  | 'error'
  | 'initializing'
  | 'installing'
  | 'install_failed'
  | 'installing_os'
  | 'kdumping'
  | 'maintenance'
  | 'non_operational'
  | 'non_responsive'
  | 'pending_approval'
  | 'preparing_for_maintenance'
  | 'connecting'
  | 'reboot'
  | 'unassigned'
  | 'up';

export interface Host extends Entity {
  readonly name: string;
  readonly description: string;
  readonly comment: string;
  /** What image transfer URLs use. */
  readonly address: string;
  readonly status: HostStatus;
  readonly clusterId: string;
  readonly spm: boolean;
  readonly memoryBytes: number;
  readonly cpuCores: number;
  /** Base URL of its imageio; absent for pretended hosts and before it was started. */
  readonly imageioBaseUrl?: string;
  /** A host of the pretended large inventory: no process stands behind it. */
  readonly pretended: boolean;
}

export type StorageDomainStatus =
  | 'active'
  | 'inactive'
  | 'locked'
  | 'maintenance'
  | 'preparing_for_maintenance'
  | 'activating'
  | 'detaching'
  | 'mixed'
  | 'unknown'
  | 'unattached';

export interface StorageDomain extends Entity {
  readonly name: string;
  readonly description: string;
  readonly comment: string;
  readonly type: 'data' | 'iso' | 'export' | 'image' | 'volume' | 'managed_block_storage';
  readonly storageType: 'nfs' | 'iscsi' | 'fcp' | 'localfs' | 'posixfs' | 'glusterfs' | 'managed_block_storage';
  readonly address: string;
  readonly path: string;
  readonly storageFormat: 'v1' | 'v2' | 'v3' | 'v4' | 'v5';
  readonly master: boolean;
  /** The data center it is attached to; its status there is `status`. */
  readonly dataCenterId?: string;
  readonly status: StorageDomainStatus;
  readonly backup: boolean;
  readonly wipeAfterDelete: boolean;
  readonly discardAfterDelete: boolean;
  readonly warningLowSpacePercent: number;
  readonly criticalSpaceGib: number;
  /** A lab's fault: the domain says it has no more than this. */
  readonly mostFreeBytes?: number;
  /** A lab's fault: uploads that start now run out of space, whatever it says. */
  readonly full?: boolean;
  /** A domain of the pretended large inventory, with these figures; real domains ask the fleet. */
  readonly pretended?: { readonly availableBytes: number; readonly usedBytes: number };
}

export interface Network extends Entity {
  readonly name: string;
  readonly description: string;
  readonly comment: string;
  readonly dataCenterId: string;
  readonly clusterIds: readonly string[];
  readonly mtu: number;
  readonly vlanId?: number;
}

export interface VnicProfile extends Entity {
  readonly name: string;
  readonly description: string;
  readonly comment: string;
  readonly networkId: string;
  readonly passThrough: boolean;
  readonly portMirroring: boolean;
}

export interface MacPool extends Entity {
  readonly name: string;
  readonly description: string;
  readonly allowDuplicates: boolean;
  readonly defaultPool: boolean;
  readonly ranges: readonly { readonly from: string; readonly to: string }[];
}

export interface DiskProfile extends Entity {
  readonly name: string;
  readonly storageDomainId: string;
}

export interface CpuProfile extends Entity {
  readonly name: string;
  readonly clusterId: string;
}

export interface Template extends Entity {
  readonly name: string;
  readonly description: string;
  readonly comment: string;
  readonly status: 'ok' | 'locked' | 'illegal';
  readonly clusterId?: string;
  readonly creationTime: number;
  readonly attributes: ApiObject;
}

export interface Tag extends Entity {
  readonly name: string;
  readonly description: string;
  readonly parentId?: string;
}

export interface AffinityGroup extends Entity {
  readonly name: string;
  readonly description: string;
  readonly clusterId: string;
  readonly priority: number;
  readonly vmsRule: { readonly enabled: boolean; readonly positive: boolean; readonly enforcing: boolean };
  readonly hostsRule: { readonly enabled: boolean; readonly positive: boolean; readonly enforcing: boolean };
  readonly vmIds: readonly string[];
  readonly hostIds: readonly string[];
}

/** Permission groups a backup product meets (reference §1.2). */
export type ActionGroup =
  | 'LOGIN'
  | 'BACKUP_DISK'
  | 'EDIT_DISK_PROPERTIES'
  | 'MANIPULATE_VM_SNAPSHOTS'
  | 'CONFIGURE_VM_STORAGE'
  | 'CONFIGURE_VM_NETWORK'
  | 'CREATE_VM'
  | 'EDIT_VM_PROPERTIES'
  | 'VM_BASIC_OPERATIONS'
  | 'STOP_VM'
  | 'IMPORT_EXPORT_VM'
  | 'DELETE_VM'
  | 'CREATE_DISK'
  | 'DELETE_DISK'
  | 'INJECT_EXTERNAL_EVENTS'
  | 'INJECT_EXTERNAL_TASKS'
  | 'CREATE_STORAGE_DOMAIN'
  | 'MANIPULATE_STORAGE_DOMAIN'
  | 'MANIPULATE_AFFINITY_GROUPS'
  | 'MANIPULATE_PERMISSIONS'
  | 'TAG_MANAGEMENT';

export interface Role extends Entity {
  readonly name: string;
  readonly description: string;
  readonly administrative: boolean;
  readonly permits: readonly ActionGroup[];
}

export interface User extends Entity {
  /** Login name with its profile: `admin@internal`. */
  readonly userName: string;
  readonly password: string;
  readonly roleIds: readonly string[];
  /** Taken away by the control endpoint: the next use answers 403. */
  readonly revokedPermits: readonly ActionGroup[];
  readonly locked: boolean;
}

export interface Permission extends Entity {
  readonly userId: string;
  readonly roleId: string;
  readonly vmId: string;
}

/** Access tokens are kept so that a restart of the engine does not log everybody out, as the real one's database does. */
export interface Session extends Entity {
  readonly userId: string;
  readonly lastUsedAt: number;
}

export type VmStatus =
  | 'unassigned'
  | 'down'
  | 'up'
  | 'powering_up'
  | 'paused'
  | 'migrating'
  | 'unknown'
  | 'not_responding'
  | 'wait_for_launch'
  | 'reboot_in_progress'
  | 'saving_state'
  | 'restoring_state'
  | 'suspended'
  | 'image_locked'
  | 'powering_down';

export interface Vm extends Entity {
  readonly name: string;
  readonly description: string;
  readonly comment: string;
  readonly clusterId: string;
  readonly templateId: string;
  readonly status: VmStatus;
  readonly statusDetail?: string;
  readonly stopReason?: string;
  readonly origin: 'ovirt' | 'managed_hosted_engine' | 'hosted_engine' | 'external' | 'kubevirt' | 'rhev';
  /** Only while it runs. */
  readonly hostId?: string;
  readonly memoryBytes: number;
  readonly deleteProtected: boolean;
  readonly stateless: boolean;
  readonly customCompatibilityVersion?: Version;
  /** Everything else a client configured, in the API's shape and natural types (cpu, os, bios, high_availability, lease …). */
  readonly attributes: ApiObject;
  /** Changes to a running VM that wait for its next start, same shape. */
  readonly nextRun?: ApiObject;
  /** Content of a `vm` element given to start, for that run only. */
  readonly runOnce?: ApiObject;
  readonly tagIds: readonly string[];
  readonly creationTime: number;
  readonly startTime?: number;
  readonly stopTime?: number;
  /** What boots in it; see HostFleet.VmSpec. */
  readonly guest: 'none' | 'linux';
  /** What boots in it this time, when that is not `guest`: a worker VM of the product. */
  readonly guestOfRun?: 'disk' | 'process';
  /** A lab's fault: its clock is off by this. */
  readonly clockOffsetSeconds?: number;
  /** It ran at least once: a stored initialization is not applied by itself any more. */
  readonly initialized?: boolean;
  /** `VmExternalDataSection` of a restored snapshot OVF, if any. */
  readonly externalData?: string;
  /** A VM of the pretended large inventory: no process and no files stand behind it. */
  readonly pretended: boolean;
}

export interface Nic extends Entity {
  readonly vmId: string;
  readonly name: string;
  readonly interface: 'virtio' | 'e1000' | 'e1000e' | 'rtl8139' | 'rtl8139_virtio' | 'spapr_vlan' | 'pci_passthrough';
  readonly macAddress: string;
  readonly plugged: boolean;
  readonly linked: boolean;
  readonly vnicProfileId?: string;
}

export interface Cdrom extends Entity {
  readonly vmId: string;
  readonly fileId?: string;
}

export interface GraphicsConsole extends Entity {
  readonly vmId: string;
  readonly protocol: 'vnc' | 'spice';
}

export type ImageStatus = 'ok' | 'locked' | 'illegal';

export interface Disk extends Entity {
  /** Alias; not unique. */
  readonly name: string;
  readonly description: string;
  readonly status: ImageStatus;
  readonly storageType: 'image' | 'lun' | 'managed_block_storage';
  readonly contentType: 'data' | 'iso' | 'ovf_store' | 'memory_dump_volume' | 'memory_metadata_volume' | 'hosted_engine' | 'backup_scratch';
  readonly format: 'raw' | 'cow';
  readonly sparse: boolean;
  readonly provisionedSizeBytes: number;
  readonly initialSizeBytes?: number;
  readonly backup: 'none' | 'incremental';
  readonly shareable: boolean;
  readonly wipeAfterDelete: boolean;
  readonly propagateErrors: boolean;
  /** Absent for LUNs. */
  readonly storageDomainId?: string;
  readonly diskProfileId?: string;
  readonly quotaId?: string;
  /** The leaf: `image_id` of the API. Changes with every snapshot. Absent for LUNs. */
  readonly activeVolumeId?: string;
  /** Allocated bytes of the leaf and of the whole chain, as last measured. */
  readonly actualSizeBytes: number;
  readonly totalSizeBytes: number;
  readonly createdAt: number;
  /** What locks it and goes on over a restart of the engine. */
  readonly pending?: 'create' | 'copy' | 'remove';
  readonly pretended: boolean;
}

/** One file below a domain: `VolumeId` of the fleet is {domainId, diskId, volumeId: id}. */
export interface Volume extends Entity {
  readonly diskId: string;
  readonly domainId: string;
  readonly format: 'raw' | 'cow';
  readonly sparse: boolean;
  readonly virtualSizeBytes: number;
  readonly actualSizeBytes: number;
  readonly parentId?: string;
  /** The VM snapshot whose state it holds (the active one for a leaf); absent while the disk floats. */
  readonly snapshotId?: string;
  readonly status: ImageStatus;
  readonly createdAt: number;
}

/** `id` is `attachmentId(vmId, diskId)`; the API shows the disk's id. */
export interface DiskAttachment extends Entity {
  readonly vmId: string;
  readonly diskId: string;
  readonly interface: 'ide' | 'sata' | 'virtio' | 'virtio_scsi' | 'spapr_vscsi';
  readonly active: boolean;
  readonly bootable: boolean;
  readonly readOnly: boolean;
  readonly passDiscard: boolean;
  readonly usesScsiReservation: boolean;
  /** Set when a snapshot of another VM's disk is attached (hot-add). */
  readonly snapshotId?: string;
  /** Throw-away overlay over that snapshot while it is plugged. */
  readonly overlayVolumeId?: string;
}

export const attachmentId = (vmId: string, diskId: string): string => `${vmId}/${diskId}`;

export interface Snapshot extends Entity {
  readonly vmId: string;
  readonly description: string;
  readonly type: 'regular' | 'active' | 'stateless' | 'preview';
  readonly status: 'ok' | 'locked' | 'in_preview';
  readonly date: number;
  readonly persistMemory: boolean;
  /** OVF of the VM at that time, with TPM and NVRAM data. */
  readonly ovf?: string;
  /** Why it is locked. */
  readonly pending?: 'create' | 'merge';
  readonly correlationId?: string;
  readonly userId?: string;
  readonly jobId?: string;
}

export type BackupMode = 'live' | 'cold' | 'hybrid';

export type BackupPhase =
  | 'INITIALIZING'
  | 'CREATING_SCRATCH_DISKS'
  | 'ADDING_BITMAPS'
  | 'WAITING_FOR_BITMAPS'
  | 'STARTING'
  | 'READY'
  | 'FINALIZING'
  | 'FINALIZING_FAILURE'
  | 'REMOVING_SNAPSHOT'
  | 'SUCCEEDED'
  | 'FAILED';

export interface BackupDiskEntry {
  readonly diskId: string;
  readonly backupMode: 'full' | 'incremental';
  /** A qcow2 disk: it joins the checkpoint. */
  readonly inCheckpoint: boolean;
  /** Hybrid: the volume that the automatic snapshot froze. */
  readonly frozenVolumeId?: string;
  readonly scratchDiskId?: string;
}

export interface Backup extends Entity {
  readonly vmId: string;
  readonly mode: BackupMode;
  readonly phase: BackupPhase;
  readonly description: string;
  readonly disks: readonly BackupDiskEntry[];
  readonly fromCheckpointId?: string;
  readonly toCheckpointId?: string;
  readonly hostId?: string;
  readonly snapshotId?: string;
  readonly requireConsistency: boolean;
  /** Hybrid: finalize was asked, the next tick acts. */
  readonly stopRequested: boolean;
  readonly jobId?: string;
  readonly correlationId: string;
  readonly userId: string;
  readonly createdAt: number;
  readonly modifiedAt: number;
}

export interface Checkpoint extends Entity {
  readonly vmId: string;
  readonly parentId?: string;
  readonly description: string;
  readonly state: 'created' | 'invalid';
  readonly diskIds: readonly string[];
  readonly createdAt: number;
}

export type TransferPhase =
  | 'unknown'
  | 'initializing'
  | 'transferring'
  | 'resuming'
  | 'paused_system'
  | 'paused_user'
  | 'cancelled_system'
  | 'cancelled_user'
  | 'finalizing_success'
  | 'finalizing_failure'
  | 'finalizing_cleanup'
  | 'finished_success'
  | 'finished_failure'
  | 'finished_cleanup';

export interface Transfer extends Entity {
  readonly diskId: string;
  /** Set when one volume of the chain is transferred (`snapshot` of the request). */
  readonly volumeId?: string;
  readonly backupId?: string;
  readonly direction: 'upload' | 'download';
  readonly format?: 'raw' | 'cow';
  readonly shallow: boolean;
  readonly phase: TransferPhase;
  readonly hostId?: string;
  readonly ticketId?: string;
  /** Id of the qemu-nbd that this transfer started; absent for file and live backup backends. */
  readonly exportId?: string;
  readonly sizeBytes: number;
  readonly transferUrl?: string;
  readonly proxyUrl?: string;
  readonly inactivityTimeoutSeconds: number;
  readonly timeoutPolicy: 'legacy' | 'pause' | 'cancel';
  readonly active: boolean;
  readonly transferredBytes: number;
  readonly jobId?: string;
  readonly userId: string;
  readonly correlationId: string;
  readonly createdAt: number;
  readonly updatedAt: number;
}

export interface EventRefs {
  readonly vmId?: string;
  readonly hostId?: string;
  readonly storageDomainId?: string;
  readonly clusterId?: string;
  readonly dataCenterId?: string;
  readonly templateId?: string;
  readonly userId?: string;
  readonly diskId?: string;
}

export interface EventEntry extends Entity {
  readonly index: number;
  readonly code: number;
  readonly severity: 'normal' | 'warning' | 'error' | 'alert';
  readonly time: number;
  readonly description: string;
  readonly correlationId: string;
  readonly origin: string;
  readonly customId: number;
  readonly floodRate: number;
  readonly customData?: string;
  readonly refs: EventRefs;
  /** Names at the time: a reference whose object is gone keeps its name and loses its id. */
  readonly names: Readonly<Record<string, string>>;
}

export interface JobStep {
  readonly id: string;
  readonly description: string;
  readonly status: 'started' | 'finished' | 'failed' | 'aborted' | 'unknown';
  readonly startTime: number;
  readonly endTime?: number;
}

export interface Job extends Entity {
  readonly description: string;
  readonly status: 'started' | 'finished' | 'failed' | 'aborted' | 'unknown';
  readonly correlationId: string;
  readonly external: boolean;
  readonly autoCleared: boolean;
  readonly ownerId: string;
  readonly startTime: number;
  readonly endTime?: number;
  readonly lastUpdated: number;
  readonly steps: readonly JobStep[];
}
