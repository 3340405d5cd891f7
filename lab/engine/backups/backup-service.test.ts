import { FakeFleet } from '../testing/fake-fleet';
import { EngineBench, type Answer, type BenchOptions, type DiskSeed, text } from '../testing/engine-bench';

const cow: DiskSeed = { format: 'cow' };
const raw: DiskSeed = { format: 'raw' };

describe('backups of the simulated engine', () => {
  let fleet: FakeFleet;
  let bench: EngineBench;

  const open = async (options: BenchOptions = {}): Promise<void> => {
    fleet = new FakeFleet();
    bench = await EngineBench.open(fleet, options);
  };
  afterEach(() => bench.close());

  const disksBody = (ids: readonly string[]): { id: string }[] => ids.map((id) => ({ id }));
  const post = (vmId: string, diskIds: readonly string[], extra: Record<string, string> = {}, query = ''): Promise<Answer> =>
    bench.call('POST', `/vms/${vmId}/backups${query}`, { disks: disksBody(diskIds), ...extra });
  const phaseOf = async (vmId: string, id: string): Promise<unknown> =>
    (await bench.call('GET', `/vms/${vmId}/backups/${id}`)).body['phase'];
  const reach = (vmId: string, id: string, phase: string): Promise<void> =>
    bench.until(async () => (await phaseOf(vmId, id)) === phase, `backup in ${phase}`);
  const finalize = (vmId: string, id: string): Promise<Answer> => bench.call('POST', `/vms/${vmId}/backups/${id}/finalize`);

  /** A whole backup; its view when it was ready. */
  const runBackup = async (vmId: string, diskIds: readonly string[], from?: string, query = ''): Promise<Answer['body']> => {
    const answer = await post(vmId, diskIds, from === undefined ? {} : { from_checkpoint_id: from }, query);
    expect(answer).toMatchObject({ status: 201 });
    const id = text(answer.body['id']);
    await reach(vmId, id, 'ready');
    const ready = (await bench.call('GET', `/vms/${vmId}/backups/${id}`)).body;
    expect((await finalize(vmId, id)).status).toBe(200);
    await reach(vmId, id, 'succeeded');
    return ready;
  };

  describe('live', () => {
    it('goes from initializing over starting to ready, locks its disks, and leaves a checkpoint', async () => {
      await open();
      const { vm, disks } = await bench.addVm('web', [cow, raw], 'up');
      const release = fleet.hold('startLiveBackup');
      const answer = await post(
        vm.id,
        disks.map((disk) => disk.id),
      );
      const id = text(answer.body['id']);
      expect(answer.body).toMatchObject({ phase: 'initializing', vm: { id: vm.id } });
      expect(answer.body['to_checkpoint_id']).toBeUndefined();
      await reach(vm.id, id, 'starting');
      expect(bench.db.disks.list((disk) => disk.contentType === 'backup_scratch')).toHaveLength(2);
      release();
      await reach(vm.id, id, 'ready');
      const ready = (await bench.call('GET', `/vms/${vm.id}/backups/${id}`)).body;
      expect(ready).toMatchObject({ host: { id: bench.db.vms.require(vm.id).hostId } });
      expect(disks.map((disk) => bench.db.disks.require(disk.id).status)).toEqual(['locked', 'locked']);
      const checkpoint = bench.db.checkpoints.require(text(ready['to_checkpoint_id']));
      expect(checkpoint.diskIds).toEqual([disks[0]?.id]);
      await finalize(vm.id, id);
      await reach(vm.id, id, 'succeeded');
      expect(disks.map((disk) => bench.db.disks.require(disk.id).status)).toEqual(['ok', 'ok']);
      expect(bench.db.disks.list((disk) => disk.contentType === 'backup_scratch')).toHaveLength(0);
      expect(bench.eventCodes()).toEqual(expect.arrayContaining([10790, 10794, 10793]));
      expect(bench.core.locks.list()).toEqual([]);
    });

    it('is incremental per disk: new and raw disks are full', async () => {
      await open();
      const { vm, disks } = await bench.addVm('web', [cow, raw], 'up');
      const ids = disks.map((disk) => disk.id);
      const first = await runBackup(vm.id, ids);
      const added = await bench.addDisk('new');
      await bench.call('POST', `/vms/${vm.id}/diskattachments`, {
        disk: { id: added.id },
        interface: 'virtio_scsi',
        bootable: false,
        active: true,
      });
      const second = await post(vm.id, [...ids, added.id], { from_checkpoint_id: text(first['to_checkpoint_id']) });
      const views = (await bench.call('GET', `/vms/${vm.id}/backups/${text(second.body['id'])}/disks`)).entities;
      expect(views.map((view) => view['backup_mode'])).toEqual(['incremental', 'full', 'full']);
    });

    it('creates no checkpoint when every disk is raw', async () => {
      await open();
      const { vm, disks } = await bench.addVm('web', [raw], 'up');
      const ready = await runBackup(vm.id, [disks[0]?.id ?? '']);
      expect(ready['to_checkpoint_id']).toBeUndefined();
      expect(bench.db.checkpoints.size).toBe(0);
    });

    it('drops all checkpoints and answers 400 [] when redefining fails', async () => {
      await open();
      const { vm, disks } = await bench.addVm('web', [cow], 'up');
      const diskId = disks[0]?.id ?? '';
      const first = await runBackup(vm.id, [diskId]);
      const second = await runBackup(vm.id, [diskId], text(first['to_checkpoint_id']));
      fleet.crashVm(vm.id);
      await bench.until(() => bench.db.vms.require(vm.id).status === 'down', 'VM down');
      await bench.startVm(vm.id);
      const answer = await post(vm.id, [diskId], {
        from_checkpoint_id: text(second['to_checkpoint_id']),
        id: '00000000-0000-4000-8000-000000000001',
      });
      expect(answer).toMatchObject({ status: 400, detail: '[]' });
      expect(bench.db.checkpoints.size).toBe(0);
      expect(await phaseOf(vm.id, '00000000-0000-4000-8000-000000000001')).toBe('failed');
      expect(bench.eventCodes()).toContain(10791);
      expect(bench.db.disks.require(diskId).status).toBe('ok');
      await runBackup(vm.id, [diskId]);
    });

    it('redefines the whole chain at level 4.5, even for a full backup, and only the origin at 4.6', async () => {
      await open({ level: { major: 4, minor: 5 } });
      const { vm, disks } = await bench.addVm('web', [cow], 'up');
      const diskId = disks[0]?.id ?? '';
      const first = await runBackup(vm.id, [diskId]);
      const second = await runBackup(vm.id, [diskId], text(first['to_checkpoint_id']));
      const leaf = bench.db.volumes.require(bench.db.disks.require(diskId).activeVolumeId ?? '');
      const chain = {
        diskId,
        virtualSizeBytes: 1,
        chain: [{ domainId: leaf.domainId, diskId, volumeId: leaf.id, format: 'cow' as const }],
      };
      await fleet.damageBitmap(chain, text(first['to_checkpoint_id']), 'remove');
      bench.setLevel(4, 6);
      await runBackup(vm.id, [diskId], text(second['to_checkpoint_id']));
      bench.setLevel(4, 5);
      expect(await post(vm.id, [diskId])).toMatchObject({ status: 400, detail: '[]' });
    });

    it('fails with event 10806 when scratch disks cannot be made, and with 10792 when the host refuses', async () => {
      await open();
      const { vm, disks } = await bench.addVm('web', [cow], 'up');
      const diskId = disks[0]?.id ?? '';
      for (const step of ['backup.scratch', 'backup.start']) {
        bench.fail(step);
        const id = text((await post(vm.id, [diskId])).body['id']);
        await reach(vm.id, id, 'failed');
        expect(bench.db.checkpoints.size).toBe(0);
        expect(bench.db.disks.require(diskId).status).toBe('ok');
        expect(bench.core.locks.list()).toEqual([]);
      }
      expect(bench.eventCodes()).toEqual(expect.arrayContaining([10806, 10792]));
    });

    it('ignores a failed freeze unless consistency is required', async () => {
      await open();
      const { vm, disks } = await bench.addVm('web', [cow], 'up');
      bench.fail('backup.freeze', 0);
      await runBackup(vm.id, [disks[0]?.id ?? '']);
      const id = text((await post(vm.id, [disks[0]?.id ?? ''], {}, '?require_consistency=true')).body['id']);
      await reach(vm.id, id, 'failed');
    });

    it('stays ready when its machine dies; finalize then answers 400 [] and it fails', async () => {
      await open();
      const { vm, disks } = await bench.addVm('web', [cow], 'up');
      const id = text((await post(vm.id, [disks[0]?.id ?? ''])).body['id']);
      await reach(vm.id, id, 'ready');
      fleet.crashVm(vm.id);
      await bench.until(() => bench.db.vms.require(vm.id).status === 'down', 'VM down');
      expect(await phaseOf(vm.id, id)).toBe('ready');
      expect(await finalize(vm.id, id)).toMatchObject({ status: 400, detail: '[]' });
      expect(await phaseOf(vm.id, id)).toBe('failed');
      expect(bench.db.checkpoints.size).toBe(0);
      expect(bench.eventCodes()).toContain(10795);
    });
  });

  describe('cold', () => {
    it('never shows starting, adds bitmaps to qcow2 disks only, and keeps the machine from starting', async () => {
      await open();
      const { vm, disks } = await bench.addVm('web', [cow, raw]);
      const seen = new Set<unknown>();
      const id = text(
        (
          await post(
            vm.id,
            disks.map((disk) => disk.id),
          )
        ).body['id'],
      );
      await bench.until(async () => {
        const phase = await phaseOf(vm.id, id);
        seen.add(phase);
        return phase === 'ready';
      }, 'ready');
      expect(seen.has('starting')).toBe(false);
      const added = fleet.calls.find((call) => call.method === 'addColdBitmaps');
      expect(added?.args[0]).toHaveLength(1);
      expect(await bench.call('POST', `/vms/${vm.id}/start`)).toMatchObject({ status: 409, refusal: 'VM_IS_DURING_BACKUP' });
      await finalize(vm.id, id);
      await reach(vm.id, id, 'succeeded');
    });

    it('fails and removes its checkpoint when bitmaps cannot be added', async () => {
      await open();
      const { vm, disks } = await bench.addVm('web', [cow]);
      fleet.failNext('addColdBitmaps', 'NO_SPACE');
      const id = text((await post(vm.id, [disks[0]?.id ?? ''])).body['id']);
      await reach(vm.id, id, 'failed');
      expect(bench.db.checkpoints.size).toBe(0);
    });

    it('does not notice a lost bitmap at its start', async () => {
      await open();
      const { vm, disks } = await bench.addVm('web', [cow]);
      const diskId = disks[0]?.id ?? '';
      const first = await runBackup(vm.id, [diskId]);
      for (const volume of fleet.volumes.values()) volume.bitmaps.clear();
      const id = text((await post(vm.id, [diskId], { from_checkpoint_id: text(first['to_checkpoint_id']) })).body['id']);
      await reach(vm.id, id, 'ready');
      const transfer = await bench.call('POST', '/imagetransfers', {
        disk: { id: diskId },
        backup: { id },
        direction: 'download',
        format: 'raw',
      });
      expect(transfer.body['phase']).toBe('cancelled_system');
      await bench.until(() => bench.db.transfers.require(text(transfer.body['id'])).phase === 'finished_failure', 'failure');
    });
  });

  describe('hybrid', () => {
    it('snapshots the chosen disks, stays ready after finalize for a moment, then merges', async () => {
      await open({ level: { major: 4, minor: 7 } });
      const { vm, disks } = await bench.addVm('web', [cow, raw], 'up');
      const answer = await post(
        vm.id,
        disks.map((disk) => disk.id),
      );
      const id = text(answer.body['id']);
      expect(answer.body['phase']).toBe('starting');
      const snapshotId = (answer.body['snapshot'] as { id: string }).id;
      await reach(vm.id, id, 'ready');
      const merge = fleet.hold('mergeVolume');
      expect(disks.map((disk) => bench.db.disks.require(disk.id).status)).toEqual(['ok', 'ok']);
      const row = bench.db.backups.require(id);
      expect(row.disks.map((entry) => entry.frozenVolumeId)).toEqual(disks.map((disk) => disk.activeVolumeId));
      expect(bench.db.checkpoints.require(row.toCheckpointId ?? '').diskIds).toEqual([disks[0]?.id]);
      expect((await finalize(vm.id, id)).status).toBe(200);
      expect(await phaseOf(vm.id, id)).toBe('ready');
      expect(await finalize(vm.id, id)).toMatchObject({ status: 400, refusal: 'VM_BACKUP_ALREADY_STOPPED' });
      await reach(vm.id, id, 'finalizing');
      merge();
      await reach(vm.id, id, 'succeeded');
      expect(bench.db.snapshots.has(snapshotId)).toBe(false);
      expect(disks.map((disk) => bench.db.disks.require(disk.id).format)).toEqual(['cow', 'raw']);
      expect(bench.core.locks.list()).toEqual([]);
    });

    it('makes a checkpoint even when all disks are raw', async () => {
      await open({ level: { major: 4, minor: 8 } });
      const { vm, disks } = await bench.addVm('web', [raw]);
      const ready = await runBackup(vm.id, [disks[0]?.id ?? '']);
      expect(bench.db.checkpoints.require(text(ready['to_checkpoint_id'])).diskIds).toEqual([]);
    });

    it('ends succeeded when the merge fails, with event 10813 and the snapshot left over', async () => {
      await open({ level: { major: 4, minor: 7 } });
      const { vm, disks } = await bench.addVm('web', [cow]);
      bench.fail('snapshot.merge');
      await runBackup(vm.id, [disks[0]?.id ?? '']);
      expect(bench.eventCodes()).toContain(10813);
      const left = bench.db.snapshots.find((snapshot) => snapshot.vmId === vm.id && snapshot.type === 'regular');
      expect(left).toMatchObject({ description: 'Auto-generated for Backup VM', status: 'ok' });
      expect((await bench.call('DELETE', `/vms/${vm.id}/snapshots/${left?.id ?? ''}`)).status).toBe(200);
      await bench.until(() => !bench.db.snapshots.has(left?.id ?? ''), 'snapshot removed at the second attempt');
    });

    it('leaves a failed row when the snapshot is refused', async () => {
      await open({ level: { major: 4, minor: 7 } });
      const { vm, disks } = await bench.addVm('web', [cow]);
      fleet.freeByDomain.set(bench.domainIds[0] ?? '', 1);
      const id = '00000000-0000-4000-8000-000000000002';
      expect(await post(vm.id, [disks[0]?.id ?? ''], { id })).toMatchObject({ status: 409, refusal: 'DISK_SPACE_LOW_ON_STORAGE_DOMAIN' });
      expect(await phaseOf(vm.id, id)).toBe('failed');
      expect(bench.core.locks.list()).toEqual([]);
    });

    it('fails when the snapshot cannot be created', async () => {
      await open({ level: { major: 4, minor: 7 } });
      const { vm, disks } = await bench.addVm('web', [cow], 'up');
      fleet.failNext('createSnapshot', 'QEMU_REFUSED');
      const id = text((await post(vm.id, [disks[0]?.id ?? ''])).body['id']);
      await reach(vm.id, id, 'failed');
      expect((await bench.call('GET', `/vms/${vm.id}/backups/${id}`)).body['snapshot']).toBeUndefined();
      expect(bench.db.snapshots.list((snapshot) => snapshot.vmId === vm.id)).toHaveLength(1);
    });

    it('is not chosen with legacy=true, and is with a bare legacy', async () => {
      await open({ level: { major: 4, minor: 7 } });
      const { vm, disks } = await bench.addVm('web', [cow], 'up');
      await post(vm.id, [disks[0]?.id ?? ''], {}, '?legacy=true');
      const other = await bench.addVm('db', [cow], 'up');
      await post(other.vm.id, [other.disks[0]?.id ?? ''], {}, '?legacy&use_active=true');
      expect(bench.db.backups.list().map((backup) => backup.mode)).toEqual(['live', 'hybrid']);
    });
  });

  describe('finalize', () => {
    it('is refused while a transfer of the backup is not finished', async () => {
      await open();
      const { vm, disks } = await bench.addVm('web', [cow], 'up');
      const id = text((await post(vm.id, [disks[0]?.id ?? ''])).body['id']);
      await reach(vm.id, id, 'ready');
      const transfer = await bench.call('POST', '/imagetransfers', {
        disk: { id: disks[0]?.id ?? '' },
        backup: { id },
        direction: 'download',
        format: 'raw',
      });
      expect(transfer.body['phase']).toBe('transferring');
      expect(await finalize(vm.id, id)).toMatchObject({ status: 409, refusal: 'ACTIVE_IMAGE_TRANSFER_FOR_VM_BACKUP' });
      await bench.call('POST', `/imagetransfers/${text(transfer.body['id'])}/finalize`);
      await bench.until(() => bench.db.transfers.require(text(transfer.body['id'])).phase === 'finished_success', 'transfer finished');
      // The disk reads ok although the backup goes on.
      expect(bench.db.disks.require(disks[0]?.id ?? '').status).toBe('ok');
      expect((await finalize(vm.id, id)).status).toBe(200);
      await reach(vm.id, id, 'succeeded');
      expect(await finalize(vm.id, id)).toMatchObject({ status: 400, refusal: 'VM_BACKUP_ALREADY_STOPPED' });
    });

    it('too early answers 400 and fails the backup, in every mode', async () => {
      await open();
      for (const [level, status] of [
        [6, 'up'],
        [6, 'down'],
        [7, 'up'],
      ] as const) {
        bench.setLevel(4, level);
        const { vm, disks } = await bench.addVm(`vm-${String(level)}-${status}`, [cow], status);
        const id = text((await post(vm.id, [disks[0]?.id ?? ''])).body['id']);
        expect(await finalize(vm.id, id)).toMatchObject({ status: 400, refusal: 'VM_BACKUP_STOPPED_TOO_EARLY' });
        expect(await phaseOf(vm.id, id)).toBe('failed');
        expect(bench.eventCodes()).toContain(10796);
        await bench.until(() => bench.core.locks.list().length === 0, 'locks released');
        await bench.until(() => bench.db.snapshots.list((snapshot) => snapshot.vmId === vm.id).length === 1, 'snapshot gone');
        expect(bench.db.checkpoints.size).toBe(0);
      }
    });

    it('of a cleaned row is 404: 15 minutes after success, 30 after failure', async () => {
      await open({ clockFactor: 20_000 });
      const { vm, disks } = await bench.addVm('web', [cow]);
      await runBackup(vm.id, [disks[0]?.id ?? '']);
      const id = bench.db.backups.list()[0]?.id ?? '';
      const failed = text((await post(vm.id, [disks[0]?.id ?? ''])).body['id']);
      await finalize(vm.id, failed); // too early
      await reach(vm.id, failed, 'failed');
      for (const each of [id, failed]) bench.db.backups.update(each, { modifiedAt: Date.now() - 16 * 60_000 });
      await bench.until(() => !bench.db.backups.has(id), 'row cleaned');
      expect(bench.db.backups.has(failed)).toBe(true);
      bench.db.backups.update(failed, { modifiedAt: Date.now() - 31 * 60_000 });
      await bench.until(() => !bench.db.backups.has(failed), 'row cleaned');
      expect(await finalize(vm.id, id)).toMatchObject({ status: 404 });
      expect((await bench.call('GET', `/vms/${vm.id}/backups/${id}`)).status).toBe(404);
    });
  });

  describe('start validation', () => {
    const vmId = '00000000-0000-4000-8000-0000000000ff';

    it('refuses each row of the table with its own name', async () => {
      await open();
      const { vm, disks } = await bench.addVm('web', [cow, { ...cow, active: false }, { ...cow, shareable: true }, { storageType: 'lun' }]);
      const ids = disks.map((disk) => disk.id);
      const first = ids[0] ?? '';
      const refused = async (diskIds: readonly string[], extra: Record<string, string> = {}): Promise<string> => {
        const answer = await post(vm.id, diskIds, extra);
        expect(bench.core.locks.list()).toEqual([]);
        return `${String(answer.status)} ${String(answer.refusal)}`;
      };
      expect((await post(vmId, [first])).status).toBe(404);
      expect((await bench.call('POST', `/vms/${vm.id}/backups`, {})).refusal).toBe('INCOMPLETE_PARAMETERS');
      bench.db.vms.update(vm.id, { origin: 'managed_hosted_engine' });
      expect(await refused([first])).toBe('409 HOSTED_ENGINE_VM_BACKUP_NOT_SUPPORTED');
      bench.db.vms.update(vm.id, { origin: 'ovirt' });
      expect(await refused([vmId])).toBe('400 DISKS_NOT_EXIST');
      bench.db.disks.update(first, { status: 'locked' });
      expect(await refused([first])).toBe('409 DISKS_LOCKED');
      bench.db.disks.update(first, { status: 'illegal' });
      expect(await refused([first])).toBe('500 DISKS_ILLEGAL');
      bench.db.disks.update(first, { status: 'ok' });
      expect(await refused([ids[1] ?? ''])).toBe('409 DISKS_ARE_NOT_ACTIVE');
      expect(await refused([first], { from_checkpoint_id: vmId })).toBe('400 CHECKPOINT_NOT_EXIST');
      bench.db.checkpoints.put({ id: vmId, vmId: vm.id, description: '', state: 'invalid', diskIds: [first], createdAt: 1 });
      expect(await refused([first], { from_checkpoint_id: vmId })).toBe('400 CHECKPOINT_INVALID');
      bench.setLevel(4, 4);
      expect(await refused([first], { from_checkpoint_id: vmId })).toBe('400 INCREMENTAL_BACKUP_NOT_SUPPORTED');
      expect(await refused([first])).toBe('400 COLD_BACKUP_NOT_SUPPORTED');
      bench.setLevel(4, 6);
      bench.db.vms.update(vm.id, { status: 'suspended' });
      expect(await refused([first])).toBe('409 CANNOT_START_BACKUP_VM_SHOULD_BE_IN_UP_OR_DOWN_STATUS');
      bench.db.vms.update(vm.id, { status: 'down' });
      const active = bench.db.snapshots.find((snapshot) => snapshot.vmId === vm.id)?.id ?? '';
      bench.db.snapshots.update(active, { status: 'in_preview' });
      expect(await refused([first])).toBe('409 VM_IN_PREVIEW');
      bench.db.snapshots.update(active, { status: 'ok' });
      expect(await refused([first], { description: 'x'.repeat(1025) })).toBe('400 VM_BACKUP_DESCRIPTION_IS_TOO_LONG');
      const accepted = await post(vm.id, [first, ids[2] ?? '', ids[3] ?? ''], { id: vmId });
      expect(accepted).toMatchObject({ status: 201, body: { id: vmId } });
      expect(bench.db.backups.require(vmId).disks.map((entry) => entry.diskId)).toEqual([first]);
      expect((await post(vm.id, [first])).refusal).toBe('VM_IS_DURING_BACKUP');
      await reach(vm.id, vmId, 'ready');
      await finalize(vm.id, vmId);
      await reach(vm.id, vmId, 'succeeded');
      expect(await refused([first], { id: vmId })).toBe('400 VM_BACKUP_ID_ALREADY_EXIST');
    });

    it('refuses a disk that a transfer holds', async () => {
      await open();
      const { vm, disks } = await bench.addVm('web', [cow]);
      const diskId = disks[0]?.id ?? '';
      await bench.call('POST', '/imagetransfers', { disk: { id: diskId }, direction: 'download', format: 'raw' });
      expect(await post(vm.id, [diskId])).toMatchObject({ status: 409, refusal: 'DISK_IS_BEING_TRANSFERRED' });
      expect(bench.core.locks.list()).toHaveLength(1);
    });
  });

  describe('what an unfinished backup blocks', () => {
    const outcomes = async (vmId: string, diskId: string, checkpointId: string, snapshotId: string): Promise<Record<string, string>> => {
      const calls: Record<string, [string, string, object?]> = {
        second: ['POST', `/vms/${vmId}/backups`, { disks: [{ id: diskId }] }],
        removeSnapshot: ['DELETE', `/vms/${vmId}/snapshots/${snapshotId}`],
        deleteCheckpoint: ['DELETE', `/vms/${vmId}/checkpoints/${checkpointId}`],
        unplug: ['PUT', `/vms/${vmId}/diskattachments/${diskId}`, { active: false }],
        transfer: ['POST', '/imagetransfers', { disk: { id: diskId }, direction: 'download', format: 'raw' }],
        migrate: ['POST', `/vms/${vmId}/migrate`],
        stop: ['POST', `/vms/${vmId}/stop`],
      };
      const result: Record<string, string> = {};
      for (const [name, [method, path, body]] of Object.entries(calls)) {
        const answer = await bench.call(method, path, { ...(body ?? {}) });
        result[name] = answer.refusal ?? String(answer.status);
        if (name === 'migrate') await bench.until(() => bench.db.vms.require(vmId).status === 'up', 'migration done');
      }
      return result;
    };

    it('live: everything, except a forced stop', async () => {
      await open();
      const { vm, disks } = await bench.addVm('web', [cow], 'up');
      const diskId = disks[0]?.id ?? '';
      const first = await runBackup(vm.id, [diskId]);
      const snapshotId = bench.db.snapshots.find((snapshot) => snapshot.vmId === vm.id)?.id ?? '';
      await bench.call('POST', `/vms/${vm.id}/snapshots`, { description: 's', persist_memorystate: false });
      await bench.until(() => bench.db.snapshots.get(snapshotId)?.status === 'ok', 'snapshot');
      const id = text((await post(vm.id, [diskId])).body['id']);
      await reach(vm.id, id, 'ready');
      expect(await bench.call('POST', `/vms/${vm.id}/snapshots`, { description: 't' })).toMatchObject({ refusal: 'VM_IS_DURING_BACKUP' });
      expect(await outcomes(vm.id, diskId, text(first['to_checkpoint_id']), snapshotId)).toEqual({
        second: 'VM_IS_DURING_BACKUP',
        removeSnapshot: 'VM_IS_DURING_BACKUP',
        deleteCheckpoint: 'VM_IS_DURING_BACKUP',
        unplug: 'DISK_IS_LOCKED',
        transfer: 'DISK_IS_LOCKED',
        migrate: 'VM_IS_DURING_BACKUP',
        stop: 'VM_IS_DURING_BACKUP',
      });
      expect((await bench.call('POST', `/vms/${vm.id}/stop`, { force: true })).status).toBe(200);
    });

    it('hybrid: disks stay locked and the machine is free, unless an older legacy backup is still listed', async () => {
      await open({ level: { major: 4, minor: 7 } });
      const { vm, disks } = await bench.addVm('web', [cow, cow], 'up');
      const diskId = disks[0]?.id ?? '';
      const first = await runBackup(vm.id, [diskId]);
      const id = text((await post(vm.id, [diskId])).body['id']);
      await reach(vm.id, id, 'ready');
      const snapshotId = bench.db.backups.require(id).snapshotId ?? '';
      // A disk that was not selected is held all the same.
      const other = disks[1]?.id ?? '';
      expect((await bench.call('PUT', `/vms/${vm.id}/diskattachments/${other}`, { active: false })).refusal).toBe('DISK_IS_LOCKED');
      expect(await outcomes(vm.id, diskId, text(first['to_checkpoint_id']), snapshotId)).toEqual({
        second: 'VM_IS_DURING_BACKUP',
        removeSnapshot: 'VM_IS_DURING_BACKUP',
        deleteCheckpoint: 'VM_IS_DURING_BACKUP',
        unplug: 'DISK_IS_LOCKED',
        transfer: 'DISK_IS_LOCKED',
        migrate: '200',
        stop: '200',
      });
      await bench.until(() => bench.db.vms.require(vm.id).status === 'down', 'down');
      await bench.startVm(vm.id);
      await finalize(vm.id, id);
      await reach(vm.id, id, 'succeeded');

      await runBackup(vm.id, [diskId], undefined, '?legacy=true');
      const third = text((await post(vm.id, [diskId])).body['id']);
      await reach(vm.id, third, 'ready');
      expect((await bench.call('POST', `/vms/${vm.id}/stop`)).refusal).toBe('VM_IS_DURING_BACKUP');
    });
  });

  describe('after a restart of the engine', () => {
    it('goes on with a live and a hybrid backup and holds their locks again', async () => {
      await open();
      const live = await bench.addVm('web', [cow], 'up');
      const liveId = text((await post(live.vm.id, [live.disks[0]?.id ?? ''])).body['id']);
      bench.setLevel(4, 7);
      const hybrid = await bench.addVm('db', [cow], 'up');
      const hybridId = text((await post(hybrid.vm.id, [hybrid.disks[0]?.id ?? ''])).body['id']);
      await reach(live.vm.id, liveId, 'ready');
      await reach(hybrid.vm.id, hybridId, 'ready');
      await bench.restart();
      expect(bench.core.locks.blocker(`vm:${live.vm.id}`, true)).toBe('VM_IS_DURING_BACKUP');
      expect(bench.core.locks.blocker(`disk:${hybrid.disks[0]?.id ?? ''}`, false)).toBeDefined();
      for (const [vmId, id] of [
        [live.vm.id, liveId],
        [hybrid.vm.id, hybridId],
      ] as const) {
        expect((await finalize(vmId, id)).status).toBe(200);
        await reach(vmId, id, 'succeeded');
      }
      expect(bench.core.locks.list()).toEqual([]);
    });

    it('finds a backup that the host had started meanwhile', async () => {
      await open();
      const { vm, disks } = await bench.addVm('web', [cow], 'up');
      const release = fleet.hold('startLiveBackup');
      const id = text((await post(vm.id, [disks[0]?.id ?? ''])).body['id']);
      await reach(vm.id, id, 'starting');
      await bench.restart();
      release();
      await reach(vm.id, id, 'ready');
      expect(fleet.backups.size).toBe(1);
    });

    it('fails a live backup whose start nobody monitors, with event 10814', async () => {
      await open();
      const { vm, disks } = await bench.addVm('web', [cow], 'up');
      const diskId = disks[0]?.id ?? '';
      await runBackup(vm.id, [diskId]);
      const from = bench.db.checkpoints.list()[0]?.id ?? '';
      const release = fleet.hold('listBitmaps');
      const pending = post(vm.id, [diskId], { from_checkpoint_id: from, id: '00000000-0000-4000-8000-000000000003' });
      pending.catch(() => undefined);
      await bench.until(() => bench.db.backups.has('00000000-0000-4000-8000-000000000003'), 'row');
      await bench.restart();
      release();
      await pending.catch(() => undefined);
      expect(await phaseOf(vm.id, '00000000-0000-4000-8000-000000000003')).toBe('failed');
      expect(bench.eventCodes()).toContain(10814);
      expect(bench.db.disks.require(diskId).status).toBe('ok');
      expect(bench.db.checkpoints.list().map((checkpoint) => checkpoint.id)).toEqual([from]);
    });
  });

  describe('checkpoints', () => {
    it('are listed root first, removed anywhere in the chain, and their bitmaps with them', async () => {
      await open();
      const { vm, disks } = await bench.addVm('web', [cow], 'up');
      const diskId = disks[0]?.id ?? '';
      const ids: string[] = [];
      for (let n = 0; n < 3; n += 1) ids.push(text((await runBackup(vm.id, [diskId], ids.at(-1)))['to_checkpoint_id']));
      const listed = (await bench.call('GET', `/vms/${vm.id}/checkpoints`)).entities;
      expect(listed.map((view) => view['id'])).toEqual(ids);
      expect((await bench.call('DELETE', `/vms/${vm.id}/checkpoints/${ids[1] ?? ''}`)).status).toBe(200);
      const rest = (await bench.call('GET', `/vms/${vm.id}/checkpoints`)).entities;
      expect(rest.map((view) => [view['id'], view['parent_id']])).toEqual([
        [ids[0], undefined],
        [ids[2], ids[0]],
      ]);
      const volume = [...fleet.volumes.values()][0];
      expect([...(volume?.bitmaps.keys() ?? [])]).toEqual([ids[0], ids[2]]);
      expect(await bench.call('DELETE', `/vms/${vm.id}/checkpoints/${ids[1] ?? ''}`)).toMatchObject({
        status: 400,
        refusal: 'CHECKPOINT_NOT_EXIST',
      });
    });

    it('become invalid when a deletion fails', async () => {
      await open();
      const { vm, disks } = await bench.addVm('web', [cow]);
      const id = text((await runBackup(vm.id, [disks[0]?.id ?? '']))['to_checkpoint_id']);
      bench.fail('checkpoint.delete');
      expect((await bench.call('DELETE', `/vms/${vm.id}/checkpoints/${id}`)).status).toBe(200);
      await bench.until(() => bench.eventCodes().includes(10798), 'failure event');
      expect(bench.db.checkpoints.require(id).state).toBe('invalid');
    });
  });
});
