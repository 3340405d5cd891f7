import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type tls from 'node:tls';
import { encodeFrame } from '../../proto/data-mover/frame-codec';
import { FrameType } from '../../proto/data-mover/frame-types';
import { readDisk, sampleBlock } from '../testing/test-disk';
import { StoppedClock } from '../testing/stopped-clock';
import { TestLane } from '../testing/test-lane';
import { temporaryFolder, TestMover } from '../testing/test-mover';

const block = 65_536;

describe('data port', () => {
  const scratch = temporaryFolder();
  let mover: TestMover;
  let repositoryId: string;

  beforeAll(async () => {
    mover = await TestMover.start(scratch.folder);
    repositoryId = await mover.createRepository(block);
  });
  afterAll(async () => {
    await mover.stop();
    scratch[Symbol.dispose]();
  });

  async function restored(pointId: string): Promise<Buffer> {
    const sessionId = await mover.openSession(repositoryId, 'RESTORE', [pointId]);
    const lane = await mover.lane(sessionId, repositoryId, ['read'], [pointId]);
    try {
      return await readDisk(lane, pointId);
    } finally {
      lane.close();
    }
  }

  test('a disk is backed up, changed, backed up from its base, and both points read back byte for byte', async () => {
    const size = 700 * block + 1000;
    const image = Buffer.alloc(size);
    const blocks = new Map<number, Buffer>();
    for (const number of [0, 1, 255, 256, 300, 511, 699, 700]) {
      const raw = sampleBlock(number + 1, Math.min(block, size - number * block));
      blocks.set(number, raw);
      raw.copy(image, number * block);
    }
    const first = await mover.backup(repositoryId, size, blocks);
    expect((await restored(first)).equals(image)).toBe(true);

    const changed = Buffer.from(image);
    const changes = new Map([
      [1, sampleBlock(99, block)],
      [300, Buffer.alloc(block)],
      [400, sampleBlock(100, block)],
    ]);
    for (const [number, raw] of changes) raw.copy(changed, number * block);
    const second = await mover.backup(repositoryId, size, changes, { pointId: first });
    expect((await restored(second)).equals(changed)).toBe(true);
    expect((await restored(first)).equals(image)).toBe(true);
  });

  test('what is stored already is not asked for again, also by another session', async () => {
    const raw = sampleBlock(5000, block);
    const sessions = [await mover.openSession(repositoryId, 'BACKUP'), await mover.openSession(repositoryId, 'BACKUP')];
    const [a, b] = await Promise.all(sessions.map((id) => mover.lane(id, repositoryId)));
    if (!a || !b) throw new Error('no lanes');
    const handleA = (await a.openDisk('disk', block)).handle;
    const handleB = (await b.openDisk('disk', block)).handle;
    expect(await a.offer(handleA, [[0, a.digestOf(raw)]])).toEqual([0]);
    expect(await b.offer(handleB, [[0, b.digestOf(raw)]])).toEqual([]);
    // The claimant dies; the other one is told at its commit.
    a.close();
    await a.closed;
    expect((await b.commitDisk(handleB)).missing).toEqual([0]);
    expect(await b.offer(handleB, [[0, b.digestOf(raw)]])).toEqual([0]);
    await b.putRaw(raw);
    expect((await b.commitDisk(handleB)).missing).toEqual([]);
    b.close();
  });

  test('all lanes of a disk share one state and one handle; other values are refused', async () => {
    const sessionId = await mover.openSession(repositoryId, 'BACKUP');
    const a = await mover.lane(sessionId, repositoryId);
    const b = await mover.lane(sessionId, repositoryId);
    const opened = await a.openDisk('disk', 4 * block);
    expect((await b.openDisk('disk', 4 * block)).handle).toBe(opened.handle);
    await expect(b.openDisk('disk', 5 * block)).rejects.toMatchObject({ code: 'DISK_MISMATCH' });
    await a.send(opened.handle, new Map([[0, sampleBlock(1, block)]]));
    await b.send(opened.handle, new Map([[1, sampleBlock(2, block)]]));
    const answers = await Promise.all([a.commitDisk(opened.handle), b.commitDisk(opened.handle)]);
    expect(answers[0]?.indexRoot).toEqual(answers[1]?.indexRoot);
    expect(await a.openDisk('disk', 4 * block)).toMatchObject({ committed: true });
    a.close();
    b.close();
  });

  test('who says Bye and does not close its side is cut off all the same', async () => {
    const identity = mover.worker.material;
    const lane = await TestLane.dial(mover.dataPort, identity, { allowHalfOpen: true } as tls.ConnectionOptions);
    await lane.hello(mover.ticket(await mover.openSession(repositoryId, 'BACKUP'), repositoryId, ['write']));
    lane.socket.write(encodeFrame(FrameType.bye, { reason: '' }));
    // Nothing is heard any more: only who writes finds out.
    for (let isClosed = false; !isClosed;) {
      if (lane.socket.writable) lane.socket.write(encodeFrame(FrameType.ping, { sequence: 1 }));
      isClosed = await Promise.race([lane.closed.then(() => true), sleep(100, false)]);
    }
  });

  test('damaged puts are refused and the connection goes on', async () => {
    const lane = await mover.lane(await mover.openSession(repositoryId, 'BACKUP'), repositoryId);
    const raw = sampleBlock(7000, block);
    const digest = lane.digestOf(raw);
    const { handle } = await lane.openDisk('disk', 2 * block);
    await lane.offer(handle, [[0, digest]]);
    const corrupt = { code: 'BLOCK_CORRUPT' };
    await expect(lane.put(digest, 0, block, raw, Buffer.alloc(16))).rejects.toMatchObject(corrupt);
    await expect(lane.put(digest, 0, block, raw.subarray(1))).rejects.toMatchObject(corrupt);
    await expect(lane.put(digest, 0, block - 1, raw.subarray(1))).rejects.toMatchObject(corrupt);
    await expect(lane.put(digest, 7, block, raw)).rejects.toMatchObject(corrupt);
    await expect(lane.put(Buffer.alloc(32), 0, block, raw)).rejects.toMatchObject(corrupt);
    await expect(lane.put(Buffer.alloc(5, 1), 0, block, raw)).rejects.toMatchObject(corrupt);
    await expect(lane.offer(handle, [[2, digest]])).rejects.toMatchObject({ code: 'BLOCK_OUT_OF_RANGE' });
    await expect(lane.zero(handle, 1, 2)).rejects.toMatchObject({ code: 'BLOCK_OUT_OF_RANGE' });
    await expect(lane.offer(handle + 1, [[0, digest]])).rejects.toMatchObject({ code: 'DISK_NOT_OPEN' });
    await lane.putRaw(raw);
    expect((await lane.commitDisk(handle)).missing).toEqual([]);
    await lane.ping();
    lane.close();
  });

  test('strangers, wrong roles, wrong tickets and wrong versions are told why and closed', async () => {
    const sessionId = await mover.openSession(repositoryId, 'BACKUP');
    const good = mover.ticket(sessionId, repositoryId, ['write']);
    const attempt = async (ticket: string, identity = mover.worker.material, version = 1) => {
      const lane = await TestLane.dial(mover.dataPort, identity);
      const error = await lane.hello(ticket, version).catch((e: unknown) => e);
      await lane.closed;
      return (error as { code?: string }).code;
    };
    expect(await attempt(`${good.slice(0, -4)}AAAA`)).toBe('TICKET_INVALID');
    expect(await attempt('x')).toBe('TICKET_INVALID');
    expect(await attempt(mover.ticket(randomUUID(), repositoryId, ['write']))).toBe('TICKET_INVALID');
    expect(await attempt(mover.ticket(sessionId, randomUUID(), ['write']))).toBe('REPOSITORY_NOT_FOUND');
    expect(await attempt(mover.ticket(sessionId, repositoryId, ['write'], [], -1000))).toBe('TICKET_EXPIRED');
    expect(await attempt(good, mover.worker.material, 2)).toBe('PROTOCOL_VERSION_UNSUPPORTED');
    expect(await attempt(good, (await mover.identity('plugin')).material)).toBe('ROLE_NOT_ALLOWED');
    expect(await attempt(good, mover.host.material)).toBe('ROLE_NOT_ALLOWED');
    await expect(TestLane.dial(mover.dataPort, mover.worker.material, { ALPNProtocols: ['h2'] })).rejects.toThrow();
    await mover.sessions.call('AbortSession', { sessionId }, { deadlineMs: 60_000 });
    expect(await attempt(good)).toBe('SESSION_ENDED');
    const lane = await TestLane.dial(mover.dataPort, mover.worker.material);
    lane.socket.write(encodeFrame(FrameType.ping, { sequence: 1 }));
    await lane.closed;
    expect(lane.farewell?.code).toBe('FRAME_UNEXPECTED');
  });

  test('a ticket allows what it names and nothing else', async () => {
    const pointId = await mover.backup(repositoryId, block, new Map([[0, sampleBlock(31, block)]]));
    const other = await mover.backup(repositoryId, block, new Map([[0, sampleBlock(32, block)]]));
    const sessionId = await mover.openSession(repositoryId, 'RESTORE', [pointId, other]);
    const lane = await mover.lane(sessionId, repositoryId, ['read'], [pointId]);
    await expect(lane.openImage(other, 'disk')).rejects.toMatchObject({ code: 'TICKET_RIGHT_MISSING' });
    await expect(lane.openImage(pointId, 'no-disk')).rejects.toMatchObject({ code: 'POINT_NOT_FOUND' });
    const { handle } = await lane.openImage(pointId, 'disk');
    await expect(lane.read(handle, 2, 1)).rejects.toMatchObject({ code: 'BLOCK_OUT_OF_RANGE' });
    expect((await lane.read(handle, 0, 16)).next).toBe(1);
    await expect(lane.openDisk('disk', block)).rejects.toMatchObject({ code: 'FRAME_UNEXPECTED' });
    const writer = await mover.lane(await mover.openSession(repositoryId, 'BACKUP'), repositoryId, ['read']);
    await expect(writer.openDisk('disk', block)).rejects.toMatchObject({ code: 'TICKET_RIGHT_MISSING' });
    await writer.ping();
    writer.close();
  });

  test('the end of a session closes its connections, with the reason', async () => {
    const sessionId = await mover.openSession(repositoryId, 'BACKUP');
    const lane = await mover.lane(sessionId, repositoryId);
    await mover.sessions.call('AbortSession', { sessionId }, { deadlineMs: 60_000 });
    await lane.closed;
    expect(lane.farewell?.code).toBe('SESSION_ENDED');
    const expiring = await mover.openSession(repositoryId, 'BACKUP');
    const late = await mover.lane(expiring, repositoryId);
    const leaseDuration = { seconds: 1, nanos: 0 };
    await mover.sessions.call('RenewSession', { sessionId: expiring, leaseDuration }, { deadlineMs: 60_000 });
    await late.closed;
    expect(late.farewell?.code).toBe('SESSION_ENDED');
  });
});

