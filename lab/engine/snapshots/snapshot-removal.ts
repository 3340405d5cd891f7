/**
 * Deleting snapshots: disk by disk the volume above the snapshot's is merged into it, live through the running process, cold on files.
 * What was merged before a failure stays merged. Source: reference "oVirt engine REST API" section 5.4.
 */
import type { Requester } from '../disks/disk-service';
import { chainOf, isLive, measureDisk, setImageStatus, volumeIdOf } from '../disks/images';
import { takeLocks } from '../locks/take-locks';
import type { Core } from '../model/core';
import type { Snapshot, Volume } from '../model/entities';
import { refuse } from '../states/refusals';
import { requireRemovable } from './snapshot-checks';
import { refsOf, type SnapshotService } from './snapshot-service';

const GIB = 1024 ** 3;

export class SnapshotRemoval {
  constructor(
    private readonly core: Core,
    private readonly snapshots: SnapshotService,
  ) {}

  /** Validates and answers once the merge has begun. */
  async remove(snapshot: Snapshot, requester: Requester, options: { onBehalfOf?: string } = {}): Promise<string> {
    const { db, locks, jobs } = this.core;
    const vm = db.vms.require(snapshot.vmId);
    const holder = `merge-${snapshot.id}`;
    takeLocks(locks, { holder, message: 'OBJECT_LOCKED', shared: [`vm:${vm.id}`] }, vm.name);
    try {
      requireRemovable(this.core, vm, snapshot, options.onBehalfOf);
      this.snapshots.setStatus(snapshot.id, 'locked');
      const job = jobs.start(`Removing Snapshot ${snapshot.description} of VM ${vm.name}`, requester);
      db.snapshots.update(snapshot.id, {
        pending: 'merge',
        jobId: job.id,
        userId: requester.userId,
        correlationId: requester.correlationId,
      });
      this.core.events.log(
        342,
        'normal',
        `Snapshot '${snapshot.description}' deletion for VM '${vm.name}' was initiated.`,
        refsOf(vm, requester),
        requester.correlationId,
      );
      this.core.background(async () => {
        await this.finishRemove(snapshot.id, holder);
      });
      return job.id;
    } catch (error) {
      locks.release(holder);
      throw error;
    }
  }

  /** Takes one disk out of a snapshot: the answer comes once the merge has begun. */
  removeVolume(volume: Volume, requester: Requester): string {
    const { db, locks, jobs } = this.core;
    const disk = db.disks.require(volume.diskId);
    const snapshot = db.snapshots.get(volume.snapshotId ?? '');
    if (snapshot?.type !== 'regular') throw refuse('VM_SNAPSHOT_TYPE_NOT_REGULAR');
    const vm = db.vms.require(snapshot.vmId);
    const holder = `merge-${volume.id}`;
    takeLocks(locks, { holder, message: 'OBJECT_LOCKED', shared: [`vm:${vm.id}`], exclusive: [`disk:${disk.id}`] }, vm.name);
    try {
      requireRemovable(this.core, vm, snapshot, holder);
    } catch (error) {
      locks.release(holder);
      throw error;
    }
    setImageStatus(db, disk.id, 'locked');
    const job = jobs.start(`Removing snapshot disk of ${disk.name}`, requester);
    this.core.background(async () => {
      try {
        await this.mergeInto(volume);
        jobs.end(job.id, true);
      } finally {
        jobs.end(job.id, false);
        setImageStatus(db, disk.id, 'ok');
        locks.release(holder);
      }
    });
    return job.id;
  }

