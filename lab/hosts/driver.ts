/**
 * What the simulated engine asks of the real hosts of the lab, and nothing more (in oVirt: vdsm's role).
 * Everything here acts on real processes and files: qemu-system under TCG, qemu-nbd, qemu-img, ovirt-imageio.
 * Sequences and traps: the QMP order of a live backup must be kept or data is silently wrong (job cancelled before its
 * export is gone shows later guest writes).
 *
 * All sizes are bytes, all times milliseconds. Every method rejects with {@link HostError}.
 */

/** Where the bytes of one volume lie: one file below a file storage domain. */
export interface VolumeId {
  readonly domainId: string;
  readonly diskId: string;
  readonly volumeId: string;
}

export type VolumeFormat = 'raw' | 'cow';

export interface VolumeSpec extends VolumeId {
  readonly format: VolumeFormat;
  readonly virtualSizeBytes: number;
  /** Sparse or preallocated (raw only). */
  readonly sparse: boolean;
  /** Backing volume of a snapshot layer; its bitmaps are carried into the new layer. */
  readonly parent?: VolumeId;
}

/** A disk as a VM or a transfer sees it: the leaf comes last, `chain[0]` is the base. */
export interface DiskChain {
  readonly diskId: string;
  readonly virtualSizeBytes: number;
  readonly chain: readonly (VolumeId & { readonly format: VolumeFormat })[];
}

export interface VmDisk extends DiskChain {
  readonly interface: 'virtio' | 'virtio_scsi' | 'sata' | 'ide';
  readonly bootable: boolean;
  readonly readOnly: boolean;
}

export interface VmSpec {
  readonly vmId: string;
  readonly name: string;
  /** What the inventory says. The real qemu gets no more than its guest needs, so that many fit on a small machine. */
  readonly memoryBytes: number;
  readonly disks: readonly VmDisk[];
  /**
   * `none`: qemu stays in prelaunch, no guest runs, disks are still live (bitmaps, exports, {@link HostFleet.writeBlocks}).
   * `linux`: the lab's small Linux guest boots and writes to an ext4 file system on the first disk.
   * `disk`: what lies on the VM's bootable disk boots, by {@link VmSpec.machine}, with NICs on the cluster's network where there is one.
   * `process`: as `none`, and the worker program runs beside it as a process with the same config drive; when it ends, the VM goes off.
   */
  readonly guest: GuestKind;
  /** `linux`: pause between two write cycles of the guest (default 1000). */
  readonly guestWritePauseMs?: number;
  readonly macAddresses: readonly string[];
  readonly machine?: { readonly chipset: 'i440fx' | 'q35'; readonly firmware: 'bios' | 'uefi' };
  /** Files of a CD with the label `config-2`, by path. */
  readonly configDrive?: Readonly<Record<string, string>>;
  /** What the VM's clock is off by, seconds. */
  readonly clockOffsetSeconds?: number;
  /** `process`: the worker program starts so much later, as in a guest that boots slowly. */
  readonly bootDelaySeconds?: number;
}

export type GuestKind = 'none' | 'linux' | 'disk' | 'process';

/** `ended`: its guest went off by itself. */
export type VmRunState = 'absent' | 'starting' | 'up' | 'paused' | 'crashed' | 'ended';

/** A network interface as the guest agent reports it. */
export interface GuestInterface {
  readonly name: string;
  readonly macAddress: string;
  readonly addresses: readonly string[];
}

export interface BackupDisk {
  readonly diskId: string;
  /** incremental needs `fromCheckpointId` of the backup and a recording bitmap of that name on every layer. */
  readonly mode: 'full' | 'incremental';
  /** false for raw disks: no bitmap is added. */
  readonly addBitmap: boolean;
}

export interface BackupStart {
  readonly vmId: string;
  readonly backupId: string;
  readonly disks: readonly BackupDisk[];
  readonly fromCheckpointId?: string;
  /** Name of the bitmaps to add; absent when every disk is raw. */
  readonly toCheckpointId?: string;
  readonly requireConsistency: boolean;
}

/** How an imageio ticket on a host reaches the bytes. */
export interface NbdExport {
  /** e.g. `nbd:unix:/path/sock:exportname=sda`; valid on that host only. */
  readonly url: string;
  readonly sizeBytes: number;
  /** A dirty bitmap is exported, so `context=dirty` works. */
  readonly dirty: boolean;
}

export interface Ticket {
  readonly uuid: string;
  readonly sizeBytes: number;
  readonly url: string;
  readonly timeoutSeconds: number;
  readonly inactivityTimeoutSeconds: number;
  readonly ops: readonly ('read' | 'write')[];
  readonly sparse: boolean;
  readonly dirty: boolean;
  readonly transferId: string;
}

