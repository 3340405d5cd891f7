import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { VmSpec } from './driver';
import { createHostFleet, type RunningHostFleet } from './fleet';
import { createLabCa, type KeyAndCertificate } from './pki';
import { hostId, makeDisk, mib, repositoryRoot, vmOf, waitUntil } from './testing/fleet-harness';

/** A worker VM whose program runs as a process: one life with its qemu. The program here stands in for the appliance. */
const program = `
  const fs = require('node:fs');
  const [drive, data] = ['--config-drive', '--data-folder'].map((name) => process.argv[process.argv.indexOf(name) + 1]);
  fs.writeFileSync(data + '/pid', String(process.pid));
  console.log('read ' + fs.readFileSync(drive + '/openstack/latest/user_data', 'utf8') + new Date().toISOString());
  process.on('SIGTERM', () => process.exit(0));
  setInterval(() => fs.writeFileSync(data + '/beat', String(process.hrtime()[0]) + Math.random()), 20);
`;

describe('worker VM as a process', () => {
  const directory = mkdtempSync(join(tmpdir(), 'fleet-worker-'));
  const fleets: RunningHostFleet[] = [];
  let ca: KeyAndCertificate;

  const open = (): RunningHostFleet => {
    const fleet = createHostFleet({
      dataDir: join(directory, 'data'),
      ca,
      pythonVenvDir: join(repositoryRoot, '.venv'),
      hosts: [{ id: hostId, name: 'host-1.lab', address: '127.0.0.1', port: 0 }],
      proxy: { name: 'engine.lab', address: '127.0.0.1', port: 0 },
      guest: () => Promise.reject(new Error('no linux guest here')),
      worker: { command: [process.execPath, join(directory, 'program.js')] },
      log: () => undefined,
    });
    fleets.push(fleet);
    return fleet;
  };
  const start = async (fleet: RunningHostFleet, change: Partial<VmSpec> = {}): Promise<VmSpec> => {
    const disk = await makeDisk(fleet, 'cow', 4 * mib);
    const vm = { ...vmOf([disk]), guest: 'process' as const, configDrive: { 'openstack/latest/user_data': '#cloud-config\n' }, ...change };
    await fleet.startVm(hostId, vm);
    await waitUntil('the program started', () => Promise.resolve(existsSync(join(folderOf(vm), 'worker', 'beat'))), 60_000);
    return vm;
  };
  const folderOf = (vm: VmSpec): string => join(directory, 'data', 'vms', vm.vmId);
  const pidOf = (vm: VmSpec): number => Number(readFileSync(join(folderOf(vm), 'worker', 'pid'), 'utf8'));
  const beatOf = (vm: VmSpec): string => readFileSync(join(folderOf(vm), 'worker', 'beat'), 'utf8');
  const runs = (pid: number): boolean => existsSync(`/proc/${pid}`) && !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));

  const threadStates = (pid: number): (string | undefined)[] =>
    readdirSync(`/proc/${pid}/task`).map(
      (thread) => /^State:\s+(\S)/m.exec(readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8'))?.[1],
    );

  beforeAll(async () => {
    ca = await createLabCa('lab authority');
    writeFileSync(join(directory, 'program.js'), program);
    open();
  });
  afterAll(async () => {
    await fleets.at(-1)?.close();
    rmSync(directory, { recursive: true, force: true });
  });

  it('makes the CD, takes disks while it runs, and goes off when its program ends', async () => {
    const fleet = fleets.at(-1)!;
    const vm = await start(fleet);
    const info = execFileSync('isoinfo', ['-d', '-i', join(folderOf(vm), 'config-drive.iso')], { encoding: 'utf8' });
    expect(info).toMatch(/Volume id: config-2[^]*Joliet[^]*Rock Ridge/);
    expect(await fleet.consoleText(vm.vmId)).toContain('read #cloud-config');
    const disk = await makeDisk(fleet, 'cow', 4 * mib);
    await fleet.hotplugDisk(vm.vmId, { ...disk, interface: 'virtio_scsi', bootable: false, readOnly: false });
    await fleet.hotunplugDisk(vm.vmId, disk.diskId);

    const exits: string[] = [];
    fleet.onVmExit((vmId) => exits.push(vmId));
    process.kill(pidOf(vm), 'SIGTERM');
    await waitUntil('the VM went off', async () => (await fleet.vmState(vm.vmId)) === 'ended', 60_000);
    await waitUntil('the end was told', () => Promise.resolve(exits.length > 0), 60_000);
    expect(exits).toEqual([vm.vmId]);
    await waitUntil('the drive is gone', () => Promise.resolve(!existsSync(join(folderOf(vm), 'config-drive'))), 60_000);
    expect(await fleet.guestInterfaces(vm.vmId)).toBeUndefined();
  });

  it('is stalled, killed and shut down with its program', async () => {
    const fleet = fleets.at(-1)!;
    const vm = await start(fleet);
    await fleet.stallVm(vm.vmId, true);
    // A thread ends the call that it is in before it stops.
    await waitUntil('it stands', () => Promise.resolve(threadStates(pidOf(vm)).every((state) => state === 'T')), 60_000);
    const stood = beatOf(vm);
    await new Promise((resume) => setTimeout(resume, 200));
    expect(beatOf(vm)).toBe(stood);
    await fleet.stallVm(vm.vmId, false);
    await waitUntil('it goes on', () => Promise.resolve(beatOf(vm) !== stood), 60_000);
    const pid = pidOf(vm);
    await fleet.stopVm(vm.vmId, false);
    expect(runs(pid)).toBe(false);

    const other = await start(fleet);
    expect(await fleet.shutdownVm(other.vmId, 60_000)).toBe(true);
    expect(await fleet.vmState(other.vmId)).toBe('absent');
    const { pid: qemu } = JSON.parse(
      readFileSync(join(directory, 'data', 'run', `vm-${(await start(fleet, { vmId: other.vmId })).vmId}.json`), 'utf8'),
    ) as { pid: number };
    const program = pidOf(other);
    process.kill(qemu, 'SIGKILL');
    await waitUntil('the program died with its qemu', () => Promise.resolve(!runs(program)), 60_000);
    expect(await fleet.vmState(other.vmId)).toBe('crashed');
  });

  it('goes on over a restart of the lab, with its clock off', async () => {
    const vm = await start(fleets.at(-1)!, { vmId: randomUUID(), clockOffsetSeconds: 3600 });
    const said = /\d{4}-\d\d-\d\dT[\d:.]+Z/.exec(await fleets.at(-1)!.consoleText(vm.vmId))?.[0] ?? '';
    expect(new Date(said).getTime() - Date.now()).toBeGreaterThan(3_500_000);
    await fleets.at(-1)!.detach();
    const next = open();
    expect(await next.vmState(vm.vmId)).toBe('up');
    process.kill(pidOf(vm), 'SIGTERM');
    await waitUntil('noticed', async () => (await next.vmState(vm.vmId)) === 'ended', 60_000);
  });
});
