/**
 * Image transfers: tickets for reading or writing one disk, and the loop that follows them to their end.
 *
 * Owns rows of transfers, their tickets and exports, and the disk's status meanwhile. Client actions only write a wanted phase; the
 * loop acts on it later. Phases and their table: phases.ts. Source: reference "oVirt engine REST API" sections 6 and 14.4.
 */
import { randomUUID } from 'node:crypto';
import type { DiskService } from '../disks/disk-service';
import { vmsOfDisk } from '../disks/images';
import { incomplete } from '../http/fault';
import type { LockName, LockRequest } from '../locks/lock-manager';
import { takeLocks } from '../locks/take-locks';
import type { Core } from '../model/core';
import type { Transfer, TransferPhase } from '../model/entities';
import { RETENTION } from '../model/settings';
import { refuse } from '../states/refusals';
import { clientMayWrite, isFinished, isPaused } from './phases';
import { checkTransfer, chooseHost, findSubject, type TransferRequest, type TransferSubject } from './transfer-checks';
import type { TransferLoop } from './transfer-loop';
import type { TransferRows } from './transfer-rows';

export class TransferService {
  constructor(
    private readonly core: Core,
    private readonly disks: DiskService,
    private readonly rows: TransferRows,
    private readonly loop: TransferLoop,
  ) {}

  /** Validates, prepares and installs the ticket inside the request, so the answer is usually `transferring` already. */
  async create(request: TransferRequest): Promise<Transfer> {
    const { core } = this;
    if (request.diskId === undefined && request.volumeId === undefined) throw incomplete('ImageTransfer', ['disk|snapshot|image'], 'add');
    const subject = findSubject(core, request);
    const id = randomUUID();
    if (subject.backup === undefined) takeLocks(core.locks, this.locksOf(id, request.direction, subject), subject.disk.name);
    try {
      checkTransfer(core, request, subject);
    } catch (error) {
      core.locks.release(id);
      throw error;
    }
    const transfer = this.addRow(id, request, subject);
    const host = chooseHost(core, request, subject);
    if (host === undefined) {
      this.rows.log(transfer, 1067, 'error', 'no host is available for it');
      await this.endBadly(transfer);
      return core.db.transfers.require(id);
    }
    core.db.transfers.update(id, { hostId: host.id });
    await this.loop.prepare(id, host);
    this.loop.watch(id);
    return core.db.transfers.require(id);
  }

  finalize(id: string): void {
    this.writeByClient(id, 'finalizing_success');
  }

  cancel(id: string): void {
    this.writeByClient(id, 'cancelled_user');
  }

  pause(id: string): void {
    const transfer = this.core.db.transfers.get(id);
    if (transfer?.direction === 'download') throw refuse('CANNOT_PAUSE_IMAGE_DOWNLOAD');
    this.writeByClient(id, 'paused_user');
  }

  resume(id: string): void {
    const transfer = this.core.db.transfers.get(id);
    if (transfer !== undefined && !isPaused(transfer.phase)) throw refuse('CANNOT_RESUME_IMAGE_TRANSFER');
    this.writeByClient(id, 'resuming');
  }

  /** Refreshes the entity, nothing else: idle time is the ticket's. */
  extend(id: string): void {
    this.core.db.transfers.update(id, { updatedAt: this.core.clock.now() });
  }

  /** A machine's process ended: exports of its live backups are gone, and their transfers with them. */
  loseLiveTransfers(vmId: string): void {
    const { db } = this.core;
    for (const transfer of db.transfers.list((candidate) => candidate.phase === 'transferring')) {
      const backup = transfer.backupId === undefined ? undefined : db.backups.get(transfer.backupId);
      if (backup?.vmId === vmId && backup.mode === 'live') this.rows.move(transfer.id, 'transferring', 'cancelled_system');
    }
  }

