/**
 * Where the bytes of a transfer lie: an export of a running backup, qemu-nbd on a chain, or the file itself.
 *
 * Explicit `raw` and every backup transfer go through NBD (guest view); `cow` or no format is the file as it lies on storage.
 * Source: reference "oVirt engine REST API" sections 6.1 and 6.4.
 */
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { DiskChain, NbdExport } from '../../hosts/driver';
import { chainOf, volumeIdOf } from '../disks/images';
import type { Core } from '../model/core';
import type { Backup, Disk, Host, Transfer, Volume } from '../model/entities';
import type { TicketTarget } from './ticket-desk';

/** An upload of a qcow2 file may be larger than the image: metadata comes on top. */
const COW_UPLOAD_FACTOR = 1.1;
const COW_HEADER_BYTES = 1024 * 1024;

/**
 * Opens what the ticket will stand for. A qemu-nbd is named after the transfer and noted in its row before it is started, so that
 * {@link closeSource} finds it after a crash too.
 *
 * Throws HostError when the host cannot serve it: a missing or broken bitmap, a running machine, no such volume.
 */
export async function openSource(core: Core, transfer: Transfer, host: Host): Promise<TicketTarget> {
  const { db } = core;
  const disk = db.disks.require(transfer.diskId);
  const backup = transfer.backupId === undefined ? undefined : db.backups.require(transfer.backupId);
  await core.step('transfer.prepare', transfer.id);
  if (backup?.mode === 'live') {
    const exported = await core.fleet.liveBackupExport(backup.id, disk.id);
    await capture(core, backup, disk, exported);
    return ofExport(exported, disk);
  }
  if (backup === undefined && transfer.format !== 'raw') return ofFile(core, transfer, disk);
  db.transfers.update(transfer.id, { exportId: transfer.id });
  const exported = await core.fleet.startNbd(host.id, transfer.id, chainToServe(core, transfer, disk, backup), {
    writable: transfer.direction === 'upload',
    ...(transfer.direction === 'upload' && db.storageDomains.get(disk.storageDomainId ?? '')?.full === true && { full: true }),
    ...bitmapOf(transfer, backup),
    ...(transfer.shallow && { shallow: true }),
  });
  if (backup !== undefined) await capture(core, backup, disk, exported);
  return ofExport(exported, disk);
}

async function capture(core: Core, backup: Backup, disk: Disk, exported: NbdExport): Promise<void> {
  const { folder } = core.captures;
  if (folder === undefined) return;
  mkdirSync(join(folder, backup.id), { recursive: true });
  writeFileSync(join(folder, backup.id, 'description'), backup.description ?? '');
  await core.fleet.dumpExport(exported, join(folder, backup.id, `${disk.id}.raw`));
}

/** Stops what {@link openSource} started; idempotent. */
export async function closeSource(core: Core, transfer: Transfer): Promise<void> {
  if (transfer.exportId === undefined) return;
  await core.fleet.stopNbd(transfer.exportId);
  core.db.transfers.update(transfer.id, { exportId: undefined });
}

function chainToServe(core: Core, transfer: Transfer, disk: Disk, backup: Backup | undefined): DiskChain {
  const frozen = backup?.disks.find((entry) => entry.diskId === disk.id)?.frozenVolumeId;
  return chainOf(core.db, disk, transfer.volumeId ?? frozen);
}

function bitmapOf(transfer: Transfer, backup: Backup | undefined): { bitmap?: string } {
  const entry = backup?.disks.find((candidate) => candidate.diskId === transfer.diskId);
  return entry?.backupMode === 'incremental' && backup?.fromCheckpointId !== undefined ? { bitmap: backup.fromCheckpointId } : {};
}

function ofExport(exported: NbdExport, disk: Disk): TicketTarget {
  return { url: exported.url, sizeBytes: exported.sizeBytes, dirty: exported.dirty, sparse: disk.sparse };
}

async function ofFile(core: Core, transfer: Transfer, disk: Disk): Promise<TicketTarget> {
  const volume = core.db.volumes.require(transfer.volumeId ?? disk.activeVolumeId ?? '');
  const url = await core.fleet.volumeFileUrl(volumeIdOf(volume));
  const sizeBytes = transfer.direction === 'upload' ? uploadLimit(core, disk, volume) : fileSize(volume, url);
  return { url, sizeBytes, dirty: false, sparse: disk.sparse };
}

function fileSize(volume: Volume, url: string): number {
  return volume.format === 'raw' ? volume.virtualSizeBytes : statSync(fileURLToPath(url)).size;
}

/** On block storage nothing grows during an upload: what was asked for at creation is all there is. */
function uploadLimit(core: Core, disk: Disk, volume: Volume): number {
  if (volume.format === 'raw') return volume.virtualSizeBytes;
  const storage = core.db.storageDomains.get(volume.domainId)?.storageType;
  const isBlock = storage === 'iscsi' || storage === 'fcp';
  if (isBlock && disk.initialSizeBytes !== undefined) return disk.initialSizeBytes;
  return Math.ceil(volume.virtualSizeBytes * COW_UPLOAD_FACTOR) + COW_HEADER_BYTES;
}
