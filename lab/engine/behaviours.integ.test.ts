import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { domainId, hostId, startFleet, type FleetHarness } from '../hosts/testing/fleet-harness';
import { chainOf } from './disks/images';
import type { Disk, Vm } from './model/entities';
import { EngineBench, MIB, text } from './testing/engine-bench';

/** The engine's behaviour on real hosts: qemu, qemu-nbd and ovirt-imageio; each copy is compared with the disk of its point in time. */
describe('the engine on real hosts', () => {
  let harness: FleetHarness;
  let bench: EngineBench;

  beforeAll(async () => {
    harness = await startFleet();
    await harness.fleet.startHost(hostId);
    bench = await EngineBench.open(harness.fleet, {
      clockFactor: 40,
      hostIds: [hostId],
      domainIds: [domainId],
      settings: { snapshotCreateMs: 500, mergeMsPerGib: 100, diskCreateMs: 200 },
    });
  });

  afterAll(async () => {
    await bench.close();
    await harness.close();
  });

  const copyOf = (diskId: string): string => join(harness.directory, `copy-${diskId}`);
  const write = (
    vm: Vm,
    disk: Disk,
    offsetBytes: number,
    lengthBytes: number,
    pattern: number | 'random' | 'zero',
    seed = 1,
  ): Promise<void> => harness.fleet.writeBlocks(vm.id, disk.id, { offsetBytes, lengthBytes, pattern, seed });
  const dump = async (disk: Disk, point: string): Promise<string> => {
    const file = join(harness.directory, `${point}-${disk.id}`);
    await harness.fleet.dumpDisk(chainOf(bench.db, bench.db.disks.require(disk.id)), file);
    return file;
  };
  const phase = (id: string): string | undefined => bench.db.backups.get(id)?.phase;
  const reach = (id: string, wanted: string): Promise<void> =>
    bench.until(() => phase(id) === wanted, `backup ${wanted}, is ${String(phase(id))}`);

  const start = async (vm: Vm, disks: readonly Disk[], from?: string): Promise<string> => {
    const body = { disks: disks.map((disk) => ({ id: disk.id })), ...(from !== undefined && { from_checkpoint_id: from }) };
    const answer = await bench.call('POST', `/vms/${vm.id}/backups`, body);
    expect(answer.refusal).toBeUndefined();
    const id = text(answer.body['id']);
    await reach(id, 'READY');
    return id;
  };

  /** Reads one disk of a ready backup as its mode says, through the engine's transfer. */
  const read = async (backupId: string, disk: Disk): Promise<{ mode: string; bytes: number }> => {
    const { vmId } = bench.db.backups.require(backupId);
    const views = (await bench.call('GET', `/vms/${vmId}/backups/${backupId}/disks`)).entities;
    const mode = text(views.find((view) => view['id'] === disk.id)?.['backup_mode']);
    const transfer = await bench.call('POST', '/imagetransfers', {
      disk: { id: disk.id },
      backup: { id: backupId },
      direction: 'download',
      format: 'raw',
    });
    expect(transfer.body['phase']).toBe('transferring');
    const url = text(transfer.body['transfer_url']);
    const bytes = await harness.client.download(url, mode === 'incremental' ? 'dirty' : 'zero', copyOf(disk.id));
    const id = text(transfer.body['id']);
    await bench.call('POST', `/imagetransfers/${id}/finalize`);
    await bench.until(() => bench.db.transfers.require(id).phase === 'finished_success', 'transfer finished');
    return { mode, bytes };
  };

  const end = async (backupId: string): Promise<string> => {
    const { vmId } = bench.db.backups.require(backupId);
    const answer = await bench.call('POST', `/vms/${vmId}/backups/${backupId}/finalize`);
    expect(answer.refusal).toBeUndefined();
    await reach(backupId, 'SUCCEEDED');
    return bench.db.backups.require(backupId).toCheckpointId ?? '';
  };

  const same = (disk: Disk, state: string): void => {
    execFileSync('cmp', [copyOf(disk.id), state]);
  };

  it.each([
    [4, 5],
    [4, 6],
    [4, 7],
  ])('level %i.%i: full, incremental, then mixed with a new disk, while the machine writes', async (major, minor) => {
    bench.setLevel(major, minor);
    const { vm, disks } = await bench.addVm(
      `web-${String(minor)}`,
      [{ sizeBytes: 32 * MIB }, { format: 'raw', sizeBytes: 8 * MIB, bootable: false }],
      'up',
    );
    const [cow, raw] = disks as [Disk, Disk];
    await write(vm, cow, 0, 2 * MIB, 'random');
    await write(vm, raw, MIB, MIB, 'random', 2);

    const full = [await dump(cow, 'full'), await dump(raw, 'full')] as const;
    const first = await start(vm, disks);
    await write(vm, cow, MIB, MIB, 'random', 3);
    expect(await read(first, cow)).toMatchObject({ mode: 'full', bytes: 2 * MIB });
    expect(await read(first, raw)).toMatchObject({ mode: 'full' });
    const checkpoint = await end(first);
    same(cow, full[0]);
    same(raw, full[1]);

    await write(vm, cow, 8 * MIB, 128 * 1024, 7);
    await write(vm, cow, 0, 64 * 1024, 'zero');
    const incremental = await dump(cow, 'incremental');
    const second = await start(vm, [cow, raw], checkpoint);
    await write(vm, cow, 16 * MIB, MIB, 9);
    const increment = await read(second, cow);
    expect(increment.mode).toBe('incremental');
    expect(increment.bytes).toBeLessThanOrEqual(2 * MIB);
    expect(await read(second, raw)).toMatchObject({ mode: 'full' });
    const next = await end(second);
    same(cow, incremental);

    const added = await bench.addDisk('added', { sizeBytes: 8 * MIB });
    const attached = { disk: { id: added.id }, interface: 'virtio_scsi', bootable: false, active: true };
    expect((await bench.call('POST', `/vms/${vm.id}/diskattachments`, attached)).status).toBe(201);
    await write(vm, added, 0, MIB, 'random', 5);
    const mixed = [await dump(cow, 'mixed'), await dump(added, 'mixed')] as const;
    const third = await start(vm, [cow, added], next);
    expect(await read(third, cow)).toMatchObject({ mode: 'incremental' });
    expect(await read(third, added)).toMatchObject({ mode: 'full' });
    await end(third);
    same(cow, mixed[0]);
    same(added, mixed[1]);
    expect(bench.db.snapshots.list((snapshot) => snapshot.vmId === vm.id)).toHaveLength(1);
    expect(bench.db.disks.list((disk) => disk.contentType === 'backup_scratch')).toEqual([]);
    expect(bench.core.locks.list()).toEqual([]);
    await bench.call('POST', `/vms/${vm.id}/stop`);
    await bench.until(() => bench.db.vms.require(vm.id).status === 'down', 'down');
  });

  it('cold: full, run, incremental', async () => {
    bench.setLevel(4, 6);
    const { vm, disks } = await bench.addVm('cold', [{ sizeBytes: 16 * MIB }], 'up');
    const [cow] = disks as [Disk];
    const turnOff = async (): Promise<void> => {
      await bench.call('POST', `/vms/${vm.id}/shutdown`);
      await bench.until(() => bench.db.vms.require(vm.id).status === 'down', 'down');
    };
    await write(vm, cow, 0, MIB, 'random');
    await turnOff();
    const first = await start(vm, disks);
    await read(first, cow);
    const checkpoint = await end(first);
    same(cow, await dump(cow, 'cold-full'));
    await bench.startVm(vm.id);
    await write(vm, cow, 4 * MIB, 256 * 1024, 'random', 8);
    await turnOff();
    const second = await start(vm, disks, checkpoint);
    expect(await read(second, cow)).toEqual({ mode: 'incremental', bytes: 256 * 1024 });
    await end(second);
    same(cow, await dump(cow, 'cold-incremental'));
  });

  it('upload to a new disk, seen through the proxy too', async () => {
    const id = randomUUID();
    await bench.call('POST', '/disks', {
      id,
      name: 'restored',
      format: 'cow',
      provisioned_size: 8 * MIB,
      storage_domains: [{ id: domainId }],
    });
    await bench.until(() => bench.db.disks.get(id)?.status === 'ok', 'disk ok');
    const transfer = await bench.call('POST', '/imagetransfers', { disk: { id }, format: 'raw' });
    expect(transfer.body['phase']).toBe('transferring');
    const content = Buffer.alloc(MIB, 'tidemark');
    for (const [url, offset] of [
      [transfer.body['transfer_url'], 0],
      [transfer.body['proxy_url'], 4 * MIB],
    ] as const) {
      const headers = { 'content-range': `bytes ${String(offset)}-${String(offset + MIB - 1)}/*`, 'content-length': String(MIB) };
      expect((await harness.client.call('PUT', text(url), headers, content)).status).toBe(200);
    }
    const transferId = text(transfer.body['id']);
    await bench.call('POST', `/imagetransfers/${transferId}/finalize`);
    await bench.until(() => bench.db.transfers.require(transferId).phase === 'finished_success', 'finished');
    const disk = bench.db.disks.require(id);
    expect(disk.actualSizeBytes).toBeGreaterThan(2 * MIB);
    const expected = Buffer.alloc(8 * MIB);
    content.copy(expected, 0);
    content.copy(expected, 4 * MIB);
    expect((await readFile(await dump(disk, 'uploaded'))).equals(expected)).toBe(true);
  });

  it('a bad qcow2 upload takes its disk away', async () => {
    const id = randomUUID();
    await bench.call('POST', '/disks', { id, name: 'bad', format: 'cow', provisioned_size: 4 * MIB, storage_domains: [{ id: domainId }] });
    await bench.until(() => bench.db.disks.get(id)?.status === 'ok', 'disk ok');
    const transfer = await bench.call('POST', '/imagetransfers', { disk: { id } });
    const garbage = Buffer.alloc(MIB, 1);
    const headers = { 'content-length': String(MIB) };
    expect((await harness.client.call('PUT', text(transfer.body['transfer_url']), headers, garbage)).status).toBe(200);
    const transferId = text(transfer.body['id']);
    await bench.call('POST', `/imagetransfers/${transferId}/finalize`);
    await bench.until(() => bench.db.transfers.require(transferId).phase === 'finished_failure', 'failed');
    expect(bench.db.disks.has(id)).toBe(false);
  });

  it('a killed machine during a backup: transfers die, finalize fails it, and the next backup is a full', async () => {
    bench.setLevel(4, 6);
    const { vm, disks } = await bench.addVm('victim', [{ sizeBytes: 16 * MIB }], 'up');
    const [cow] = disks as [Disk];
    await write(vm, cow, 0, MIB, 'random');
    const first = await start(vm, disks);
    await read(first, cow);
    const checkpoint = await end(first);
    await write(vm, cow, 2 * MIB, MIB, 'random', 4);
    const second = await start(vm, disks, checkpoint);
    const body = { disk: { id: cow.id }, backup: { id: second }, direction: 'download', format: 'raw' };
    const transferId = text((await bench.call('POST', '/imagetransfers', body)).body['id']);
    // What a power cut does to the process, behind the engine's back.
    killProcessOf(vm.id);
    await bench.until(() => bench.db.vms.require(vm.id).status === 'down', 'noticed');
    await bench.until(() => bench.db.transfers.require(transferId).phase === 'finished_failure', 'transfer failed');
    expect(await bench.call('POST', `/vms/${vm.id}/backups/${second}/finalize`)).toMatchObject({ status: 400, detail: '[]' });
    expect(phase(second)).toBe('FAILED');
    await bench.startVm(vm.id);
    const refused = await bench.call('POST', `/vms/${vm.id}/backups`, { disks: [{ id: cow.id }], from_checkpoint_id: checkpoint });
    expect(refused).toMatchObject({ status: 400, detail: '[]' });
    expect(bench.db.checkpoints.list((candidate) => candidate.vmId === vm.id)).toEqual([]);
    const state = await dump(cow, 'after-kill');
    const third = await start(vm, disks);
    expect(await read(third, cow)).toMatchObject({ mode: 'full' });
    await end(third);
    same(cow, state);
  });

  it('a restart of the engine in the middle of a transfer changes nothing for it', async () => {
    bench.setLevel(4, 6);
    const { vm, disks } = await bench.addVm('restarted', [{ sizeBytes: 8 * MIB }], 'up');
    const [cow] = disks as [Disk];
    await write(vm, cow, 0, MIB, 'random', 6);
    const state = await dump(cow, 'restart');
    const backupId = await start(vm, disks);
    const body = { disk: { id: cow.id }, backup: { id: backupId }, direction: 'download', format: 'raw' };
    const transfer = await bench.call('POST', '/imagetransfers', body);
    await bench.restart();
    expect(bench.db.vms.require(vm.id).status).toBe('up');
    await harness.client.download(text(transfer.body['transfer_url']), 'zero', copyOf(cow.id));
    const transferId = text(transfer.body['id']);
    await bench.call('POST', `/imagetransfers/${transferId}/finalize`);
    await bench.until(() => bench.db.transfers.require(transferId).phase === 'finished_success', 'finished');
    await end(backupId);
    same(cow, state);
  });

  it('a snapshot goes to a proxy and back, is restored, and leaves one volume per disk', async () => {
    bench.setLevel(4, 6);
    const source = await bench.addVm('source', [{ sizeBytes: 8 * MIB }], 'up');
    const proxy = await bench.addVm('proxy', [{ sizeBytes: MIB }], 'up');
    const [disk] = source.disks as [Disk];
    await write(source.vm, disk, 0, MIB, 'random', 11);
    const state = await dump(disk, 'snapshot');
    const created = await bench.call('POST', `/vms/${source.vm.id}/snapshots`, { description: 'mine', persist_memorystate: false });
    const snapshotId = text(created.body['id']);
    await bench.until(() => bench.db.snapshots.get(snapshotId)?.status === 'ok', 'snapshot');
    await write(source.vm, disk, 2 * MIB, MIB, 'random', 12);

    const path = `/vms/${proxy.vm.id}/diskattachments`;
    const body = { disk: { id: disk.id, snapshot: { id: snapshotId } }, interface: 'virtio_scsi', bootable: false, active: true };
    expect(await bench.call('POST', path, body)).toMatchObject({ status: 201, body: { active: true } });
    await harness.fleet.writeBlocks(proxy.vm.id, disk.id, { offsetBytes: 0, lengthBytes: 64 * 1024, pattern: 3 });
    expect((await bench.call('DELETE', `${path}/${disk.id}`)).status).toBe(200);

    const volumeId = bench.db.volumes.find((volume) => volume.snapshotId === snapshotId)?.id ?? '';
    const transfer = await bench.call('POST', '/imagetransfers', { snapshot: { id: volumeId }, direction: 'download', format: 'raw' });
    await harness.client.download(text(transfer.body['transfer_url']), 'zero', copyOf(disk.id));
    await bench.call('POST', `/imagetransfers/${text(transfer.body['id'])}/finalize`);
    await bench.until(() => bench.db.transfers.require(text(transfer.body['id'])).phase === 'finished_success', 'finished');
    same(disk, state);

    await bench.call('POST', `/vms/${source.vm.id}/stop`);
    await bench.until(() => bench.db.vms.require(source.vm.id).status === 'down', 'down');
    expect((await bench.call('POST', `/vms/${source.vm.id}/snapshots/${snapshotId}/restore`, { restore_memory: false })).status).toBe(200);
    execFileSync('cmp', [await dump(disk, 'restored'), state]);
    await bench.startVm(source.vm.id);
    await write(source.vm, disk, 4 * MIB, MIB, 'random', 13);
    const written = await dump(disk, 'written');
    expect((await bench.call('DELETE', `/vms/${source.vm.id}/snapshots/${snapshotId}`)).refusal).toBeUndefined();
    await bench.until(() => !bench.db.snapshots.has(snapshotId), 'merged');
    expect(bench.db.volumes.list((volume) => volume.diskId === disk.id)).toHaveLength(1);
    execFileSync('cmp', [await dump(disk, 'merged'), written]);
  });

  it('a killed image daemon cancels downloads and pauses uploads, which go on with a new ticket', async () => {
    const [down, up] = [await bench.addDisk('down', { sizeBytes: MIB }), await bench.addDisk('up', { sizeBytes: MIB })];
    const download = text(
      (await bench.call('POST', '/imagetransfers', { disk: { id: down.id }, direction: 'download', format: 'raw' })).body['id'],
    );
    const upload = text((await bench.call('POST', '/imagetransfers', { disk: { id: up.id }, format: 'raw' })).body['id']);
    await harness.fleet.killImageio(hostId);
    const { baseUrl } = await harness.fleet.startHost(hostId);
    bench.db.hosts.update(hostId, { imageioBaseUrl: baseUrl });
    await bench.until(() => bench.db.transfers.require(download).phase === 'finished_failure', 'download failed');
    await bench.until(() => bench.db.transfers.require(upload).phase === 'paused_system', 'upload paused');
    await bench.call('POST', `/imagetransfers/${upload}/resume`);
    await bench.until(() => bench.db.transfers.require(upload).phase === 'transferring', 'resumed');
    const url = text((await bench.call('GET', `/imagetransfers/${upload}`)).body['transfer_url']);
    const headers = { 'content-range': `bytes 0-${String(MIB - 1)}/*`, 'content-length': String(MIB) };
    expect((await harness.client.call('PUT', url, headers, Buffer.alloc(MIB, 5))).status).toBe(200);
    await bench.call('POST', `/imagetransfers/${upload}/finalize`);
    await bench.until(() => bench.db.transfers.require(upload).phase === 'finished_success', 'finished');
    expect(await readFile(await dump(up, 'resumed'))).toEqual(Buffer.alloc(MIB, 5));
    expect(bench.db.disks.require(down.id).status).toBe('ok');
  });

  /** The fleet's record of its processes: `run/vm-<id>.json`. */
  const killProcessOf = (vmId: string): void => {
    const record = JSON.parse(readFileSync(join(harness.dataDir, 'run', `vm-${vmId}.json`), 'utf8')) as { pid: number };
    process.kill(record.pid, 'SIGKILL');
  };
});