  /** After a restart: locks are taken again and every transfer is followed on. */
  recover(): void {
    const { db, locks } = this.core;
    for (const transfer of db.transfers.list((candidate) => !isFinished(candidate.phase))) {
      const disk = db.disks.get(transfer.diskId);
      if (disk !== undefined && transfer.backupId === undefined) {
        const volume = transfer.volumeId === undefined ? undefined : db.volumes.get(transfer.volumeId);
        locks.tryAcquire(this.locksOf(transfer.id, transfer.direction, { disk, volume, backup: undefined }));
      }
      this.rows.move(transfer.id, 'initializing', this.rows.brokenOff(transfer));
      this.loop.watch(transfer.id);
    }
    this.sweepLater();
  }

  private locksOf(id: string, direction: Transfer['direction'], { disk, volume }: TransferSubject): LockRequest {
    const diskLock: LockName = `disk:${disk.id}`;
    const message = 'DISK_IS_BEING_TRANSFERRED';
    if (direction === 'upload') return { holder: id, message, exclusive: [diskLock] };
    if (volume === undefined) return { holder: id, message, shared: [diskLock] };
    return { holder: id, message, shared: [diskLock, ...vmsOfDisk(this.core.db, disk.id).map((vm): LockName => `vm:${vm.id}`)] };
  }

  private addRow(id: string, request: TransferRequest, { disk, volume, backup }: TransferSubject): Transfer {
    const { db, clock, jobs } = this.core;
    const now = clock.now();
    const verb = request.direction === 'upload' ? 'Uploading' : 'Downloading';
    const job = jobs.start(`${verb} image of disk ${disk.name}`, request);
    return db.transaction(() => {
      if (volume !== undefined) db.volumes.update(volume.id, { status: 'locked' });
      else if (backup === undefined) this.disks.setStatus(disk.id, 'locked');
      else if (backup.mode === 'hybrid') this.rows.setFrozenStatus(backup.id, disk.id, 'locked');
      const transfer = db.transfers.put({
        id,
        diskId: disk.id,
        ...(volume !== undefined && { volumeId: volume.id }),
        ...(backup !== undefined && { backupId: backup.id }),
        direction: request.direction,
        ...(request.format !== undefined && { format: request.format }),
        shallow: request.shallow,
        phase: 'initializing',
        sizeBytes: disk.provisionedSizeBytes,
        inactivityTimeoutSeconds: request.inactivityTimeoutSeconds,
        timeoutPolicy: request.timeoutPolicy,
        active: false,
        transferredBytes: 0,
        jobId: job.id,
        userId: request.userId,
        correlationId: request.correlationId,
        createdAt: now,
        updatedAt: now,
      });
      this.rows.log(transfer, 1031, 'normal', 'was initiated');
      return transfer;
    });
  }

  private async endBadly(transfer: Transfer): Promise<void> {
    await this.rows.releaseFailed(transfer);
    this.rows.move(transfer.id, 'initializing', 'finished_failure');
    this.rows.log(transfer, 1034, 'error', 'failed');
    this.rows.endJob(transfer, false);
  }

  /** Any wanted phase from any unfinished one; on finished or vanished transfers it is ignored. */
  private writeByClient(id: string, phase: TransferPhase): void {
    const transfer = this.core.db.transfers.get(id);
    if (transfer !== undefined && clientMayWrite(transfer.phase))
      this.core.db.transfers.update(id, { phase, updatedAt: this.core.clock.now() });
  }

  private sweepLater(): void {
    const { db, clock } = this.core;
    clock.after(RETENTION.cleanerEveryMs, () => {
      for (const transfer of db.transfers.list((candidate) => isFinished(candidate.phase))) {
        const keptMs = transfer.phase === 'finished_success' ? RETENTION.succeededMs : RETENTION.failedMs;
        if (clock.now() - transfer.updatedAt > keptMs) db.transfers.delete(transfer.id);
      }
      this.sweepLater();
    });
  }
}
