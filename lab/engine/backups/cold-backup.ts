/**
 * Backup of a stopped machine: bitmaps are added to the files, which nobody can write while the backup lasts.
 *
 * A missing or broken bitmap of the checkpoint it starts from is not noticed here but when a transfer begins.
 * Source: reference "oVirt engine REST API" section 14.2.
 */
import { chainOf } from '../disks/images';
import type { Core } from '../model/core';
import type { PollResult } from '../model/clock';
import type { DiskChain } from '../../hosts/driver';
import type { Backup } from '../model/entities';
import type { BackupModeDriver } from './backup-service';
import type { BackupRows } from './backup-rows';

export class ColdBackup implements BackupModeDriver {
  constructor(
    private readonly core: Core,
    private readonly rows: BackupRows,
  ) {}

  begin(): Promise<void> {
    return Promise.resolve();
  }

  async tick(backup: Backup): Promise<PollResult> {
    switch (backup.phase) {
      case 'INITIALIZING':
        this.rows.advance(backup.id, 'ADDING_BITMAPS');
        return this.addBitmaps(backup);
      case 'ADDING_BITMAPS':
        // Reached only after a restart: whatever is there already is made anew.
        await this.removeBitmaps(backup);
        return this.addBitmaps(backup);
      case 'WAITING_FOR_BITMAPS': {
        const ready = this.rows.advance(backup.id, 'READY');
        this.rows.log(ready, 10790, 'normal', 'was started');
        return 'again';
      }
      case 'FINALIZING':
        await this.core.step('backup.stop', backup.id);
        this.rows.succeed(backup.id);
        return 'done';
      default:
        return 'again';
    }
  }

  finalize(backup: Backup): Promise<void> {
    const ending = this.rows.advance(backup.id, 'FINALIZING');
    this.rows.log(ending, 10794, 'normal', 'is being finalized');
    return Promise.resolve();
  }

  async cleanUp(backup: Backup): Promise<void> {
    await this.removeBitmaps(backup);
  }

  canResume(): boolean {
    return true;
  }

  private async addBitmaps(backup: Backup): Promise<PollResult> {
    await this.core.step('backup.bitmaps', backup.id);
    const chains = this.trackedChains(backup);
    if (chains.length > 0 && backup.toCheckpointId !== undefined) await this.core.fleet.addColdBitmaps(chains, backup.toCheckpointId);
    if (this.rows.alive(backup.id) === undefined) {
      await this.removeBitmaps(backup);
      return 'done';
    }
    this.rows.advance(backup.id, 'WAITING_FOR_BITMAPS');
    return 'soon';
  }

  private async removeBitmaps(backup: Backup): Promise<void> {
    const chains = this.trackedChains(backup);
    if (chains.length > 0 && backup.toCheckpointId !== undefined) await this.core.fleet.removeBitmaps(chains, backup.toCheckpointId);
  }

  private trackedChains(backup: Backup): DiskChain[] {
    const { db } = this.core;
    return backup.disks.flatMap((entry) => {
      const disk = entry.inCheckpoint ? db.disks.get(entry.diskId) : undefined;
      return disk === undefined ? [] : [chainOf(db, disk)];
    });
  }
}