describe('limits of the data port', () => {
  test('connections per session and in all are bounded; silent and slow ones are closed', async () => {
    using scratch = temporaryFolder();
    await using mover = await TestMover.start(scratch.folder, {
      limits: { maxConnections: 4, maxConnectionsPerSession: 2, helloTimeoutMs: 60_000, idleTimeoutMs: 120_000 },
      // That the clock of this test does not run past.
      lockLeaseMs: 3_600_000,
    });
    using clock = new StoppedClock();
    const repositoryId = await mover.createRepository(block);
    const sessionId = await mover.openSession(repositoryId, 'BACKUP');
    const lanes = [await mover.lane(sessionId, repositoryId), await mover.lane(sessionId, repositoryId)];
    await expect(mover.lane(sessionId, repositoryId)).rejects.toMatchObject({ code: 'TOO_MANY_CONNECTIONS' });
    const strangers = [
      await TestLane.dial(mover.dataPort, mover.worker.material),
      await TestLane.dial(mover.dataPort, mover.worker.material),
    ];
    const surplus = await TestLane.dial(mover.dataPort, mover.worker.material);
    await surplus.closed;
    expect(surplus.farewell?.code).toBe('TOO_MANY_CONNECTIONS');
    // No Hello, and one that sends it a byte at a time.
    const trickle = setInterval(() => strangers[1]?.socket.write(Buffer.from('T')), 100);
    clock.pass(60_001);
    await Promise.all(strangers.map((s) => s.closed));
    clearInterval(trickle);
    expect(strangers.map((s) => s.farewell?.code)).toContain('CONNECTION_IDLE');
    // Past Hello: one is silent, one begins a frame and goes on a byte at a time, one keeps asking.
    const busy = await mover.lane(await mover.openSession(repositoryId, 'BACKUP'), repositoryId);
    const asking = setInterval(() => void busy.ping().catch(() => undefined), 200);
    const frame = encodeFrame(FrameType.offer, { sequence: 1, handle: 1 }, Buffer.alloc(40));
    let sent = 0;
    const slow = setInterval(() => lanes[1]?.socket.write(frame.subarray(sent, ++sent)), 50);
    clock.pass(59_000);
    while (sent < 10) await sleep(50);
    await busy.ping();
    expect(lanes.map((l) => l.socket.destroyed)).toEqual([false, false]);
    // Counted from the look at which the answer to their Hello had been taken, which may have been after the first minute.
    clock.pass(61_001);
    await Promise.all(lanes.map((l) => l.closed));
    clearInterval(slow);
    expect(lanes.map((l) => l.farewell?.code)).toEqual(['CONNECTION_IDLE', 'CONNECTION_IDLE']);
    await busy.ping();
    clearInterval(asking);
    // Who said something while the mover could not listen was not silent: the next look at the connections is due when it goes on, where timers come before
    // what has arrived.
    await new Promise((resolve) => setImmediate(resolve));
    const heard = busy.ping();
    clock.pass(600_000);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_000);
    await heard;
    busy.close();
  });
});
