import fs from 'node:fs';
import path from 'node:path';
import { protoRoot } from '../../proto/loader';
import { goldenKeys, id } from '../testing/golden-encrypted';
import {
  decodePlan,
  encodePlan,
  MAX_PLAN_BYTES,
  MAX_PLAN_PACKS,
  MAX_PLAN_POINTS,
  planName,
  planNumberOf,
  type CollectionPlan,
} from './collection-plan';
import { DocumentCipher } from './document-cipher';
import { decodeTombstone, encodeTombstone, tombstoneName, tombstoneOf } from './tombstone';

/** Written once for each version of a format and never rewritten. */
const golden = (name: string) => fs.readFileSync(path.join(protoRoot, '..', 'mover', 'format', 'golden', name));
const damaged = expect.objectContaining({ code: 'OBJECT_DAMAGED' }) as Error;

const plan: CollectionPlan = {
  number: 7,
  state: 'condemned',
  createdAt: '2026-11-21T04:30:43.000Z',
  deleteAfter: '2026-11-22T04:30:43.000Z',
  journals: [{ instanceId: 'mover-1', sequence: 12 }],
  packs: [
    { id: id('1'), length: 67_108_900 },
    { id: id('2'), length: 96 },
  ],
  points: [id('3')],
};
const tombstone = { pointId: id('3'), removedAt: '2026-11-21T04:30:43.000Z' };

test('golden bytes of a plan and a tombstone', () => {
  expect(encodePlan(plan).equals(golden('plan-1.bin'))).toBe(true);
  expect(decodePlan(golden('plan-1.bin'), planName(7))).toEqual(plan);
  expect(encodeTombstone(tombstone).equals(golden('tombstone-1.bin'))).toBe(true);
  expect(decodeTombstone(golden('tombstone-1.bin'), tombstoneName(id('3')))).toEqual(tombstone);
});

test('golden bytes of encrypted ones (read only: nonces are random)', () => {
  const cipher = (name: string) => new DocumentCipher(goldenKeys, name);
  expect(decodePlan(golden('plan-2.bin'), planName(7), cipher(planName(7)))).toEqual(plan);
  const name = tombstoneName(id('3'));
  expect(decodeTombstone(golden('tombstone-2.bin'), name, cipher(name))).toEqual(tombstone);
  expect(() => decodePlan(golden('plan-2.bin'), planName(8), cipher(planName(8)))).toThrow(damaged);
});

test('every flipped bit is found, and no document is taken for another', () => {
  const whole = golden('plan-1.bin');
  for (let at = 0; at < whole.length; at++) {
    const bytes = Buffer.from(whole);
    bytes[at] = (bytes[at] as number) ^ 1;
    expect(() => decodePlan(bytes, planName(7))).toThrow(damaged);
  }
  expect(() => decodePlan(whole, planName(8))).toThrow(damaged);
  expect(() => decodeTombstone(golden('tombstone-1.bin'), tombstoneName(id('4')))).toThrow(damaged);
});

test('the longest plan can be replaced by swap, and no longer one is written', () => {
  const uuid = (n: number) => `${n.toString(16).padStart(8, '0')}-0000-4000-8000-000000000000`;
  const ids = (count: number) => Array.from({ length: count }, (_, i) => uuid(i));
  const journals = Array.from({ length: 500 }, (_, i) => ({ instanceId: uuid(i), sequence: 1_000_000 + i }));
  const longest = {
    ...plan,
    journals,
    points: ids(MAX_PLAN_POINTS),
    packs: ids(MAX_PLAN_PACKS).map((one) => ({ id: one, length: 1 })),
  };
  expect(encodePlan(longest).length).toBeLessThan(MAX_PLAN_BYTES - 1024);
  expect(() => encodePlan({ ...plan, points: ids(MAX_PLAN_POINTS + 1) })).toThrow(RangeError);
});

test('names', () => {
  expect(planName(12)).toBe('collections/000000012.plan');
  expect([planNumberOf(planName(12)), planNumberOf('collections/12.plan')]).toEqual([12, undefined]);
  expect([tombstoneOf(tombstoneName(id('3'))), tombstoneOf('removed/x.tombstone')]).toEqual([id('3'), undefined]);
});
