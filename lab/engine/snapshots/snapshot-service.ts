/**
 * Snapshots of machines: creating them, live through the running process and cold on files. Deleting: snapshot-removal.ts, going back
 * to one: preview-service.ts.
 *
 * The new regular snapshot takes over the id of the former active one; the active one gets a new id. Work that was under way is
 * finished after a restart.
 * States: snapshot-states.ts. Source: reference "oVirt engine REST API" sections 5.1 to 5.4.
 */
import { randomUUID } from 'node:crypto';
import { optional, type Requester } from '../disks/disk-service';
import { activeSnapshot, chainOf, disksOfVm, isLive, measureDisk, setImageStatus, volumeIdOf } from '../disks/images';
import { takeLocks } from '../locks/take-locks';
import type { Core } from '../model/core';
import type { Disk, Snapshot, Vm, Volume } from '../model/entities';
import { follow } from '../states/transitions';
import { requireCreatable, requireSpaceOn } from './snapshot-checks';
import type { SnapshotRequest } from './snapshot-request';
import { SNAPSHOT_TRANSITIONS } from './snapshot-states';

/** Makes the OVF that a snapshot keeps; registered by the folder that knows how to write one. */
export type SnapshotConfiguration = (vm: Vm) => string | undefined;

export class SnapshotService {
  constructor(
    private readonly core: Core,
    private readonly configurationOf: SnapshotConfiguration,
  ) {}

  /** Validates, takes the locks and answers with the locked snapshot; the volumes follow. */
  async create(vm: Vm, request: SnapshotRequest): Promise<Snapshot> {
    const { core } = this;
    const { db, locks } = core;
    const holder = `snapshot-${randomUUID()}`;
    takeLocks(locks, { holder, message: 'SNAPSHOT_IS_BEING_TAKEN_FOR_VM', exclusive: [`vm:${vm.id}`] }, vm.name);
    try {
      const disks = requireCreatable(core, vm, request);
      await requireSpaceOn(core, disks);
      const active = activeSnapshot(db, vm.id) ?? this.addActive(vm.id);
      const job = core.jobs.start(`Creating Snapshot ${request.description} for VM ${vm.name}`, request);
      const snapshot = this.beginRows(vm, active, disks, request, job.id);
      core.events.log(
        45,
        'normal',
        `Snapshot '${request.description}' creation for VM '${vm.name}' was initiated.`,
        refsOf(vm, request),
        request.correlationId,
      );
      core.background(() => this.finishCreate(snapshot.id, holder, request));
      return snapshot;
    } catch (error) {
      locks.release(holder);
      throw error;
    }
  }

  /** Disks whose chain holds a volume of this snapshot. */
  volumesOf(snapshotId: string): Volume[] {
    return this.core.db.volumes.list((volume) => volume.snapshotId === snapshotId);
  }

  /** After a restart: creations are finished or undone. */
  async recover(): Promise<void> {
    for (const snapshot of this.core.db.snapshots.list((candidate) => candidate.pending === 'create')) {
      // Complete only with every leaf: hosts undo a live step that was cut off, and cold files are made one by one.
      const leaves = this.leavesAbove(snapshot.id);
      const found = await Promise.all(leaves.map((leaf) => this.exists(leaf)));
      const exists = found.every(Boolean);
      if (exists) this.endCreate(snapshot.id);
      else await this.undoCreate(snapshot.id);
    }
  }

  private exists(volume: Volume): Promise<boolean> {
    return this.core.fleet.volumeActualBytes(volumeIdOf(volume)).then(
      () => true,
      // Any failure to look at it means that it is not there to be used.
      () => false,
    );
  }

  /** A machine always has exactly one active snapshot. */
  addActive(vmId: string): Snapshot {
    return this.core.db.snapshots.put({
      id: randomUUID(),
      vmId,
      description: 'Active VM',
      type: 'active',
      status: 'ok',
      date: this.core.clock.now(),
      persistMemory: false,
    });
  }

  setStatus(snapshotId: string, status: Snapshot['status']): void {
    const { db } = this.core;
    const snapshot = db.snapshots.require(snapshotId);
    if (snapshot.status === status) return;
    db.snapshots.update(snapshotId, { status: follow('snapshot', SNAPSHOT_TRANSITIONS, snapshot.status, status) as Snapshot['status'] });
  }

  private beginRows(vm: Vm, active: Snapshot, disks: readonly Disk[], request: SnapshotRequest, jobId: string): Snapshot {
    const { db, clock } = this.core;
    return db.transaction(() => {
      const nextActiveId = randomUUID();
      const ovf = this.configurationOf(vm);
      const snapshot = db.snapshots.put({
        ...active,
        description: request.description,
        type: 'regular',
        status: 'locked',
        date: clock.now(),
        persistMemory: request.persistMemory,
        pending: 'create',
        correlationId: request.correlationId,
        userId: request.userId,
        jobId,
        ...optional('ovf', ovf),
      });
      db.snapshots.put({ ...active, id: nextActiveId, date: clock.now() });
      const taken = new Set(disks.map((disk) => disk.id));
      for (const { disk } of disksOfVm(db, vm.id)) {
        const leaf = disk.activeVolumeId === undefined ? undefined : db.volumes.get(disk.activeVolumeId);
        if (leaf === undefined) continue;
        if (!taken.has(disk.id)) {
          // Not part of the snapshot: its leaf stays the active state.
          db.volumes.update(leaf.id, { snapshotId: nextActiveId });
          continue;
        }
        db.volumes.put({
          id: request.leafIds?.get(disk.id) ?? randomUUID(),
          diskId: disk.id,
          domainId: leaf.domainId,
          format: 'cow',
          sparse: true,
          virtualSizeBytes: leaf.virtualSizeBytes,
          actualSizeBytes: 0,
          parentId: leaf.id,
          snapshotId: nextActiveId,
          status: 'locked',
          createdAt: clock.now(),
        });
        setImageStatus(db, disk.id, 'locked');
      }
      return snapshot;
    });
  }

