/**
 * The steps of a backup's row that all modes share: moving on by the table, ending well, ending badly. A backup holds its locks
 * under its own id.
 */
import type { DiskService } from '../disks/disk-service';
import type { Core } from '../model/core';
import type { Backup, BackupPhase, EventEntry } from '../model/entities';
import { follow } from '../states/transitions';
import type { CheckpointService } from './checkpoint-service';
import { BACKUP_TRANSITIONS, isFinished } from './phases';

export class BackupRows {
  constructor(
    private readonly core: Core,
    private readonly checkpoints: CheckpointService,
    private readonly disks: DiskService,
  ) {}

  /** The present row, or nothing when it has ended or is gone: what a step must ask after each wait. */
  alive(id: string): Backup | undefined {
    const backup = this.core.db.backups.get(id);
    return backup === undefined || isFinished(backup.phase) ? undefined : backup;
  }

  advance(id: string, to: BackupPhase, changes: Partial<Omit<Backup, 'id' | 'phase'>> = {}): Backup {
    const { db, clock } = this.core;
    const backup = db.backups.require(id);
    const phase = follow(`${backup.mode} backup`, BACKUP_TRANSITIONS[backup.mode], backup.phase, to);
    return db.backups.put({ ...backup, ...changes, phase, modifiedAt: clock.now() });
  }

  succeed(id: string): void {
    const backup = this.advance(id, 'SUCCEEDED');
    this.letGo(backup);
    this.log(backup, 10793, 'normal', 'succeeded');
    if (backup.jobId !== undefined) this.core.jobs.end(backup.jobId, true);
  }

  /** The new checkpoint goes, the old one stays; disks are free again. What hosts still hold is the mode's business. */
  fail(id: string, code = 10792, text = 'failed'): void {
    if (this.alive(id) === undefined) return;
    const { db } = this.core;
    const backup = this.advance(id, 'FAILED');
    if (backup.toCheckpointId !== undefined) this.checkpoints.forget(backup.toCheckpointId);
    db.backups.update(id, { snapshotId: undefined });
    this.letGo(backup);
    this.log(backup, code, 'error', text);
    if (backup.jobId !== undefined) this.core.jobs.end(backup.jobId, false);
  }

  log(backup: Backup, code: number, severity: EventEntry['severity'], text: string): void {
    const name = this.core.db.vms.get(backup.vmId)?.name ?? backup.vmId;
    const refs = { vmId: backup.vmId, userId: backup.userId };
    this.core.events.log(code, severity, `Backup ${backup.id} for VM ${name} ${text}.`, refs, backup.correlationId);
  }

  private letGo(backup: Backup): void {
    const { db, locks } = this.core;
    db.transaction(() => {
      for (const { diskId, scratchDiskId } of backup.disks) {
        if (scratchDiskId !== undefined) this.disks.forget(scratchDiskId);
        // A hybrid backup never locks the disks' rows; another operation may have.
        if (backup.mode !== 'hybrid') this.disks.setStatus(diskId, 'ok');
      }
    });
    locks.release(backup.id);
  }
}
