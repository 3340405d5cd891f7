/**
 * Backup of a running machine through its own process: checkpoints are made known to the host, a scratch disk is created per disk,
 * then one transaction on the host is the point in time.
 *
 * Source: reference "oVirt engine REST API" sections 4.7, 4.10, 14.1.
 */
import { randomUUID } from 'node:crypto';
import { effectiveLevel } from '../disks/images';
import { executionFailed } from '../http/fault';
import type { Core } from '../model/core';
import type { PollResult } from '../model/clock';
import type { Backup, BackupDiskEntry, Checkpoint, Disk, Vm } from '../model/entities';
import type { BackupModeDriver } from './backup-service';
import type { BackupRows } from './backup-rows';
import type { CheckpointService } from './checkpoint-service';
import { isAtLeast } from './phases';

export class LiveBackup implements BackupModeDriver {
  constructor(
    private readonly core: Core,
    private readonly rows: BackupRows,
    private readonly checkpoints: CheckpointService,
  ) {}

  async begin(backup: Backup, vm: Vm, from: Checkpoint | undefined): Promise<void> {
    const { db } = this.core;
    // Level 4.5 redefines the whole chain, even for a full backup; 4.6 and later only what the backup starts from.
    const onlyOrigin = isAtLeast(effectiveLevel(db, vm), 4, 6);
    const known = this.checkpoints
      .list(vm.id)
      .filter((checkpoint) => checkpoint.id !== backup.toCheckpointId && checkpoint.state === 'created');
    const wanted = onlyOrigin ? known.filter((checkpoint) => checkpoint.id === from?.id) : known;
    if (wanted.length > 0) await this.checkpoints.redefine(vm, wanted, backup.id, backup);
    // A client may have finalized too early, while the host was asked.
    if (this.rows.alive(backup.id) !== undefined) this.rows.advance(backup.id, 'CREATING_SCRATCH_DISKS');
  }

  async tick(backup: Backup, vm: Vm): Promise<PollResult> {
    switch (backup.phase) {
      case 'CREATING_SCRATCH_DISKS':
        await this.createScratchDisks(backup, vm);
        if (this.rows.alive(backup.id) === undefined) return 'done';
        await this.startOnHost(this.rows.advance(backup.id, 'STARTING'), vm);
        return 'again';
      case 'STARTING':
        // Reached only after a restart: the host may have started it already.
        if (await this.isOnHost(backup)) this.becomeReady(backup, vm);
        else await this.startOnHost(backup, vm);
        return 'again';
      case 'FINALIZING':
        await this.core.step('backup.stop', backup.id);
        await this.core.fleet.stopLiveBackup(backup.id, true);
        this.rows.succeed(backup.id);
        return 'done';
      default:
        return 'again';
    }
  }

  async finalize(backup: Backup): Promise<void> {
    if (!(await this.isOnHost(backup))) {
      this.rows.advance(backup.id, 'FINALIZING_FAILURE');
      this.rows.fail(backup.id, 10795, 'could not be finalized: the host lost it');
      await this.cleanUp(backup);
      throw executionFailed();
    }
    const ending = this.rows.advance(backup.id, 'FINALIZING');
    this.rows.log(ending, 10794, 'normal', 'is being finalized');
  }

  async cleanUp(backup: Backup): Promise<void> {
    await this.core.fleet.stopLiveBackup(backup.id, false);
  }

  canResume(backup: Backup): boolean {
    return backup.phase !== 'INITIALIZING';
  }

  private async createScratchDisks(backup: Backup, vm: Vm): Promise<void> {
    const { db } = this.core;
    try {
      await this.core.step('backup.scratch', backup.id);
    } catch (error) {
      this.rows.log(backup, 10806, 'error', 'could not create its scratch disks');
      throw error;
    }
    const entries = backup.disks.map((entry): BackupDiskEntry => {
      if (entry.scratchDiskId !== undefined) return entry;
      return { ...entry, scratchDiskId: this.addScratchRow(db.disks.require(entry.diskId), backup, vm).id };
    });
    db.backups.update(backup.id, { disks: entries });
  }

  /** The row only: the host keeps the bytes with its own export. */
  private addScratchRow(disk: Disk, backup: Backup, vm: Vm): Disk {
    const { db, clock } = this.core;
    return db.disks.put({
      id: randomUUID(),
      name: `VM ${vm.name} backup ${backup.id} scratch disk for ${disk.name}`,
      description: `Backup ${backup.id} scratch disk`,
      status: 'ok',
      storageType: 'image',
      contentType: 'backup_scratch',
      format: 'cow',
      sparse: true,
      provisionedSizeBytes: disk.provisionedSizeBytes,
      backup: 'none',
      shareable: false,
      wipeAfterDelete: disk.wipeAfterDelete,
      propagateErrors: false,
      ...(disk.storageDomainId !== undefined && { storageDomainId: disk.storageDomainId }),
      actualSizeBytes: 0,
      totalSizeBytes: 0,
      createdAt: clock.now(),
      pretended: disk.pretended,
    });
  }

  private async startOnHost(backup: Backup, vm: Vm): Promise<void> {
    const { fleet } = this.core;
    await this.freezeStep(backup);
    await this.core.step('backup.start', backup.id);
    await fleet.startLiveBackup({
      vmId: vm.id,
      backupId: backup.id,
      disks: backup.disks.map((entry) => ({ diskId: entry.diskId, mode: entry.backupMode, addBitmap: entry.inCheckpoint })),
      ...(backup.fromCheckpointId !== undefined && { fromCheckpointId: backup.fromCheckpointId }),
      ...(backup.toCheckpointId !== undefined && { toCheckpointId: backup.toCheckpointId }),
      requireConsistency: backup.requireConsistency,
    });
    if (this.rows.alive(backup.id) === undefined) await this.cleanUp(backup);
    else this.becomeReady(backup, vm);
  }

  /** A freeze that was told to fail matters only when consistency is required. */
  private async freezeStep(backup: Backup): Promise<void> {
    try {
      await this.core.step('backup.freeze', backup.id);
    } catch (error) {
      if (backup.requireConsistency) throw error;
      this.core.log.info(`freeze for backup ${backup.id} failed, it goes on`, { reason: String(error) });
    }
  }

  private becomeReady(backup: Backup, vm: Vm): void {
    const hostId = this.core.db.vms.get(vm.id)?.hostId;
    const ready = this.rows.advance(backup.id, 'READY', hostId === undefined ? {} : { hostId });
    this.rows.log(ready, 10790, 'normal', 'was started');
  }

  private async isOnHost(backup: Backup): Promise<boolean> {
    const [first] = backup.disks;
    if (first === undefined) return true;
    return this.core.fleet.liveBackupExport(backup.id, first.diskId).then(
      () => true,
      // The machine stopped or its process died: the backup went with it.
      () => false,
    );
  }
}
