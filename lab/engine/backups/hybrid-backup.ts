/**
 * Backup through an automatic snapshot: the machine stays free, the frozen volumes are what transfers read, and finalizing
 * merges them back. It ends well even when the merge fails, and then says so in event 10813.
 *
 * Source: reference "oVirt engine REST API" sections 4.1, 4.3 and 14.3.
 */
import { chainOf } from '../disks/images';
import type { Core } from '../model/core';
import type { PollResult } from '../model/clock';
import type { Backup, Vm } from '../model/entities';
import type { SnapshotRemoval } from '../snapshots/snapshot-removal';
import type { SnapshotService } from '../snapshots/snapshot-service';
import type { BackupModeDriver } from './backup-service';
import type { BackupRows } from './backup-rows';
import type { CheckpointService } from './checkpoint-service';

export const AUTO_SNAPSHOT_DESCRIPTION = 'Auto-generated for Backup VM';

export class HybridBackup implements BackupModeDriver {
  constructor(
    private readonly core: Core,
    private readonly rows: BackupRows,
    private readonly checkpoints: CheckpointService,
    private readonly snapshots: SnapshotService,
    private readonly removal: SnapshotRemoval,
  ) {}

  async begin(backup: Backup, vm: Vm): Promise<void> {
    const tracked = new Set(backup.disks.flatMap((entry) => (entry.inCheckpoint ? [entry.diskId] : [])));
    const snapshot = await this.snapshots.create(vm, {
      correlationId: backup.correlationId,
      userId: backup.userId,
      description: AUTO_SNAPSHOT_DESCRIPTION,
      persistMemory: false,
      diskIds: backup.disks.map((entry) => entry.diskId),
      ...(backup.toCheckpointId !== undefined && { bitmap: { name: backup.toCheckpointId, diskIds: tracked } }),
      onBehalfOf: backup.id,
    });
    if (this.rows.alive(backup.id) !== undefined) this.rows.advance(backup.id, 'STARTING', { snapshotId: snapshot.id });
  }

  async tick(backup: Backup, vm: Vm): Promise<PollResult> {
    if (backup.phase === 'STARTING') return this.awaitSnapshot(backup);
    if (backup.phase === 'READY' && backup.stopRequested) return this.beginRemoval(backup, vm);
    if (backup.phase === 'REMOVING_SNAPSHOT') return this.awaitRemoval(backup);
    return 'again';
  }

  /** Only a flag: the next turn of the loop acts on it. */
  finalize(backup: Backup): Promise<void> {
    this.core.db.backups.update(backup.id, { stopRequested: true });
    this.rows.log(backup, 10794, 'normal', 'is being finalized');
    return Promise.resolve();
  }

  /** Tries to merge the snapshot back, once it is complete. */
  async cleanUp(backup: Backup): Promise<void> {
    const { db, clock } = this.core;
    const id = backup.snapshotId;
    if (id === undefined) return;
    while (db.snapshots.get(id)?.pending === 'create') await clock.sleep(1_000);
    const snapshot = db.snapshots.get(id);
    if (snapshot?.type !== 'regular') return;
    const chains = backup.disks.flatMap((entry) => db.disks.get(entry.diskId) ?? []).map((disk) => chainOf(db, disk));
    if (backup.toCheckpointId !== undefined) await this.core.fleet.removeBitmaps(chains, backup.toCheckpointId);
    await this.removal.remove(snapshot, backup, { onBehalfOf: backup.id });
  }

  canResume(backup: Backup): boolean {
    return backup.phase !== 'INITIALIZING';
  }

  private awaitSnapshot(backup: Backup): PollResult {
    const { db } = this.core;
    const snapshot = db.snapshots.get(backup.snapshotId ?? '');
    // A failed creation gives the id back to the active snapshot.
    if (snapshot?.type !== 'regular') throw new Error(`the snapshot of backup ${backup.id} was not created`);
    if (snapshot.status !== 'ok') return 'soon';
    const frozen = new Map(this.snapshots.volumesOf(snapshot.id).map((volume) => [volume.diskId, volume.id]));
    const disks = backup.disks.map((entry) => {
      const frozenVolumeId = frozen.get(entry.diskId);
      return frozenVolumeId === undefined ? entry : { ...entry, frozenVolumeId };
    });
    const tracked = backup.disks.flatMap((entry) => (entry.inCheckpoint ? [entry.diskId] : []));
    const ready = db.transaction(() => {
      if (backup.toCheckpointId !== undefined) this.checkpoints.add(backup.toCheckpointId, backup.vmId, backup.description, tracked);
      return this.rows.advance(backup.id, 'READY', { disks });
    });
    this.rows.log(ready, 10790, 'normal', 'was started');
    return 'again';
  }

  private async beginRemoval(backup: Backup, vm: Vm): Promise<PollResult> {
    const { db } = this.core;
    const removing = this.rows.advance(backup.id, 'REMOVING_SNAPSHOT');
    const snapshot = db.snapshots.get(backup.snapshotId ?? '');
    if (snapshot === undefined) return this.awaitRemoval(removing);
    try {
      await this.removal.remove(snapshot, backup, { onBehalfOf: backup.id });
    } catch (error) {
      this.core.log.error(`the snapshot of backup ${backup.id} of VM ${vm.name} cannot be removed`, error);
      return this.awaitRemoval(removing);
    }
    return 'soon';
  }

  private awaitRemoval(backup: Backup): PollResult {
    const { db } = this.core;
    const snapshot = db.snapshots.get(backup.snapshotId ?? '');
    if (snapshot?.pending === 'merge') return 'again';
    if (snapshot !== undefined) this.rows.log(backup, 10813, 'warning', 'may have left its snapshot behind');
    this.rows.succeed(backup.id);
    return 'done';
  }
}
