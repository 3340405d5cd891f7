/** Named damages of the sample repository, and what a verification has to say of each. */
import fs from 'node:fs';
import path from 'node:path';
import { PACK_FOOTER_BYTES, PACK_HEADER_BYTES } from '../../format/pack';
import { objectNames, type SamplePoint, type SampleRepository } from './sample-repository';

/** Code and point of a finding; no point: of an object that is of no point in particular. */
export type ExpectedFinding = readonly [code: string, point: SamplePoint | undefined];

export interface NamedDamage {
  readonly name: string;
  readonly isEncrypted: boolean;
  /** Does it below `root`, the folder with the repository's objects. */
  readonly damage: (root: string, sample: SampleRepository, objects: readonly string[]) => void;
  /** Each kind of finding once, in no order; or the code with which the repository cannot be opened. */
  readonly expected: readonly ExpectedFinding[] | { readonly refusedWith: string };
  /** Points that can be restored all the same. */
  readonly restorable: readonly SamplePoint[];
}

function change(root: string, object: string, to: (bytes: Buffer) => Buffer): void {
  const file = path.join(root, object);
  fs.writeFileSync(file, to(fs.readFileSync(file)));
}

const flip = (at: number) => (bytes: Buffer) => {
  const offset = at < 0 ? bytes.length + at : at;
  bytes[offset] = (bytes[offset] as number) ^ 0x10;
  return bytes;
};
const cut = (length: number) => (bytes: Buffer) => bytes.subarray(0, length < 0 ? bytes.length + length : length);

const manifestOf = (objects: readonly string[], pointId: string) => objects.find((name) => name.includes(`-${pointId}.manifest`)) as string;
const firstOf = (objects: readonly string[], prefix: string) => objects.find((name) => name.startsWith(prefix)) as string;

function swap(root: string, one: string, two: string): void {
  const [a, b] = [one, two].map((name) => fs.readFileSync(path.join(root, name))) as [Buffer, Buffer];
  fs.writeFileSync(path.join(root, one), b);
  fs.writeFileSync(path.join(root, two), a);
}

const all: readonly SamplePoint[] = ['a', 'b', 'c'];
const blockOfA: readonly ExpectedFinding[] = [
  ['BLOCK_CORRUPT', 'a'],
  ['BLOCK_CORRUPT', 'b'],
];
/** Without the list of A's pack neither its blocks nor its pages are found; B has a root and a leaf page of its own, and one of A's. */
const packOfA: readonly ExpectedFinding[] = [
  ['PACK_DAMAGED', undefined],
  ['INDEX_PAGE_DAMAGED', 'a'],
  ['BLOCK_MISSING', 'b'],
  ['INDEX_PAGE_DAMAGED', 'b'],
];

/** The same in the clear and encrypted. */
const both = (name: string, rest: Omit<NamedDamage, 'name' | 'isEncrypted'>): NamedDamage[] => [
  { name, isEncrypted: false, ...rest },
  { name: `${name}-encrypted`, isEncrypted: true, ...rest },
];

