/** Backup and restore of plugged disks over real block devices: loop devices that a made-up tree of /sys shows as disks of the VM. */
import { execFileSync } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { MoverRoute } from '../mover-client/mover-route';
import { SharedCounters } from '../pipeline/counters';
import { LanePool } from '../pipeline/lane-pool';
import { backupDisk } from '../tasks/backup-disk';
import type { BackupDisk, RestoreDisk, TaskContext } from '../tasks/disk-task';
import { restoreDisk } from '../tasks/restore-disk';
import { MoverDouble } from '../testing/mover-double';
import { ClaimedDisk } from './claimed-disk';
import { DeviceTree } from './device-tree';

const mib = 1024 * 1024;
const blockSizeBytes = 256 * 1024;
// An odd number of sectors: a short last block that is no whole page.
const sizeBytes = 72 * mib + 3 * 512;
const limits = { connections: 0, rateBytesPerSecond: 0 };
let folder: string;
let tree: DeviceTree;
let pool: LanePool;
let mover: MoverDouble;
const loops: string[] = [];

beforeAll(async () => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-plugged-'));
  fs.mkdirSync(path.join(folder, 'sys/block'), { recursive: true });
  tree = new DeviceTree(path.join(folder, 'sys'), '/dev');
  pool = new LanePool(2);
});
beforeEach(async () => {
  mover = await MoverDouble.start({ blockSizeBytes });
});
afterEach(async () => {
  await mover.stop();
  for (const device of loops.splice(0)) execFileSync('losetup', ['-d', device]);
  fs.rmSync(path.join(folder, 'sys/block'), { recursive: true });
  fs.mkdirSync(path.join(folder, 'sys/block'));
});
afterAll(async () => {
  await pool.stop();
  fs.rmSync(folder, { recursive: true, force: true });
});

/** A loop device with this content that shows as a disk of the VM. */
function plug(content: Buffer, { readsZero = false, number }: { readsZero?: boolean; number?: string } = {}) {
  const serial = randomUUID();
  const file = path.join(folder, serial);
  fs.writeFileSync(file, content);
  const device = execFileSync('losetup', ['--find', '--show', file], { encoding: 'utf8' }).trim();
  loops.push(device);
  const name = path.basename(device);
  const at = path.join(folder, 'sys/block', name);
  fs.mkdirSync(at);
  fs.writeFileSync(path.join(at, 'serial'), serial.slice(0, 20));
  fs.writeFileSync(path.join(at, 'size'), String(content.length / 512));
  fs.writeFileSync(path.join(at, 'dev'), number ?? fs.readFileSync(`/sys/block/${name}/dev`));
  const attached = { kind: 'attached' as const, serial, sizeBytes: content.length, patienceMs: 0, readsZero, zeroRanges: [] };
  return { serial, device, file, attached };
}

function context(signal = new AbortController().signal): TaskContext {
  return {
    taskId: 'task',
    route: new MoverRoute(),
    signal,
    counters: new SharedCounters(),
    devices: tree,
    outcome: { imagePath: 'IMAGE_PATH_UNSPECIFIED', imagePathReason: '', indexRoot: Buffer.alloc(0) },
  };
}

async function backupOf(source: BackupDisk['source'], more: Partial<BackupDisk> = {}): Promise<BackupDisk> {
  const address = await mover.address();
  return { kind: 'backup', source, address, diskId: 'd', scope: 'allocated', basePointId: '', baseDiskId: '', limits, ...more };
}

async function restoreTo(target: RestoreDisk['target']): Promise<RestoreDisk> {
  return { kind: 'restore', target, address: await mover.address(), pointId: 'p', diskId: 'd', limits };
}

/** Data and holes, one of them longer than what two lanes take at a time. */
function sampleDisk(): Buffer {
  const disk = Buffer.alloc(sizeBytes);
  for (const at of [0, 3 * mib, 3 * mib + blockSizeBytes, 65 * mib]) randomBytes(blockSizeBytes).copy(disk, at);
  disk.fill('the end', sizeBytes - 512);
  return disk;
}

function heldBy(device: string): string[] {
  return fs.readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return fs.readlinkSync(`/proc/self/fd/${fd}`) === device;
    } catch {
      return false;
    }
  });
}