export interface TicketState {
  readonly active: boolean;
  readonly canceled: boolean;
  readonly idleSeconds: number;
  /** Seconds until expiry; may be negative. */
  readonly expiresInSeconds: number;
  readonly transferredBytes: number | undefined;
}

export type HostErrorCode =
  | 'NOT_FOUND'
  | 'NO_SPACE'
  | 'BITMAP_MISSING'
  | 'BITMAP_INCONSISTENT'
  | 'VM_NOT_RUNNING'
  | 'VM_RUNNING'
  | 'FREEZE_FAILED'
  | 'QEMU_REFUSED'
  | 'IMAGEIO_UNREACHABLE'
  | 'TICKET_BUSY'
  | 'UPLOAD_INVALID'
  | 'HOST_DOWN';

export class HostError extends Error {
  constructor(
    readonly code: HostErrorCode,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
    this.name = 'HostError';
  }
}

/** A machine that runs imageio: a host of a cluster, or the proxy beside the engine. */
export interface ImageioEndpoint {
  /** `https://<address>:<port>` with the address that the certificate carries. */
  readonly baseUrl: string;
}

export interface HostFleet {
  /** Brings up the host's imageio; idempotent. The engine calls it at start and after a host was restarted. A stalled one is IMAGEIO_UNREACHABLE. */
  startHost(hostId: string): Promise<ImageioEndpoint>;
  /** SIGKILLs imageio, every qemu and qemu-nbd of the host. */
  killHost(hostId: string): Promise<void>;
  killImageio(hostId: string): Promise<void>;
  /** SIGSTOP or SIGCONT of the host's imageio. */
  stallImageio(hostId: string, stalled: boolean): Promise<void>;
  /** SIGSTOP or SIGCONT of everything that runs on the host: imageio, VMs, exports. */
  stallHost(hostId: string, stalled: boolean): Promise<void>;
  /** SIGSTOP or SIGCONT of a VM's process. */
  stallVm(vmId: string, stalled: boolean): Promise<void>;
  startProxy(): Promise<ImageioEndpoint>;

  createVolume(spec: VolumeSpec): Promise<void>;
  deleteVolume(volume: VolumeId): Promise<void>;
  /** A volume without a parent that holds what the whole chain holds, without its bitmaps. Nobody may write to the chain meanwhile. */
  copyVolume(source: DiskChain, target: Omit<VolumeSpec, 'parent'>): Promise<void>;
  /** Allocated bytes of the file. */
  volumeActualBytes(volume: VolumeId): Promise<number>;
  /** After an upload: `qemu-img check`, no backing file, expected format. UPLOAD_INVALID when not. */
  verifyVolume(volume: VolumeId, format: VolumeFormat): Promise<void>;
  resizeVolume(volume: VolumeId, virtualSizeBytes: number): Promise<void>;
  freeBytes(domainId: string): Promise<number>;
  /** `file:///…` of the volume as it lies on storage, for tickets of transfers in the disk's own format (imageio's FILE backend). */
  volumeFileUrl(volume: VolumeId): Promise<string>;
  /**
   * Fills a stopped, single-layer disk with what the `linux` guest needs: an ext4 file system over the whole disk, holding
   * about `filesBytes` of seeded files below /data.
   */
  formatGuestDisk(disk: DiskChain, options: { seed: number; filesBytes: number }): Promise<void>;

  startVm(hostId: string, spec: VmSpec): Promise<void>;
  /** graceful: bitmaps are saved. Otherwise SIGKILL: stored bitmaps become inconsistent, new ones are lost. */
  stopVm(vmId: string, graceful: boolean): Promise<void>;
  /** Asks the guest to go off and waits for it; false when it did not in time. A VM without a guest obeys at once. */
  shutdownVm(vmId: string, timeoutMs: number): Promise<boolean>;
  /** `crashed` and `ended` until the next {@link startVm} or {@link stopVm}; `starting` until the `linux` guest has done its first write cycle. */
  vmState(vmId: string): Promise<VmRunState>;
  /** All that the guest printed on its serial console since the VM was started; `cycle N` ends the N-th write cycle. */
  consoleText(vmId: string): Promise<string>;
  /** undefined when no guest agent answers. */
  guestInterfaces(vmId: string): Promise<readonly GuestInterface[] | undefined>;
  /** Called when a VM's process ends without {@link stopVm}. */
  onVmExit(listener: (vmId: string) => void): void;
  hotplugDisk(vmId: string, disk: VmDisk): Promise<void>;
  hotunplugDisk(vmId: string, diskId: string): Promise<void>;
  freeze(vmId: string): Promise<void>;
  thaw(vmId: string): Promise<void>;

