import fs from 'node:fs';
import path from 'node:path';
import { protoRoot } from '../../proto/loader';
import { goldenDraft } from '../testing/golden-encrypted';
import { blockDigest, isZero, payloadCheck, rawForm, storeForm, verifiedRawForm } from './block';
import { decodeDraft, draftName, draftPlaceOf, encodeDraft } from './draft-record';
import { blockCount, blocksPerPage, levelCount, rawLengthOf } from './index-page';
import {
  decodeManifest,
  decodePointSection,
  encodeManifest,
  manifestName,
  pointIdOf,
  pointSectionLength,
  type PointRecord,
} from './manifest';
import { PACK_FOOTER_BYTES, packHeader, packTrailer, readPackEntries, readPackFooter } from './pack';
import { decodeHeaderDocument, encodeHeaderDocument, isBlockSize } from './repository-header';
import { openDocument, sealDocument, sealedLength } from './sealed-document';
import { decodeSession, encodeSession, type SessionRecord } from './session-record';

/** Written once for each version of a format and never rewritten. */
const golden = (name: string) => fs.readFileSync(path.join(protoRoot, '..', 'mover', 'format', 'golden', name));

const id = (digit: string) => `${digit.repeat(8)}-${digit.repeat(4)}-4${digit.repeat(3)}-8${digit.repeat(3)}-${digit.repeat(12)}`;
const bytes = (length: number, start = 0) => Buffer.from(Array.from({ length }, (_, i) => (start + i) & 255));

const header = {
  repositoryId: id('1'),
  createdAt: '2026-11-21T04:30:43.000Z',
  requestId: 'request',
  blockSizeBytes: 1_048_576,
  digestKey: '07'.repeat(32),
  codec: 'zstd' as const,
  codecLevel: 1,
};
const session: SessionRecord = {
  sessionId: id('2'),
  repositoryId: id('1'),
  kind: 'backup',
  pointIds: [id('3')],
  state: 'open',
  openedAt: '2026-11-21T04:30:43.000Z',
  leaseDurationMs: 60_000,
  disks: [
    {
      diskId: id('4'),
      sizeBytes: 1000,
      basePointId: '',
      baseDiskId: '',
      indexRoot: 'ab'.repeat(32),
      allocatedBlocks: 1,
      storedBytes: 500,
      deduplicatedBytes: 0,
    },
  ],
};
const point: PointRecord = {
  pointId: id('3'),
  repositoryId: id('1'),
  sessionId: id('2'),
  platformId: id('5'),
  vmId: id('6'),
  vmName: 'web-01',
  jobName: 'nightly',
  checkpointId: id('7'),
  pointInTime: '2026-11-21T04:30:43.000Z',
  committedAt: '2026-11-21T04:31:43.123Z',
  consistency: 'quiesced',
  blockSizeBytes: 1_048_576,
  disks: [
    {
      diskId: id('4'),
      name: 'root',
      sizeBytes: 1000,
      format: 'cow',
      sparse: true,
      storageDomainId: id('8'),
      interface: 'virtio_scsi',
      bootable: true,
      readMode: 'incremental',
      reason: '',
      counters: { plannedBytes: 1000, readBytes: 1000, transferredBytes: 500, storedBytes: 500, zeroBytes: 0, deduplicatedBytes: 0 },
      indexRoot: 'ab'.repeat(32),
      allocatedBlocks: 1,
    },
  ],
};
const draft = goldenDraft;
const packId = bytes(16, 1);
const entries = [
  { digest: bytes(32), offset: 64, storedLength: 10, rawLength: 65_536, codec: 1, kind: 0 },
  { digest: bytes(32, 100), offset: 74, storedLength: 8192, rawLength: 8192, codec: 0, kind: 1 },
];
const pack = () => Buffer.concat([packHeader(packId, bytes(16, 50)), bytes(10), bytes(8192), packTrailer(packId, entries, 64 + 10 + 8192)]);

