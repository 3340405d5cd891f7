import { FakeFleet } from '../testing/fake-fleet';
import { EngineBench, type BenchOptions, text } from '../testing/engine-bench';
import type { Snapshot } from '../model/entities';

describe('snapshots of the simulated engine', () => {
  let fleet: FakeFleet;
  let bench: EngineBench;

  const open = async (options: BenchOptions = {}): Promise<void> => {
    fleet = new FakeFleet();
    bench = await EngineBench.open(fleet, options);
  };
  afterEach(() => bench.close());

  const take = async (vmId: string, extra: object = {}): Promise<string> => {
    const answer = await bench.call('POST', `/vms/${vmId}/snapshots`, { description: 'nightly', persist_memorystate: false, ...extra });
    expect(answer.status).toBe(202);
    const id = text(answer.body['id']);
    await bench.until(() => bench.db.snapshots.get(id)?.status === 'ok', 'snapshot ok');
    return id;
  };
  const active = (vmId: string): Snapshot | undefined =>
    bench.db.snapshots.find((snapshot) => snapshot.vmId === vmId && snapshot.type === 'active');
  const refusal = async (method: string, path: string, body: object = {}): Promise<string> => {
    const answer = await bench.call(method, path, { ...body });
    return `${String(answer.status)} ${String(answer.refusal)}`;
  };
  const chainLength = (diskId: string): number => bench.db.volumes.list((volume) => volume.diskId === diskId).length;

  it('the new snapshot takes the former active id, disks are locked meanwhile, and image_id changes', async () => {
    await open();
    const { vm, disks } = await bench.addVm('web', [{}, { format: 'raw' }], 'up');
    const before = active(vm.id)?.id;
    const release = fleet.hold('createSnapshot');
    const answer = await bench.call('POST', `/vms/${vm.id}/snapshots`, { description: 'nightly' });
    expect(answer.body).toMatchObject({ id: before, snapshot_status: 'locked', snapshot_type: 'regular', persist_memorystate: true });
    expect(active(vm.id)?.id).not.toBe(before);
    expect(disks.map((disk) => bench.db.disks.require(disk.id).status)).toEqual(['locked', 'locked']);
    release();
    await bench.until(() => bench.db.snapshots.require(before ?? '').status === 'ok', 'ok');
    for (const disk of disks) {
      const now = bench.db.disks.require(disk.id);
      expect(now).toMatchObject({ status: 'ok', format: 'cow' });
      expect(now.activeVolumeId).not.toBe(disk.activeVolumeId);
      expect(bench.db.volumes.require(now.activeVolumeId ?? '')).toMatchObject({
        parentId: disk.activeVolumeId,
        snapshotId: active(vm.id)?.id,
      });
    }
    expect(fleet.calls.find((call) => call.method === 'createSnapshot')?.args[0]).toBe(vm.id);
    expect(fleet.countOf('thaw')).toBe(1);
    const view = await bench.call('GET', `/vms/${vm.id}/snapshots/${before ?? ''}?all_content=true`);
    expect(view.body['initialization']).toMatchObject({ configuration: { type: 'ovf' } });
    const inside = (await bench.call('GET', `/vms/${vm.id}/snapshots/${before ?? ''}/disks`)).entities;
    expect(inside.map((disk) => disk['image_id'])).toEqual(disks.map((disk) => disk.activeVolumeId));
  });

  it('a silent freeze failure changes nothing', async () => {
    await open();
    const { vm } = await bench.addVm('web', [{}], 'up');
    bench.fail('snapshot.freeze');
    await take(vm.id);
    expect(fleet.countOf('thaw')).toBe(0);
  });

  it('a failed creation vanishes and the active id comes back', async () => {
    await open();
    const { vm, disks } = await bench.addVm('web', [{}]);
    const before = active(vm.id)?.id;
    fleet.failNext('createSnapshot', 'NO_SPACE');
    await bench.call('POST', `/vms/${vm.id}/snapshots`, { description: 'x', persist_memorystate: false });
    await bench.until(() => bench.eventCodes().includes(69), 'failure');
    expect(active(vm.id)?.id).toBe(before);
    expect(bench.db.disks.require(disks[0]?.id ?? '')).toMatchObject({ status: 'ok', activeVolumeId: disks[0]?.activeVolumeId });
    expect(bench.core.locks.list()).toEqual([]);
  });

  it('only the named disks are taken', async () => {
    await open();
    const { vm, disks } = await bench.addVm('web', [{}, {}]);
    const id = await take(vm.id, { disk_attachments: [{ disk: { id: disks[0]?.id ?? '' } }] });
    expect(disks.map((disk) => chainLength(disk.id))).toEqual([2, 1]);
    expect(bench.db.volumes.require(disks[1]?.activeVolumeId ?? '').snapshotId).toBe(active(vm.id)?.id);
    expect(bench.db.volumes.require(disks[0]?.activeVolumeId ?? '').snapshotId).toBe(id);
  });

  it('deleting merges live and cold, also in the middle of a chain, and gives raw bases back', async () => {
    await open();
    const { vm, disks } = await bench.addVm('web', [{}, { format: 'raw' }], 'up');
    const [first, second] = [await take(vm.id), await take(vm.id)];
    expect((await bench.call('DELETE', `/vms/${vm.id}/snapshots/${first}`)).status).toBe(200);
    expect(bench.db.snapshots.require(first).status).toBe('locked');
    await bench.until(() => !bench.db.snapshots.has(first), 'first merged');
    expect(disks.map((disk) => chainLength(disk.id))).toEqual([2, 2]);
    await bench.call('POST', `/vms/${vm.id}/stop`);
    await bench.until(() => bench.db.vms.require(vm.id).status === 'down', 'down');
    await bench.call('DELETE', `/vms/${vm.id}/snapshots/${second}?async=true`);
    await bench.until(() => !bench.db.snapshots.has(second), 'second merged');
    expect(disks.map((disk) => bench.db.disks.require(disk.id).activeVolumeId)).toEqual(disks.map((disk) => disk.activeVolumeId));
    expect(disks.map((disk) => bench.db.disks.require(disk.id).format)).toEqual(['cow', 'raw']);
    const merges = fleet.calls.filter((call) => call.method === 'mergeVolume').map((call) => call.args[0]);
    expect(merges).toEqual([vm.id, vm.id, undefined, undefined]);
    expect(fleet.volumes.size).toBe(2);
    expect(bench.db.volumes.list().every((volume) => volume.snapshotId === active(vm.id)?.id)).toBe(true);
  });

  it('a partly failed merge stays ok and is finished by the next attempt', async () => {
    await open();
    const { vm } = await bench.addVm('web', [{}, {}]);
    const id = await take(vm.id);
    bench.faults.add({ match: { step: 'snapshot.merge', nth: 2 }, effect: { kind: 'fault', status: 400 } });
    await bench.call('DELETE', `/vms/${vm.id}/snapshots/${id}`);
    await bench.until(() => bench.eventCodes().includes(359), 'partly merged');
    expect(bench.db.snapshots.require(id).status).toBe('ok');
    await bench.call('DELETE', `/vms/${vm.id}/snapshots/${id}`);
    await bench.until(() => !bench.db.snapshots.has(id), 'merged');
    expect(fleet.countOf('mergeVolume')).toBe(2);
  });

  it('gives up one disk through the volumes of its domain', async () => {
    await open();
    const { vm, disks } = await bench.addVm('web', [{}, {}]);
    const id = await take(vm.id);
    const path = `/storagedomains/${bench.domainIds[0] ?? ''}/disksnapshots`;
    const listed = (await bench.call('GET', path)).entities;
    expect(listed.map((view) => view['id'])).toEqual(disks.map((disk) => disk.activeVolumeId));
    expect((await bench.call('DELETE', `${path}/${disks[0]?.activeVolumeId ?? ''}`)).status).toBe(200);
    await bench.until(() => bench.core.locks.list().length === 0, 'merged');
    expect(disks.map((disk) => chainLength(disk.id))).toEqual([1, 2]);
    expect(bench.db.snapshots.require(id).status).toBe('ok');
    expect(bench.db.disks.list().map((disk) => disk.status)).toEqual(['ok', 'ok']);
  });

  it('keeps bitmaps through snapshot and merge', async () => {
    await open();
    const { vm, disks } = await bench.addVm('web', [{}]);
    const backup = await bench.call('POST', `/vms/${vm.id}/backups`, { disks: [{ id: disks[0]?.id ?? '' }] });
    const backupId = text(backup.body['id']);
    await bench.until(() => bench.db.backups.require(backupId).phase === 'READY', 'ready');
    await bench.call('POST', `/vms/${vm.id}/backups/${backupId}/finalize`);
    await bench.until(() => bench.db.backups.require(backupId).phase === 'SUCCEEDED', 'succeeded');
    const id = await take(vm.id);
    await bench.call('DELETE', `/vms/${vm.id}/snapshots/${id}`);
    await bench.until(() => !bench.db.snapshots.has(id), 'merged');
    expect([...fleet.volumes.values()].map((volume) => [...volume.bitmaps.keys()])).toEqual([
      [bench.db.backups.require(backupId).toCheckpointId],
    ]);
  });

  it('refuses what the engine refuses', async () => {
    await open();
    const { vm, disks } = await bench.addVm('web', [{}, { shareable: true }]);
    const path = `/vms/${vm.id}/snapshots`;
    expect(await refusal('POST', path)).toBe('400 INCOMPLETE_PARAMETERS');
    const named = { description: 'x', persist_memorystate: false, disk_attachments: [{ disk: { id: disks[1]?.id } }] };
    expect(await refusal('POST', path, named)).toBe('400 DISK_SNAPSHOT_NOT_SUPPORTED');
    const create = { description: 'x', persist_memorystate: false };
    for (const [status, name] of [
      ['migrating', 'MIGRATION_IN_PROGRESS'],
      ['image_locked', 'VM_IMAGE_IS_LOCKED'],
      ['suspended', 'VM_STATUS_ILLEGAL'],
    ] as const) {
      bench.db.vms.update(vm.id, { status });
      expect(await refusal('POST', path, create)).toBe(`409 ${name}`);
    }
    bench.db.vms.update(vm.id, { status: 'down' });
    bench.db.disks.update(disks[0]?.id ?? '', { status: 'locked' });
    expect(await refusal('POST', path, create)).toBe('409 DISKS_LOCKED');
    bench.db.disks.update(disks[0]?.id ?? '', { status: 'ok' });
    fleet.freeByDomain.set(bench.domainIds[0] ?? '', 1);
    expect(await refusal('POST', path, create)).toBe('409 DISK_SPACE_LOW_ON_STORAGE_DOMAIN');
    fleet.freeByDomain.clear();
    expect(await refusal('DELETE', `${path}/${active(vm.id)?.id ?? ''}`)).toBe('409 VM_SNAPSHOT_TYPE_NOT_REGULAR');
    const release = fleet.hold('createSnapshot');
    await bench.call('POST', path, create);
    expect(await refusal('POST', path, create)).toBe('409 SNAPSHOT_IS_BEING_TAKEN_FOR_VM');
    expect(await refusal('POST', `/vms/${vm.id}/start`)).toBe('409 SNAPSHOT_IS_BEING_TAKEN_FOR_VM');
    release();
  });

  it('previews, undoes, commits and restores; a commit ends change tracking', async () => {
    await open();
    const { vm, disks } = await bench.addVm('web', [{}]);
    const diskId = disks[0]?.id ?? '';
    const [first, second] = [await take(vm.id), await take(vm.id)];
    const leaf = bench.db.disks.require(diskId).activeVolumeId;
    const former = active(vm.id)?.id ?? '';
    expect((await bench.call('POST', `/vms/${vm.id}/previewsnapshot`, { snapshot: { id: first }, restore_memory: false })).status).toBe(
      200,
    );
    expect([bench.db.snapshots.require(first).status, bench.db.snapshots.require(former).type]).toEqual(['in_preview', 'preview']);
    expect(await refusal('POST', `/vms/${vm.id}/backups`, { disks: [{ id: diskId }] })).toBe('409 VM_IN_PREVIEW');
    expect((await bench.call('POST', `/vms/${vm.id}/undosnapshot`)).status).toBe(200);
    expect([active(vm.id)?.id, bench.db.disks.require(diskId).activeVolumeId]).toEqual([former, leaf]);

    bench.db.checkpoints.put({ id: 'c', vmId: vm.id, description: '', state: 'created', diskIds: [diskId], createdAt: 1 });
    await bench.until(() => Date.now() > (bench.db.snapshots.get(second)?.date ?? 0), 'a later moment');
    expect((await bench.call('POST', `/vms/${vm.id}/snapshots/${first}/restore`, { restore_memory: false })).status).toBe(200);
    expect(bench.db.checkpoints.size).toBe(0);
    expect(bench.db.snapshots.list((snapshot) => snapshot.vmId === vm.id).map((snapshot) => [snapshot.type, snapshot.status])).toEqual([
      ['regular', 'ok'],
      ['active', 'ok'],
    ]);
    expect(chainLength(diskId)).toBe(2);
    expect(fleet.volumes.size).toBe(2);
  });

  it('after a restart a creation is finished or undone, and a merge goes on', async () => {
    await open();
    const { vm } = await bench.addVm('web', [{}]);
    const before = active(vm.id)?.id ?? '';
    const release = fleet.hold('createSnapshot');
    await bench.call('POST', `/vms/${vm.id}/snapshots`, { description: 'x', persist_memorystate: false });
    await bench.restart();
    expect(active(vm.id)?.id).toBe(before);
    fleet.calls.length = 0;
    // The call of the stopped run still reaches the hosts, as a command under way would; what it made is not known to anyone.
    release();
    const id = await take(vm.id);
    const merging = fleet.hold('mergeVolume');
    await bench.call('DELETE', `/vms/${vm.id}/snapshots/${id}`);
    await bench.until(() => fleet.countOf('mergeVolume') === 1, 'merge began');
    await bench.restart();
    merging();
    await bench.until(() => !bench.db.snapshots.has(id), 'merged after the restart');
  });
});
