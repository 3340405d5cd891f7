/** What only a worker in a VM does: disks that are plugged into it, and the look at what it can reach. Worker and mover as real processes, disks as loop devices. */
import { execFileSync } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { eventually } from '../harness/child';
import { DataPathRig } from './rig';

const mib = 1024 * 1024;
let folder: string;
let rig: DataPathRig;
let repositoryId: string;
const loops: string[] = [];

beforeAll(async () => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-worker-vm-'));
  fs.mkdirSync(path.join(folder, 'sys/block'), { recursive: true });
  const devices = { sysFolder: path.join(folder, 'sys') };
  rig = await DataPathRig.start(folder, { platformId: 'p', clusterId: 'c', devices });
  repositoryId = await rig.createRepository({ location: `directory:${path.join(folder, 'repository')}` });
});
afterEach(() => {
  for (const device of loops.splice(0)) unplug(device);
});
afterAll(async () => {
  await rig.stop();
  fs.rmSync(folder, { recursive: true, force: true });
});

/** A disk of the VM: a loop device over a file, listed as the kernel lists a virtio-blk disk. */
function plug(file: string): { device: string; attachedDisk: { serial: string; sizeBytes: string } } {
  const serial = randomUUID();
  const device = execFileSync('losetup', ['--find', '--show', file], { encoding: 'utf8' }).trim();
  loops.push(device);
  const name = path.basename(device);
  const at = path.join(folder, 'sys/block', name);
  const sizeBytes = fs.statSync(file).size;
  // As plugging does: the serial is the last that shows.
  fs.mkdirSync(at);
  fs.writeFileSync(path.join(at, 'size'), String(sizeBytes / 512));
  fs.writeFileSync(path.join(at, 'dev'), fs.readFileSync(`/sys/block/${name}/dev`));
  fs.writeFileSync(path.join(at, 'serial'), serial.slice(0, 20));
  return { device, attachedDisk: { serial, sizeBytes: String(sizeBytes) } };
}

/** Fails while anybody has the device open, as the engine's unplugging would hang. */
function unplug(device: string): void {
  fs.rmSync(path.join(folder, 'sys/block', path.basename(device)), { recursive: true, force: true });
  execFileSync('losetup', ['--detach', device]);
}

function openers(device: string): string[] {
  return fs.readdirSync(`/proc/${rig.worker.pid}/fd`).filter((fd) => {
    try {
      return fs.readlinkSync(`/proc/${rig.worker.pid}/fd/${fd}`) === device;
    } catch {
      return false;
    }
  });
}

function sampleFile(name: string, sizeMib: number): string {
  const file = path.join(folder, name);
  const descriptor = fs.openSync(file, 'w');
  fs.ftruncateSync(descriptor, sizeMib * mib + 1536);
  for (let at = 0; at < sizeMib; at += 1) if (at % 4 !== 3) fs.writeSync(descriptor, randomBytes(mib), 0, mib, at * mib);
  fs.closeSync(descriptor);
  return file;
}

