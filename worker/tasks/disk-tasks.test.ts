import { X509Certificate, randomBytes } from 'node:crypto';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { createAuthority, issueIdentity } from '../../common/tls/authority';
import { DeviceTree } from '../attached-disks/device-tree';
import { decodeHeader, encodeFrame } from '../../proto/data-mover/frame-codec';
import { FrameType } from '../../proto/data-mover/frame-types';
import { LanePool } from '../pipeline/lane-pool';
import { SharedCounters } from '../pipeline/counters';
import { ImageServiceDouble } from '../testing/image-service-double';
import { MoverRoute } from '../mover-client/mover-route';
import { MoverDouble } from '../testing/mover-double';
import type { MoverDoubleOptions } from '../testing/mover-double';
import { backupDisk } from './backup-disk';
import type { BackupDisk, RestoreDisk, TaskContext } from './disk-task';
import { restoreDisk } from './restore-disk';

const blockSizeBytes = 64 * 1024;
const limits = { connections: 0, rateBytesPerSecond: 0 };
let folder: string;
let pool: LanePool;
let mover: MoverDouble;
let service: ImageServiceDouble | undefined;

beforeAll(async () => {
  folder = await fs.mkdtemp(path.join(os.tmpdir(), 'tidemark-worker-'));
  pool = new LanePool(2);
});
afterAll(async () => {
  await pool.stop();
  await fs.rm(folder, { recursive: true, force: true });
});
afterEach(async () => {
  await mover.stop();
  await service?.stop();
  service = undefined;
});

function context(): TaskContext & { aborter: AbortController } {
  const aborter = new AbortController();
  return {
    aborter,
    taskId: 'task',
    route: new MoverRoute(),
    signal: aborter.signal,
    counters: new SharedCounters(),
    devices: new DeviceTree(),
    outcome: { imagePath: 'IMAGE_PATH_UNSPECIFIED', imagePathReason: '', indexRoot: Buffer.alloc(0) },
  };
}

/** Text, noise, holes and repetitions, with a short last block. */
function sampleDisk(blocks = 300): Buffer {
  const disk = Buffer.alloc(blocks * blockSizeBytes + 12_345);
  const noise = randomBytes(blockSizeBytes);
  for (let block = 0; block <= blocks; block += 1) {
    const at = block * blockSizeBytes;
    if (block % 3 === 0) disk.fill(`line ${block} of a log file, `, at, Math.min(disk.length, at + blockSizeBytes));
    else if (block % 7 === 1) randomBytes(blockSizeBytes).copy(disk, at);
    else if (block % 11 === 2) noise.copy(disk, at);
  }
  return disk;
}

async function startMover(options: MoverDoubleOptions = {}): Promise<MoverDouble> {
  mover = await MoverDouble.start({ blockSizeBytes, ...options });
  return mover;
}

async function fileBackup(content: Buffer): Promise<BackupDisk> {
  const file = path.join(folder, `disk-${randomBytes(4).toString('hex')}`);
  await fs.writeFile(file, content);
  return {
    kind: 'backup',
    source: { kind: 'device', path: file, sizeBytes: content.length },
    address: await mover.address(),
    diskId: 'd1',
    scope: 'allocated',
    basePointId: '',
    baseDiskId: '',
    limits,
  };
}

async function imageBackup(content: Buffer, more: Partial<BackupDisk> = {}): Promise<BackupDisk> {
  service = await ImageServiceDouble.start(content);
  const transfer = { transferUrl: service.url, proxyUrl: '', caPem: service.caPem, sizeBytes: content.length };
  return { ...(await fileBackup(Buffer.alloc(0))), source: { kind: 'image', transfer }, ...more };
}

