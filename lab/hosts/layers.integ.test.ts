import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { DiskChain } from './driver';
import {
  type FleetHarness,
  hostId,
  makeDisk,
  mib,
  runProgram,
  newLeafOf,
  startFleet,
  ticketFor,
  vmOf,
  withLayer,
} from './testing/fleet-harness';

/** Cold backups, snapshots and merges, and the hybrid backup that is made of them. */
describe('layers and cold transfers', () => {
  let harness: FleetHarness;
  let host: string;

  beforeAll(async () => {
    harness = await startFleet();
    host = (await harness.fleet.startHost(hostId)).baseUrl;
  });

  afterAll(async () => {
    await harness.close();
  });

  const compare = (left: string, right: string): void => {
    runProgram('cmp', [left, right]);
  };

  /** Reads a chain through qemu-nbd into `file`: whole, or what changed since `bitmap`. */
  const read = async (exportId: string, disk: DiskChain, file: string, bitmap?: string): Promise<number> => {
    const { fleet, client } = harness;
    const served = await fleet.startNbd(hostId, exportId, disk, { writable: false, ...(bitmap === undefined ? {} : { bitmap }) });
    const ticket = ticketFor(served);
    await fleet.putTicket(hostId, ticket);
    const bytes = await client.download(`${host}/images/${ticket.uuid}`, bitmap === undefined ? 'zero' : 'dirty', file);
    await fleet.removeTicket(hostId, ticket.uuid);
    await fleet.stopNbd(exportId);
    return bytes;
  };

  /** Runs the disk in a VM for one write. */
  const writeOnce = async (disk: DiskChain, offsetBytes: number, lengthBytes: number, seed: number): Promise<void> => {
    const vm = vmOf([disk]);
    await harness.fleet.startVm(hostId, vm);
    await harness.fleet.writeBlocks(vm.vmId, disk.diskId, { offsetBytes, lengthBytes, pattern: 'random', seed });
    await harness.fleet.stopVm(vm.vmId, true);
  };

  test('cold full and incremental, then over a cold snapshot, then after the cold merge', async () => {
    const { fleet, directory } = harness;
    let disk = await makeDisk(fleet, 'cow', 32 * mib);
    const copy = join(directory, 'cold-copy');
    const state = join(directory, 'cold-state');
    await writeOnce(disk, 0, 2 * mib, 1);
    await fleet.addColdBitmaps([disk], 'one');
    expect(await read('cold-full', disk, copy)).toBe(2 * mib);
    await writeOnce(disk, 10 * mib, mib, 2);
    expect(await read('cold-incremental', disk, copy, 'one')).toBe(mib);
    await fleet.dumpDisk(disk, state);
    compare(copy, state);

    const leaf = newLeafOf(disk);
    await fleet.createSnapshot(undefined, [{ disk, newLeaf: leaf, addBitmap: 'two' }]);
    const layered = withLayer(disk, leaf);
    await writeOnce(layered, 20 * mib, mib, 3);
    await fleet.dumpDisk(layered, state);
    expect(await read('cold-layered', layered, copy, 'one')).toBe(2 * mib); // both layers' changes
    compare(copy, state);
    expect(await read('cold-leaf-only', layered, copy, 'two')).toBe(mib);
    const shallow = await fleet.startNbd(hostId, 'shallow', layered, { writable: false, shallow: true });
    const ticket = ticketFor(shallow);
    await fleet.putTicket(hostId, ticket);
    const data = (await harness.client.extents(`${host}/images/${ticket.uuid}`, 'zero')).filter((extent) => extent.hole === false);
    expect(data).toEqual([{ start: 20 * mib, length: mib, zero: false, hole: false }]);
    await fleet.removeTicket(hostId, ticket.uuid);
    await fleet.stopNbd('shallow');

    await fleet.mergeVolume(undefined, layered, leaf);
    await fleet.deleteVolume(leaf);
    expect(await fleet.listBitmaps(disk)).toEqual([
      { name: 'one', consistent: true, recording: true },
      { name: 'two', consistent: true, recording: true },
    ]);
    const merged = join(directory, 'cold-merged');
    await fleet.dumpDisk(disk, merged);
    compare(merged, state);
    expect(await read('after-merge', disk, copy, 'two')).toBe(mib);

    await fleet.damageBitmap(disk, 'two', 'inconsistent');
    await expect(fleet.startNbd(hostId, 'broken', disk, { writable: false, bitmap: 'two' })).rejects.toMatchObject({
      code: 'BITMAP_INCONSISTENT',
    });
    await fleet.damageBitmap(disk, 'one', 'remove');
    await expect(fleet.startNbd(hostId, 'missing', disk, { writable: false, bitmap: 'one' })).rejects.toMatchObject({
      code: 'BITMAP_MISSING',
    });
    await fleet.clearBitmaps(disk);
    expect(await fleet.listBitmaps(disk)).toEqual([]);
    disk = { ...disk, virtualSizeBytes: 48 * mib };
    await fleet.resizeVolume(disk.chain[0]!, disk.virtualSizeBytes);
    expect((await fleet.startNbd(hostId, 'grown', disk, { writable: false })).sizeBytes).toBe(48 * mib);
    await fleet.stopNbd('grown');
  });

  test('hybrid: the layers below a running VM are served as of the snapshot, and bitmaps survive the live merge', async () => {
    const { fleet, directory } = harness;
    const disk = await makeDisk(fleet, 'cow', 64 * mib);
    const other = await makeDisk(fleet, 'raw', 8 * mib);
    const vm = vmOf([disk, other]);
    const copy = join(directory, 'hybrid-copy');
    const state = join(directory, 'hybrid-state');
    const write = async (offsetBytes: number, lengthBytes: number, seed: number): Promise<void> => {
      await fleet.writeBlocks(vm.vmId, disk.diskId, { offsetBytes, lengthBytes, pattern: 'random', seed });
    };
    await fleet.startVm(hostId, vm);
    await write(0, 4 * mib, 1);
    await expect(fleet.startNbd(hostId, 'live', disk, { writable: false })).rejects.toMatchObject({ code: 'VM_RUNNING' });

    const first = newLeafOf(disk);
    const otherLeaf = newLeafOf(other);
    await fleet.dumpDisk(disk, state);
    await fleet.createSnapshot(vm.vmId, [
      { disk, newLeaf: first, addBitmap: 'one' },
      { disk: other, newLeaf: otherLeaf },
    ]);
    await write(8 * mib, mib, 2); // goes to the new layer only
    expect(await read('hybrid-full', disk, copy)).toBe(4 * mib);
    compare(copy, state);
    await write(16 * mib, mib, 3);
    await expect(fleet.deleteVolume(first)).rejects.toMatchObject({ code: 'VM_RUNNING' });
    await fleet.mergeVolume(vm.vmId, withLayer(disk, first), first);
    await fleet.mergeVolume(vm.vmId, withLayer(disk, first), first); // repeated by a lab that died before it could know
    await fleet.deleteVolume(first);
    await fleet.mergeVolume(vm.vmId, withLayer(other, otherLeaf), otherLeaf);
    expect(await fleet.listBitmaps(disk)).toEqual([{ name: 'one', consistent: true, recording: true }]);
    await write(24 * mib, mib, 4);

    const second = newLeafOf(disk);
    await fleet.dumpDisk(disk, state);
    await fleet.createSnapshot(vm.vmId, [{ disk, newLeaf: second, addBitmap: 'two' }]);
    await write(0, mib, 5);
    expect(await read('hybrid-incremental', disk, copy, 'one')).toBe(3 * mib);
    compare(copy, state);

    // A live backup over layers merges the bitmaps of both; a third snapshot lets a layer in the middle be merged.
    const third = newLeafOf(disk);
    await fleet.createSnapshot(vm.vmId, [{ disk: withLayer(disk, second), newLeaf: third }]);
    await write(32 * mib, mib, 6);
    await fleet.mergeVolume(vm.vmId, withLayer(withLayer(disk, second), third), second);
    await fleet.deleteVolume(second);
    const chain = withLayer(disk, third);
    await fleet.dumpDisk(chain, state);
    await fleet.startLiveBackup({
      vmId: vm.vmId,
      backupId: 'layered',
      disks: [{ diskId: disk.diskId, mode: 'incremental', addBitmap: true }],
      fromCheckpointId: 'two',
      toCheckpointId: 'three',
      requireConsistency: false,
    });
    const ticket = ticketFor(await fleet.liveBackupExport('layered', disk.diskId));
    await fleet.putTicket(hostId, ticket);
    expect(await harness.client.download(`${host}/images/${ticket.uuid}`, 'dirty', copy)).toBe(2 * mib);
    await fleet.stopLiveBackup('layered', true);
    compare(copy, state);

    // Bitmaps of read-only layers can be removed while the VM runs.
    await fleet.removeBitmaps([chain], 'one');
    expect((await fleet.listBitmaps(chain)).map(({ name }) => name)).toEqual(['three', 'two']);
    await fleet.stopVm(vm.vmId, true);

    // The chain starts again, and its leaf can still be merged into a base that was opened read-only.
    await fleet.startVm(hostId, vmOf([chain]));
    expect((await fleet.listBitmaps(chain)).every(({ consistent }) => consistent)).toBe(true);
  });

  test('a chain started as such merges live, and disks come and go while the VM runs', async () => {
    const { fleet, directory } = harness;
    const disk = await makeDisk(fleet, 'cow', 16 * mib);
    await writeOnce(disk, 0, mib, 1);
    const leaf = newLeafOf(disk);
    await fleet.createSnapshot(undefined, [{ disk, newLeaf: leaf, addBitmap: 'one' }]);
    const vm = vmOf([withLayer(disk, leaf)]);
    await fleet.startVm(hostId, vm);
    await fleet.writeBlocks(vm.vmId, disk.diskId, { offsetBytes: 4 * mib, lengthBytes: mib, pattern: 'random', seed: 2 });
    await fleet.dumpDisk(withLayer(disk, leaf), join(directory, 'before'));
    expect((await stat(join(directory, 'before'))).blocks * 512).toBe(2 * mib); // copies of sparse disks are sparse
    await fleet.mergeVolume(vm.vmId, withLayer(disk, leaf), leaf);
    await fleet.dumpDisk(disk, join(directory, 'after'));
    compare(join(directory, 'before'), join(directory, 'after'));
    await fleet.resizeVolume(disk.chain[0]!, 20 * mib);
    expect(await fleet.listBitmaps(disk)).toEqual([{ name: 'one', consistent: true, recording: true }]);

    const plugged = await makeDisk(fleet, 'cow', 4 * mib);
    await fleet.hotplugDisk(vm.vmId, { ...plugged, interface: 'virtio_scsi', bootable: false, readOnly: false });
    await fleet.writeBlocks(vm.vmId, plugged.diskId, { offsetBytes: 0, lengthBytes: 512, pattern: 5 });
    await fleet.resizeVolume(plugged.chain[0]!, 6 * mib);
    await fleet.hotunplugDisk(vm.vmId, plugged.diskId);
    await expect(fleet.writeBlocks(vm.vmId, plugged.diskId, { offsetBytes: 0, lengthBytes: 512, pattern: 5 })).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    await fleet.verifyVolume(plugged.chain[0]!, 'cow');
    await fleet.stopVm(vm.vmId, true);
    expect(await read('at-rest', { ...disk, virtualSizeBytes: 20 * mib }, join(directory, 'after'), 'one')).toBe(mib); // and zeroes for what has grown
  });
});