export const namedDamages: readonly NamedDamage[] = [
  ...both('no-damage', { damage: () => undefined, expected: [], restorable: all }),
  ...both('block-with-flipped-bit', {
    damage: (root, { packs }) => change(root, packs.a, flip(PACK_HEADER_BYTES + 12)),
    expected: blockOfA,
    restorable: ['c'],
  }),
  ...both('pack-cut-short', {
    damage: (root, { packs }) => change(root, packs.a, cut(-50)),
    expected: packOfA,
    restorable: ['c'],
  }),
  ...both('pack-list-with-flipped-bit', {
    damage: (root, { packs }) => change(root, packs.a, flip(-PACK_FOOTER_BYTES - 20)),
    expected: packOfA,
    restorable: ['c'],
  }),
  ...both('pack-missing', {
    damage: (root, { packs }) => fs.rmSync(path.join(root, packs.b)),
    expected: [['INDEX_PAGE_DAMAGED', 'b']],
    restorable: ['a', 'c'],
  }),
  ...both('packs-swapped', {
    damage: (root, { packs }) => swap(root, packs.b, packs.c),
    expected: [
      ['PACK_DAMAGED', undefined],
      ['INDEX_PAGE_DAMAGED', 'b'],
      ['INDEX_PAGE_DAMAGED', 'c'],
    ],
    restorable: ['a'],
  }),
  ...both('pack-twice', {
    damage: (root, { packs }) => {
      const copy = packs.c.replace(/.{12}\.pack$/, '0123456789ab.pack');
      fs.copyFileSync(path.join(root, packs.c), path.join(root, copy));
    },
    expected: [['PACK_DAMAGED', undefined]],
    restorable: all,
  }),
  ...both('manifest-with-flipped-bit', {
    damage: (root, { points }, objects) => change(root, manifestOf(objects, points.b), flip(60)),
    expected: [['MANIFEST_DAMAGED', 'b']],
    restorable: ['a', 'c'],
  }),
  ...both('manifest-missing', {
    damage: (root, { points }, objects) => fs.rmSync(path.join(root, manifestOf(objects, points.a))),
    expected: [['MANIFEST_DAMAGED', 'a']],
    restorable: ['b', 'c'],
  }),
  // No announcement remembers it any more: the roster does.
  ...both('manifest-missing-after-collect', {
    damage: (root, { points }, objects) => fs.rmSync(path.join(root, manifestOf(objects, points.a))),
    expected: [['MANIFEST_DAMAGED', 'a']],
    restorable: ['b', 'c'],
  }),
  ...both('roster-damaged', {
    damage: (root, _sample, objects) => change(root, firstOf(objects, 'roster/'), flip(60)),
    expected: [['OBJECT_DAMAGED', undefined]],
    restorable: all,
  }),
  ...both('roster-missing', {
    damage: (root, _sample, objects) => fs.rmSync(path.join(root, firstOf(objects, 'roster/'))),
    expected: [['OBJECT_DAMAGED', undefined]],
    restorable: all,
  }),
  ...both('manifests-swapped', {
    damage: (root, { points }, objects) => swap(root, manifestOf(objects, points.a), manifestOf(objects, points.c)),
    expected: [
      ['MANIFEST_DAMAGED', 'a'],
      ['MANIFEST_DAMAGED', 'c'],
    ],
    restorable: ['b'],
  }),
  ...both('session-cut-short', {
    damage: (root, _sample, objects) => change(root, firstOf(objects, 'sessions/'), cut(40)),
    expected: [['OBJECT_DAMAGED', undefined]],
    restorable: all,
  }),
  ...both('plan-with-flipped-bit', {
    damage: (root, _sample, objects) => change(root, firstOf(objects, 'collections/'), flip(70)),
    expected: [['OBJECT_DAMAGED', undefined]],
    restorable: all,
  }),
  ...both('journal-empty', {
    damage: (root, _sample, objects) => change(root, firstOf(objects, 'journal/'), cut(0)),
    expected: [['OBJECT_DAMAGED', undefined]],
    restorable: all,
  }),
  ...both('quarantine-with-flipped-bit', {
    damage: (root, _sample, objects) => change(root, firstOf(objects, 'quarantine/'), flip(90)),
    expected: [['OBJECT_DAMAGED', undefined]],
    restorable: all,
  }),
  ...both('header-with-flipped-bit', {
    damage: (root) => change(root, 'tidemark-repository', flip(100)),
    expected: { refusedWith: 'REPOSITORY_HEADER_DAMAGED' },
    restorable: [],
  }),
  {
    name: 'both-keys-cut-short-encrypted',
    isEncrypted: true,
    damage: (root, _sample, objects) => {
      for (const name of objects) if (name.startsWith('keys/')) change(root, name, cut(100));
    },
    expected: { refusedWith: 'OBJECT_DAMAGED' },
    restorable: [],
  },
];

/** Does a damage to the repository below `folder`. */
export function inflict({ damage }: NamedDamage, folder: string, sample: SampleRepository): void {
  damage(path.join(folder, 'repository'), sample, objectNames(folder));
}
