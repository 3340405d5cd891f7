import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { DiskChain, HostFleet, VmSpec } from './driver';
import {
  type FleetHarness,
  domainId,
  hostId,
  makeDisk,
  mib,
  runProgram,
  startFleet,
  ticketFor,
  vmOf,
  waitUntil,
} from './testing/fleet-harness';

/** What is left when a VM, a host or the lab itself is killed. */
describe('crashes', () => {
  let harness: FleetHarness;

  beforeEach(async () => {
    harness = await startFleet();
    await harness.fleet.startHost(hostId);
  });

  afterEach(async () => {
    await harness.close();
  });

  const checkpoint = async (fleet: HostFleet, vm: VmSpec, name: string): Promise<void> => {
    const disks = vm.disks.map(({ diskId }) => ({ diskId, mode: 'full', addBitmap: true }) as const);
    await fleet.startLiveBackup({ vmId: vm.vmId, backupId: `backup-${name}`, disks, toCheckpointId: name, requireConsistency: false });
    await fleet.stopLiveBackup(`backup-${name}`, true);
  };

  test('a stalled VM, and one on a stalled host, does nothing until it goes on', async () => {
    const { fleet } = harness;
    const disk = await makeDisk(fleet, 'cow', 8 * mib);
    const vm = vmOf([disk]);
    await fleet.startVm(hostId, vm);
    const stalls = [(stalled: boolean) => fleet.stallVm(vm.vmId, stalled), (stalled: boolean) => fleet.stallHost(hostId, stalled)];
    for (const stall of stalls) {
      await stall(true);
      let written = false;
      const write = fleet.writeBlocks(vm.vmId, disk.diskId, { offsetBytes: 0, lengthBytes: mib, pattern: 7 }).then(() => {
        written = true;
      });
      await new Promise((resolve) => setTimeout(resolve, 300));
      expect(written).toBe(false);
      await stall(false);
      await write;
    }
  });

  test('what was written to a disk survives a killed VM', async () => {
    const { fleet } = harness;
    const disk = await makeDisk(fleet, 'cow', 8 * mib);
    const vm = vmOf([disk]);
    await fleet.startVm(hostId, vm);
    await fleet.writeBlocks(vm.vmId, disk.diskId, { offsetBytes: mib, lengthBytes: 2 * mib, pattern: 'random', seed: 3 });
    await fleet.writeBlocks(vm.vmId, disk.diskId, { offsetBytes: 2 * mib, lengthBytes: mib, pattern: 'zero' });
    const [before, after] = [join(harness.directory, 'before'), join(harness.directory, 'after')];
    await fleet.dumpDisk(disk, before);
    await fleet.stopVm(vm.vmId, false);
    await fleet.dumpDisk(disk, after);
    expect(readFileSync(after).equals(readFileSync(before))).toBe(true);
    expect(
      readFileSync(after)
        .subarray(mib, mib + 4096)
        .some((byte) => byte !== 0),
    ).toBe(true);
  });

  test('a killed VM leaves stored bitmaps inconsistent and loses new ones; both can be told and removed', async () => {
    const { fleet } = harness;
    const disk = await makeDisk(fleet, 'cow', 8 * mib);
    const vm = vmOf([disk]);
    await fleet.startVm(hostId, vm);
    await checkpoint(fleet, vm, 'stored');
    await fleet.stopVm(vm.vmId, true);
    await fleet.startVm(hostId, vm);
    await checkpoint(fleet, vm, 'new');
    expect((await fleet.listBitmaps(disk)).map(({ name }) => name)).toEqual(['new', 'stored']);
    await fleet.stopVm(vm.vmId, false);

    expect(await fleet.listBitmaps(disk)).toEqual([{ name: 'stored', consistent: false, recording: true }]);
    await expect(fleet.startNbd(hostId, 'x', disk, { writable: false, bitmap: 'stored' })).rejects.toMatchObject({
      code: 'BITMAP_INCONSISTENT',
    });
    await fleet.startVm(hostId, vm);
    expect((await fleet.listBitmaps(disk))[0]).toMatchObject({ name: 'stored', consistent: false });
    const incremental = { vmId: vm.vmId, backupId: 'i', disks: [{ diskId: disk.diskId, mode: 'incremental', addBitmap: true } as const] };
    await expect(
      fleet.startLiveBackup({ ...incremental, fromCheckpointId: 'stored', toCheckpointId: 'next', requireConsistency: false }),
    ).rejects.toMatchObject({ code: 'BITMAP_INCONSISTENT' });
    await fleet.removeBitmaps([disk], 'stored');
    await checkpoint(fleet, vm, 'stored');
    expect(await fleet.listBitmaps(disk)).toEqual([{ name: 'stored', consistent: true, recording: true }]);
  });

  test('a killed host takes its VMs and servers along, says so, and comes back', async () => {
    const { fleet, client } = harness;
    const host = (await fleet.startHost(hostId)).baseUrl;
    const disk = await makeDisk(fleet, 'cow', 8 * mib);
    const cold = await makeDisk(fleet, 'raw', mib);
    const vm = vmOf([disk]);
    await fleet.startVm(hostId, vm);
    await fleet.startLiveBackup({
      vmId: vm.vmId,
      backupId: 'b',
      disks: [{ diskId: disk.diskId, mode: 'full', addBitmap: true }],
      toCheckpointId: 'c',
      requireConsistency: false,
    });
    const served = await fleet.startNbd(hostId, 'cold', cold, { writable: false });
    const exits: string[] = [];
    fleet.onVmExit((vmId) => exits.push(vmId));
    await fleet.killHost(hostId);
    await waitUntil('the exit is reported', async () => exits.includes(vm.vmId), 60_000);
    expect(await fleet.vmState(vm.vmId)).toBe('crashed');
    await expect(client.call('GET', `${host}/info/`)).rejects.toThrow(/ECONNREFUSED/);
    await fleet.stopLiveBackup('b', false);
    await fleet.startHost(hostId);
    expect(await fleet.startNbd(hostId, 'cold', cold, { writable: false })).toEqual(served);
    await fleet.startVm(hostId, vm);
    expect(await fleet.vmState(vm.vmId)).toBe('up');
    expect(readdirSync(join(harness.dataDir, 'scratch')).filter((name) => name.startsWith('fleece'))).toEqual([]);
  });

  test('a lab that lets go of its VMs can start anew in the same process', async () => {
    const { fleet } = harness;
    const disk = await makeDisk(fleet, 'cow', 8 * mib);
    const vm = vmOf([disk]);
    await fleet.startVm(hostId, vm);
    await checkpoint(fleet, vm, 'kept');
    await fleet.detach();
    const next = harness.reopen();
    expect(await next.vmState(vm.vmId)).toBe('up');
    expect((await next.listBitmaps(disk)).map(({ name }) => name)).toEqual(['kept']);
    await next.stopVm(vm.vmId, true);
    expect(await next.listBitmaps(disk)).toEqual([{ name: 'kept', consistent: true, recording: true }]);
  });

  test('a directory serves one lab at a time', async () => {
    const disk = await makeDisk(harness.fleet, 'cow', 8 * mib);
    const child = runChild(vmOf([disk]), 'pipe');
    let text = '';
    child.stderr!.on('data', (chunk: Buffer) => (text += chunk.toString()));
    await once(child, 'exit');
    expect(text).toMatch(/in use by another lab/);
  });

  test('processes outlive a killed lab: backup, export and ticket go on and are taken over', async () => {
    const { fleet } = harness;
    const disk = await makeDisk(fleet, 'cow', 8 * mib);
    const vm = vmOf([disk]);
    await fleet.startVm(hostId, vm);
    await fleet.writeBlocks(vm.vmId, disk.diskId, { offsetBytes: 0, lengthBytes: mib, pattern: 'random', seed: 1 });
    await fleet.stopVm(vm.vmId, true);
    await release(fleet);

    const child = await startChild(vm);
    child.process.kill('SIGKILL');
    await once(child.process, 'exit');
    const pid = qemuPid(vm.vmId);
    expect(() => process.kill(pid, 0)).not.toThrow();

    const adopted = harness.reopen();
    expect(await adopted.vmState(vm.vmId)).toBe('up');
    expect(qemuPid(vm.vmId)).toBe(pid);
    const host = (await adopted.startHost(hostId)).baseUrl;
    const present = await adoptedChain(adopted, disk);
    await adopted.startLiveBackup({
      vmId: vm.vmId,
      backupId: 'after',
      disks: [{ diskId: disk.diskId, mode: 'full', addBitmap: true }],
      toCheckpointId: 'after',
      requireConsistency: false,
    });
    const ticket = ticketFor(await adopted.liveBackupExport('after', disk.diskId));
    await adopted.putTicket(hostId, ticket);
    expect(await harness.client.download(`${host}/images/${ticket.uuid}`, 'zero', join(harness.directory, 'copy'))).toBe(mib);
    await adopted.stopLiveBackup('after', true);
    expect((await adopted.listBitmaps(present)).map(({ name }) => name)).toEqual(['after']);
    await adopted.stopVm(vm.vmId, false);
    await adopted.close();
  });

  test('a lab killed at any moment of backups, snapshots and merges leaves a sound disk and no litter', async () => {
    const disk = await makeDisk(harness.fleet, 'cow', 8 * mib);
    const vm = vmOf([disk]);
    await harness.fleet.startVm(hostId, vm);
    await harness.fleet.writeBlocks(vm.vmId, disk.diskId, { offsetBytes: mib, lengthBytes: mib, pattern: 'random', seed: 9 });
    await checkpoint(harness.fleet, vm, 'kept');
    const before = join(harness.directory, 'before');
    await harness.fleet.dumpDisk(disk, before);
    await harness.fleet.stopVm(vm.vmId, true);
    await release(harness.fleet);

    for (let round = 0; round < 4; round++) {
      const child = await startChild(vm);
      // Different points of the loop; which exactly is left to the machine.
      for (let line = 0; line < round; line++) await child.nextLine();
      await new Promise((resume) => setTimeout(resume, 37 * round));
      child.process.kill('SIGKILL');
      await once(child.process, 'exit');

      const fleet = harness.reopen();
      // A backup that stood already goes on; an engine that does not want it ends it.
      for (const { name } of await fleet.listBitmaps(disk))
        if (name.startsWith('unfinished-')) await fleet.stopLiveBackup(name.slice('unfinished-'.length), false);
      let chain = await adoptedChain(fleet, disk);
      for (const layer of chain.chain.slice(1).reverse()) {
        await fleet.mergeVolume(vm.vmId, chain, layer);
        await fleet.deleteVolume(layer);
        chain = { ...chain, chain: chain.chain.slice(0, -1) };
      }
      expect(await fleet.listBitmaps(disk)).toEqual([{ name: 'kept', consistent: true, recording: true }]);
      expect(readdirSync(join(harness.dataDir, 'scratch'))).toEqual([]);
      const after = join(harness.directory, 'after');
      await fleet.dumpDisk(disk, after);
      runProgram('cmp', [before, after]);
      await release(fleet); // stops the VM gracefully
    }
  });

  const qemuPid = (vmId: string): number =>
    (JSON.parse(readFileSync(join(harness.dataDir, 'run', `vm-${vmId}.json`), 'utf8')) as { pid: number }).pid;

  /** The layers on which the adopted VM runs; an engine knows them from its own records. */
  const adoptedChain = async (fleet: HostFleet, disk: DiskChain): Promise<DiskChain> => {
    await fleet.listBitmaps(disk); // waits for the adoption
    const files = readdirSync(join(harness.dataDir, 'run')).filter((name) => name.startsWith('vm-'));
    const record = JSON.parse(readFileSync(join(harness.dataDir, 'run', files[0]!), 'utf8')) as {
      meta: { disks: { layers: { volume: { volumeId: string } }[] }[] };
    };
    const layers = record.meta.disks[0]!.layers.map(({ volume }) => ({
      domainId,
      diskId: disk.diskId,
      volumeId: volume.volumeId,
      format: 'cow' as const,
    }));
    return { ...disk, chain: layers };
  };

  /** Ends the fleet, and lets another process have its directory although this one lives on. */
  const release = async (fleet: HostFleet): Promise<void> => {
    await fleet.close();
    rmSync(join(harness.dataDir, 'run', 'owner'));
  };

  const runChild = (vm: VmSpec, stderr: 'pipe' | 'inherit') => {
    const task = join(harness.directory, 'task.json');
    writeFileSync(task, JSON.stringify({ dataDir: harness.dataDir, ca: harness.ca, vm }));
    return spawn(process.execPath, [require.resolve('./testing/fleet-child'), task], { stdio: ['ignore', 'pipe', stderr] });
  };

  const startChild = async (vm: VmSpec) => {
    const child = runChild(vm, 'inherit');
    const lines = createInterface(child.stdout!)[Symbol.asyncIterator]();
    const nextLine = async (): Promise<string> => {
      const line = await lines.next();
      if (line.done === true) throw new Error('The child ended by itself.');
      return line.value;
    };
    expect(await nextLine()).toBe('ready');
    return { process: child, nextLine };
  };
});
