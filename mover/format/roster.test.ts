import fs from 'node:fs';
import path from 'node:path';
import { protoRoot } from '../../proto/loader';
import { goldenKeys, id } from '../testing/golden-encrypted';
import { DocumentCipher } from './document-cipher';
import { decodeRoster, encodeRoster, MAX_ROSTER_BYTES, MAX_ROSTER_POINTS, rosterName, rosterNumberOf, type Roster } from './roster';

/** Written once for each version of a format and never rewritten. */
const golden = (name: string) => fs.readFileSync(path.join(protoRoot, '..', 'mover', 'format', 'golden', name));
const damaged = expect.objectContaining({ code: expect.stringMatching(/OBJECT_DAMAGED|REPOSITORY_FORMAT_UNKNOWN/) as string }) as Error;

const name = rosterName(7);
const roster: Roster = {
  number: 7,
  writtenAt: '2026-11-21T04:30:43.000Z',
  journals: [{ instanceId: 'mover-1', sequence: 12 }],
  hasSettings: true,
  points: [id('3'), id('5')],
};

test('golden bytes', () => {
  expect(encodeRoster(roster).equals(golden('roster-1.bin'))).toBe(true);
  expect(decodeRoster(golden('roster-1.bin'), name)).toEqual(roster);
});

test('golden bytes of an encrypted one (read only: nonces are random)', () => {
  const cipher = (of: string) => new DocumentCipher(goldenKeys, of);
  expect(decodeRoster(golden('roster-2.bin'), name, cipher(name))).toEqual(roster);
  expect(() => decodeRoster(golden('roster-2.bin'), name)).toThrow(damaged);
  expect(() => decodeRoster(golden('roster-1.bin'), name, cipher(name))).toThrow(damaged);
});

test('every flipped bit and every cut is found, and none is taken for one of another number', () => {
  const whole = golden('roster-1.bin');
  for (let at = 0; at < whole.length; at++) {
    const bytes = Buffer.from(whole);
    bytes[at] = (bytes[at] as number) ^ 1;
    expect(() => decodeRoster(bytes, name)).toThrow(damaged);
    expect(() => decodeRoster(whole.subarray(0, at), name)).toThrow(damaged);
  }
  expect(() => decodeRoster(whole, rosterName(8))).toThrow(damaged);
});

test('names and bounds', () => {
  expect([name, rosterNumberOf(name), rosterNumberOf('roster/7.points')]).toEqual(['roster/000000007.points', 7, undefined]);
  expect(MAX_ROSTER_POINTS * 16).toBeLessThan(MAX_ROSTER_BYTES);
  const none = new Array<string>(MAX_ROSTER_POINTS + 1);
  expect(() => encodeRoster({ ...roster, points: none })).toThrow(RangeError);
});
