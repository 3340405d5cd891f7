/**
 * Snapshots of machines: creating and deleting them, live through the running process and cold on files.
 *
 * The new regular snapshot takes over the id of the former active one; the active one gets a new id. Deleting merges, disk by
 * disk, the volume above the snapshot's into it. Work that was under way is finished after a restart.
 * States: snapshot-states.ts. Source: reference "oVirt engine REST API" sections 5.1 to 5.4.
 */
import { randomUUID } from 'node:crypto';
import { optional, type Requester } from '../disks/disk-service';
import {
  activeSnapshot,
  aliases,
  chainOf,
  disksOfVm,
  isLive,
  isSnapable,
  measureDisk,
  requireSpace,
  requireUsable,
  setImageStatus,
  volumeIdOf,
} from '../disks/images';
import { takeLocks } from '../locks/take-locks';
import type { Core } from '../model/core';
import type { Disk, Snapshot, Vm, Volume } from '../model/entities';
import { follow } from '../states/transitions';
import { refuse } from '../states/refusals';
import { SNAPSHOT_TRANSITIONS } from './snapshot-states';

const GIB = 1024 ** 3;

export interface SnapshotRequest extends Requester {
  readonly description: string;
  readonly persistMemory: boolean;
  /** Every snapable disk of the machine when absent. */
  readonly diskIds?: readonly string[];
  /** Per disk: a wanted id of the new leaf. */
  readonly leafIds?: ReadonlyMap<string, string>;
  /** Hybrid backup: bitmap that the new leaf of these disks records from the start. */
  readonly bitmap?: { readonly name: string; readonly diskIds: ReadonlySet<string> };
  /** Id of the hybrid backup whose own locks do not stand in the way. */
  readonly onBehalfOf?: string;
}

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
      const disks = this.requireCreatable(vm, request);
      await this.requireSpace(disks);
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

  /** Validates and answers once the merge has begun. */
  async remove(snapshot: Snapshot, requester: Requester, options: { onBehalfOf?: string } = {}): Promise<string> {
    const { db, locks, jobs } = this.core;
    const vm = db.vms.require(snapshot.vmId);
    const holder = `merge-${snapshot.id}`;
    takeLocks(locks, { holder, message: 'OBJECT_LOCKED', shared: [`vm:${vm.id}`] }, vm.name);
    try {
      this.requireRemovable(vm, snapshot, options.onBehalfOf);
      this.setStatus(snapshot.id, 'locked');
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
      this.requireRemovable(vm, snapshot, holder);
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

  /** Disks whose chain holds a volume of this snapshot. */
  volumesOf(snapshotId: string): Volume[] {
    return this.core.db.volumes.list((volume) => volume.snapshotId === snapshotId);
  }

  /** After a restart: creations are finished or undone, merges go on. */
  async recover(): Promise<void> {
    const { db, locks } = this.core;
    for (const snapshot of db.snapshots.list((candidate) => candidate.pending !== undefined)) {
      const holder = `recover-${snapshot.id}`;
      if (snapshot.pending === 'merge') {
        locks.tryAcquire({ holder, message: 'OBJECT_LOCKED', shared: [`vm:${snapshot.vmId}`] });
        this.core.background(async () => {
          await this.finishRemove(snapshot.id, holder);
        });
        continue;
      }
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
      this.core.log.error(`freeze of ${vmId} failed, the snapshot goes on`, error);
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

  /** Merges every disk. Disks merged before a failure stay merged: the next attempt skips them. */
  private async finishRemove(snapshotId: string, holder: string): Promise<void> {
    const { db, events, locks } = this.core;
    const snapshot = db.snapshots.require(snapshotId);
    const vm = db.vms.require(snapshot.vmId);
    const requester = { correlationId: snapshot.correlationId ?? '', userId: snapshot.userId ?? '' };
    const diskIds = this.volumesOf(snapshotId).map((volume) => volume.diskId);
    try {
      for (const diskId of diskIds) setImageStatus(db, diskId, 'locked');
      for (const volume of this.volumesOf(snapshotId)) await this.mergeInto(volume);
      db.transaction(() => {
        for (const diskId of diskIds) setImageStatus(db, diskId, 'ok');
        this.clearPending(snapshotId, true);
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
        this.setStatus(snapshotId, 'ok');
        this.clearPending(snapshotId, false);
      });
      const partly = this.volumesOf(snapshotId).length < diskIds.length;
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

  private clearPending(snapshotId: string, succeeded: boolean): void {
    const { db, jobs } = this.core;
    const { jobId } = db.snapshots.require(snapshotId);
    if (jobId !== undefined) jobs.end(jobId, succeeded);
    db.snapshots.update(snapshotId, { pending: undefined, jobId: undefined });
  }

  private leavesAbove(snapshotId: string): Volume[] {
    const bases = new Set(this.volumesOf(snapshotId).map((volume) => volume.id));
    return this.core.db.volumes.list((volume) => volume.parentId !== undefined && bases.has(volume.parentId));
  }

  private requireCreatable(vm: Vm, request: SnapshotRequest): Disk[] {
    const { db } = this.core;
    if (vm.status === 'image_locked') throw refuse('VM_IMAGE_IS_LOCKED', vm.name);
    if (vm.status === 'migrating') throw refuse('MIGRATION_IN_PROGRESS', vm.name);
    if (!['up', 'down', 'powering_up', 'paused'].includes(vm.status)) throw refuse('VM_STATUS_ILLEGAL', vm.name);
    const snapshots = db.snapshots.list((snapshot) => snapshot.vmId === vm.id);
    if (snapshots.some((snapshot) => snapshot.status === 'locked')) throw refuse('VM_IS_DURING_SNAPSHOT', vm.name);
    if (snapshots.some((snapshot) => snapshot.status === 'in_preview')) throw refuse('VM_IN_PREVIEW', vm.name);
    if (vm.stateless && vm.status !== 'down') throw refuse('STATELESS_VM', vm.name);
    if (request.persistMemory && vm.attributes['tpm_enabled'] === true) throw refuse('MEMORY_SNAPSHOT_NOT_SUPPORTED', vm.name);
    const foreign = db.attachments.find((attachment) => attachment.vmId === vm.id && attachment.snapshotId !== undefined);
    if (foreign !== undefined) throw refuse('DISK_SNAPSHOT_NOT_SUPPORTED', db.disks.get(foreign.diskId)?.name);
    const own = disksOfVm(db, vm.id).map(({ disk }) => disk);
    const wanted = request.diskIds?.map((id) => own.find((disk) => disk.id === id) ?? db.disks.get(id));
    if (wanted?.some((disk) => disk === undefined || !own.includes(disk)) === true)
      throw refuse('DISKS_NOT_EXIST', request.diskIds?.join(', '));
    const named = wanted?.flatMap((disk) => disk ?? []);
    const unsuitable = named?.filter((disk) => !isSnapable(disk)) ?? [];
    if (unsuitable.length > 0) throw refuse('DISK_SNAPSHOT_NOT_SUPPORTED', aliases(unsuitable));
    const disks = named ?? own.filter(isSnapable);
    this.requireUnlocked(disks, request.onBehalfOf);
    return disks;
  }

  private requireUnlocked(disks: readonly Disk[], onBehalfOf: string | undefined): void {
    requireUsable(disks);
    for (const disk of disks) {
      const blocker = this.core.locks.blocker(`disk:${disk.id}`, false, onBehalfOf);
      // The locks of a hybrid backup allow more snapshots once its own is done.
      if (blocker !== undefined && blocker !== 'DISK_IS_LOCKED') throw refuse(blocker, disk.name);
    }
  }

  private async requireSpace(disks: readonly Disk[]): Promise<void> {
    const { db } = this.core;
    for (const domainId of new Set(disks.map((disk) => disk.storageDomainId ?? ''))) {
      const domain = db.storageDomains.get(domainId);
      if (domain === undefined) continue;
      if (domain.status !== 'active') throw refuse('STORAGE_DOMAIN_NOT_ACTIVE', domain.name);
      await requireSpace(this.core, domain);
    }
  }

  private requireRemovable(vm: Vm, snapshot: Snapshot, onBehalfOf: string | undefined): void {
    const { db, locks } = this.core;
    if (snapshot.type !== 'regular') throw refuse('VM_SNAPSHOT_TYPE_NOT_REGULAR');
    const snapshots = db.snapshots.list((other) => other.vmId === vm.id);
    if (snapshots.some((other) => other.status === 'in_preview')) throw refuse('VM_IN_PREVIEW', vm.name);
    if (snapshots.some((other) => other.status === 'locked')) throw refuse('VM_IS_DURING_SNAPSHOT', vm.name);
    const backup = db.backups.find((other) => other.vmId === vm.id && other.phase !== 'SUCCEEDED' && other.phase !== 'FAILED');
    if (backup !== undefined && backup.id !== onBehalfOf) throw refuse('VM_IS_DURING_BACKUP', vm.name);
    if (db.attachments.find((attachment) => attachment.snapshotId === snapshot.id))
      throw refuse('VM_DISK_SNAPSHOT_IS_ATTACHED_TO_ANOTHER_VM', vm.name);
    const disks = this.volumesOf(snapshot.id).flatMap((volume) => db.disks.get(volume.diskId) ?? []);
    requireUsable(disks);
    for (const disk of disks) {
      const blocker = locks.blocker(`disk:${disk.id}`, true, onBehalfOf);
      if (blocker !== undefined) throw refuse(blocker, disk.name);
      const unplugged = disksOfVm(db, vm.id).find((entry) => entry.disk.id === disk.id)?.attachment.active === false;
      if (isLive(vm) && unplugged) throw refuse('DISKS_ARE_NOT_ACTIVE', disk.name);
    }
    if (!['up', 'powering_up', 'paused', 'reboot_in_progress', 'down'].includes(vm.status)) throw refuse('VM_STATUS_ILLEGAL', vm.name);
  }
}

function refsOf(vm: Vm, requester: Requester): { vmId: string; userId: string } {
  return { vmId: vm.id, userId: requester.userId };
}