describe('golden bytes of format version 1', () => {
  test('repository header', () => {
    expect(encodeHeaderDocument(header).equals(golden('header-1.bin'))).toBe(true);
    expect(decodeHeaderDocument(golden('header-1.bin'))).toEqual(header);
  });

  test('session record', () => {
    expect(encodeSession(session).equals(golden('session-1.bin'))).toBe(true);
    expect(decodeSession(golden('session-1.bin'), 'session')).toEqual(session);
  });

  test('session record with its owner', () => {
    const owned = { ...session, owner: 'mover-1', generation: 2 };
    expect(decodeSession(encodeSession(owned), 'session')).toEqual(owned);
    const endless = { ...session, pointIds: Array.from({ length: 30_000 }, () => id('1')) };
    expect(() => encodeSession(endless)).toThrow(expect.objectContaining({ code: 'ARGUMENT_INVALID' }) as Error);
  });

  test('draft', () => {
    expect(encodeDraft(draft.head, draft.pages).equals(golden('draft-1.bin'))).toBe(true);
    expect(decodeDraft(golden('draft-1.bin'), 'draft')).toEqual(draft);
    const whole = golden('draft-1.bin');
    for (let at = 0; at < whole.length; at++) {
      const damaged = Buffer.from(whole);
      damaged[at] = (damaged[at] as number) ^ 1;
      expect(() => decodeDraft(damaged, 'draft')).toThrow();
    }
  });

  test('names of drafts', () => {
    const place = { sessionId: id('1'), diskKey: '0123456789abcdef', generation: 2, sequence: 17 };
    expect(draftName(place)).toBe(`drafts/${id('1')}.0123456789abcdef.000002-000017.draft`);
    for (const each of [place, { ...place, sequence: 12_345_678 }]) expect(draftPlaceOf(draftName(each))).toEqual(each);
    for (const foreign of ['drafts/README', `drafts/${id('1')}.draft`, `sessions/${id('1')}.session`])
      expect(draftPlaceOf(foreign)).toBeUndefined();
  });

  test('pack', () => {
    expect(pack().equals(golden('pack-1.bin'))).toBe(true);
    const whole = golden('pack-1.bin');
    const footer = readPackFooter(whole.subarray(-PACK_FOOTER_BYTES), whole.length, packId, 'pack');
    expect(readPackEntries(whole.subarray(footer.entryListOffset), footer, 'pack')).toEqual(entries);
  });

  test('manifest (read only: the compressed bytes are the compressor’s business)', () => {
    expect(decodeManifest(golden('manifest-1.bin'), point.pointId)).toEqual({ point, configuration: '{"ovf":"…"}' });
    const written = encodeManifest(point, '{"ovf":"…"}');
    expect(decodeManifest(written, point.pointId).point).toEqual(point);
    const length = pointSectionLength(written.subarray(0, 64), point.pointId);
    expect(length).toBeLessThan(written.length);
    expect(decodePointSection(written.subarray(0, length), point.pointId)).toEqual(point);
  });

  test('digest, payload check and stored form of a block', () => {
    const raw = bytes(100_000);
    const digest = blockDigest(Buffer.alloc(32, 7), raw);
    expect(digest.toString('hex')).toBe('edff0214d5e569dc3aca6c660c2d184fca30d3299aa1e77b65c6756e8d658dd2');
    expect(payloadCheck(raw).toString('hex')).toBe('b720e83f6661ceace1865722b4f0d166');
    expect(verifiedRawForm(Buffer.alloc(32, 7), golden('block-1.zst'), 1, raw.length, digest).equals(raw)).toBe(true);
  });
});

describe('documents', () => {
  const kind = { magic: 'TDMKTEST', version: 3 };
  const whole = sealDocument(kind, [
    { codec: 'zstd', content: Buffer.from('first') },
    { codec: 'none', content: Buffer.from('second') },
  ]);

  test('every flipped bit and every cut is found', () => {
    expect(openDocument(kind, whole, 'it').map(String)).toEqual(['first', 'second']);
    for (let at = 0; at < whole.length; at++) {
      const damaged = Buffer.from(whole);
      damaged[at] = (damaged[at] as number) ^ 1;
      expect(() => openDocument(kind, damaged, 'it')).toThrow(expect.objectContaining({ code: 'OBJECT_DAMAGED' }) as Error);
      expect(() => openDocument(kind, whole.subarray(0, at), 'it')).toThrow(expect.objectContaining({ code: 'OBJECT_DAMAGED' }) as Error);
    }
    expect(() => openDocument(kind, Buffer.concat([whole, Buffer.from('x')]), 'it')).toThrow(
      expect.objectContaining({ code: 'OBJECT_DAMAGED' }) as Error,
    );
  });

  test('a newer version that is whole is told from a number that was damaged', () => {
    const newer = sealDocument({ ...kind, version: 4 }, [{ codec: 'none', content: Buffer.from('what it will be') }]);
    const unknown = expect.objectContaining({ code: 'REPOSITORY_FORMAT_UNKNOWN' }) as Error;
    expect(() => openDocument(kind, newer, 'it')).toThrow(unknown);
    // Its start alone is enough, when the first section is in it.
    expect(() => openDocument(kind, newer.subarray(0, sealedLength(kind, newer, 1, 'it')), 'it', 1)).toThrow(unknown);
    for (const version of [0, 1, 2, 4, 0x0103, 0xffff]) {
      const damaged = Buffer.from(whole);
      damaged.writeUInt16BE(version, 8);
      expect(() => openDocument(kind, damaged, 'it')).toThrow(expect.objectContaining({ code: 'OBJECT_DAMAGED' }) as Error);
    }
  });

  test('a manifest of another point is not taken for this one', () => {
    expect(() => decodeManifest(encodeManifest(point, ''), id('9'))).toThrow(
      expect.objectContaining({ code: 'MANIFEST_DAMAGED' }) as Error,
    );
  });

  test('names of manifests sort by age and give their point back', () => {
    const early = manifestName(new Date('2026-11-21T04:30:43.123Z'), id('1'));
    expect(early).toBe(`points/20261121T043043123Z-${id('1')}.manifest`);
    expect(pointIdOf(early)).toBe(id('1'));
    expect(pointIdOf('points/readme.txt')).toBeUndefined();
    expect(manifestName(new Date('2027-01-01T00:00:00Z'), id('0')) > early).toBe(true);
  });
});

