/**
 * What every part of transfers does with a row: moving it on by the table, saying so, and giving the disk back.
 */
import type { DiskService } from '../disks/disk-service';
import type { Core } from '../model/core';
import type { EventEntry, Transfer, TransferPhase } from '../model/entities';
import { follow } from '../states/transitions';
import { TRANSFER_TRANSITIONS } from './phases';

export class TransferRows {
  constructor(
    private readonly core: Core,
    private readonly disks: DiskService,
  ) {}

  /** The loop's own step, unless somebody has moved it on meanwhile. */
  move(id: string, from: TransferPhase, to: TransferPhase): void {
    const { db, clock } = this.core;
    if (db.transfers.get(id)?.phase !== from) return;
    db.transfers.update(id, { phase: follow('transfer', TRANSFER_TRANSITIONS, from, to), updatedAt: clock.now() });
  }

  /** The disk is `ok` again; also while its live or cold backup goes on, as in the engine. */
  unlock(transfer: Transfer): void {
    const { db } = this.core;
    if (transfer.volumeId !== undefined) db.volumes.update(transfer.volumeId, { status: 'ok' });
    else if (transfer.backupId !== undefined && db.backups.get(transfer.backupId)?.mode === 'hybrid') {
      this.setFrozenStatus(transfer.backupId, transfer.diskId, 'ok');
    } else this.disks.setStatus(transfer.diskId, 'ok');
  }

  /** An upload that failed takes its disk with it, also one that was there before. */
  async releaseFailed(transfer: Transfer): Promise<void> {
    if (transfer.direction === 'download') this.unlock(transfer);
    else if (this.core.db.disks.has(transfer.diskId)) {
      this.disks.setStatus(transfer.diskId, 'illegal');
      await this.disks.finishRemove(transfer.diskId);
    }
    this.core.locks.release(transfer.id);
  }

  setFrozenStatus(backupId: string, diskId: string, status: 'ok' | 'locked'): void {
    const { db } = this.core;
    const volumeId = db.backups.get(backupId)?.disks.find((entry) => entry.diskId === diskId)?.frozenVolumeId;
    if (volumeId !== undefined) db.volumes.update(volumeId, { status });
  }

  endJob(transfer: Transfer, succeeded: boolean): void {
    if (transfer.jobId !== undefined) this.core.jobs.end(transfer.jobId, succeeded);
  }

  log(transfer: Transfer, code: number, severity: EventEntry['severity'], text: string): void {
    const disk = this.core.db.disks.get(transfer.diskId);
    const what = transfer.direction === 'upload' ? 'Image upload' : 'Image download';
    const refs = {
      diskId: transfer.diskId,
      userId: transfer.userId,
      ...(disk?.storageDomainId !== undefined && { storageDomainId: disk.storageDomainId }),
    };
    this.core.events.log(code, severity, `${what} with disk ${disk?.name ?? transfer.diskId} ${text}.`, refs, transfer.correlationId);
  }

  brokenOff(transfer: Transfer): TransferPhase {
    return transfer.direction === 'upload' ? 'paused_system' : 'cancelled_system';
  }
}