async function fileRestore(target: RestoreDisk['target'], diskId = 'd1'): Promise<RestoreDisk> {
  return { kind: 'restore', target, address: await mover.address(), pointId: 'p1', diskId, limits };
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 150_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error('the condition never came true');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe('backup of a disk', () => {
  it.each([
    ['zstd', 1],
    ['no codec', 0],
  ])('sends a device with %s so that the mover has every byte', async (_name, codec) => {
    await startMover({ codec });
    const disk = sampleDisk();
    const task = await fileBackup(disk);
    const run = context();
    await backupDisk(task, pool, run);
    expect(mover.content('d1').equals(disk)).toBe(true);
    expect(mover.disks.get('d1')?.committed).toBe(true);
    expect(run.counters.get('readBytes')).toBe(disk.length);
    expect(Buffer.from(run.outcome.indexRoot).toString()).toBe('root');
    expect(run.outcome.imagePath).toBe('IMAGE_PATH_LOCAL');
  });

  it('opens connections with the certificate of now, not with that of its task', async () => {
    await startMover();
    const disk = sampleDisk(20);
    const task = await fileBackup(disk);
    const { identity } = task.address;
    const old = await issueIdentity(await createAuthority('old'), { role: 'worker', id: 'w1' }, []);
    pool.useIdentity(identity);
    // A thread that starts later hears of it too.
    const late = new LanePool(1);
    late.useIdentity(identity);
    try {
      await backupDisk({ ...task, address: { ...task.address, identity: old } }, pool, context());
      await backupDisk({ ...task, diskId: 'd2', address: { ...task.address, identity: old } }, late, context());
    } finally {
      await late.stop();
      // The movers of other tests have CAs of their own.
      await pool.stop();
      pool = new LanePool(2);
    }
    expect(mover.content('d2').equals(disk)).toBe(true);
  });

  it.each(['worker', 'mover'] as const)(
    'drains its connections when the certificate of the %s was renewed, and reads nothing twice',
    async (end) => {
      await startMover();
      const disk = sampleDisk(600);
      const own = new LanePool(2);
      const task = await fileBackup(disk);
      const renewed = await mover.identityOf('worker');
      const run = context();
      try {
        own.useIdentity(task.address.identity);
        const slowly = { connections: 0, rateBytesPerSecond: 6 * 1024 * 1024 };
        let ended = false;
        const backup = backupDisk({ ...task, limits: slowly }, own, run).finally(() => (ended = true));
        await until(() => (mover.frames.get(FrameType.put) ?? 0) > 4);
        const before = [...mover.sockets];
        expect(before).toHaveLength(2);
        if (end === 'worker') own.useIdentity(renewed);
        else for (const socket of before) socket.end(encodeFrame(FrameType.bye, { reason: 'the certificate was renewed' }));
        await until(() => before.every((socket) => socket.closed) && mover.sockets.size === 2);
        expect(ended).toBe(false);
        const shown = new X509Certificate((end === 'worker' ? renewed : task.address.identity).certificateChainPem).serialNumber;
        expect([...mover.sockets].map((socket) => socket.getPeerCertificate().serialNumber)).toEqual([shown, shown]);
        await backup;
      } finally {
        await own.stop();
      }
      expect(mover.content('d1').equals(disk)).toBe(true);
      expect(run.counters.get('readBytes')).toBe(disk.length);
    },
  );

  it('waits for the answer to a commit before its connection is drained', async () => {
    await startMover();
    const disk = sampleDisk(20);
    const own = new LanePool(1);
    const task = await fileBackup(disk);
    let answer: (() => void) | undefined;
    mover.fault = (type, double, socket, header) => {
      if (type !== FrameType.commitDisk || answer) return false;
      const { sequence } = decodeHeader(FrameType.commitDisk, header);
      answer = () => {
        for (const known of double.disks.values()) known.committed = true;
        const root = { sequence, indexRoot: Buffer.from('late root'), storedBytes: 1, deduplicatedBytes: 0 };
        socket.write(encodeFrame(FrameType.diskCommitted, root));
      };
      return true;
    };
    const run = context();
    try {
      const backup = backupDisk(task, own, run);
      await until(() => answer !== undefined);
      own.useIdentity(await mover.identityOf('worker'));
      // Longer than it takes a connection to see that its certificate is an old one.
      await new Promise((resolve) => setTimeout(resolve, 2_500));
      expect(mover.sockets.size).toBe(1);
      answer?.();
      await backup;
    } finally {
      await own.stop();
    }
    expect(Buffer.from(run.outcome.indexRoot).toString()).toBe('late root');
  });

  it('sends nothing twice: a second run of the same content puts no block', async () => {
    await startMover();
    const disk = sampleDisk();
    await backupDisk(await fileBackup(disk), pool, context());
    const puts = mover.frames.get(FrameType.put);
    const run = context();
    await backupDisk({ ...(await fileBackup(disk)), diskId: 'd2' }, pool, run);
    expect(mover.frames.get(FrameType.put)).toBe(puts);
    expect(mover.content('d2').equals(disk)).toBe(true);
    expect(run.counters.get('transferredBytes')).toBe(0);
    expect(run.counters.get('deduplicatedBytes')).toBeGreaterThan(disk.length / 3);
  });

  it('reads only data extents of an image, with a few kept connections', async () => {
    await startMover();
    const disk = Buffer.alloc(40 * blockSizeBytes);
    const data = [
      [0, 8192],
      [5 * blockSizeBytes + 4096, 3 * blockSizeBytes],
      [30 * blockSizeBytes, blockSizeBytes],
    ] as const;
    for (const [start, length] of data) randomBytes(length).copy(disk, start);
    const task = await imageBackup(disk);
    const extents: object[] = [];
    let at = 0;
    for (const [start, length] of data) {
      if (start > at) extents.push({ start: at, length: start - at, zero: true, hole: true });
      extents.push({ start, length, zero: false, hole: false });
      at = start + length;
    }
    extents.push({ start: at, length: disk.length - at, zero: true, hole: true });
    (service as ImageServiceDouble).zeroExtents = JSON.stringify(extents);
    const run = context();
    await backupDisk(task, pool, run);
    expect(mover.content('d1').equals(disk)).toBe(true);
    const allocated = data.reduce((sum, [, length]) => sum + length, 0);
    expect(run.counters.get('plannedBytes')).toBe(allocated);
    expect(run.counters.get('readBytes')).toBe(allocated);
    expect(run.counters.get('zeroBytes')).toBe(disk.length - allocated);
    expect((service as ImageServiceDouble).mostOpen).toBeLessThanOrEqual(4);
    expect(run.outcome.imagePath).toBe('IMAGE_PATH_DIRECT');
  });

  it('reads what changed, whole blocks of it, and tells the mover what became zero', async () => {
    await startMover();
    const base = sampleDisk(40);
    const disk = Buffer.from(base);
    randomBytes(1_000).copy(disk, 3 * blockSizeBytes + 70);
    disk.fill(0, 20 * blockSizeBytes, 22 * blockSizeBytes);
    const task = await imageBackup(disk, { scope: 'changed', basePointId: 'p0', baseDiskId: 'd0' });
    const kb = (start: number, length: number, dirty: boolean, zero: boolean) => ({ start, length, dirty, zero });
    (service as ImageServiceDouble).dirtyExtents = JSON.stringify([
      kb(0, 3 * blockSizeBytes, false, false),
      kb(3 * blockSizeBytes, 4096, true, false),
      kb(3 * blockSizeBytes + 4096, 17 * blockSizeBytes - 4096, false, false),
      kb(20 * blockSizeBytes, 2 * blockSizeBytes, true, true),
      kb(22 * blockSizeBytes, disk.length - 22 * blockSizeBytes, false, false),
    ]);
    const run = context();
    await backupDisk(task, pool, run);
    expect(mover.content('d1', base).equals(disk)).toBe(true);
    expect(run.counters.get('readBytes')).toBe(blockSizeBytes);
    expect(run.counters.get('zeroBytes')).toBe(2 * blockSizeBytes);
    expect(mover.frames.get(FrameType.zero)).toBe(1);
    expect([...(mover.disks.get('d1')?.map.keys() ?? [])].sort((a, b) => a - b)).toEqual([3, 20, 21]);
  });

  it('advises a full backup when nothing is known of changes', async () => {
    await startMover();
    const task = await imageBackup(sampleDisk(4), { scope: 'changed', basePointId: 'p0', baseDiskId: 'd0' });
    await expect(backupDisk(task, pool, context())).rejects.toMatchObject({ code: 'CHANGED_EXTENTS_UNAVAILABLE', retry: 'full-backup' });
  });

  it('replaces data of a base by zeroes that are only found by reading', async () => {
    await startMover();
    const task = { ...(await fileBackup(Buffer.alloc(5 * blockSizeBytes))), basePointId: 'p0', baseDiskId: 'd0' };
    await backupDisk(task, pool, context());
    expect(mover.content('d1', randomBytes(5 * blockSizeBytes)).every((byte) => byte === 0)).toBe(true);
  });

  it('goes on over new connections when lanes break in the middle', async () => {
    await startMover();
    const disk = sampleDisk(600);
    let puts = 0;
    mover.fault = (type, _double, socket) => {
      if (type !== FrameType.put) return false;
      puts += 1;
      if (puts % 40 !== 20 || puts > 130) return false;
      socket.destroy();
      return true;
    };
    await backupDisk(await fileBackup(disk), pool, context());
    expect(mover.content('d1').equals(disk)).toBe(true);
    expect(mover.frames.get(FrameType.hello)).toBeGreaterThan(3);
  });

  it('sends the disk again from its start when the mover forgot it, and leaves no hole', async () => {
    await startMover();
    const disk = sampleDisk(600);
    let restarted = false;
    mover.fault = (type) => {
      if (restarted || type !== FrameType.put || (mover.frames.get(FrameType.put) ?? 0) < 60) return false;
      restarted = true;
      mover.restart();
      return true;
    };
    const run = context();
    await backupDisk(await fileBackup(disk), pool, run);
    expect(restarted).toBe(true);
    expect(mover.content('d1').equals(disk)).toBe(true);
    expect(run.counters.get('plannedBytes')).toBe(disk.length);
  });

  it.each(['restarted', 'replaced by another one'])('reads only what is not durable when the mover is %s', async (how) => {
    await startMover();
    const disk = sampleDisk(600);
    const run = context();
    const kept = new Set<number>();
    const isKept = (block: number) => block % 3 !== 2;
    const first = mover;
    let readBefore = 0;
    const watch = (double: MoverDouble) => {
      double.fault = (type) => {
        if (type === FrameType.listMapped && kept.size === 0) {
          for (const block of double.disks.get('d1')?.map.keys() ?? []) kept.add(block);
          readBefore = run.counters.get('readBytes');
        }
        return false;
      };
    };
    const changeOver = async () => {
      // It is alive, but lost the session.
      first.fault = (_type, double, socket) => {
        double.refuse(socket, 0, 'SESSION_ELSEWHERE');
        return true;
      };
      first.cut();
      mover = await MoverDouble.start({ blockSizeBytes, authority: first.authority });
      mover.takeOver(first, isKept);
      watch(mover);
      run.route.change(await mover.address());
    };
    let changed: Promise<void> | undefined;
    first.fault = (type) => {
      if (changed || type !== FrameType.put || (first.frames.get(FrameType.put) ?? 0) < 60) return false;
      changed = how === 'restarted' ? Promise.resolve(first.restart(isKept)) : changeOver();
      if (how === 'restarted') watch(first);
      return true;
    };
    await backupDisk(await fileBackup(disk), pool, run);
    await changed;
    if (mover !== first) await first.stop();
    expect(mover.content('d1').equals(disk)).toBe(true);
    expect(kept.size).toBeGreaterThan(30);
    expect(run.counters.get('readBytes') - readBefore).toBe(disk.length - kept.size * blockSizeBytes);
    expect(run.counters.get('plannedBytes')).toBe(disk.length);
  });

  it('waits for another address when its mover has lost the session', async () => {
    await startMover();
    const disk = sampleDisk(40);
    const other = await MoverDouble.start({ blockSizeBytes, authority: mover.authority });
    const run = context();
    try {
      mover.fault = (type, double, socket) => {
        if (type === FrameType.hello) double.refuse(socket, 0, 'SESSION_ELSEWHERE');
        return type === FrameType.hello;
      };
      const backup = backupDisk(await fileBackup(disk), pool, run);
      await until(() => (mover.frames.get(FrameType.hello) ?? 0) > 3);
      run.route.change(await other.address());
      await backup;
      expect(other.content('d1').equals(disk)).toBe(true);
    } finally {
      await other.stop();
    }
  });

  it('does not take what an earlier task mapped for its own', async () => {
    await startMover();
    const first = { ...context(), taskId: 'yesterday' };
    mover.fault = (type) => type === FrameType.commitDisk;
    const failure = expect(backupDisk(await fileBackup(sampleDisk(40)), pool, first)).rejects.toMatchObject({ code: 'CANCELLED' });
    await until(() => (mover.frames.get(FrameType.commitDisk) ?? 0) > 0);
    first.aborter.abort();
    await failure;
    mover.fault = () => false;
    const disk = Buffer.alloc(sampleDisk(40).length);
    const run = context();
    await backupDisk(await fileBackup(disk), pool, run);
    expect(mover.content('d1').equals(disk)).toBe(true);
    expect(mover.frames.get(FrameType.listMapped)).toBeUndefined();
    expect(run.counters.get('readBytes')).toBe(disk.length);
  });

  it('succeeds when the disk was committed but the answer got lost', async () => {
    await startMover();
    const disk = sampleDisk(20);
    mover.fault = (type, _double, socket) => {
      if (type !== FrameType.commitDisk || [...mover.disks.values()].some((d) => d.committed)) return false;
      for (const known of mover.disks.values()) known.committed = true;
      socket.destroy();
      return true;
    };
    await backupDisk(await fileBackup(disk), pool, context());
    expect(mover.content('d1').equals(disk)).toBe(true);
    expect(mover.frames.get(FrameType.commitDisk)).toBe(1);
  });

  it('sends again what the mover misses at commit', async () => {
    await startMover();
    const disk = sampleDisk(60);
    let dropped = false;
    mover.fault = (type) => {
      if (type === FrameType.commitDisk && !dropped) {
        dropped = true;
        for (const digest of [...mover.blocks.keys()].slice(0, 9)) mover.blocks.delete(digest);
      }
      return false;
    };
    await backupDisk(await fileBackup(disk), pool, context());
    expect(dropped).toBe(true);
    expect(mover.content('d1').equals(disk)).toBe(true);
  });

  it('gives up when connections only ever break', async () => {
    await startMover();
    mover.fault = (type, _double, socket) => {
      if (type === FrameType.put) socket.destroy();
      return type === FrameType.put;
    };
    await expect(backupDisk(await fileBackup(sampleDisk(20)), pool, context())).rejects.toMatchObject({ code: 'MOVER_CONNECTION_LOST' });
  });

  it('stops when it is cancelled while the mover is silent, long before it would give the mover up', async () => {
    await startMover();
    mover.fault = (type) => type === FrameType.put;
    const run = context();
    const failure = expect(backupDisk(await fileBackup(sampleDisk()), pool, run)).rejects.toMatchObject({ code: 'CANCELLED' });
    await until(() => (mover.frames.get(FrameType.put) ?? 0) > 2);
    const cancelledAt = Date.now();
    run.aborter.abort();
    await failure;
    expect(Date.now() - cancelledAt).toBeLessThan(30_000);
    await until(() => mover.sockets.size === 0);
  });

  it('passes the mover’s refusal on with its advice', async () => {
    await startMover();
    mover.fault = (type) => {
      if (type === FrameType.offer) mover.disks = new Map();
      return false;
    };
    await expect(backupDisk(await fileBackup(sampleDisk(5)), pool, context())).rejects.toMatchObject({ code: 'MOVER_STATE_LOST' });
  });

  it('notices a device that is smaller than announced', async () => {
    await startMover();
    const task = await fileBackup(Buffer.alloc(1000));
    const source = { kind: 'device' as const, path: (task.source as { path: string }).path, sizeBytes: 2000 };
    await expect(backupDisk({ ...task, source }, pool, context())).rejects.toMatchObject({ code: 'IMAGE_SIZE_MISMATCH' });
    const missing = { kind: 'device' as const, path: path.join(folder, 'nothing'), sizeBytes: 2000 };
    await expect(backupDisk({ ...task, source: missing }, pool, context())).rejects.toMatchObject({ code: 'SOURCE_UNREADABLE' });
  });
});

describe('restore of a disk', () => {
  async function backedUp(disk: Buffer): Promise<void> {
    await startMover();
    await backupDisk(await fileBackup(disk), pool, context());
  }
  const freePath = () => path.join(folder, `out-${randomBytes(4).toString('hex')}`);

  it('writes a sparse raw file that is byte for byte the disk', async () => {
    const disk = sampleDisk(400);
    disk.fill(0, 100 * blockSizeBytes, 300 * blockSizeBytes);
    await backedUp(disk);
    const target = freePath();
    const run = context();
    await restoreDisk(await fileRestore({ kind: 'file', path: target, format: 'raw' }), pool, run);
    expect((await fs.readFile(target)).equals(disk)).toBe(true);
    const { blocks, size } = await fs.stat(target);
    expect(blocks * 512).toBeLessThan(size / 2);
    expect((await fs.readdir(folder)).filter((name) => name.startsWith('.'))).toEqual([]);
    expect(run.counters.get('readBytes') + run.counters.get('zeroBytes')).toBeLessThanOrEqual(disk.length);
    expect(run.counters.get('plannedBytes') - run.counters.get('readBytes')).toBeLessThan(blockSizeBytes);
  });

  it('writes an image: data by ranges, holes as zeroes, one flush at the end', async () => {
    const disk = sampleDisk(200);
    disk.fill(0, 64 * blockSizeBytes, 190 * blockSizeBytes);
    await backedUp(disk);
    service = await ImageServiceDouble.start(randomBytes(disk.length));
    const transfer = { transferUrl: service.url, proxyUrl: '', caPem: service.caPem, sizeBytes: disk.length };
    await restoreDisk(await fileRestore({ kind: 'image', transfer }), pool, context());
    expect(service.image.equals(disk)).toBe(true);
    expect(service.requests.filter((r) => r.body.toString().includes('"op":"flush"'))).toHaveLength(1);
    expect(service.requests.at(-1)?.body.toString()).toContain('flush');
  });

  it('goes on when lanes break', async () => {
    const disk = sampleDisk(600);
    await backedUp(disk);
    let reads = 0;
    mover.fault = (type, _double, socket) => {
      if (type !== FrameType.read || ++reads % 5 !== 0 || reads > 30) return false;
      socket.destroy();
      return true;
    };
    const target = freePath();
    await restoreDisk(await fileRestore({ kind: 'file', path: target, format: 'raw' }), pool, context());
    expect((await fs.readFile(target)).equals(disk)).toBe(true);
    expect(reads).toBeGreaterThan(5);
  });

  it('reads on from another mover when its own is gone', async () => {
    const disk = sampleDisk(600);
    await backedUp(disk);
    const other = await MoverDouble.start({ blockSizeBytes, authority: mover.authority });
    other.takeOver(mover, () => true);
    const run = context();
    let readBefore = -1;
    mover.fault = (type) => {
      if (type !== FrameType.read || (mover.frames.get(FrameType.read) ?? 0) < 14) return false;
      if (readBefore < 0) {
        readBefore = run.counters.get('readBytes');
        void mover.stop().then(async () => run.route.change(await other.address()));
      }
      return true;
    };
    const target = freePath();
    try {
      await restoreDisk(await fileRestore({ kind: 'file', path: target, format: 'raw' }), pool, run);
    } finally {
      await other.stop();
    }
    expect((await fs.readFile(target)).equals(disk)).toBe(true);
    expect(readBefore).toBeGreaterThan(0);
    expect(run.counters.get('plannedBytes') - run.counters.get('readBytes')).toBeLessThan(blockSizeBytes);
  });

  it('asks for a checked copy of what is not what its digest says', async () => {
    const disk = sampleDisk(50);
    await backedUp(disk);
    const [digest, stored] = [...mover.blocks][20] as [string, { codec: number; rawLength: number; payload: Buffer }];
    const other = [...mover.blocks.values()].find((b) => b.rawLength === stored.rawLength && b !== stored);
    mover.blocks.set(digest, other as typeof stored);
    mover.otherCopies.set(digest, stored);
    const target = freePath();
    await restoreDisk(await fileRestore({ kind: 'file', path: target, format: 'raw' }), pool, context());
    expect((await fs.readFile(target)).equals(disk)).toBe(true);
  });

  it('refuses a block that is not what its digest says, and leaves no file', async () => {
    await backedUp(sampleDisk(50));
    const [digest, stored] = [...mover.blocks][20] as [string, { codec: number; rawLength: number; payload: Buffer }];
    const other = [...mover.blocks.values()].find((b) => b.rawLength === stored.rawLength && b !== stored);
    mover.blocks.set(digest, other as typeof stored);
    const target = freePath();
    const failure = restoreDisk(await fileRestore({ kind: 'file', path: target, format: 'raw' }), pool, context());
    await expect(failure).rejects.toMatchObject({ code: 'BLOCK_CORRUPT', retry: 'never', status: 'DATA_LOSS' });
    expect((await fs.readdir(folder)).filter((name) => name.startsWith('.') || name === path.basename(target))).toEqual([]);
  });

  it('never overwrites a file', async () => {
    await backedUp(sampleDisk(3));
    const target = freePath();
    await fs.writeFile(target, 'precious');
    const failure = restoreDisk(await fileRestore({ kind: 'file', path: target, format: 'raw' }), pool, context());
    await expect(failure).rejects.toMatchObject({ code: 'TARGET_EXISTS' });
    expect(await fs.readFile(target, 'utf8')).toBe('precious');
  });

  it('leaves nothing behind when it is cancelled', async () => {
    await backedUp(sampleDisk());
    mover.fault = (type) => type === FrameType.read;
    const run = context();
    const task = await fileRestore({ kind: 'file', path: freePath(), format: 'raw' });
    const failure = expect(restoreDisk(task, pool, run)).rejects.toMatchObject({ code: 'CANCELLED' });
    await until(() => (mover.frames.get(FrameType.read) ?? 0) > 2);
    run.aborter.abort();
    await failure;
    expect((await fs.readdir(folder)).filter((name) => name.startsWith('.'))).toEqual([]);
  });

  it('tells of a point that is not there', async () => {
    await startMover();
    const task = await fileRestore({ kind: 'file', path: freePath(), format: 'raw' }, 'unknown');
    await expect(restoreDisk(task, pool, context())).rejects.toMatchObject({ code: 'POINT_NOT_FOUND' });
  });
});