  private async finishCreate(snapshotId: string, holder: string, request: SnapshotRequest): Promise<void> {
    const { db, clock, events, locks } = this.core;
    const { vmId } = db.snapshots.require(snapshotId);
    const vm = db.vms.require(vmId);
    try {
      await this.core.step('snapshot.create', snapshotId);
      await this.createVolumes(vm, snapshotId, request.bitmap);
      await clock.sleep(this.core.settings.snapshotCreateMs);
      this.endCreate(snapshotId);
      events.log(
        68,
        'normal',
        `Snapshot '${request.description}' creation for VM '${vm.name}' has been completed.`,
        refsOf(vm, request),
        request.correlationId,
      );
      locks.release(holder);
    } catch (error) {
      this.core.log.error(`snapshot ${snapshotId} failed`, error);
      await this.undoCreate(snapshotId);
      locks.release(holder);
      events.log(
        69,
        'error',
        `Failed to complete snapshot '${request.description}' creation for VM '${vm.name}'.`,
        refsOf(vm, request),
        request.correlationId,
      );
      return;
    }
    for (const volume of this.volumesOf(snapshotId)) {
      await measureDisk(this.core, volume.diskId).catch((error: unknown) => {
        this.core.log.error(`measuring disk ${volume.diskId} failed`, error);
      });
    }
  }

  private async createVolumes(vm: Vm, snapshotId: string, bitmap: SnapshotRequest['bitmap']): Promise<void> {
    const { db, fleet } = this.core;
    const leaves = this.leavesAbove(snapshotId);
    if (vm.pretended || leaves.length === 0) return;
    const disks = leaves.map((leaf) => ({
      disk: chainOf(db, db.disks.require(leaf.diskId), leaf.parentId),
      newLeaf: volumeIdOf(leaf),
      ...(bitmap?.diskIds.has(leaf.diskId) === true && { addBitmap: bitmap.name }),
    }));
    const live = isLive(vm);
    const frozen = live && (await this.freezeQuietly(vm.id));
    try {
      await fleet.createSnapshot(live ? vm.id : undefined, disks);
    } finally {
      if (frozen) {
        await fleet.thaw(vm.id).catch((error: unknown) => {
          this.core.log.error(`thaw of ${vm.id} failed`, error);
        });
      }
    }
  }

  /** The host's own freeze: its failure is reported nowhere in the API. */
  private async freezeQuietly(vmId: string): Promise<boolean> {
    try {
      await this.core.step('snapshot.freeze', vmId);
      await this.core.fleet.freeze(vmId);
      return true;
    } catch (error) {
      this.core.log.info(`freeze of ${vmId} failed, the snapshot goes on`, { reason: String(error) });
      return false;
    }
  }

  private endCreate(snapshotId: string): void {
    const { db } = this.core;
    db.transaction(() => {
      for (const leaf of this.leavesAbove(snapshotId)) {
        db.volumes.update(leaf.id, { status: 'ok' });
        db.volumes.update(leaf.parentId ?? '', { status: 'ok' });
        // The active layer of a raw disk is qcow2 while a snapshot lies below it.
        db.disks.update(leaf.diskId, { activeVolumeId: leaf.id, format: leaf.format, status: 'ok' });
      }
      this.setStatus(snapshotId, 'ok');
      this.clearPending(snapshotId, true);
    });
  }

  /** The former active snapshot gets its id back, as if nothing had been asked. */
  private async undoCreate(snapshotId: string): Promise<void> {
    const { db } = this.core;
    const snapshot = db.snapshots.require(snapshotId);
    for (const leaf of this.leavesAbove(snapshotId)) {
      await this.core.fleet.deleteVolume(volumeIdOf(leaf)).catch((error: unknown) => {
        this.core.log.error(`leaf ${leaf.id} stays behind`, error);
      });
    }
    db.transaction(() => {
      for (const leaf of this.leavesAbove(snapshotId)) {
        db.volumes.delete(leaf.id);
        setImageStatus(db, leaf.diskId, 'ok');
      }
      const active = activeSnapshot(db, snapshot.vmId);
      if (active !== undefined) {
        for (const volume of this.volumesOf(active.id)) db.volumes.update(volume.id, { snapshotId });
        db.snapshots.delete(active.id);
      }
      if (snapshot.jobId !== undefined) this.core.jobs.end(snapshot.jobId, false);
      db.snapshots.put({
        id: snapshotId,
        vmId: snapshot.vmId,
        description: 'Active VM',
        type: 'active',
        status: 'ok',
        date: snapshot.date,
        persistMemory: false,
      });
    });
  }

  clearPending(snapshotId: string, succeeded: boolean): void {
    const { db, jobs } = this.core;
    const { jobId } = db.snapshots.require(snapshotId);
    if (jobId !== undefined) jobs.end(jobId, succeeded);
    db.snapshots.update(snapshotId, { pending: undefined, jobId: undefined });
  }

  private leavesAbove(snapshotId: string): Volume[] {
    const bases = new Set(this.volumesOf(snapshotId).map((volume) => volume.id));
    return this.core.db.volumes.list((volume) => volume.parentId !== undefined && bases.has(volume.parentId));
  }
}

export function refsOf(vm: Vm, requester: Requester): { vmId: string; userId: string } {
  return { vmId: vm.id, userId: requester.userId };
}