  /** Dirties a running VM's disk as a guest that syncs would: it survives qemu. `pattern` fills, 'random' uses `seed`, 'zero' discards. */
  writeBlocks(
    vmId: string,
    diskId: string,
    write: { offsetBytes: number; lengthBytes: number; pattern: number | 'random' | 'zero'; seed?: number },
  ): Promise<void>;

  /**
   * One transaction for all disks is the point in time. BITMAP_MISSING / BITMAP_INCONSISTENT leave nothing behind. A freeze of the
   * guest around the transaction is always tried here; FREEZE_FAILED only with `requireConsistency`. A VM that {@link freeze} froze stays frozen.
   */
  startLiveBackup(start: BackupStart): Promise<void>;
  /** Export of one disk of a running live backup, as of {@link startLiveBackup}. */
  liveBackupExport(backupId: string, diskId: string): Promise<NbdExport>;
  /** Ends exports, jobs and scratch in the safe order; `keepBitmaps` false when the backup failed. Idempotent. */
  stopLiveBackup(backupId: string, keepBitmaps: boolean): Promise<void>;

  /** Bitmaps on the leaf of stopped VMs' disks (qemu-img bitmap). Raw leaves are skipped. */
  addColdBitmaps(disks: readonly DiskChain[], checkpointId: string): Promise<void>;
  /** Works on running (QMP) and stopped disks; unknown bitmap is fine. */
  removeBitmaps(disks: readonly DiskChain[], checkpointId: string): Promise<void>;
  clearBitmaps(disk: DiskChain): Promise<void>;
  /** Names with their health, read from the live qemu or the file. */
  listBitmaps(disk: DiskChain): Promise<readonly { name: string; consistent: boolean; recording: boolean }[]>;
  /**
   * Fault injection: removes the bitmap, or leaves it inconsistent, behind the engine's back. A running qemu cannot hold an inconsistent
   * bitmap: there it stops recording, which every incremental refuses in the same way (BITMAP_INCONSISTENT).
   */
  damageBitmap(disk: DiskChain, checkpointId: string, how: 'remove' | 'inconsistent'): Promise<void>;

  /**
   * qemu-nbd on a volume chain (transfers without a live backup). `bitmap` exports what changed since that checkpoint, merged
   * over all layers. `writable` serves uploads. Refused (VM_RUNNING) when a running VM writes to the chain; layers below a running
   * VM's leaf are served, they no longer change. `full` is a fault: writes fail as on storage without space. An `exportId` that is served
   * already gives its export again.
   */
  startNbd(
    hostId: string,
    exportId: string,
    disk: DiskChain,
    options: { writable: boolean; bitmap?: string; shallow?: boolean; full?: boolean },
  ): Promise<NbdExport>;
  stopNbd(exportId: string): Promise<void>;

  /** `where` is a host's id, or `proxy`. */
  putTicket(where: string, ticket: Ticket): Promise<void>;
  ticket(where: string, uuid: string): Promise<TicketState | undefined>;
  extendTicket(where: string, uuid: string, timeoutSeconds: number): Promise<void>;
  /** TICKET_BUSY when connections still use it. Unknown is fine. */
  removeTicket(where: string, uuid: string): Promise<void>;

  /**
   * Atomic over all disks: each gets a new cow leaf over its current one. Live by blockdev-snapshot, cold by qemu-img create.
   * The leaf's file is made here (no createVolume before). Bitmaps of the current leaf are carried on, recording. `addBitmap` makes
   * one more in the new leaf, which so records from the very point in time of the snapshot (hybrid backups). Live when that VM runs;
   * then a call repeated after a restart of the lab is fine. Cold, or refused: what exists of a leaf must be deleted by the caller first.
   */
  createSnapshot(vmId: string | undefined, disks: readonly { disk: DiskChain; newLeaf: VolumeId; addBitmap?: string }[]): Promise<void>;
  /**
   * Merges `top` into its parent and makes the parent take its place; bitmaps are merged too. Live when the VM runs. `disk` is the
   * chain before the merge; `top` need not be the leaf. The file of `top` stays, unused: {@link deleteVolume} is the caller's.
   * Repeating a merge after a restart of the lab is fine.
   */
  mergeVolume(vmId: string | undefined, disk: DiskChain, top: VolumeId): Promise<void>;

  /** Byte-for-byte copy of a disk's present content into a raw file, for tests to compare with (VM stopped, or from its snapshot). */
  dumpDisk(disk: DiskChain, file: string): Promise<void>;

  /** The same of an export: what a client of its ticket will read, read by qemu-img instead. */
  dumpExport(exported: NbdExport, file: string): Promise<void>;

  /** Stops every process of the fleet gracefully. Until then they outlive the process that started them: a new fleet adopts them. */
  close(): Promise<void>;
}