  /** Merges every disk. Disks merged before a failure stay merged: the next attempt skips them. */
  private async finishRemove(snapshotId: string, holder: string): Promise<void> {
    const { db, events, locks } = this.core;
    const snapshot = db.snapshots.require(snapshotId);
    const vm = db.vms.require(snapshot.vmId);
    const requester = { correlationId: snapshot.correlationId ?? '', userId: snapshot.userId ?? '' };
    const diskIds = this.snapshots.volumesOf(snapshotId).map((volume) => volume.diskId);
    try {
      for (const diskId of diskIds) setImageStatus(db, diskId, 'locked');
      for (const volume of this.snapshots.volumesOf(snapshotId)) await this.mergeInto(volume);
      db.transaction(() => {
        for (const diskId of diskIds) setImageStatus(db, diskId, 'ok');
        this.snapshots.clearPending(snapshotId, true);
        db.snapshots.delete(snapshotId);
      });
      events.log(
        356,
        'normal',
        `Snapshot '${snapshot.description}' deletion for VM '${vm.name}' has been completed.`,
        refsOf(vm, requester),
        requester.correlationId,
      );
    } catch (error) {
      this.core.log.error(`removal of snapshot ${snapshotId} failed`, error);
      db.transaction(() => {
        for (const diskId of diskIds) setImageStatus(db, diskId, 'ok');
        this.snapshots.setStatus(snapshotId, 'ok');
        this.snapshots.clearPending(snapshotId, false);
      });
      const partly = this.snapshots.volumesOf(snapshotId).length < diskIds.length;
      events.log(
        357,
        'error',
        `Failed to delete snapshot '${snapshot.description}' for VM '${vm.name}'.`,
        refsOf(vm, requester),
        requester.correlationId,
      );
      if (partly)
        events.log(
          359,
          'warning',
          `Snapshot '${snapshot.description}' of VM '${vm.name}' was only partly merged.`,
          refsOf(vm, requester),
          requester.correlationId,
        );
    } finally {
      locks.release(holder);
    }
  }

  /** The volume above takes its place below: the base keeps its own id, and with it comes what the upper one was for. */
  private async mergeInto(base: Volume): Promise<void> {
    const { db, fleet, clock, settings } = this.core;
    const top = db.volumes.find((volume) => volume.parentId === base.id);
    const disk = db.disks.require(base.diskId);
    if (top === undefined) {
      // Nothing above: the disk has left the machine since, or its active volume was reset.
      if (disk.activeVolumeId !== base.id) db.volumes.delete(base.id);
      else db.volumes.update(base.id, { snapshotId: undefined });
      return;
    }
    await this.core.step('snapshot.merge', base.snapshotId ?? base.id);
    await clock.sleep((settings.mergeMsPerGib * base.virtualSizeBytes) / GIB);
    const owner = db.vms.get(db.snapshots.get(base.snapshotId ?? '')?.vmId ?? '');
    if (!disk.pretended) {
      await fleet.mergeVolume(owner !== undefined && isLive(owner) ? owner.id : undefined, chainOf(db, disk), volumeIdOf(top));
    }
    db.transaction(() => {
      for (const above of db.volumes.list((volume) => volume.parentId === top.id)) db.volumes.update(above.id, { parentId: base.id });
      db.volumes.update(base.id, { snapshotId: top.snapshotId, status: top.status, virtualSizeBytes: top.virtualSizeBytes });
      db.volumes.delete(top.id);
      if (disk.activeVolumeId === top.id) {
        // Back on a raw base there is nowhere to keep a bitmap.
        const raw = base.format === 'raw';
        db.disks.update(disk.id, { activeVolumeId: base.id, format: base.format, sparse: base.sparse, ...(raw && { backup: 'none' }) });
      }
    });
    if (disk.pretended) return;
    await fleet.deleteVolume(volumeIdOf(top));
    await measureDisk(this.core, disk.id);
  }

  /** After a restart: merges go on. */
  recover(): void {
    const { db, locks } = this.core;
    for (const snapshot of db.snapshots.list((candidate) => candidate.pending === 'merge')) {
      const holder = `merge-${snapshot.id}`;
      locks.tryAcquire({ holder, message: 'OBJECT_LOCKED', shared: [`vm:${snapshot.vmId}`] });
      this.core.background(() => this.finishRemove(snapshot.id, holder));
    }
  }
}
