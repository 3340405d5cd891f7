/** Validation of a transfer, and which host serves it. Source: reference "oVirt engine REST API" sections 6.1 and 6.5. */
import { isLive, requireUsable, vmsOfDisk } from '../disks/images';
import { notFound } from '../http/fault';
import type { Core } from '../model/core';
import type { Backup, Disk, Host, Transfer, Volume } from '../model/entities';
import { refuse } from '../states/refusals';

export interface TransferRequest {
  readonly diskId?: string;
  readonly volumeId?: string;
  readonly backupId?: string;
  readonly hostId?: string;
  readonly direction: Transfer['direction'];
  readonly format?: 'raw' | 'cow';
  readonly shallow: boolean;
  readonly inactivityTimeoutSeconds: number;
  readonly timeoutPolicy: Transfer['timeoutPolicy'];
  readonly correlationId: string;
  readonly userId: string;
}

export interface TransferSubject {
  readonly disk: Disk;
  readonly volume: Volume | undefined;
  readonly backup: Backup | undefined;
}

/** What is asked for exists; nothing is said yet about its state. */
export function findSubject(core: Core, request: TransferRequest): TransferSubject {
  const { db } = core;
  const volume = request.volumeId === undefined ? undefined : db.volumes.get(request.volumeId);
  const disk = db.disks.get(volume?.diskId ?? request.diskId ?? '');
  if (disk === undefined || (request.volumeId !== undefined && volume === undefined)) throw notFound();
  if (request.backupId === undefined) return { disk, volume, backup: undefined };
  const backup = db.backups.get(request.backupId);
  if (backup === undefined) throw refuse('VM_BACKUP_NOT_EXIST', request.backupId);
  return { disk, volume, backup };
}

export function checkTransfer(core: Core, request: TransferRequest, { disk, volume, backup }: TransferSubject): void {
  if (backup !== undefined) {
    checkBackupTransfer(core, request, disk, backup);
    return;
  }
  if (disk.storageType !== 'image' || disk.pretended) throw refuse('TRANSFER_NOT_SUPPORTED', disk.name);
  if (volume !== undefined && request.direction === 'upload') throw refuse('TRANSFER_NOT_SUPPORTED', disk.name);
  requireActiveDomain(core, disk);
  const isLeaf = volume === undefined || volume.id === disk.activeVolumeId;
  if (volume?.status === 'locked') throw refuse('DISKS_LOCKED', disk.name);
  if (isLeaf || disk.status === 'illegal') requireUsable([disk]);
  const running = isLeaf && vmsOfDisk(core.db, disk.id).some((vm) => vm.status !== 'down' && isPlugged(core, vm.id, disk.id));
  if (running) throw refuse('DISK_PLUGGED_TO_NON_DOWN_VMS', disk.name);
}

function checkBackupTransfer(core: Core, request: TransferRequest, disk: Disk, backup: Backup): void {
  const { db } = core;
  if (backup.phase !== 'READY') throw refuse('VM_BACKUP_NOT_READY', backup.id);
  if (request.format === 'cow') throw refuse('FORMAT_NOT_APPLICABLE_FOR_BACKUP', request.format);
  if (request.direction === 'upload') throw refuse('UPLOAD_FOR_BACKUP_NOT_SUPPORTED');
  const entry = backup.disks.find((candidate) => candidate.diskId === disk.id);
  if (entry === undefined) throw refuse('DISK_NOT_IN_BACKUP', disk.name);
  requireActiveDomain(core, disk);
  if (backup.mode !== 'hybrid') return;
  const frozen = entry.frozenVolumeId === undefined ? undefined : db.volumes.get(entry.frozenVolumeId);
  if (frozen === undefined || !db.snapshots.has(backup.snapshotId ?? '')) throw refuse('VM_SNAPSHOT_DOES_NOT_EXIST', disk.name);
}

/** While a machine runs, its backup is served by its own host whatever was asked; undefined when no host is up. */
export function chooseHost(core: Core, request: TransferRequest, { disk, backup }: TransferSubject): Host | undefined {
  const { db } = core;
  const vm = backup === undefined ? undefined : db.vms.get(backup.vmId);
  const up = db.hosts.list((host) => host.status === 'up' && !host.pretended && seesDomain(core, host, disk));
  if (vm !== undefined && isLive(vm)) return up.find((host) => host.id === vm.hostId);
  if (request.hostId !== undefined) return up.find((host) => host.id === request.hostId);
  const load = (host: Host): number =>
    db.transfers.list((transfer) => transfer.hostId === host.id && transfer.ticketId !== undefined).length;
  return up.sort((a, b) => load(a) - load(b))[0];
}

function seesDomain(core: Core, host: Host, disk: Disk): boolean {
  const domain = core.db.storageDomains.get(disk.storageDomainId ?? '');
  return core.db.clusters.get(host.clusterId)?.dataCenterId === domain?.dataCenterId;
}

function requireActiveDomain(core: Core, disk: Disk): void {
  const domain = core.db.storageDomains.get(disk.storageDomainId ?? '');
  if (domain !== undefined && domain.status !== 'active') throw refuse('STORAGE_DOMAIN_NOT_ACTIVE', domain.name);
}

function isPlugged(core: Core, vmId: string, diskId: string): boolean {
  return core.db.attachments.find((attachment) => attachment.vmId === vmId && attachment.diskId === diskId)?.active === true;
}
