/**
 * Going back to a snapshot: preview, commit, undo, and restore, which is preview and commit in one.
 *
 * While previewing, new leaves lie on the snapshot's volumes; the former active state is kept aside as a snapshot of type
 * `preview`. A commit throws everything newer away and with it every checkpoint of the machine.
 * Source: reference "oVirt engine REST API" sections 4.8 and 5.6.
 */
import { randomUUID } from 'node:crypto';
import { disksOfVm, activeSnapshot, chainOf, isSnapable, requireUsable, volumeIdOf } from '../disks/images';
import type { Requester } from '../disks/disk-service';
import { underLocks } from '../locks/take-locks';
import type { Core } from '../model/core';
import type { Snapshot, Vm } from '../model/entities';
import { refuse } from '../states/refusals';
import type { SnapshotService } from './snapshot-service';

export class PreviewService {
  constructor(
    private readonly core: Core,
    private readonly snapshots: SnapshotService,
  ) {}

  async preview(vm: Vm, snapshot: Snapshot, requester: Requester): Promise<void> {
    await this.locked(vm, async () => {
      this.requireRestorable(vm, snapshot);
      await this.enterPreview(vm, snapshot);
      this.core.events.log(
        342,
        'normal',
        `VM ${vm.name} previews snapshot '${snapshot.description}'.`,
        { vmId: vm.id, userId: requester.userId },
        requester.correlationId,
      );
    });
  }

  async commit(vm: Vm): Promise<void> {
    await this.locked(vm, async () => {
      await this.leaveByCommit(vm, this.requirePreviewed(vm));
    });
  }

  /** The state before the preview comes back. */
  async undo(vm: Vm): Promise<void> {
    await this.locked(vm, async () => {
      const { db, fleet } = this.core;
      const previewed = this.requirePreviewed(vm);
      const former = db.snapshots.find((other) => other.vmId === vm.id && other.type === 'preview');
      const active = activeSnapshot(db, vm.id);
      for (const { disk } of disksOfVm(db, vm.id)) {
        const leaf = db.volumes.get(disk.activeVolumeId ?? '');
        const previous = db.volumes.find((volume) => volume.diskId === disk.id && volume.snapshotId === former?.id);
        if (leaf === undefined || previous === undefined) continue;
        await fleet.deleteVolume(volumeIdOf(leaf));
        db.volumes.delete(leaf.id);
        db.disks.update(disk.id, { activeVolumeId: previous.id, format: previous.format });
      }
      if (active !== undefined) db.snapshots.delete(active.id);
      if (former !== undefined) db.snapshots.update(former.id, { type: 'active', status: 'ok' });
      this.snapshots.setStatus(previewed.id, 'ok');
    });
  }

  async restore(vm: Vm, snapshot: Snapshot): Promise<void> {
    await this.locked(vm, async () => {
      this.requireRestorable(vm, snapshot);
      await this.enterPreview(vm, snapshot);
      await this.leaveByCommit(vm, snapshot);
    });
  }

  private async enterPreview(vm: Vm, snapshot: Snapshot): Promise<void> {
    const { db, fleet, clock } = this.core;
    const former = activeSnapshot(db, vm.id) ?? this.snapshots.addActive(vm.id);
    const activeId = randomUUID();
    for (const { disk } of disksOfVm(db, vm.id)) {
      if (!isSnapable(disk)) continue;
      const base = db.volumes.find((volume) => volume.diskId === disk.id && volume.snapshotId === snapshot.id);
      if (base === undefined) {
        // Added later than the snapshot: it goes on as it is.
        if (disk.activeVolumeId !== undefined) db.volumes.update(disk.activeVolumeId, { snapshotId: activeId });
        continue;
      }
      const leaf = { domainId: base.domainId, diskId: disk.id, volumeId: randomUUID() };
      await fleet.createVolume({ ...leaf, format: 'cow', virtualSizeBytes: base.virtualSizeBytes, sparse: true, parent: volumeIdOf(base) });
      db.transaction(() => {
        db.volumes.put({
          id: leaf.volumeId,
          diskId: disk.id,
          domainId: base.domainId,
          format: 'cow',
          sparse: true,
          virtualSizeBytes: base.virtualSizeBytes,
          actualSizeBytes: 0,
          parentId: base.id,
          snapshotId: activeId,
          status: 'ok',
          createdAt: clock.now(),
        });
        db.disks.update(disk.id, { activeVolumeId: leaf.volumeId, format: 'cow' });
      });
    }
    db.transaction(() => {
      db.snapshots.update(former.id, { type: 'preview' });
      db.snapshots.put({ ...former, id: activeId, type: 'active', status: 'ok', date: clock.now(), description: 'Active VM' });
      this.snapshots.setStatus(snapshot.id, 'in_preview');
    });
  }

  private async leaveByCommit(vm: Vm, snapshot: Snapshot): Promise<void> {
    const { db, fleet } = this.core;
    for (const { disk } of disksOfVm(db, vm.id)) {
      const kept = new Set(chainOf(db, disk).chain.map((volume) => volume.volumeId));
      for (const volume of db.volumes.list((candidate) => candidate.diskId === disk.id && !kept.has(candidate.id))) {
        await fleet.deleteVolume(volumeIdOf(volume));
        db.volumes.delete(volume.id);
      }
      if (disk.storageType === 'image' && !disk.pretended) await fleet.clearBitmaps(chainOf(db, disk));
    }
    db.transaction(() => {
      this.snapshots.setStatus(snapshot.id, 'ok');
      for (const other of db.snapshots.list((candidate) => candidate.vmId === vm.id)) {
        const newer = other.type === 'regular' && other.date > snapshot.date && other.id !== snapshot.id;
        if (other.type === 'preview' || newer) db.snapshots.delete(other.id);
      }
      for (const checkpoint of db.checkpoints.list((candidate) => candidate.vmId === vm.id)) db.checkpoints.delete(checkpoint.id);
    });
  }

  private requireRestorable(vm: Vm, snapshot: Snapshot): void {
    const { db } = this.core;
    if (vm.status !== 'down') throw refuse('VM_IS_NOT_DOWN', vm.name);
    const others = db.snapshots.list((other) => other.vmId === vm.id);
    if (others.some((other) => other.status === 'in_preview')) throw refuse('VM_IN_PREVIEW', vm.name);
    if (others.some((other) => other.status === 'locked')) throw refuse('VM_IS_DURING_SNAPSHOT', vm.name);
    if (snapshot.type !== 'regular') throw refuse('SNAPSHOT_NOT_USABLE', vm.name);
    requireUsable(disksOfVm(db, vm.id).map(({ disk }) => disk));
  }

  private requirePreviewed(vm: Vm): Snapshot {
    const previewed = this.core.db.snapshots.find((other) => other.vmId === vm.id && other.status === 'in_preview');
    if (previewed === undefined) throw refuse('VM_NOT_IN_PREVIEW', vm.name);
    if (vm.status !== 'down') throw refuse('VM_IS_NOT_DOWN', vm.name);
    return previewed;
  }

  /** The machine's own status says that its images are changing. */
  private async locked(vm: Vm, work: () => Promise<void>): Promise<void> {
    const request = { holder: `preview-${vm.id}`, message: 'OBJECT_LOCKED', exclusive: [`vm:${vm.id}`] } as const;
    await underLocks(this.core.locks, request, vm.name, work);
  }
}