describe('backup of a plugged disk', () => {
  it('has every byte, and holds nothing of the disk afterwards', async () => {
    const disk = sampleDisk();
    const { device, attached } = plug(disk);
    const run = context();
    await backupDisk(await backupOf(attached), pool, run);
    expect(mover.content('d').equals(disk)).toBe(true);
    expect(run.outcome.imagePath).toBe('IMAGE_PATH_ATTACHED');
    expect(run.counters.get('readBytes')).toBe(sizeBytes);
    expect(heldBy(device)).toEqual([]);
  });

  it('does not read what is known to be zero, and says how much that was', async () => {
    const disk = sampleDisk();
    const { attached } = plug(disk);
    // As a list of extents tells it: of clusters, so that parts of blocks and the short last block are among them.
    const zeroRanges = [
      { start: blockSizeBytes, length: 2 * mib },
      { start: 4 * mib, length: 61 * mib },
      { start: 66 * mib + 64 * 1024, length: 5 * mib },
    ];
    const run = context();
    await backupDisk(await backupOf({ ...attached, zeroRanges }), pool, run);
    expect(mover.content('d').equals(disk)).toBe(true);
    const spared = zeroRanges.reduce((sum, { length }) => sum + length, 0);
    expect(run.counters.get('readBytes')).toBe(sizeBytes - spared);
    expect(run.counters.get('plannedBytes')).toBe(sizeBytes - spared);
    // The second time with a base, on which a range that became zero must replace what was there.
    disk.fill(0, 3 * mib, 3 * mib + 2 * blockSizeBytes);
    const again = context();
    const changed = plug(disk);
    const more = [zeroRanges[0]!, { start: 3 * mib, length: 62 * mib }, zeroRanges[2]!];
    await backupDisk(
      await backupOf({ ...changed.attached, zeroRanges: more }, { diskId: 'again', basePointId: 'p', baseDiskId: 'd' }),
      pool,
      again,
    );
    expect(mover.content('again').equals(disk)).toBe(true);
    expect(again.counters.get('readBytes')).toBeLessThan(run.counters.get('readBytes'));
  });

  it('sees what was written to the disk since it was read before', async () => {
    const disk = sampleDisk();
    const { device, attached } = plug(disk);
    await backupDisk(await backupOf(attached), pool, context());
    randomBytes(4096).copy(disk, 9 * mib);
    execFileSync('dd', [`of=${device}`, 'bs=4096', `seek=${(9 * mib) / 4096}`, 'count=1', 'conv=notrunc', 'oflag=direct', 'status=none'], {
      input: disk.subarray(9 * mib, 9 * mib + 4096),
    });
    const run = context();
    await backupDisk(await backupOf(attached, { diskId: 'again', basePointId: 'p', baseDiskId: 'd' }), pool, run);
    expect(mover.content('again').equals(disk)).toBe(true);
    // By digest comparison: everything was read, and only the changed block went over the wire.
    expect(run.counters.get('readBytes')).toBe(sizeBytes);
    expect(run.counters.get('transferredBytes')).toBeLessThanOrEqual(blockSizeBytes);
  });

  it('knows of no changes by itself', async () => {
    const { attached, device } = plug(sampleDisk());
    const task = await backupOf(attached, { scope: 'changed', basePointId: 'p', baseDiskId: 'd' });
    await expect(backupDisk(task, pool, context())).rejects.toMatchObject({ code: 'CHANGED_EXTENTS_UNAVAILABLE' });
    expect(heldBy(device)).toEqual([]);
  });

  it('is refused while another task has the disk, and lets go when it is cancelled', async () => {
    const { attached, device } = plug(sampleDisk());
    const aborter = new AbortController();
    const slow = await backupOf(attached, { limits: { connections: 0, rateBytesPerSecond: 5 * mib } });
    const running = backupDisk(slow, pool, context(aborter.signal));
    const ended = expect(running).rejects.toMatchObject({ code: 'CANCELLED' });
    while (heldBy(device).length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    await expect(backupDisk(await backupOf(attached), pool, context())).rejects.toMatchObject({ code: 'ATTACHED_DISK_IN_USE' });
    aborter.abort();
    await ended;
    expect(heldBy(device)).toEqual([]);
    await backupDisk(await backupOf(attached), pool, context());
  });

  it('does not touch a device file that is another device than the kernel listed', async () => {
    const { attached, device } = plug(sampleDisk(), { number: '8:16' });
    await expect(backupDisk(await backupOf(attached), pool, context())).rejects.toMatchObject({ code: 'ATTACHED_DISK_UNUSABLE' });
    expect(heldBy(device)).toEqual([]);
  });

  it('does not touch a disk that is mounted', async () => {
    const { attached, device } = plug(Buffer.alloc(24 * mib));
    execFileSync('mke2fs', ['-q', '-t', 'ext4', device]);
    const mountPoint = path.join(folder, 'mounted');
    fs.mkdirSync(mountPoint, { recursive: true });
    execFileSync('mount', [device, mountPoint]);
    try {
      const signal = new AbortController().signal;
      await expect(ClaimedDisk.claim(attached, 'write', tree, signal)).rejects.toMatchObject({ code: 'ATTACHED_DISK_IN_USE' });
    } finally {
      execFileSync('umount', [mountPoint]);
    }
  });
});

describe('restore to a plugged disk', () => {
  it('leaves nothing of what it held', async () => {
    const disk = sampleDisk();
    await backupDisk(await backupOf(plug(disk).attached), pool, context());
    const target = plug(randomBytes(sizeBytes));
    const run = context();
    await restoreDisk(await restoreTo(target.attached), pool, run);
    expect(run.outcome.imagePath).toBe('IMAGE_PATH_ATTACHED');
    expect(heldBy(target.device)).toEqual([]);
    expect(fs.readFileSync(target.file).equals(disk)).toBe(true);
  });

  it.each([
    ['which is known', true],
    ['which is found out', false],
  ])('leaves a thin one thin, %s', async (_name, readsZero) => {
    const disk = sampleDisk();
    await backupDisk(await backupOf(plug(disk).attached), pool, context());
    const file = plug(Buffer.alloc(512), { readsZero });
    fs.truncateSync(file.file, 0);
    fs.truncateSync(file.file, sizeBytes);
    execFileSync('losetup', ['-c', file.device]);
    fs.writeFileSync(path.join(folder, 'sys/block', path.basename(file.device), 'size'), String(sizeBytes / 512));
    await restoreDisk(await restoreTo({ ...file.attached, sizeBytes }), pool, context());
    expect(fs.readFileSync(file.file).equals(disk)).toBe(true);
    // Four blocks of data and the page with the end.
    expect(fs.statSync(file.file).blocks * 512).toBeLessThan(6 * blockSizeBytes);
  });

  it('is refused by a disk that is too small, before anything is written', async () => {
    await backupDisk(await backupOf(plug(sampleDisk()).attached), pool, context());
    const content = randomBytes(16 * mib);
    const target = plug(content);
    await expect(restoreDisk(await restoreTo(target.attached), pool, context())).rejects.toMatchObject({ code: 'IMAGE_SIZE_MISMATCH' });
    expect(fs.readFileSync(target.file).equals(content)).toBe(true);
  });
});
