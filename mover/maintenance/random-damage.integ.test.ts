/**
 * Random damage to any object of a repository: it is always detected, never silently restored, and what it does not concern stays restorable. A
 * failed expectation shows what was done to which object.
 */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { isTidemarkError } from '../../common/errors/tidemark-error';
import { packName } from '../repository/blocks/pack-table';
import {
  hurtBy,
  makeSampleRepository,
  objectNames,
  sampleBlockBytes,
  sampleContent,
  type SamplePoint,
  type SampleRepository,
} from '../testing/damage/sample-repository';
import { randomFrom } from '../testing/test-disk';
import { temporaryFolder } from '../testing/test-mover';
import { TestRepository, testKey } from '../testing/test-repository';
import { Verifier } from './verifier';

/** TIDEMARK_DAMAGE_SEED and TIDEMARK_DAMAGE_CASES: other ones, or more. */
const firstSeed = Number(process.env['TIDEMARK_DAMAGE_SEED'] ?? 20261121);
const cases = Number(process.env['TIDEMARK_DAMAGE_CASES'] ?? 40);
const names: readonly SamplePoint[] = ['a', 'b', 'c'];

type Random = () => number;

/** What was done to which objects; undefined when this kind of damage cannot be done to the one that was chosen. */
interface Damage {
  readonly what: string;
  readonly objects: readonly string[];
  /** Objects that are not there any more, or are there once more: some of these are no loss. */
  readonly mayPass: boolean;
}

const kinds = ['flip', 'flips', 'truncate', 'extend', 'zero', 'missing', 'swap', 'duplicate'] as const;
type Kind = (typeof kinds)[number];

function classOf(name: string): string {
  return name.includes('/') ? (name.split('/')[0] as string) : name;
}

/** Leases are written anew all the time; what they say counts for minutes. */
const isLease = (name: string) => name.startsWith('writers/') || name === 'maintenance';

function damage(folder: string, random: Random, kind: Kind, removedPoint: string): Damage | undefined {
  const pick = <T>(from: readonly T[]) => from[Math.floor(random() * from.length)] as T;
  const objects = objectNames(folder).filter((name) => !isLease(name));
  // Each class of objects as often as any other, however many there are of it.
  const wanted = pick([...new Set(objects.map(classOf))]);
  const name = pick(objects.filter((object) => classOf(object) === wanted));
  const fileOf = (object: string) => path.join(folder, 'repository', object);
  const bytes = fs.readFileSync(fileOf(name));
  // Whoever attaches the repository reads the drafts and clears away what is of no use; their session sends it again.
  // Of removed points nothing is looked at before the removal is undone; then reading them tells.
  const isOfNoPoint = name.includes(removedPoint);
  const changed = (to: Buffer): Damage | undefined => {
    if (to.equals(bytes)) return undefined;
    fs.writeFileSync(fileOf(name), to);
    return { what: kind, objects: [name], mayPass: (isOfNoPoint && name.startsWith('points/')) || wanted === 'drafts' };
  };
  const flipped = (count: number) => {
    const to = Buffer.from(bytes);
    for (let i = 0; i < count; i++) {
      const at = Math.floor(random() * to.length);
      to[at] = (to[at] as number) ^ (1 << Math.floor(random() * 8));
    }
    return to;
  };
  switch (kind) {
    case 'flip':
      return changed(flipped(1));
    case 'flips':
      return changed(flipped(2 + Math.floor(random() * 30)));
    case 'truncate':
      return changed(bytes.subarray(0, Math.floor(random() * bytes.length)));
    case 'extend':
      return changed(Buffer.concat([bytes, Buffer.alloc(1 + Math.floor(random() * 200), Math.floor(random() * 256))]));
    case 'zero': {
      const to = Buffer.from(bytes);
      const at = Math.floor(random() * to.length);
      to.fill(0, at, Math.min(to.length, at + 1 + Math.floor(random() * 300)));
      return changed(to);
    }
    case 'missing':
      fs.rmSync(fileOf(name));
      // A point's manifest and the packs of points are missed; the others are memory of what was, or there twice.
      return {
        what: kind,
        objects: [name],
        mayPass: !/^(points|packs|roster|settings|tidemark-repository)/.test(name) || isOfNoPoint || wanted === 'packs',
      };
    case 'swap': {
      const other = pick(objects.filter((object) => classOf(object) === wanted));
      const content = fs.readFileSync(fileOf(other));
      if (content.equals(bytes)) return undefined;
      fs.writeFileSync(fileOf(name), content);
      fs.writeFileSync(fileOf(other), bytes);
      // Announcements are all true wherever they lie.
      return { what: `swap with ${other}`, objects: [name, other], mayPass: wanted === 'journal' || wanted === 'drafts' };
    }
    case 'duplicate': {
      const id = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/;
      const fresh = randomUUID();
      const copy = wanted === 'packs' ? packName(fresh) : name.replace(id, fresh);
      if (copy === name || wanted === 'keys') return undefined;
      fs.mkdirSync(path.dirname(fileOf(copy)), { recursive: true });
      fs.writeFileSync(fileOf(copy), bytes);
      return { what: `duplicate as ${copy}`, objects: [copy], mayPass: wanted === 'journal' || wanted === 'drafts' };
    }
  }
}

