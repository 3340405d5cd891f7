/** Worker and mover as real processes, with the real image service where disks come from oVirt. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { eventually, peakMemoryBytes } from '../harness/child';
import { ImageioDaemon, qemuImg } from './imageio-daemon';
import { DataPathRig } from './rig';

const mib = 1024 * 1024;
let folder: string;
let rig: DataPathRig;
let imageio: ImageioDaemon;
let repositoryId: string;

beforeAll(async () => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-data-path-'));
  rig = await DataPathRig.start(folder);
  repositoryId = await rig.createRepository({ location: `directory:${path.join(folder, 'repository')}` });
  imageio = await ImageioDaemon.start(path.join(folder, 'imageio'));
});
afterAll(async () => {
  await imageio.stop();
  await rig.stop();
  fs.rmSync(folder, { recursive: true, force: true });
});

const file = (name: string) => path.join(folder, name);

/** Compressible and incompressible megabytes in turn, no two alike. */
function fill(name: string, sizeMib: number): string {
  const descriptor = fs.openSync(file(name), 'w');
  for (let at = 0; at < sizeMib; at += 1) {
    const block = at % 3 === 0 ? Buffer.from(`${at} ${name} `.padEnd(64, '.').repeat(mib / 64)) : randomBytes(mib);
    fs.writeSync(descriptor, block, 0, mib, at * mib);
  }
  fs.closeSync(descriptor);
  return file(name);
}

function qemuIo(image: string, ...commands: string[]): void {
  execFileSync('qemu-io', ['-f', 'qcow2', ...commands.flatMap((command) => ['-c', command]), image], { stdio: 'ignore' });
}

function transfer(url: string, sizeBytes: number) {
  return { imageTransfer: { transferUrl: url, proxyUrl: '', caPem: imageio.caPem, sizeBytes: String(sizeBytes) } };
}

async function backUpImage(image: string, sizeBytes: number, more: Parameters<DataPathRig['backup']>[1], bitmap?: string): Promise<string> {
  const served = await imageio.serve(image, { format: 'qcow2', write: false, sizeBytes, ...(bitmap === undefined ? {} : { bitmap }) });
  try {
    return await rig.backup(repositoryId, { ...transfer(served.url, sizeBytes), ...more }, sizeBytes);
  } finally {
    await served.stop();
  }
}

const counted = (name: 'readBytes' | 'transferredBytes' | 'plannedBytes') => Number(rig.lastResult?.counters?.[name]);

describe('a qcow2 disk behind the image service', () => {
  const sizeBytes = 512 * mib;
  let image: string;
  let full: string;
  let incremental: string;

  it('is backed up in full, reading only what is allocated', async () => {
    image = file('disk.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', image, String(sizeBytes));
    qemuIo(image, 'write -P 17 0 5M', 'write -P 34 100M 64k', 'write -P 51 300M 3M', 'write -P 1 511M 1M');
    qemuImg('bitmap', '--add', '--enable', image, 'chk-1');
    full = await backUpImage(image, sizeBytes, { diskId: 'vda' });
    expect(counted('readBytes')).toBe(9 * mib + 65536);
    expect(rig.lastResult?.imagePath).toBe('IMAGE_PATH_DIRECT');
    await rig.restore(repositoryId, { pointId: full, diskId: 'vda', localFile: { path: file('full.raw'), format: 'FILE_FORMAT_RAW' } });
    qemuImg('compare', '-f', 'raw', '-F', 'qcow2', file('full.raw'), image);
    expect(fs.statSync(file('full.raw')).blocks * 512).toBeLessThan(20 * mib);
  });

  it('is backed up incrementally in proportion to what changed', async () => {
    qemuIo(image, 'write -P 99 1M 512', 'write -z -u 301M 1M', 'write -P 7 200M 64k');
    fs.copyFileSync(image, file('at-checkpoint.qcow2'));
    incremental = await backUpImage(
      image,
      sizeBytes,
      { diskId: 'vda', readScope: 'READ_SCOPE_CHANGED', basePointId: full, baseDiskId: 'vda' },
      'chk-1',
    );
    expect(counted('readBytes')).toBeLessThanOrEqual(2 * mib);
    await rig.restore(repositoryId, {
      pointId: incremental,
      diskId: 'vda',
      localFile: { path: file('inc.qcow2'), format: 'FILE_FORMAT_QCOW2' },
    });
    qemuImg('compare', '-f', 'qcow2', '-F', 'qcow2', file('inc.qcow2'), file('at-checkpoint.qcow2'));
  });

  it('is restored through the image service into a disk that held something else', async () => {
    const target = file('upload.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', target, String(sizeBytes));
    qemuIo(target, 'write -P 200 0 40M', 'write -P 201 250M 100M');
    const served = await imageio.serve(target, { format: 'qcow2', write: true, sizeBytes });
    await rig.restore(repositoryId, { pointId: incremental, diskId: 'vda', ...transfer(served.url, sizeBytes) });
    await served.stop();
    qemuImg('compare', '-f', 'qcow2', '-F', 'qcow2', target, file('at-checkpoint.qcow2'));
  });

  it('needs a full backup when its bitmap is gone', async () => {
    const failure = backUpImage(image, sizeBytes, { diskId: 'vda', readScope: 'READ_SCOPE_CHANGED', basePointId: full, baseDiskId: 'vda' });
    await expect(failure).rejects.toMatchObject({ code: 'CHANGED_EXTENTS_UNAVAILABLE', retry: 'full-backup' });
  });

  it('asks for a fresh ticket when its own is gone, and succeeds with another', async () => {
    const served = await imageio.serve(image, { format: 'qcow2', write: false, sizeBytes });
    await served.stop();
    const failure = rig.backup(repositoryId, { ...transfer(served.url, sizeBytes), diskId: 'vda' }, sizeBytes);
    await expect(failure).rejects.toMatchObject({ code: 'IMAGE_TICKET_REFUSED', retry: 'fresh-ticket' });
    await backUpImage(image, sizeBytes, { diskId: 'vda' });
  });
});

