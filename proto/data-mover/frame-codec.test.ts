import fs from 'node:fs';
import path from 'node:path';
import { protoRoot } from '../loader';
import {
  decodeHeader,
  decodePrefix,
  encodeFrame,
  encodeFrameBefore,
  encodeFrameHead,
  FrameViolation,
  FRAME_HEADROOM_BYTES,
} from './frame-codec';
import {
  decodeBlockList,
  decodeBlockRanges,
  encodeBlockList,
  encodeBlockRanges,
  hasPutBit,
  newPutBitmap,
  offerBlock,
  offerDigest,
  offerEntryCount,
  setPutBit,
  writeOfferEntry,
} from './frame-payloads';
import { FrameReader } from './frame-reader';
import { FrameType, FRAME_PREFIX_BYTES } from './frame-types';
import { goldenFrames } from './golden-frames';

const folder = path.join(protoRoot, 'data-mover', 'golden');
const hex = (_key: string, value: unknown) => {
  const data = (value as { type?: string; data?: number[] } | null)?.type === 'Buffer' ? (value as { data: number[] }).data : undefined;
  return data === undefined ? value : Buffer.from(data).toString('hex');
};

describe('frame codec', () => {
  test.each(goldenFrames.map((g) => [g.name, g] as const))('golden frame %s encodes to its bytes and back', (name, golden) => {
    const bytes = fs.readFileSync(path.join(folder, `${name}.bin`));
    expect(encodeFrame(golden.type, golden.header, golden.payload).equals(bytes)).toBe(true);
    const prefix = decodePrefix(bytes, 0, 1 << 20);
    expect(prefix.type).toBe(golden.type);
    const headerEnd = FRAME_PREFIX_BYTES + prefix.headerLength;
    expect(decodeHeader(prefix.type, bytes.subarray(FRAME_PREFIX_BYTES, headerEnd))).toEqual({ ...golden.laterFields, ...golden.header });
    expect(bytes.subarray(headerEnd).equals(golden.payload)).toBe(true);
    const told = JSON.parse(JSON.stringify({ type: golden.type, header: golden.header, payload: golden.payload }, hex)) as unknown;
    expect(JSON.parse(fs.readFileSync(path.join(folder, `${name}.json`), 'utf8'))).toEqual(told);
  });

  test('has a golden frame for every type', () => {
    expect(new Set(goldenFrames.map((g) => g.type))).toEqual(new Set(Object.values(FrameType)));
  });

  test('the three ways to encode give the same bytes', () => {
    const payload = Buffer.from('a stored block');
    const header = { sequence: 700_000, block: 2 ** 40, digest: Buffer.alloc(32, 7), codec: 1, rawLength: 1 << 20 };
    const whole = encodeFrame(FrameType.block, header, payload);
    expect(Buffer.concat([encodeFrameHead(FrameType.block, header, payload.length), payload]).equals(whole)).toBe(true);
    const roomy = Buffer.alloc(FRAME_HEADROOM_BYTES + 100);
    payload.copy(roomy, FRAME_HEADROOM_BYTES);
    expect(encodeFrameBefore(roomy, FRAME_HEADROOM_BYTES, payload.length, FrameType.block, header).equals(whole)).toBe(true);
  });

  test('the headroom holds the largest block and put headers', () => {
    const digest = Buffer.alloc(32, 255);
    const buffer = Buffer.alloc(FRAME_HEADROOM_BYTES + 1);
    const most = Number.MAX_SAFE_INTEGER;
    const block = { sequence: 0xffffffff, block: most, digest, codec: 0xffffffff, rawLength: 0xffffffff };
    const put = { sequence: 0xffffffff, digest, codec: 0xffffffff, rawLength: 0xffffffff, payloadCheck: Buffer.alloc(16, 255) };
    expect(() => encodeFrameBefore(buffer, FRAME_HEADROOM_BYTES, 1, FrameType.block, block)).not.toThrow();
    expect(() => encodeFrameBefore(buffer, FRAME_HEADROOM_BYTES, 1, FrameType.put, put)).not.toThrow();
    expect(() => encodeFrameBefore(buffer, 20, 1, FrameType.put, put)).toThrow(FrameViolation);
  });

  test.each([
    ['magic', 0, 0x55],
    ['type', 4, 99],
    ['flags', 5, 1],
    ['header length', 6, 0x7f],
    ['payload length', 8, 0xff],
  ])('refuses a wrong %s in the first 12 bytes', (_what, offset, value) => {
    const bytes = encodeFrame(FrameType.offerReply, { sequence: 1 }, Buffer.from([1]));
    bytes[offset] = value;
    expect(() => decodePrefix(bytes, 0, 4096)).toThrow(FrameViolation);
  });

  test('refuses a payload where none belongs and any before the handshake', () => {
    const ping = encodeFrame(FrameType.ping, { sequence: 1 }, Buffer.from([1]));
    expect(() => decodePrefix(ping, 0, 4096)).toThrow('carries no payload');
    const put = encodeFrame(FrameType.offer, { sequence: 1, handle: 1 }, Buffer.alloc(40));
    expect(() => decodePrefix(put, 0, 0)).toThrow('payload of 40 bytes');
  });

  test('refuses headers that do not parse and numbers beyond 2^53', () => {
    expect(() => decodeHeader(FrameType.hello, Buffer.from([0xff, 0xff, 0xff]))).toThrow(FrameViolation);
    const huge = Buffer.concat([Buffer.from([0x18]), Buffer.alloc(9, 0xff), Buffer.from([0x01])]);
    expect(() => decodeHeader(FrameType.zero, huge)).toThrow('out of range');
  });

  test('offers, bitmaps and block lists survive the round trip', () => {
    const offer = Buffer.alloc(80);
    writeOfferEntry(offer, 0, 5, Buffer.alloc(32, 1));
    writeOfferEntry(offer, 1, 2 ** 45 + 3, Buffer.alloc(32, 2));
    expect(offerEntryCount(offer)).toBe(2);
    expect([offerBlock(offer, 0), offerBlock(offer, 1)]).toEqual([5, 2 ** 45 + 3]);
    expect(offerDigest(offer, 1).equals(Buffer.alloc(32, 2))).toBe(true);
    expect(() => offerEntryCount(offer.subarray(1))).toThrow(FrameViolation);
    const bitmap = newPutBitmap(10);
    setPutBit(bitmap, 0);
    setPutBit(bitmap, 9);
    expect(bitmap).toEqual(Buffer.from([1, 2]));
    expect(Array.from({ length: 10 }, (_, i) => hasPutBit(bitmap, i)).filter(Boolean)).toHaveLength(2);
    expect(decodeBlockList(encodeBlockList([0, 7, 2 ** 40]))).toEqual([0, 7, 2 ** 40]);
    expect(() => decodeBlockList(Buffer.alloc(9))).toThrow(FrameViolation);
    const ranges = [
      { firstBlock: 3, blockCount: 1 },
      { firstBlock: 2 ** 40, blockCount: 2 ** 33 },
    ];
    expect(decodeBlockRanges(encodeBlockRanges(ranges))).toEqual(ranges);
    expect(() => decodeBlockRanges(Buffer.alloc(24))).toThrow(FrameViolation);
  });
});

