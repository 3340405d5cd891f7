import { join } from 'node:path';
import { type FleetHarness, hostId, makeDisk, mib, runProgram, startFleet, ticketFor, vmOf, waitUntil } from './testing/fleet-harness';

/** The small Linux guest: it writes by itself, and a freeze stands its writes still. */
describe('linux guest', () => {
  let harness: FleetHarness;

  beforeAll(async () => {
    harness = await startFleet();
  });

  afterAll(async () => {
    await harness.close();
  });

  test('boots, writes, is frozen for a consistent backup, and its changes are in the incremental', async () => {
    const { fleet, client, directory } = harness;
    const host = (await fleet.startHost(hostId)).baseUrl;
    const disk = await makeDisk(fleet, 'cow', 256 * mib);
    await fleet.formatGuestDisk(disk, { seed: 4, filesBytes: 16 * mib });
    const vm = vmOf([disk], 'linux');
    await fleet.startVm(hostId, vm);
    expect(await fleet.vmState(vm.vmId)).toBe('starting');
    await waitUntil('the guest is up', async () => (await fleet.vmState(vm.vmId)) === 'up', 300_000);
    const cycles = async (): Promise<number> => (await fleet.consoleText(vm.vmId)).match(/^cycle \d+/gm)?.length ?? 0;

    // The agent starts beside the first cycle. While it is slow to answer, a thaw fails.
    await waitUntil(
      'the agent answers',
      async () =>
        await fleet.thaw(vm.vmId).then(
          () => true,
          () => false,
        ),
      120_000,
    );
    await fleet.freeze(vm.vmId);
    // A cycle under way may still be announced, none can begin: the count settles although a cycle takes about 100 ms.
    let frozenAt = -1;
    await waitUntil(
      'writes stand still',
      async () => {
        const seen = await cycles();
        await new Promise((resume) => setTimeout(resume, 1500));
        frozenAt = await cycles();
        return seen === frozenAt;
      },
      60_000,
    );
    await fleet.thaw(vm.vmId);
    await waitUntil('writes go on', async () => (await cycles()) > frozenAt, 120_000);

    const backup = async (backupId: string, toCheckpointId: string, fromCheckpointId?: string): Promise<number> => {
      const mode = fromCheckpointId === undefined ? 'full' : 'incremental';
      await fleet.startLiveBackup({
        vmId: vm.vmId,
        backupId,
        disks: [{ diskId: disk.diskId, mode, addBitmap: true }],
        ...(fromCheckpointId === undefined ? {} : { fromCheckpointId }),
        toCheckpointId,
        requireConsistency: true,
      });
      const ticket = ticketFor(await fleet.liveBackupExport(backupId, disk.diskId));
      await fleet.putTicket(hostId, ticket);
      const readBytes = await client.download(`${host}/images/${ticket.uuid}`, mode === 'full' ? 'zero' : 'dirty', join(directory, 'copy'));
      await fleet.removeTicket(hostId, ticket.uuid);
      await fleet.stopLiveBackup(backupId, true);
      return readBytes;
    };
    const fullBytes = await backup('full', 'one');

    // Held still around the transaction and a copy from below, both must be the same to the byte, however the guest goes on after that.
    await fleet.freeze(vm.vmId);
    await fleet.startLiveBackup({
      vmId: vm.vmId,
      backupId: 'frozen',
      disks: [{ diskId: disk.diskId, mode: 'incremental', addBitmap: false }],
      fromCheckpointId: 'one',
      requireConsistency: true,
    });
    await fleet.dumpDisk(disk, join(directory, 'state'));
    await fleet.thaw(vm.vmId);
    const held = await cycles();
    await waitUntil('the guest goes on', async () => (await cycles()) > held + 2, 120_000);
    const ticket = ticketFor(await fleet.liveBackupExport('frozen', disk.diskId));
    await fleet.putTicket(hostId, ticket);
    await client.download(`${host}/images/${ticket.uuid}`, 'dirty', join(directory, 'copy'));
    await fleet.stopLiveBackup('frozen', true);
    runProgram('cmp', [join(directory, 'state'), join(directory, 'copy')]);

    // The guest's kernel takes part in plugging.
    const plugged = await makeDisk(fleet, 'cow', 4 * mib);
    await fleet.hotplugDisk(vm.vmId, { ...plugged, interface: 'virtio', bootable: false, readOnly: false });
    await fleet.writeBlocks(vm.vmId, plugged.diskId, { offsetBytes: 0, lengthBytes: 512, pattern: 5 });
    await fleet.hotunplugDisk(vm.vmId, plugged.diskId);

    const seen = await cycles();
    await waitUntil('the guest has written again', async () => (await cycles()) > seen + 2, 120_000);
    const changedBytes = await backup('incremental', 'two', 'one');
    expect(changedBytes).toBeGreaterThan(64 * 1024);
    expect(changedBytes).toBeLessThan(fullBytes);

    // The copy was taken under a freeze: a clean file system whose files are the seeded ones.
    const copy = join(directory, 'copy');
    runProgram('e2fsck', ['-fn', copy]);
    const tree = join(directory, 'tree');
    runProgram('mkdir', [tree]);
    runProgram('debugfs', ['-R', `rdump /data ${tree}`, copy]);
    runProgram('sha256sum', ['--quiet', '-c', 'SHA256SUMS'], join(tree, 'data'));

    // A lab that goes away while the guest is frozen does not leave it so.
    await fleet.freeze(vm.vmId);
    await fleet.detach();
    const next = harness.reopen();
    const atRestart = (await next.consoleText(vm.vmId)).length;
    await waitUntil('the guest goes on', async () => (await next.consoleText(vm.vmId)).length > atRestart + 20, 120_000);
    await next.stopVm(vm.vmId, true);
    expect((await next.listBitmaps(disk)).map(({ name }) => name)).toEqual(['one', 'two']);
  }, 600_000);
});
