import { EngineBench, MIB, type BenchOptions, text } from '../testing/engine-bench';
import { FakeFleet } from '../testing/fake-fleet';

describe('disks and attachments of the simulated engine', () => {
  let fleet: FakeFleet;
  let bench: EngineBench;

  const open = async (options: BenchOptions = {}): Promise<void> => {
    fleet = new FakeFleet();
    bench = await EngineBench.open(fleet, options);
  };
  afterEach(() => bench.close());

  const refusal = async (method: string, path: string, body: object = {}): Promise<string> => {
    const answer = await bench.call(method, path, { ...body });
    return `${String(answer.status)} ${String(answer.refusal ?? 'accepted')}`;
  };
  const body = (extra: object = {}): Record<string, never> =>
    ({
      name: 'restored',
      format: 'cow',
      provisioned_size: 16 * MIB,
      storage_domains: [{ id: bench.domainIds[0] ?? '' }],
      ...extra,
    }) as never;
  const snapshotOf = async (vmId: string): Promise<string> => {
    const answer = await bench.call('POST', `/vms/${vmId}/snapshots`, { description: 's', persist_memorystate: false });
    await bench.until(() => bench.db.snapshots.get(text(answer.body['id']))?.status === 'ok', 'snapshot');
    return text(answer.body['id']);
  };

  it('a new disk is locked, then ok, with the ids that were asked for', async () => {
    await open();
    const id = '00000000-0000-4000-8000-0000000000a1';
    const imageId = '00000000-0000-4000-8000-0000000000a2';
    const release = fleet.hold('createVolume');
    const answer = await bench.call('POST', '/disks', body({ id, image_id: imageId, backup: 'incremental', initial_size: 5 * MIB }));
    expect(answer).toMatchObject({
      status: 202,
      body: { id, image_id: imageId, status: 'locked', backup: 'incremental', storage_type: 'image' },
    });
    release();
    await bench.until(() => bench.db.disks.require(id).status === 'ok', 'ok');
    expect(await refusal('POST', '/disks', body({ id }))).toBe('409 DISK_ID_IN_USE');
    expect((await bench.call('GET', `/disks?search=alias%3Drest*&all_content=true`)).entities.map((disk) => disk['id'])).toEqual([id]);
  });

  it('a creation that fails leaves nothing', async () => {
    await open();
    fleet.failNext('createVolume', 'NO_SPACE');
    const id = text((await bench.call('POST', '/disks', body())).body['id']);
    await bench.until(() => !bench.db.disks.has(id), 'row gone');
    expect(bench.db.volumes.size).toBe(0);
  });

  it('refuses configurations that the domain cannot hold', async () => {
    await open();
    expect(await refusal('POST', '/disks', { name: 'x' })).toBe('400 INCOMPLETE_PARAMETERS');
    expect(await refusal('POST', '/disks', body({ storage_domains: [{ id: 'nowhere' }] }))).toBe('400 STORAGE_DOMAIN_NOT_EXIST');
    expect(await refusal('POST', '/disks', body({ format: 'raw', backup: 'incremental' }))).toBe('409 DISK_CONFIGURATION_NOT_SUPPORTED');
    expect(await refusal('POST', '/disks', body({ sparse: false }))).toBe('409 DISK_CONFIGURATION_NOT_SUPPORTED');
    expect(await refusal('POST', '/disks', body({ sparse: false, backup: 'incremental' }))).toBe('202 accepted');
    expect(await refusal('POST', '/disks', body({ format: 'raw', sparse: true }))).toBe('202 accepted');
    bench.db.storageDomains.update(bench.domainIds[0] ?? '', { storageType: 'fcp' });
    expect(await refusal('POST', '/disks', body({ format: 'raw', sparse: true }))).toBe('409 DISK_CONFIGURATION_NOT_SUPPORTED');
    fleet.freeByDomain.set(bench.domainIds[0] ?? '', 1);
    expect(await refusal('POST', '/disks', body())).toBe('409 DISK_SPACE_LOW_ON_STORAGE_DOMAIN');
  });

  it('grows, renames and switches change tracking on, but not for raw', async () => {
    await open();
    const disk = await bench.addDisk('d');
    const raw = await bench.addDisk('r', { format: 'raw' });
    const answer = await bench.call('PUT', `/disks/${disk.id}`, { backup: 'incremental', name: 'e', provisioned_size: 32 * MIB });
    expect(answer.body).toMatchObject({ backup: 'incremental', name: 'e', provisioned_size: 32 * MIB, status: 'ok' });
    expect(fleet.countOf('resizeVolume')).toBe(1);
    expect(await refusal('PUT', `/disks/${disk.id}`, { provisioned_size: MIB })).toBe('400 DISK_SHRINK_NOT_SUPPORTED');
    expect(await refusal('PUT', `/disks/${raw.id}`, { backup: 'incremental' })).toBe('400 INCREMENTAL_BACKUP_NOT_SUPPORTED_FOR_RAW_DISK');
  });

  it('is removed with its files, unless locked or in use', async () => {
    await open();
    const { disks } = await bench.addVm('web', [{}], 'up');
    expect(await refusal('DELETE', `/disks/${disks[0]?.id ?? ''}`)).toBe('409 DISK_PLUGGED_TO_NON_DOWN_VMS');
    const disk = await bench.addDisk('d');
    expect((await bench.call('DELETE', `/disks/${disk.id}`)).status).toBe(200);
    expect(bench.db.disks.get(disk.id)?.status).toBe('locked');
    await bench.until(() => !bench.db.disks.has(disk.id), 'removed');
    expect(bench.core.locks.list()).toEqual([]);
  });

  it('is finished after a restart: created, or removed', async () => {
    await open();
    const release = fleet.hold('createVolume');
    const id = text((await bench.call('POST', '/disks', body())).body['id']);
    const doomed = bench.db.disks.put({ ...bench.db.disks.require(id), id: 'doomed', status: 'locked', pending: 'remove' });
    await bench.restart();
    release();
    await bench.until(() => bench.db.disks.require(id).status === 'ok', 'created');
    await bench.until(() => !bench.db.disks.has(doomed.id), 'removed');
  });

  it('that short work had locked is free after a restart', async () => {
    await open();
    const disk = await bench.addDisk('d');
    const release = fleet.hold('resizeVolume');
    const growing = bench.call('PUT', `/disks/${disk.id}`, { provisioned_size: 32 * MIB }).catch(() => undefined);
    await bench.until(() => bench.db.disks.require(disk.id).status === 'locked', 'locked');
    await bench.restart();
    expect(bench.db.disks.require(disk.id).status).toBe('ok');
    release();
    await growing;
  });

  describe('attachments', () => {
    it('are unplugged unless asked, plug live, and unplug', async () => {
      await open();
      const { vm } = await bench.addVm('web', [{}], 'up');
      const disk = await bench.addDisk('d');
      const path = `/vms/${vm.id}/diskattachments`;
      expect(await refusal('POST', path, { disk: { id: disk.id }, interface: 'virtio' })).toBe('400 INCOMPLETE_PARAMETERS');
      const answer = await bench.call('POST', path, { disk: { id: disk.id }, interface: 'virtio_scsi', bootable: false });
      expect(answer).toMatchObject({ status: 201, body: { id: disk.id, active: false } });
      expect((await bench.call('PUT', `${path}/${disk.id}`, { active: true })).body).toMatchObject({ active: true });
      expect(fleet.vms.get(vm.id)?.disks.has(disk.id)).toBe(true);
      expect((await bench.call('GET', path)).entities).toHaveLength(2);
      expect((await bench.call('DELETE', `${path}/${disk.id}`)).status).toBe(200);
      expect([fleet.vms.get(vm.id)?.disks.has(disk.id), bench.db.disks.has(disk.id)]).toEqual([false, true]);
      expect(bench.eventCodes()).toEqual(expect.arrayContaining([2000, 2002, 2016, 2018]));
    });

    it('a failed hot plug answers 400 and leaves the disk attached, unplugged', async () => {
      await open();
      const { vm } = await bench.addVm('web', [{}], 'up');
      const disk = await bench.addDisk('d');
      fleet.failNext('hotplugDisk', 'QEMU_REFUSED');
      const answer = await bench.call('POST', `/vms/${vm.id}/diskattachments`, {
        disk: { id: disk.id },
        interface: 'virtio',
        bootable: false,
        active: true,
      });
      expect(answer).toMatchObject({ status: 400, detail: '[Failed to hot-plug disk]' });
      expect((await bench.call('GET', `/vms/${vm.id}/diskattachments/${disk.id}`)).body).toMatchObject({ active: false });
      expect(bench.eventCodes()).toContain(2001);
    });

    it('refuse a disk that is taken, locked, elsewhere, or a second boot disk', async () => {
      await open();
      const { vm, disks } = await bench.addVm('web', [{}]);
      const other = await bench.addVm('db', [{}]);
      const free = await bench.addDisk('free');
      const attach = (id: string | undefined, extra: object = {}): Promise<string> =>
        refusal('POST', `/vms/${vm.id}/diskattachments`, { disk: { id }, interface: 'virtio', bootable: false, ...extra });
      expect(await attach(disks[0]?.id)).toBe('409 DISK_ALREADY_ATTACHED');
      expect(await attach(other.disks[0]?.id)).toBe('409 DISK_ALREADY_ATTACHED');
      expect(await attach(free.id, { bootable: true })).toBe('409 DISK_BOOT_IN_USE');
      bench.db.disks.update(free.id, { status: 'locked' });
      expect(await attach(free.id)).toBe('409 DISKS_LOCKED');
      bench.db.disks.update(free.id, { status: 'ok' });
      bench.db.storageDomains.update(bench.domainIds[0] ?? '', { dataCenterId: 'elsewhere' });
      expect(await attach(free.id)).toBe('409 STORAGE_POOL_NOT_MATCH');
    });

    it('create a disk and attach it in one step', async () => {
      await open();
      const { vm } = await bench.addVm('web', []);
      const answer = await bench.call('POST', `/vms/${vm.id}/diskattachments`, {
        disk: body(),
        interface: 'virtio_scsi',
        bootable: true,
        active: true,
      });
      expect(answer).toMatchObject({ status: 202, body: { active: true, bootable: true } });
      await bench.until(() => bench.db.disks.require(text(answer.body['id'])).status === 'ok', 'ok');
    });

    it('of a snapshot go to a proxy through an overlay, keep the snapshot, and leave it as it was', async () => {
      await open();
      const source = await bench.addVm('web', [{}]);
      const proxy = await bench.addVm('proxy', [{}], 'up');
      const diskId = source.disks[0]?.id ?? '';
      const snapshotId = await snapshotOf(source.vm.id);
      const request = {
        disk: { id: diskId, snapshot: { id: snapshotId } },
        interface: 'virtio_scsi',
        bootable: false,
        active: true,
        read_only: true,
      };
      expect((await bench.call('POST', `/vms/${proxy.vm.id}/diskattachments`, request)).status).toBe(201);
      expect(fleet.vms.get(proxy.vm.id)?.disks.get(diskId)?.chain).toHaveLength(2);
      expect(await refusal('POST', `/vms/${proxy.vm.id}/diskattachments`, request)).toBe('409 DISK_ALREADY_ATTACHED');
      expect(await refusal('DELETE', `/vms/${source.vm.id}/snapshots/${snapshotId}`)).toBe(
        '409 VM_DISK_SNAPSHOT_IS_ATTACHED_TO_ANOTHER_VM',
      );
      expect(await refusal('POST', `/vms/${proxy.vm.id}/snapshots`, { description: 'x', persist_memorystate: false })).toBe(
        '400 DISK_SNAPSHOT_NOT_SUPPORTED',
      );
      const volumes = fleet.volumes.size;
      expect((await bench.call('DELETE', `/vms/${proxy.vm.id}/diskattachments/${diskId}`)).status).toBe(200);
      expect(fleet.volumes.size).toBe(volumes - 1);
      expect(bench.db.attachments.list((attachment) => attachment.diskId === diskId)).toHaveLength(1);
    });

    it('detaching a disk with snapshots is refused; newer engines wipe its checkpoints', async () => {
      await open({ settings: { version: { major: 4, minor: 5, build: 8, detachWipesCheckpoints: true } } });
      const { vm, disks } = await bench.addVm('web', [{}, {}]);
      const [first, second] = [disks[0]?.id ?? '', disks[1]?.id ?? ''];
      bench.db.checkpoints.put({ id: 'c1', vmId: vm.id, description: '', state: 'created', diskIds: [first, second], createdAt: 1 });
      bench.db.checkpoints.put({
        id: 'c2',
        vmId: vm.id,
        description: '',
        state: 'created',
        diskIds: [first],
        createdAt: 2,
        parentId: 'c1',
      });
      expect((await bench.call('DELETE', `/vms/${vm.id}/diskattachments/${first}`)).status).toBe(200);
      expect(bench.db.checkpoints.list().map((checkpoint) => [checkpoint.id, checkpoint.diskIds])).toEqual([['c1', [second]]]);
      expect(fleet.countOf('clearBitmaps')).toBe(1);
      await snapshotOf(vm.id);
      expect(await refusal('DELETE', `/vms/${vm.id}/diskattachments/${second}`)).toBe('409 CANNOT_DETACH_DISK_WITH_SNAPSHOT');
    });
  });
});