describe.each([
  ['in the clear', undefined],
  ['encrypted', testKey],
] as const)('random damage, %s', (_name, key) => {
  let template: ReturnType<typeof temporaryFolder>;
  let sample: SampleRepository;
  beforeAll(async () => {
    template = temporaryFolder();
    sample = await makeSampleRepository(template.folder, key);
  });
  afterAll(() => template[Symbol.dispose]());

  /** True when the disk is what was backed up; false when it cannot be read; anything else fails the test. */
  const restores = async (test: TestRepository, point: SamplePoint): Promise<boolean> => {
    const content = sampleContent(point);
    let image: Buffer;
    try {
      image = await test.read(sample.points[point]);
    } catch (error) {
      if (!isTidemarkError(error)) throw error;
      return false;
    }
    for (let block = 0; block * sampleBlockBytes < image.length; block++) {
      const found = image.subarray(block * sampleBlockBytes, (block + 1) * sampleBlockBytes);
      expect(found.equals(content.get(block) ?? Buffer.alloc(sampleBlockBytes))).toBe(true);
    }
    return true;
  };

  test(
    'is always detected, and hurts nobody else',
    async () => {
      for (let seed = firstSeed; seed < firstSeed + cases; seed++) {
        const random = randomFrom(seed);
        using scratch = temporaryFolder();
        fs.cpSync(template.folder, scratch.folder, { recursive: true });
        // With what the mover remembers, and without.
        if (random() < 0.5) fs.rmSync(path.join(scratch.folder, 'cache'), { recursive: true });
        // Each kind as often as any other, on objects to which it can be done.
        const kind = kinds[seed % kinds.length] as Kind;
        let harm: Damage | undefined;
        while (!harm) harm = damage(scratch.folder, random, kind, sample.removedPoint);
        const { what, objects, mayPass } = harm;
        const about = { seed, what, objects };
        const hurt = new Set(objects.flatMap((object) => hurtBy(sample, object)));
        let test: TestRepository;
        try {
          test = await TestRepository.open(scratch.folder, { ...(key && { key }) });
        } catch (error) {
          if (!isTidemarkError(error)) throw error;
          // Nothing can be read without them.
          expect({ ...about, code: error.code, class: classOf(objects[0] as string) }).toMatchObject({
            class: expect.stringMatching(/^(tidemark-repository|keys)$/) as string,
          });
          continue;
        }
        try {
          const keysRepaired = objects.every((object) => object.startsWith('keys/'));
          const verifier = new Verifier(test.repository, new AbortController().signal);
          await verifier.run(undefined);
          const restored = new Map<SamplePoint, boolean>();
          for (const point of names) restored.set(point, test.repository.points.has(sample.points[point]) && (await restores(test, point)));
          for (const point of names)
            if (!hurt.has(point)) expect({ ...about, point, ok: restored.get(point) }).toEqual({ ...about, point, ok: true });
          const isLost = [...restored.values()].includes(false);
          if (isLost || !(mayPass || keysRepaired))
            expect({ ...about, found: verifier.findingCount > 0 }).toEqual({ ...about, found: true });
          if (keysRepaired) await expect(samePair(scratch.folder)).resolves.toBe(true);
        } finally {
          await test.close();
        }
      }
    },
    60_000 + cases * 12_000,
  );
});

/** Opening for writing makes the copy of the keys right. */
async function samePair(folder: string): Promise<boolean> {
  const root = path.join(folder, 'repository', 'keys');
  const [one, two] = fs.readdirSync(root).map((name) => fs.readFileSync(path.join(root, name)));
  return Promise.resolve(one !== undefined && two !== undefined && one.equals(two));
}