describe('a plugged disk', () => {
  it('is backed up, compared by digest, and restored onto another one', async () => {
    expect(rig.plugin.reportedCapabilities).toContain('disk-attachment');
    const file = sampleFile('source', 60);
    const size = fs.statSync(file).size;
    const { attachedDisk } = plug(file);
    const first = await rig.backup(repositoryId, { attachedDisk, diskId: 'd' }, size);
    expect(rig.lastResult?.imagePath).toBe('IMAGE_PATH_ATTACHED');
    await rig.backup(repositoryId, { attachedDisk, diskId: 'd', basePointId: first, baseDiskId: 'd' }, size);
    expect(Number(rig.lastResult?.counters?.transferredBytes)).toBe(0);
    const used = path.join(folder, 'used');
    fs.writeFileSync(used, randomBytes(size));
    const target = plug(used);
    await rig.restore(repositoryId, { pointId: first, diskId: 'd', attachedDisk: target.attachedDisk });
    // The result came, so nothing holds the disk any more.
    expect(openers(target.device)).toEqual([]);
    execFileSync('cmp', [file, used]);
  });

  it('is waited for, and not found in the end', async () => {
    const { dataPath } = await rig.openBackup(repositoryId);
    const attachedDisk = { serial: randomUUID(), sizeBytes: String(mib), patience: { seconds: '1', nanos: 0 } };
    const task = { attachedDisk, diskId: 'd', readScope: 'READ_SCOPE_ALLOCATED' as const, dataPath };
    const { failure } = await rig.plugin.run({ backupDisk: task }).result;
    expect(failure).toMatchObject({ code: 'ATTACHED_DISK_NOT_FOUND', retry: 'RETRY_ADVICE_SAME_REQUEST' });
  });

  it('is let go of when its backup is cancelled', async () => {
    const { device, attachedDisk } = plug(sampleFile('long', 60));
    const { dataPath } = await rig.openBackup(repositoryId);
    const limits = { rateBytesPerSecond: String(5 * mib) };
    const task = rig.plugin.run({ backupDisk: { attachedDisk, diskId: 'd', readScope: 'READ_SCOPE_ALLOCATED', dataPath, limits } });
    await eventually('it is open', 120_000, () => openers(device).length > 1 || undefined, 20);
    rig.plugin.cancel(task.taskId);
    expect((await task.result).failure?.code).toBe('CANCELLED');
    expect(openers(device)).toEqual([]);
  });
});

describe('the self-test', () => {
  it('measures the way to a real mover, and shows what is closed', async () => {
    const endpoints = rig.host.mover?.dataEndpoints ?? [];
    const ticket = rig.host.ticket('', '', ['probe'], []);
    const targets = [
      { check: 'SELF_TEST_CHECK_MOVER' as const, endpoint: endpoints[0] as string, name: 'main', dataPath: { endpoints, ticket } },
      { check: 'SELF_TEST_CHECK_HOST' as const, endpoint: '127.0.0.1:1', name: 'host1' },
    ];
    // A machine that stands still for seconds meanwhile measures that, as a clock that is off or a slow way, and is right.
    const { verdict, cells } = await eventually('a self-test during which this machine runs', 240_000, async () => {
      const found = await rig.plugin.selfTest(targets);
      return found.cells.some(({ code }) => ['CLOCK_SKEW', 'THROUGHPUT_LOW'].includes(code)) ? undefined : found;
    });
    expect(verdict).toBe('SELF_TEST_VERDICT_FAILED');
    const told = Object.fromEntries(cells.map((cell) => [`${cell.check.slice('SELF_TEST_CHECK_'.length)} ${cell.code}`.trim(), cell]));
    expect(Object.keys(told)).toEqual(['CLOCK', 'DNS', 'MOVER', 'HOST CONNECTION_REFUSED', 'THROUGHPUT', 'RESOURCES']);
    expect(Number(told['THROUGHPUT']?.bytesPerSecond)).toBeGreaterThan(mib);
    expect(told['HOST CONNECTION_REFUSED']?.advice).toContain('TCP 1 from 127.0.0.1 (this worker) to host1 (127.0.0.1)');
    expect(JSON.stringify(cells)).not.toContain(ticket);
  });

  it('of a ticket that reads or writes is no way in', async () => {
    const { sessionId } = await rig.openBackup(repositoryId);
    const endpoints = rig.host.mover?.dataEndpoints ?? [];
    const ticket = rig.host.ticket(sessionId, repositoryId, ['probe', 'write'], []);
    const { cells } = await rig.plugin.selfTest([
      { check: 'SELF_TEST_CHECK_MOVER', endpoint: endpoints[0] as string, name: 'main', dataPath: { endpoints, ticket } },
    ]);
    expect(cells.find((cell) => cell.check === 'SELF_TEST_CHECK_MOVER')).toMatchObject({ code: 'MOVER_NOT_MEASURABLE' });
  });
});
