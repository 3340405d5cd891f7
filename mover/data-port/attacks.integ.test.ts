import { generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto';
import net from 'node:net';
import tls from 'node:tls';
import { signTicket } from '../../common/tickets/ticket';
import { createAuthority, issueIdentity } from '../../common/tls/authority';
import { encodeFrame } from '../../proto/data-mover/frame-codec';
import { FrameType } from '../../proto/data-mover/frame-types';
import { sampleBlock } from '../testing/test-disk';
import { StoppedClock } from '../testing/stopped-clock';
import { TestLane } from '../testing/test-lane';
import { temporaryFolder, TestMover } from '../testing/test-mover';

const block = 65_536;
const mib = 1024 * 1024;

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** What the whole process grew by, mover, attackers and test together. */
async function growthDuring(work: () => Promise<void>): Promise<number> {
  const before = process.memoryUsage.rss();
  await work();
  return process.memoryUsage.rss() - before;
}

/** The code that a ticket is answered with; `welcome` when it is taken. */
async function answerTo(mover: TestMover, ticket: string, identity = mover.worker.material): Promise<string> {
  const lane = await TestLane.dial(mover.dataPort, identity);
  try {
    await lane.hello(ticket);
    return 'welcome';
  } catch (error) {
    await lane.closed;
    return (error as { code?: string }).code ?? String(error);
  } finally {
    lane.close();
  }
}

describe('tickets under attack', () => {
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

  const logged = (code: string) => mover.logged.filter(({ fields }) => fields['code'] === code).length;

  test('a ticket that was heard is of no use after its session ended, nor to another role, nor after its time', async () => {
    const sessionId = await mover.openSession(repositoryId, 'BACKUP');
    const ticket = mover.ticket(sessionId, repositoryId, ['write']);
    // As often as its bearer likes while the session is open: each lane shows it.
    expect([await answerTo(mover, ticket), await answerTo(mover, ticket)]).toEqual(['welcome', 'welcome']);
    for (const role of ['plugin', 'mover', 'host'] as const)
      expect(await answerTo(mover, ticket, (await mover.identity(role)).material)).toBe('ROLE_NOT_ALLOWED');
    const short = mover.ticket(sessionId, repositoryId, ['write'], [], 1);
    await pause(20);
    expect(await answerTo(mover, short)).toBe('TICKET_EXPIRED');
    const lane = await mover.lane(sessionId, repositoryId);
    const { handle } = await lane.openDisk('disk', block);
    await lane.send(handle, new Map([[0, sampleBlock(1, block)]]));
    await lane.commitDisk(handle);
    await mover.commit(sessionId, [{ diskId: 'disk', sizeBytes: block }]);
    expect(await answerTo(mover, ticket)).toBe('SESSION_ENDED');
    const aborted = await mover.openSession(repositoryId, 'BACKUP');
    await mover.sessions.call('AbortSession', { sessionId: aborted }, { deadlineMs: 60_000 });
    expect(await answerTo(mover, mover.ticket(aborted, repositoryId, ['write']))).toBe('SESSION_ENDED');
    for (const code of ['ROLE_NOT_ALLOWED', 'TICKET_EXPIRED', 'SESSION_ENDED']) expect(logged(code)).toBeGreaterThan(0);
    lane.close();
  });

  test('a ticket is of no use at a mover that does not have the session; after a take-over it is that of the new one', async () => {
    using elsewhere = temporaryFolder();
    await using other = await TestMover.start(elsewhere.folder, {}, mover);
    await other.repositories.call('AttachRepository', { location: mover.location() }, { deadlineMs: 60_000 });
    const sessionId = await mover.openSession(repositoryId, 'BACKUP');
    const ticket = mover.ticket(sessionId, repositoryId, ['write']);
    expect(await answerTo(other, ticket)).toBe('TICKET_INVALID');
    const first = await mover.lane(sessionId, repositoryId);
    const { handle } = await first.openDisk('disk', block);
    await first.send(handle, new Map([[0, sampleBlock(2, block)]]));
    const request = { sessionId, repositoryId, kind: 'SESSION_KIND_BACKUP' as const, leaseDuration: { seconds: 60, nanos: 0 } };
    await expect(other.sessions.call('OpenSession', request, { deadlineMs: 60_000 })).rejects.toMatchObject({ code: 'SESSION_ELSEWHERE' });
    expect(await answerTo(other, ticket)).toBe('SESSION_ELSEWHERE');
    expect(await other.sessions.call('OpenSession', { ...request, takeOver: true }, { deadlineMs: 60_000 })).toMatchObject({
      state: 'SESSION_STATE_OPEN',
      takenOver: true,
    });
    expect(await answerTo(other, ticket)).toBe('welcome');
    // The mover of before finds out at its next step, and hands nothing on to whoever still has the ticket.
    await expect(first.commitDisk(handle)).rejects.toMatchObject({ code: 'SESSION_ELSEWHERE' });
    await first.closed;
    expect(await answerTo(mover, ticket)).toBe('SESSION_ELSEWHERE');
    await expect(mover.sessions.call('AbortSession', { sessionId }, { deadlineMs: 60_000 })).rejects.toMatchObject({
      code: 'SESSION_ELSEWHERE',
    });
    await other.sessions.call('AbortSession', { sessionId }, { deadlineMs: 60_000 });
    expect(await answerTo(other, ticket)).toBe('SESSION_ENDED');
  });

  test('forged tickets, and those of other sessions, repositories and hosts, are refused', async () => {
    const other = await mover.createRepository(block, 'other');
    const sessionId = await mover.openSession(repositoryId, 'BACKUP');
    const good = mover.ticket(sessionId, repositoryId, ['write']);
    const [claims, signature] = good.split('.') as [string, string];
    const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
    const [foreignClaims] = mover.ticket(await mover.openSession(other, 'BACKUP'), other, ['write']).split('.') as [string];
    const changed = Buffer.from(claims, 'base64url');
    changed[changed.length - 1] = (changed[changed.length - 1] as number) ^ 1;
    const expiresAt = new Date(Date.now() + 60_000);
    const before = logged('TICKET_INVALID');
    const forged = [
      signTicket({ sessionId, repositoryId, rights: ['write'], pointIds: [], expiresAt }, stranger),
      `${claims}.`,
      claims,
      `.${signature}`,
      `${foreignClaims}.${signature}`,
      `${changed.toString('base64url')}.${signature}`,
      `${claims}.${Buffer.alloc(64).toString('base64url')}`,
      `${claims}.${randomBytes(64).toString('base64url')}`,
      `${claims}.${signature}.${signature}`,
      randomBytes(1000).toString('base64url'),
      'x'.repeat(3900),
      '\u0000',
      '',
      // Genuine, and of something else.
      mover.ticket(sessionId, other, ['write']),
      mover.ticket(randomUUID(), repositoryId, ['write']),
      mover.ticket('../../etc/passwd', repositoryId, ['write']),
    ];
    for (const ticket of forged)
      expect([ticket.slice(0, 60), await answerTo(mover, ticket)]).toEqual([ticket.slice(0, 60), 'TICKET_INVALID']);
    expect(logged('TICKET_INVALID')).toBe(before + forged.length);
    // No ticket, and nothing of one, is in the log.
    const secret = [signature, claims, ...forged.filter((one) => one.length > 100)];
    const lines = JSON.stringify(mover.logged);
    for (const part of secret) expect(lines.includes(part.slice(0, 80))).toBe(false);
    expect(await answerTo(mover, good)).toBe('welcome');
  });

  test('who has no certificate of the host’s authority does not get as far as a frame', async () => {
    const foreign = await issueIdentity(await createAuthority('foreign'), { role: 'worker', id: 'w' }, []);
    const { trustBundlePem } = mover.worker.material;
    const before = mover.logged.length;
    const attempts: tls.ConnectionOptions[] = [
      { ca: trustBundlePem, cert: foreign.certificateChainPem, key: foreign.privateKeyPem },
      { ca: trustBundlePem },
      {
        ca: trustBundlePem,
        cert: mover.worker.material.certificateChainPem,
        key: mover.worker.material.privateKeyPem,
        maxVersion: 'TLSv1.2',
      },
    ];
    for (const options of attempts) {
      const socket = tls.connect({ host: '127.0.0.1', port: mover.dataPort, ALPNProtocols: ['tidemark-data/1'], ...options });
      const received: Buffer[] = [];
      socket.on('data', (bytes: Buffer) => received.push(bytes));
      socket.on('secureConnect', () => socket.write(encodeFrame(FrameType.hello, { version: 1, ticket: 'x' })));
      await new Promise<void>((resolve) => socket.on('error', () => undefined).on('close', () => resolve()));
      expect(Buffer.concat(received)).toHaveLength(0);
    }
    expect(mover.logged.slice(before).some(({ fields }) => fields['code'] === 'HANDSHAKE')).toBe(true);
  });
});

describe('the port under attack', () => {
  const limits = { maxConnections: 12, maxConnectionsPerSession: 6, helloTimeoutMs: 60_000, idleTimeoutMs: 120_000 };
  let scratch: ReturnType<typeof temporaryFolder>;
  let mover: TestMover;
  let repositoryId: string;

  beforeEach(async () => {
    scratch = temporaryFolder();
    // A lease on the repository that no clock of a test runs past.
    mover = await TestMover.start(scratch.folder, { limits, lockLeaseMs: 3_600_000 });
    repositoryId = await mover.createRepository(block);
  });
  afterEach(async () => {
    await mover.stop();
    scratch[Symbol.dispose]();
  });

  const raw = (port: number) =>
    new Promise<net.Socket>((resolve, reject) => {
      const socket = net.connect(port, '127.0.0.1', () => resolve(socket));
      socket.once('error', reject);
    });
  const closedBy = (socket: net.Socket) =>
    new Promise<void>((resolve) => {
      socket.on('error', () => undefined);
      socket.resume();
      if (socket.closed) resolve();
      socket.on('close', () => resolve());
    });
  const codes = () => new Set(mover.logged.map(({ fields }) => fields['code']));

  test('slow peers are closed at every stage, however they dribble', async () => {
    const lane = () => mover.openSession(repositoryId, 'BACKUP').then((id) => mover.lane(id, repositoryId));
    // Neither says anything nor finishes its handshake. Handshakes have timers of their own, that do not go by our clock: a mover that gives them little time.
    using folder = temporaryFolder();
    await using hasty = await TestMover.start(folder.folder, { limits: { ...limits, helloTimeoutMs: 1_000 } });
    const silent = await raw(hasty.dataPort);
    const half = await raw(hasty.dataPort);
    half.write(Buffer.from('160301', 'hex'));
    await Promise.all([closedBy(silent), closedBy(half)]);
    using clock = new StoppedClock();
    const hello = encodeFrame(FrameType.hello, { version: 1, ticket: 't'.repeat(3000) });
    const dribbling = await TestLane.dial(mover.dataPort, mover.worker.material);
    // Past Hello: a header and a payload that never end.
    const [inHeader, inPayload] = [await lane(), await lane()];
    const offer = encodeFrame(FrameType.offer, { sequence: 1, handle: 1 }, Buffer.alloc(400));
    const sent = [0, 0, 0];
    const drip = setInterval(() => {
      const pieces: [net.Socket, Buffer, number][] = [
        [dribbling.socket, hello, 0],
        [inHeader.socket, offer.subarray(0, 14), 1],
        [inPayload.socket, offer.subarray(0, -1), 2],
      ];
      for (const [socket, bytes, i] of pieces) {
        const at = sent[i] as number;
        if (at < bytes.length && !socket.destroyed) socket.write(bytes.subarray(at, at + 1));
        sent[i] = at + 1;
      }
    }, 60);
    clock.pass(limits.helloTimeoutMs + 1);
    await dribbling.closed;
    expect([inHeader, inPayload].map(({ socket }) => socket.destroyed)).toEqual([false, false]);
    // From the first look on at which the answer to their Hello had been taken, which may have been the one just now.
    clock.pass(limits.idleTimeoutMs + 1);
    await Promise.all([inHeader.closed, inPayload.closed]);
    clearInterval(drip);
    expect([dribbling, inHeader, inPayload].map(({ farewell }) => farewell?.code)).toEqual(Array(3).fill('CONNECTION_IDLE'));
    expect(codes()).toContain('CONNECTION_IDLE');
  });

  test('a flood of connections costs the session under way nothing, and the log not much', async () => {
    const sessionId = await mover.openSession(repositoryId, 'BACKUP');
    const honest = await mover.lane(sessionId, repositoryId);
    const { handle } = await honest.openDisk('disk', 64 * block);
    const linesBefore = mover.logged.length;
    let refused = 0;
    const growth = await growthDuring(async () => {
      for (let round = 0; round < 6; round++) {
        const flood = Array.from({ length: 40 }, () => TestLane.dial(mover.dataPort, mover.worker.material).catch(() => undefined));
        await honest.send(handle, new Map([[round, sampleBlock(round + 1, block)]]));
        const lanes = (await Promise.all(flood)).filter((lane) => lane !== undefined);
        const open = () => lanes.filter(({ socket }) => !socket.destroyed);
        // None of them hangs up before all others have been refused; what is not refused runs out of the test's time.
        while (open().length > limits.maxConnections - 1) await pause(20);
        refused += flood.length - open().length;
        for (const lane of lanes) lane.close();
        await Promise.all(lanes.map(({ closed }) => closed));
      }
    });
    expect(refused).toBeGreaterThanOrEqual(6 * (40 - limits.maxConnections + 1));
    expect(codes()).toContain('TOO_MANY_CONNECTIONS');
    expect(mover.logged.length - linesBefore).toBeLessThan(100);
    expect(growth).toBeLessThan(150 * mib);
    expect((await honest.commitDisk(handle)).missing).toEqual([]);
    // When they are gone there is room again.
    let next: TestLane | undefined;
    while (!next) {
      next = await mover.lane(sessionId, repositoryId).catch((error: { code?: string }) => {
        if (!['TOO_MANY_CONNECTIONS', 'ECONNRESET'].includes(error.code ?? '')) throw error;
        return pause(50).then(() => undefined);
      });
    }
    await next.ping();
    next.close();
    honest.close();
  });

  test('lengths that are only announced cost nothing', async () => {
    const sessionId = await mover.openSession(repositoryId, 'BACKUP');
    const announced = (type: FrameType, headerLength: number, payloadLength: number) => {
      const prefix = Buffer.alloc(12);
      prefix.write('TDM1', 0, 'latin1');
      prefix[4] = type;
      prefix.writeUInt16BE(headerLength, 6);
      prefix.writeUInt32BE(payloadLength, 8);
      return prefix;
    };
    const growth = await growthDuring(async () => {
      for (let round = 0; round < 20; round++) {
        for (const prefix of [
          announced(FrameType.put, 0, 0xffffffff),
          announced(FrameType.put, 0, block + 4097),
          announced(FrameType.offer, 0xffff, 0),
          announced(FrameType.ping, 1, 1),
          announced(FrameType.mapped, 4, 16),
        ]) {
          const lane = await mover.lane(sessionId, repositoryId);
          lane.socket.write(prefix);
          if (prefix[4] === FrameType.mapped) lane.socket.write(Buffer.alloc(20));
          await lane.closed;
          expect(['FRAME_MALFORMED', 'FRAME_UNEXPECTED']).toContain(lane.farewell?.code);
        }
        // A stranger may not announce any payload at all.
        const stranger = await TestLane.dial(mover.dataPort, mover.worker.material);
        stranger.socket.write(announced(FrameType.offer, 4, 1));
        await stranger.closed;
        expect(stranger.farewell?.code).toBe('FRAME_MALFORMED');
      }
    });
    expect(growth).toBeLessThan(100 * mib);
    expect(codes()).toContain('FRAME_MALFORMED');
  });

  test('claims are bounded, and those of who is thrown out are free for others', async () => {
    const sessionId = await mover.openSession(repositoryId, 'BACKUP');
    const greedy = await mover.lane(sessionId, repositoryId);
    const blocks = 2 ** 20;
    const { handle } = await greedy.openDisk('disk', blocks * block);
    const batch = (from: number) => Array.from({ length: 256 }, (_, i) => [from + i, randomBytes(32)] as const);
    const first = batch(0);
    let offers = 0;
    const growth = await growthDuring(async () => {
      try {
        for (const entries of [first, ...Array.from({ length: 100 }, (_, i) => batch((i + 1) * 256))]) {
          await greedy.offer(handle, entries);
          offers++;
        }
      } catch (error) {
        expect(error).toMatchObject({ code: 'FRAME_UNEXPECTED' });
      }
    });
    expect(offers).toBe(8);
    await greedy.closed;
    expect(growth).toBeLessThan(100 * mib);
    const honest = await mover.lane(sessionId, repositoryId);
    const again = await honest.openDisk('disk', blocks * block);
    expect(await honest.offer(again.handle, first)).toHaveLength(256);
    // An offer that is larger than agreed.
    const whole = Array.from({ length: 300 }, (_, i) => [i, randomBytes(32)] as const);
    await expect(honest.offer(again.handle, whole)).rejects.toMatchObject({ code: 'FRAME_MALFORMED' });
  });

  test('disks of any claimed size, and the same disk with ever other contents, take bounded memory', async () => {
    const sessionId = await mover.openSession(repositoryId, 'BACKUP');
    const lane = await mover.lane(sessionId, repositoryId);
    const largest = 2 ** 26 * block;
    await expect(lane.openDisk('beyond', largest + 1)).rejects.toMatchObject({ code: 'DISK_MISMATCH' });
    const old = await lane.openDisk('flipping', block, '', '', 'first');
    const growth = await growthDuring(async () => {
      let refusal: unknown;
      for (let disk = 0; disk < 400 && refusal === undefined; disk++)
        await lane.openDisk(`disk-${disk}`, largest).catch((error: unknown) => (refusal = error));
      expect(refusal).toMatchObject({ code: 'ARGUMENT_INVALID' });
      for (let content = 0; content < 400; content++) await lane.openDisk('flipping', largest, '', '', `content-${content}`);
    });
    expect(growth).toBeLessThan(250 * mib);
    await expect(lane.zero(old.handle, 0, 1)).rejects.toMatchObject({ code: 'DISK_NOT_OPEN' });
    const zeroed = await lane.openDisk('flipping', largest, '', '', 'last');
    await lane.zero(zeroed.handle, 0, 2 ** 26);
    expect((await lane.request(FrameType.listMapped, { handle: zeroed.handle, firstBlock: 0 })).payload).toHaveLength(16);
    await expect(lane.request(FrameType.listMapped, { handle: zeroed.handle, firstBlock: 2 ** 26 + 1 })).rejects.toMatchObject({
      code: 'BLOCK_OUT_OF_RANGE',
    });
    lane.close();
  });
});
