import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type FleetHarness, hostId, makeDisk, mib, runProgram, startFleet, ticketFor, vmOf } from './testing/fleet-harness';

/** Pull-mode backups of a running VM through the real imageio daemon. */
describe('live backup', () => {
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

  test('a full and an incremental one, with writes during both, give the disk of each point in time', async () => {
    const { fleet, client, directory } = harness;
    const cow = await makeDisk(fleet, 'cow', 64 * mib);
    const raw = await makeDisk(fleet, 'raw', 16 * mib);
    const vm = vmOf([cow, raw]);
    await fleet.startVm(hostId, vm);
    const write = async (diskId: string, offsetBytes: number, lengthBytes: number, pattern: number | 'random' | 'zero', seed = 1) =>
      await fleet.writeBlocks(vm.vmId, diskId, { offsetBytes, lengthBytes, pattern, seed });
    await write(cow.diskId, 0, 3 * mib, 'random');
    await write(cow.diskId, 20 * mib + 512, 1024, 7);
    await write(raw.diskId, 5 * mib, mib, 'random', 2);

    const copyOf = (diskId: string): string => join(directory, `copy-${diskId}`);
    const stateOf = (diskId: string, point: string): string => join(directory, `${point}-${diskId}`);
    const dump = async (point: string): Promise<void> => {
      for (const disk of [cow, raw]) await fleet.dumpDisk(disk, stateOf(disk.diskId, point));
    };
    const read = async (backupId: string, diskId: string, context: 'zero' | 'dirty'): Promise<number> => {
      const ticket = ticketFor(await fleet.liveBackupExport(backupId, diskId));
      await fleet.putTicket(hostId, ticket);
      const bytes = await client.download(`${host}/images/${ticket.uuid}`, context, copyOf(diskId));
      await fleet.removeTicket(hostId, ticket.uuid);
      return bytes;
    };

    await dump('one');
    await fleet.startLiveBackup({
      vmId: vm.vmId,
      backupId: 'backup-one',
      disks: [
        { diskId: cow.diskId, mode: 'full', addBitmap: true },
        { diskId: raw.diskId, mode: 'full', addBitmap: false },
      ],
      toCheckpointId: 'checkpoint-one',
      requireConsistency: false,
    });
    await write(cow.diskId, mib, 2 * mib, 'random', 3); // after the point in time, before the read
    await write(cow.diskId, 40 * mib, 64 * 1024, 9);
    await write(raw.diskId, 5 * mib, 4096, 1);
    expect(await read('backup-one', cow.diskId, 'zero')).toBe(3 * mib + 64 * 1024);
    await read('backup-one', raw.diskId, 'zero');
    await fleet.stopLiveBackup('backup-one', true);
    await fleet.stopLiveBackup('backup-one', true); // idempotent
    compare(copyOf(cow.diskId), stateOf(cow.diskId, 'one'));
    compare(copyOf(raw.diskId), stateOf(raw.diskId, 'one'));

    await write(cow.diskId, 0, 64 * 1024, 'zero');
    await dump('two');
    await fleet.startLiveBackup({
      vmId: vm.vmId,
      backupId: 'backup-two',
      disks: [
        { diskId: cow.diskId, mode: 'incremental', addBitmap: true },
        { diskId: raw.diskId, mode: 'full', addBitmap: false },
      ],
      fromCheckpointId: 'checkpoint-one',
      toCheckpointId: 'checkpoint-two',
      requireConsistency: false,
    });
    await write(cow.diskId, 50 * mib, mib, 'random', 4);
    expect(await read('backup-two', cow.diskId, 'dirty')).toBe(2 * mib + 64 * 1024);
    await read('backup-two', raw.diskId, 'zero');
    await fleet.stopLiveBackup('backup-two', true);
    compare(copyOf(cow.diskId), stateOf(cow.diskId, 'two'));
    compare(copyOf(raw.diskId), stateOf(raw.diskId, 'two'));

    expect(await fleet.listBitmaps(cow)).toEqual([
      { name: 'checkpoint-one', consistent: true, recording: true },
      { name: 'checkpoint-two', consistent: true, recording: true },
    ]);
    expect(readdirSync(join(harness.dataDir, 'scratch'))).toEqual([]);
    await fleet.stopVm(vm.vmId, true);
    expect(await fleet.vmState(vm.vmId)).toBe('absent');
    expect((await fleet.listBitmaps(cow)).map(({ name }) => name)).toEqual(['checkpoint-one', 'checkpoint-two']);
  });

  test('a backup that is refused leaves no bitmap, job, export or scratch file', async () => {
    const { fleet } = harness;
    const disk = await makeDisk(fleet, 'cow', 8 * mib);
    const vm = vmOf([disk]);
    await fleet.startVm(hostId, vm);
    const incremental = (backupId: string, fromCheckpointId: string) => ({
      vmId: vm.vmId,
      backupId,
      disks: [{ diskId: disk.diskId, mode: 'incremental', addBitmap: true } as const],
      fromCheckpointId,
      toCheckpointId: 'new',
      requireConsistency: false,
    });
    const full = (backupId: string, toCheckpointId: string, requireConsistency = false) => ({
      vmId: vm.vmId,
      backupId,
      disks: [{ diskId: disk.diskId, mode: 'full', addBitmap: true } as const],
      toCheckpointId,
      requireConsistency,
    });
    await expect(fleet.startLiveBackup(incremental('a', 'unknown'))).rejects.toMatchObject({ code: 'BITMAP_MISSING' });
    await expect(fleet.startLiveBackup(full('b', 'new', true))).rejects.toMatchObject({ code: 'FREEZE_FAILED' });

    await fleet.startLiveBackup(full('c', 'old'));
    await fleet.stopLiveBackup('c', true);
    // The name is in use; the bitmap that has it must stay.
    await expect(fleet.startLiveBackup(full('d', 'old'))).rejects.toMatchObject({ code: 'QEMU_REFUSED' });
    await fleet.damageBitmap(disk, 'old', 'inconsistent');
    await expect(fleet.startLiveBackup(incremental('e', 'old'))).rejects.toMatchObject({ code: 'BITMAP_INCONSISTENT' });
    await fleet.startLiveBackup(full('f', 'unwanted'));
    await fleet.stopLiveBackup('f', false);
    expect((await fleet.listBitmaps(disk)).map(({ name }) => name)).toEqual(['old']);
    expect(readdirSync(join(harness.dataDir, 'scratch'))).toEqual([]);
    await fleet.stopVm(vm.vmId, false);
    expect(existsSync(join(harness.dataDir, 'run', `vm-${vm.vmId}.json`))).toBe(false);
  });
});
