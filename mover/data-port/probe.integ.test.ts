import { randomBytes } from 'node:crypto';
import { encodeFrame } from '../../proto/data-mover/frame-codec';
import { FrameType, MAX_PROBE_BYTES } from '../../proto/data-mover/frame-types';
import { sampleBlock } from '../testing/test-disk';
import { TestLane } from '../testing/test-lane';
import { temporaryFolder, TestMover } from '../testing/test-mover';

const block = 65_536;

describe('a connection that measures the way', () => {
  const scratch = temporaryFolder();
  let mover: TestMover;
  let repositoryId: string;

  beforeAll(async () => {
    mover = await TestMover.start(scratch.folder, { limits: { maxProbes: 2 } });
    repositoryId = await mover.createRepository(block);
  });
  afterAll(async () => {
    await mover.stop();
    scratch[Symbol.dispose]();
  });

  const prober = () => mover.lane('', '', ['probe']);

  test('has its payloads dropped and counted, and learns no key', async () => {
    const lane = await prober();
    expect(lane.welcome).toMatchObject({ sessionId: '', blockSizeBytes: MAX_PROBE_BYTES, codec: 0 });
    expect(lane.welcome.digestKey).toHaveLength(0);
    const payload = randomBytes(MAX_PROBE_BYTES);
    const answers = await Promise.all(Array.from({ length: 16 }, () => lane.probe(payload)));
    expect(answers).toEqual(Array.from({ length: 16 }, (_, i) => (i + 1) * MAX_PROBE_BYTES));
    expect(await lane.probe(Buffer.alloc(0))).toBe(16 * MAX_PROBE_BYTES);
    await lane.ping();
    lane.close();
    await lane.closed;
  });

  test('may neither read nor write, whatever it names', async () => {
    const pointId = await mover.backup(repositoryId, block, new Map([[0, sampleBlock(31, block)]]));
    const lane = await prober();
    const refused = { code: 'TICKET_RIGHT_MISSING' };
    await expect(lane.openImage(pointId, 'disk')).rejects.toMatchObject(refused);
    await expect(lane.read(1, 0, 1)).rejects.toMatchObject(refused);
    await expect(lane.openDisk('disk', block)).rejects.toMatchObject(refused);
    await expect(lane.offer(1, [[0, randomBytes(32)]])).rejects.toMatchObject(refused);
    await expect(lane.put(randomBytes(32), 0, block, sampleBlock(1, block))).rejects.toMatchObject(refused);
    await expect(lane.zero(1, 0, 1)).rejects.toMatchObject(refused);
    await expect(lane.commitDisk(1)).rejects.toMatchObject(refused);
    expect(await lane.probe(Buffer.alloc(10))).toBe(10);
    lane.close();
    await lane.closed;
  });

  test('needs the right: lanes of a session do not probe, and a mixed ticket is none', async () => {
    const sessionId = await mover.openSession(repositoryId, 'BACKUP');
    const writer = await mover.lane(sessionId, repositoryId);
    await expect(writer.probe(Buffer.alloc(10))).rejects.toMatchObject({ code: 'TICKET_RIGHT_MISSING' });
    await writer.ping();
    writer.close();
    for (const attempt of [
      mover.lane(sessionId, repositoryId, ['probe', 'write']),
      mover.lane(sessionId, repositoryId, ['probe']),
      mover.lane('', '', ['probe', 'read']),
    ])
      await expect(attempt).rejects.toMatchObject({ code: 'TICKET_INVALID' });
    const stale = await TestLane.dial(mover.dataPort, mover.worker.material);
    await expect(stale.hello(mover.ticket('', '', ['probe'], [], -1_000))).rejects.toMatchObject({ code: 'TICKET_EXPIRED' });
    const stranger = await TestLane.dial(mover.dataPort, (await mover.identity('plugin')).material);
    await expect(stranger.hello(mover.ticket('', '', ['probe']))).rejects.toMatchObject({ code: 'ROLE_NOT_ALLOWED' });
  });

  test('is bounded: in frames, in bytes and in number', async () => {
    const lanes = [await prober(), await prober()] as const;
    await expect(prober()).rejects.toMatchObject({ code: 'TOO_MANY_CONNECTIONS' });
    // The announcement is enough; no memory is made for it.
    const head = encodeFrame(FrameType.probe, { sequence: 1 });
    head.writeUInt32BE(MAX_PROBE_BYTES + 1, 8);
    lanes[0].socket.write(head);
    await lanes[0].closed;
    expect(lanes[0].farewell?.code).toBe('FRAME_MALFORMED');
    const payload = Buffer.alloc(MAX_PROBE_BYTES);
    for (let sent = 0; sent < 256; sent += 16) await Promise.all(Array.from({ length: 16 }, () => lanes[1].probe(payload)));
    await expect(lanes[1].probe(Buffer.alloc(1))).rejects.toMatchObject({ code: 'PROBE_LIMIT_REACHED' });
    await lanes[1].closed;
    // The places are free again.
    const next = await prober();
    expect(await next.probe(payload)).toBe(MAX_PROBE_BYTES);
    next.close();
  });
});
