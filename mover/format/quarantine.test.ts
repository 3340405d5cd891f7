import fs from 'node:fs';
import path from 'node:path';
import { protoRoot } from '../../proto/loader';
import { goldenKeys, id } from '../testing/golden-encrypted';
import { DocumentCipher } from './document-cipher';
import {
  decodeQuarantine,
  encodeQuarantine,
  MAX_QUARANTINE_BLOCKS,
  MAX_QUARANTINE_BYTES,
  quarantineName,
  quarantineOf,
  type QuarantineRecord,
} from './quarantine';

/** Written once for each version of the format and never rewritten. */
const golden = (name: string) => fs.readFileSync(path.join(protoRoot, '..', 'mover', 'format', 'golden', name));
const damaged = expect.objectContaining({ code: expect.stringMatching(/OBJECT_DAMAGED|REPOSITORY_FORMAT_UNKNOWN/) as string }) as Error;

const record: QuarantineRecord = {
  instanceId: 'mover-1',
  sequence: 3,
  blocks: [
    { digest: 'ab'.repeat(32), packId: id('1'), offset: 64, code: 'BLOCK_CORRUPT', foundAt: '2026-11-21T04:30:43.000Z' },
    { digest: 'cd'.repeat(32), packId: id('2'), offset: 4_294_967_295, code: 'BLOCK_MISSING', foundAt: '2026-11-21T04:30:44.000Z' },
  ],
};
const name = quarantineName('mover-1', 3);

test('golden bytes', () => {
  expect(encodeQuarantine(record).equals(golden('quarantine-1.bin'))).toBe(true);
  expect(decodeQuarantine(golden('quarantine-1.bin'), name)).toEqual(record);
});

test('golden bytes of an encrypted one (read only: nonces are random)', () => {
  expect(decodeQuarantine(golden('quarantine-2.bin'), name, new DocumentCipher(goldenKeys, name))).toEqual(record);
  expect(() => decodeQuarantine(golden('quarantine-2.bin'), name)).toThrow(damaged);
  expect(() => decodeQuarantine(golden('quarantine-1.bin'), name, new DocumentCipher(goldenKeys, name))).toThrow(damaged);
});

test('every flipped bit and every cut is found, and no record is taken for another', () => {
  const whole = golden('quarantine-1.bin');
  for (let at = 0; at < whole.length; at++) {
    const bytes = Buffer.from(whole);
    bytes[at] = (bytes[at] as number) ^ 1;
    expect(() => decodeQuarantine(bytes, name)).toThrow(damaged);
    expect(() => decodeQuarantine(whole.subarray(0, at), name)).toThrow(damaged);
  }
  expect(() => decodeQuarantine(whole, quarantineName('mover-1', 4))).toThrow(damaged);
  expect(() => decodeQuarantine(whole, quarantineName('mover-2', 3))).toThrow(damaged);
});

test('the longest record can be read, and no longer one is written', () => {
  const [block] = record.blocks as [QuarantineRecord['blocks'][number]];
  const longest = {
    ...record,
    blocks: Array.from({ length: MAX_QUARANTINE_BLOCKS }, () => ({ ...block, offset: 0xffffffff, code: 'A'.repeat(64) })),
  };
  const bytes = encodeQuarantine(longest);
  expect(bytes.length).toBeLessThan(MAX_QUARANTINE_BYTES);
  expect(decodeQuarantine(bytes, name).blocks).toHaveLength(MAX_QUARANTINE_BLOCKS);
  expect(() => encodeQuarantine({ ...longest, blocks: [...longest.blocks, block] })).toThrow(RangeError);
});

test('names', () => {
  expect(name).toBe('quarantine/mover-1-000000000003.blocks');
  expect([quarantineOf(name), quarantineOf('quarantine/x.blocks')]).toEqual([{ instanceId: 'mover-1', sequence: 3 }, undefined]);
});
