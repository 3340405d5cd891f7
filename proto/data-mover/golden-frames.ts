import { FrameType, type FrameHeaders } from './frame-types';

/** One frame with known bytes; `golden/<name>.bin` holds the frame, `golden/<name>.json` what it says. */
export interface GoldenFrame<T extends FrameType = FrameType> {
  readonly name: string;
  readonly type: T;
  readonly header: FrameHeaders[T];
  readonly payload: Buffer;
  /** How fields read that came to the header after these bytes were written. */
  readonly laterFields?: Partial<FrameHeaders[T]>;
}

const bytes = (length: number, start: number) => Buffer.from(Array.from({ length }, (_, i) => (start + i) & 0xff));
const none = Buffer.alloc(0);
const frame = <T extends FrameType>(
  name: string,
  type: T,
  header: FrameHeaders[T],
  payload: Buffer = none,
  laterFields: Partial<FrameHeaders[T]> = {},
): GoldenFrame => ({ name, type, header, payload, laterFields });

const openDisk = {
  sequence: 1,
  diskId: '7d0f5c1a-1111-4222-8333-444455556666',
  sizeBytes: 43_980_465_111_040,
  basePointId: 'e0a1b2c3-aaaa-4bbb-8ccc-ddddeeeeffff',
  baseDiskId: '7d0f5c1a-1111-4222-8333-444455556666',
};

/** Every type once, with values that show byte order and field numbers. The files were written once and are never rewritten. */
export const goldenFrames: readonly GoldenFrame[] = [
  frame('01-hello', FrameType.hello, { version: 1, ticket: 'claims.signature' }),
  frame('02-welcome', FrameType.welcome, {
    version: 1,
    sessionId: '2f1c6a5e-0a2b-4c3d-8e4f-5a6b7c8d9e0f',
    blockSizeBytes: 1048576,
    digestKey: bytes(32, 0x10),
    codec: 1,
    codecLevel: 1,
    maxPutsInFlight: 16,
    maxBatch: 64,
  }),
  frame('03-open-disk', FrameType.openDisk, openDisk, none, { contentId: '' }),
  frame('03-open-disk-content', FrameType.openDisk, { ...openDisk, contentId: '0c0ffee0-5555-4666-8777-888899990000' }),
  frame('04-disk-opened', FrameType.diskOpened, { sequence: 1, handle: 3, committed: false }, none, { hasMapped: false }),
  frame('04-disk-opened-mapped', FrameType.diskOpened, { sequence: 1, handle: 3, committed: false, hasMapped: true }),
  frame(
    '05-offer',
    FrameType.offer,
    { sequence: 2, handle: 3 },
    Buffer.concat([Buffer.from('0000000000000005', 'hex'), bytes(32, 1), Buffer.from('0000000102030405', 'hex'), Buffer.alloc(32)]),
  ),
  frame('06-offer-reply', FrameType.offerReply, { sequence: 2 }, Buffer.from([0x01])),
  frame(
    '07-put',
    FrameType.put,
    { sequence: 3, digest: bytes(32, 1), codec: 1, rawLength: 1048576, payloadCheck: bytes(16, 0xa0) },
    bytes(5, 0x28),
  ),
  frame('08-put-reply', FrameType.putReply, { sequence: 3 }),
  frame('09-zero', FrameType.zero, { sequence: 4, handle: 3, firstBlock: 4294967296, blockCount: 17 }),
  frame('10-zero-reply', FrameType.zeroReply, { sequence: 4 }),
  frame('11-commit-disk', FrameType.commitDisk, { sequence: 5, handle: 3 }),
  frame('12-disk-committed', FrameType.diskCommitted, {
    sequence: 5,
    indexRoot: bytes(32, 0x40),
    storedBytes: 1234567,
    deduplicatedBytes: 1048576,
  }),
  frame(
    '12-disk-committed-missing',
    FrameType.diskCommitted,
    { sequence: 5, indexRoot: none, storedBytes: 0, deduplicatedBytes: 0 },
    Buffer.from('00000000000000050000000102030405', 'hex'),
  ),
  frame('13-open-image', FrameType.openImage, {
    sequence: 1,
    pointId: 'e0a1b2c3-aaaa-4bbb-8ccc-ddddeeeeffff',
    diskId: '7d0f5c1a-1111-4222-8333-444455556666',
  }),
  frame('14-image-opened', FrameType.imageOpened, { sequence: 1, handle: 1, sizeBytes: 1073741824, allocatedBlocks: 300 }),
  frame('15-read', FrameType.read, { sequence: 2, handle: 1, firstBlock: 0, blockCount: 64 }, none, { checked: false }),
  frame('15-read-checked', FrameType.read, { sequence: 3, handle: 1, firstBlock: 64, blockCount: 4, checked: true }),
  frame('16-block', FrameType.block, { sequence: 2, block: 7, digest: bytes(32, 1), codec: 0, rawLength: 5 }, bytes(5, 0x28)),
  frame('17-read-done', FrameType.readDone, { sequence: 2, nextAllocatedBlock: 128 }),
  frame('18-ping', FrameType.ping, { sequence: 9 }),
  frame('19-pong', FrameType.pong, { sequence: 9 }),
  frame('20-bye', FrameType.bye, { reason: 'done' }),
  frame('21-probe', FrameType.probe, { sequence: 10 }, bytes(7, 0x60)),
  frame('22-probe-reply', FrameType.probeReply, { sequence: 10, receivedBytes: 67_108_871 }),
  frame('23-list-mapped', FrameType.listMapped, { sequence: 11, handle: 3, firstBlock: 4294967296 }),
  frame(
    '24-mapped',
    FrameType.mapped,
    { sequence: 11, nextBlock: 4294967400 },
    Buffer.from('00000001000000000000000000000011000000010000002a0000000000000001', 'hex'),
  ),
  frame('31-error', FrameType.error, { sequence: 0, code: 'FRAME_MALFORMED', message: 'wrong magic', retry: 1 }),
];