describe('frame reader', () => {
  const stream = Buffer.concat(goldenFrames.map((g) => encodeFrame(g.type, g.header, g.payload)));

  function collect(cut: (bytes: Buffer) => Buffer[], after?: (reader: FrameReader, count: number) => void): string[] {
    const seen: string[] = [];
    const reader: FrameReader = new FrameReader({
      onFrame: (type, header, payload) => {
        seen.push(`${type} ${header.toString('hex')} ${payload.toString('hex')}`);
        after?.(reader, seen.length);
      },
    });
    reader.maxPayloadBytes = 1 << 16;
    for (const chunk of cut(stream)) reader.push(chunk);
    while (reader.isPaused) reader.resume();
    expect(reader.atFrameBoundary).toBe(true);
    return seen;
  }
  const pieces = (size: number) => (bytes: Buffer) =>
    Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.subarray(i * size, (i + 1) * size));
  const whole = collect((bytes) => [bytes]);

  test.each([1, 2, 7, 12, 13, 64, 200])('gives the same frames whatever the cuts (%i bytes)', (size) => {
    expect(whole).toHaveLength(goldenFrames.length);
    expect(collect(pieces(size))).toEqual(whole);
  });

  test.each([1, 13, 10_000])('holds everything back while paused (%i bytes)', (size) => {
    expect(collect(pieces(size), (reader) => reader.pause())).toEqual(whole);
    expect(collect(pieces(size), (reader, count) => (reader.pause(), count % 2 ? reader.resume() : undefined))).toEqual(whole);
  });

  test('asks the sink for memory only for a payload that comes in pieces, and fills it in place', () => {
    const payload = Buffer.alloc(50_000, 3);
    const target = Buffer.alloc(60_000);
    const asked: number[] = [];
    const got: Buffer[] = [];
    const reader = new FrameReader({
      onFrame: (_type, _header, data) => void got.push(data),
      payloadTarget: (_type, _header, length) => (asked.push(length), target),
    });
    reader.maxPayloadBytes = 1 << 16;
    const bytes = encodeFrame(
      FrameType.put,
      { sequence: 1, digest: Buffer.alloc(32), codec: 0, rawLength: 1, payloadCheck: Buffer.alloc(16) },
      payload,
    );
    for (const chunk of pieces(16_384)(bytes)) reader.push(chunk);
    expect(asked).toEqual([50_000]);
    expect(got[0]?.buffer).toBe(target.buffer);
    expect(got[0]?.equals(payload)).toBe(true);
  });

  test('throws on a malformed frame without having taken its payload', () => {
    const reader = new FrameReader({ onFrame: () => undefined });
    const bytes = encodeFrame(FrameType.offer, { sequence: 1, handle: 1 }, Buffer.alloc(400));
    expect(() => reader.push(bytes.subarray(0, 12))).toThrow(FrameViolation);
  });
});
