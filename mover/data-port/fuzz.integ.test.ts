import { decodeHeader, encodeFrame } from '../../proto/data-mover/frame-codec';
import { goldenFrames } from '../../proto/data-mover/golden-frames';
import { FrameType } from '../../proto/data-mover/frame-types';
import { randomFrom, readDisk, sampleBlock } from '../testing/test-disk';
import { TestLane } from '../testing/test-lane';
import { temporaryFolder, TestMover } from '../testing/test-mover';

const block = 65_536;
const seed = Number(process.hrtime.bigint() % 2n ** 31n);
const rounds = 250;

/** Bytes that are nearly, or not at all, a frame. */
function hostileBytes(random: () => number): Buffer {
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T;
  const golden = pick(goldenFrames);
  const bytes = Buffer.from(encodeFrame(golden.type, golden.header, golden.payload));
  const at = () => Math.floor(random() * bytes.length);
  switch (Math.floor(random() * 8)) {
    case 0:
      return Buffer.from(Array.from({ length: 1 + Math.floor(random() * 300) }, () => Math.floor(random() * 256)));
    case 1: // a flipped byte
      bytes[at()] = Math.floor(random() * 256);
      return bytes;
    case 2: // cut off
      return bytes.subarray(0, at());
    case 3: // enormous lengths
      bytes.writeUInt32BE(Math.floor(random() * 0xffffffff), 8);
      return bytes;
    case 4:
      bytes.writeUInt16BE(Math.floor(random() * 0xffff), 6);
      return bytes;
    case 5: {
      // a frame that is well formed with numbers that are not
      const wild = () => pick([0, 1, 2 ** 31, 2 ** 32 - 1, Math.floor(random() * 2 ** 32)]);
      const big = () => pick([0, 1, 2 ** 40, Number.MAX_SAFE_INTEGER]);
      return pick([
        () =>
          encodeFrame(FrameType.openDisk, {
            sequence: wild(),
            diskId: 'x'.repeat(Math.floor(random() * 300)),
            sizeBytes: big(),
            basePointId: '',
            baseDiskId: '',
          }),
        () => encodeFrame(FrameType.zero, { sequence: wild(), handle: wild(), firstBlock: big(), blockCount: big() }),
        () => encodeFrame(FrameType.read, { sequence: wild(), handle: wild(), firstBlock: big(), blockCount: wild() }),
        () => encodeFrame(FrameType.commitDisk, { sequence: wild(), handle: wild() }),
        () => encodeFrame(FrameType.probe, { sequence: wild() }, Buffer.alloc(Math.floor(random() * 70_000))),
        () => encodeFrame(FrameType.probeReply, { sequence: wild(), receivedBytes: big() }),
        () => encodeFrame(FrameType.openImage, { sequence: wild(), pointId: '../..', diskId: '' }),
        () =>
          encodeFrame(
            FrameType.put,
            {
              sequence: wild(),
              digest: Buffer.alloc(Math.floor(random() * 64), 1),
              codec: wild(),
              rawLength: wild(),
              payloadCheck: Buffer.alloc(16),
            },
            Buffer.alloc(Math.floor(random() * 70_000)),
          ),
      ])();
    }
    case 6: // many small ones
      return Buffer.concat(Array.from({ length: 200 }, (_, i) => encodeFrame(FrameType.ping, { sequence: i + 1 })));
    default: // a large offer of nonsense
      return encodeFrame(FrameType.offer, { sequence: 1, handle: 1 }, Buffer.alloc(40 * Math.floor(random() * 1000), 7));
  }
}

test(`hostile frames harm nobody but their sender (seed ${seed})`, async () => {
  using scratch = temporaryFolder();
  await using mover = await TestMover.start(scratch.folder);
  const repositoryId = await mover.createRepository(block);
  const content = new Map(Array.from({ length: 40 }, (_, i) => [i * 3, sampleBlock(i, block)] as const));
  const size = 120 * block;
  const random = randomFrom(seed);

  // An honest backup goes on all the while.
  const honest = await mover.openSession(repositoryId, 'BACKUP');
  const honestLane = await mover.lane(honest, repositoryId);
  const { handle } = await honestLane.openDisk('disk', size);
  const victim = await mover.openSession(repositoryId, 'BACKUP');
  const tickets = [mover.ticket(victim, repositoryId, ['write', 'read']), mover.ticket('', '', ['probe'])];

  global.gc?.();
  const before = process.memoryUsage().rss;
  const attack = async () => {
    for (let round = 0; round < rounds; round++) {
      const lane = await TestLane.dial(mover.dataPort, mover.worker.material);
      lane.onFrame = (type, header) => {
        // Answers are of no interest, but they must be the protocol's.
        decodeHeader(type, header);
      };
      const ticket = tickets[random() < 0.2 ? 1 : 0] as string;
      if (random() < 0.7) lane.socket.write(encodeFrame(FrameType.hello, { version: 1, ticket }));
      const frames = 1 + Math.floor(random() * 5);
      for (let i = 0; i < frames && !lane.socket.destroyed; i++) lane.socket.write(hostileBytes(random));
      // Some hang up at once, others wait for what comes.
      if (random() < 0.5) lane.close();
      else lane.socket.end();
      await lane.closed;
    }
  };
  const work = async () => {
    for (const [number, raw] of content) {
      await honestLane.send(handle, new Map([[number, raw]]));
      await honestLane.ping();
    }
  };
  await Promise.all([attack(), attack(), work()]);
  expect((await honestLane.commitDisk(handle)).missing).toEqual([]);
  const pointId = await mover.commit(honest, [{ diskId: 'disk', sizeBytes: size }]);
  const reading = await mover.openSession(repositoryId, 'RESTORE', [pointId]);
  const lane = await mover.lane(reading, repositoryId, ['read'], [pointId]);
  const image = await readDisk(lane, pointId);
  for (const [number, raw] of content) expect(image.subarray(number * block, (number + 1) * block).equals(raw)).toBe(true);
  lane.close();
  // Sender, mover and test are one process here; still it must not follow the bytes that were announced.
  expect(process.memoryUsage().rss - before).toBeLessThan(250e6);
  // The attacked session itself is unharmed as well.
  expect(await mover.sessions.call('GetSession', { sessionId: victim }, { deadlineMs: 60_000 })).toMatchObject({
    state: 'SESSION_STATE_OPEN',
  });
  expect(mover.logged.filter((l) => l.fields['code'] === 'INTERNAL' || l.text.includes('unhandled'))).toEqual([]);
});