describe('packs', () => {
  test('every flipped bit of the trailer and every other length is found', () => {
    const whole = pack();
    const start = 64 + 10 + 8192;
    for (let at = start; at < whole.length; at++) {
      const damaged = Buffer.from(whole);
      damaged[at] = (damaged[at] as number) ^ 4;
      const read = () =>
        readPackEntries(damaged.subarray(start), readPackFooter(damaged.subarray(-PACK_FOOTER_BYTES), damaged.length, packId, 'p'), 'p');
      expect(read).toThrow(
        expect.objectContaining({ code: expect.stringMatching(/PACK_DAMAGED|REPOSITORY_FORMAT_UNKNOWN/) as string }) as Error,
      );
    }
    expect(() => readPackFooter(whole.subarray(-PACK_FOOTER_BYTES), whole.length - 1, packId, 'p')).toThrow(
      expect.objectContaining({ code: 'PACK_DAMAGED' }) as Error,
    );
    expect(() => readPackFooter(whole.subarray(-PACK_FOOTER_BYTES), whole.length, bytes(16), 'p')).toThrow(
      expect.objectContaining({ code: 'PACK_DAMAGED' }) as Error,
    );
  });
});

describe('blocks', () => {
  test('what does not compress is stored as it is; both come back', () => {
    const noise = blockDigest(Buffer.alloc(32, 1), Buffer.from('x'));
    const random = Buffer.concat(Array.from({ length: 300 }, (_, i) => blockDigest(noise, Buffer.from([i & 255, i >> 8]))));
    expect(storeForm(random, 1, 1).codec).toBe(0);
    const text = Buffer.alloc(10_000, 'text');
    const stored = storeForm(text, 1, 1);
    expect(stored.codec).toBe(1);
    expect(rawForm(stored.payload, 1, text.length, noise).equals(text)).toBe(true);
  });

  test('what lies about its length is refused, however large it would become', () => {
    const bomb = storeForm(Buffer.alloc(4_000_000), 1, 1).payload;
    const corrupt = expect.objectContaining({ code: 'BLOCK_CORRUPT' }) as Error;
    expect(() => rawForm(bomb, 1, 65_536, Buffer.alloc(32))).toThrow(corrupt);
    expect(() => rawForm(Buffer.from('xx'), 1, 65_536, Buffer.alloc(32))).toThrow(corrupt);
    expect(() => rawForm(Buffer.from('xx'), 0, 3, Buffer.alloc(32))).toThrow(corrupt);
    expect(() => rawForm(Buffer.from('xx'), 9, 2, Buffer.alloc(32))).toThrow(corrupt);
  });

  test('zero is found at any place', () => {
    expect(isZero(Buffer.alloc(0))).toBe(true);
    expect(isZero(Buffer.alloc(1000))).toBe(true);
    for (const at of [0, 1, 500, 999]) {
      const block = Buffer.alloc(1000);
      block[at] = 1;
      expect(isZero(block)).toBe(false);
    }
  });
});

test('sizes of trees', () => {
  expect([0, 1, 256, 257, 65_536, 65_537].map(levelCount)).toEqual([1, 1, 1, 2, 2, 3]);
  expect([blocksPerPage(0), blocksPerPage(1)]).toEqual([256, 65_536]);
  expect([blockCount(0, 65_536), blockCount(1, 65_536), blockCount(65_537, 65_536)]).toEqual([0, 1, 2]);
  expect(rawLengthOf(1, 65_537, 65_536)).toBe(1);
  expect([65_536, 1_048_576, 4_194_304, 32_768, 100_000, 8_388_608].map(isBlockSize)).toEqual([true, true, true, false, false, false]);
});
