import { X509Certificate } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { issueIdentity } from '../../common/tls/authority';
import { readDisk, sampleBlock } from '../testing/test-disk';
import { TestLane } from '../testing/test-lane';
import { temporaryFolder, TestMover } from '../testing/test-mover';

const block = 65_536;

describe('data port, when the certificate of the mover is renewed', () => {
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

  const renew = async () =>
    mover.own.replace(await issueIdentity(mover.authority, { role: 'mover', id: 'mover-1' }, ['localhost', '127.0.0.1']));
  const shownTo = (lane: TestLane) => new X509Certificate(lane.socket.getPeerCertificate().raw).serialNumber;

  test('old connections end without a reproach, and what was sent on them stays', async () => {
    const sessionId = await mover.openSession(repositoryId, 'BACKUP');
    const lanes = [await mover.lane(sessionId, repositoryId), await mover.lane(sessionId, repositoryId)] as const;
    const { handle } = await lanes[0].openDisk('disk', 4 * block);
    await lanes[1].openDisk('disk', 4 * block);
    await lanes[0].send(handle, new Map([[0, sampleBlock(1, block)]]));
    const old = shownTo(lanes[0]);
    await renew();
    // One keeps asking all the time, the other is idle.
    const asking = setInterval(() => void lanes[1].ping().catch(() => undefined), 50);
    await Promise.all(lanes.map((lane) => lane.closed));
    clearInterval(asking);
    expect(lanes.map(({ farewell }) => farewell)).toEqual([undefined, undefined]);
    const next = await mover.lane(sessionId, repositoryId);
    expect(shownTo(next)).toBe(mover.own.certificate.serialNumber);
    expect(shownTo(next)).not.toBe(old);
    expect((await next.openDisk('disk', 4 * block)).handle).toBe(handle);
    await next.send(handle, new Map([[3, sampleBlock(2, block)]]));
    expect((await next.commitDisk(handle)).missing).toEqual([]);
    // It was opened after the renewal.
    await sleep(1_500);
    await next.ping();
    next.close();
    const pointId = await mover.commit(sessionId, [{ diskId: 'disk', sizeBytes: 4 * block }]);
    const reader = await mover.lane(await mover.openSession(repositoryId, 'RESTORE', [pointId]), repositoryId, ['read'], [pointId]);
    const whole = Buffer.concat([sampleBlock(1, block), Buffer.alloc(2 * block), sampleBlock(2, block)]);
    expect((await readDisk(reader, pointId)).equals(whole)).toBe(true);
    reader.close();
  });

  test('a handshake that began before does not slip through', async () => {
    const strangers = await Promise.all(
      Array.from({ length: 20 }, async (_, index) => {
        if (index === 10) await renew();
        const lane = await TestLane.dial(mover.dataPort, mover.worker.material).catch(() => undefined);
        return lane && { lane, shown: shownTo(lane) };
      }),
    );
    const current = mover.own.certificate.serialNumber;
    const lanes = strangers.filter((one) => one !== undefined);
    // One that is not ended runs out of the test's time.
    await Promise.all(lanes.filter(({ shown }) => shown !== current).map(({ lane }) => lane.closed));
    // Of those with the new one some stay, also through later looks.
    await sleep(1_500);
    const open = lanes.filter(({ lane }) => !lane.socket.destroyed);
    expect(open.length).toBeGreaterThan(0);
    expect(new Set(open.map(({ shown }) => shown))).toEqual(new Set([current]));
    for (const { lane } of open) lane.close();
  });
});