describe('a device of the worker’s machine', () => {
  const sizeMib = 200;
  let device: string;
  const order = () => ({ diskId: 'd', localDevice: { path: device, sizeBytes: String(sizeMib * mib) } });

  beforeAll(() => {
    device = fill('device', sizeMib);
  });

  async function expectPoint(pointId: string, name: string): Promise<void> {
    await rig.restore(repositoryId, { pointId, diskId: 'd', localFile: { path: file(name), format: 'FILE_FORMAT_RAW' } });
    execFileSync('cmp', [device, file(name)]);
    fs.rmSync(file(name));
  }

  it('sends nothing the second time', async () => {
    const first = await rig.backup(repositoryId, order(), sizeMib * mib);
    await rig.backup(repositoryId, { ...order(), basePointId: first, baseDiskId: 'd' }, sizeMib * mib);
    expect(counted('transferredBytes')).toBe(0);
    await expectPoint(first, 'again.raw');
  });

  it.each([
    ['killed', () => rig.mover.kill()],
    ['stopped', () => rig.mover.stop()],
  ])('survives a mover that is %s in the middle and started again', async (_name, end) => {
    fill('device', sizeMib);
    const { sessionId, dataPath } = await rig.openBackup(repositoryId);
    let sent = 0;
    const task = rig.plugin.run(
      { backupDisk: { ...order(), readScope: 'READ_SCOPE_ALLOCATED', dataPath, limits: { rateBytesPerSecond: String(50 * mib) } } },
      (progress) => {
        sent = Number(progress.counters?.transferredBytes);
      },
    );
    await eventually('some blocks are sent', 120_000, () => sent > 10 * mib || undefined, 20);
    const { port, dataPort } = rig.moverPorts();
    await end();
    await rig.startMover({ port, dataPort });
    const result = await task.result;
    expect(result.failure).toBeNull();
    await expectPoint(await rig.commit(sessionId, 'd', sizeMib * mib), 'survivor.raw');
  });

  it('stops within seconds when it is cancelled', async () => {
    const { dataPath } = await rig.openBackup(repositoryId);
    let sent = 0;
    // At this rate it would take minutes.
    const limits = { rateBytesPerSecond: String(mib) };
    const task = rig.plugin.run({ backupDisk: { ...order(), readScope: 'READ_SCOPE_ALLOCATED', dataPath, limits } }, (progress) => {
      sent = Number(progress.counters?.readBytes);
    });
    await eventually('it reads', 120_000, () => sent > 0 || undefined, 20);
    const cancelledAt = Date.now();
    rig.plugin.cancel(task.taskId);
    expect((await task.result).failure?.code).toBe('CANCELLED');
    expect(Date.now() - cancelledAt).toBeLessThan(60_000);
  });

  it('tells its result again after the connection to the plug-in broke', async () => {
    rig.plugin.acknowledges = false;
    const { sessionId, dataPath } = await rig.openBackup(repositoryId);
    const connections = rig.plugin.connections;
    const task = rig.plugin.run({ backupDisk: { ...order(), readScope: 'READ_SCOPE_ALLOCATED', dataPath } });
    await eventually('the session has the disk', 120_000, async () => {
      const { committedDiskIds } = await rig.sessions.call('GetSession', { sessionId }, { deadlineMs: 60_000 });
      return committedDiskIds.length > 0 || undefined;
    });
    rig.plugin.acknowledges = true;
    rig.plugin.dropConnection();
    expect((await task.result).failure).toBeNull();
    expect(rig.plugin.connections).toBeGreaterThan(connections);
    expect(rig.plugin.reportedTaskIds).toContain(task.taskId);
    await expectPoint(await rig.commit(sessionId, 'd', sizeMib * mib), 'told.raw');
  });

  it('drops its tasks when the plug-in falls silent, since others may do them by then', async () => {
    const again = async (heartbeatMs: number) => {
      const before = rig.plugin.connections;
      rig.plugin.heartbeatMs = heartbeatMs;
      rig.plugin.dropConnection();
      await eventually('the worker to dial again', 120_000, () => rig.plugin.connections > before || undefined, 20);
    };
    await again(1_000);
    const { dataPath } = await rig.openBackup(repositoryId);
    const limits = { rateBytesPerSecond: String(mib) };
    const task = rig.plugin.run({ backupDisk: { ...order(), readScope: 'READ_SCOPE_ALLOCATED', dataPath, limits } });
    rig.plugin.beats = false;
    // Some missed heartbeats are the end.
    const result = await task.result;
    rig.plugin.beats = true;
    expect(result.failure?.code).toBe('CANCELLED');
    await again(5_000);
  });

  it('finishes what runs when it is drained, and takes nothing new', async () => {
    const { sessionId, dataPath } = await rig.openBackup(repositoryId);
    const task = rig.plugin.run({ backupDisk: { ...order(), readScope: 'READ_SCOPE_ALLOCATED', dataPath } });
    const drained = rig.plugin.drain();
    expect((await task.result).failure).toBeNull();
    await drained;
    const refused = await rig.plugin.run({ backupDisk: { ...order(), readScope: 'READ_SCOPE_ALLOCATED', dataPath } }).result;
    expect(refused.failure?.code).toBe('WORKER_SLOTS_TAKEN');
    await rig.sessions.call('AbortSession', { sessionId }, { deadlineMs: 60_000 });
    await rig.worker.stop();
    await rig.startWorker();
  });

  it('runs again after the worker was killed in the middle', async () => {
    const { sessionId, dataPath } = await rig.openBackup(repositoryId);
    let read = 0;
    const limits = { rateBytesPerSecond: String(50 * mib) };
    void rig.plugin.run({ backupDisk: { ...order(), readScope: 'READ_SCOPE_ALLOCATED', dataPath, limits } }, (progress) => {
      read = Number(progress.counters?.readBytes);
    });
    await eventually('it reads', 120_000, () => read > 0 || undefined, 20);
    await rig.worker.kill();
    await rig.startWorker();
    await rig.sessions.call('AbortSession', { sessionId }, { deadlineMs: 60_000 });
    await expectPoint(await rig.backup(repositoryId, order(), sizeMib * mib), 'fresh.raw');
  });
});

it('takes no more memory for a 40 GiB disk than for a small one', async () => {
  const sizeBytes = 40 * 1024 * mib;
  const image = file('large.qcow2');
  qemuImg('create', '-q', '-f', 'qcow2', image, String(sizeBytes));
  // Islands of data all over the disk.
  qemuIo(image, ...Array.from({ length: 160 }, (_, island) => `write -P ${(island % 250) + 1} ${island * 256}M 1M`));
  const pointId = await backUpImage(image, sizeBytes, { diskId: 'large' });
  expect(counted('readBytes')).toBe(160 * mib);
  const target = file('large-copy.qcow2');
  qemuImg('create', '-q', '-f', 'qcow2', target, String(sizeBytes));
  const served = await imageio.serve(target, { format: 'qcow2', write: true, sizeBytes });
  await rig.restore(repositoryId, { pointId, diskId: 'large', ...transfer(served.url, sizeBytes) });
  await served.stop();
  qemuImg('compare', '-f', 'qcow2', '-F', 'qcow2', target, image);
  for (const pid of rig.pids) expect(peakMemoryBytes(pid) / mib).toBeLessThan(400);
});
