/** A small repository with something of everything in it, for tests of damage: what is in it, and whom the damage of which object may hurt. */
import fs from 'node:fs';
import path from 'node:path';
import type { RepositoryKey } from '../../format/key-slot';
import { hexOf } from '../../format/block';
import { putDocument } from '../../documents/documents';
import { packName } from '../../repository/blocks/pack-table';
import { collectAhead } from '../collect-child';
import { TestRepository } from '../test-repository';

export const sampleBlockBytes = 65_536;
/** Two leaf pages and one above. */
export const sampleSize = 300 * sampleBlockBytes;

const day = 24 * 60 * 60 * 1000;
const keepPacks = { wasteRatio: 1 };

export type SamplePoint = 'a' | 'b' | 'c';

/**
 * A and B share the blocks of A's pack, B has one of its own, C stands alone; a fourth point was removed and is condemned. One more was collected, so that no
 * announcement remembers the first three. A session with a disk is open.
 */
export interface SampleRepository {
  readonly points: Readonly<Record<SamplePoint, string>>;
  readonly removedPoint: string;
  /** Object names. */
  readonly packs: Readonly<Record<SamplePoint, string>>;
}

const contents: Readonly<Record<SamplePoint, ReadonlyMap<number, string>>> = {
  a: new Map([
    [0, 'one'],
    [17, 'two'],
    [299, 'three'],
  ]),
  b: new Map([[10, 'four']]),
  c: new Map([
    [5, 'five'],
    [6, 'six'],
  ]),
};

/** Compresses to some bytes, so that a repository takes few kilobytes. */
export function sampleText(text: string): Buffer {
  return Buffer.alloc(sampleBlockBytes, `${text} `);
}

/** What a point's disk holds, block by block; all others are zero. */
export function sampleContent(point: SamplePoint): Map<number, Buffer> {
  const texts = point === 'b' ? [...contents.a, ...contents.b] : contents[point];
  return new Map([...texts].map(([block, text]) => [block, sampleText(text)]));
}

/** Makes it below `folder`, closed when it resolves. */
export async function makeSampleRepository(folder: string, key?: RepositoryKey): Promise<SampleRepository> {
  await using test = await TestRepository.open(folder, { ...(key && { key }) });
  const { repository } = test;
  const seen = new Set<string>();
  const packs: string[] = [];
  const backup = async (texts: ReadonlyMap<number, string>, base = '') => {
    const point = await test.backup(sampleSize, new Map([...texts].map(([block, text]) => [block, sampleText(text)])), base);
    const made = repository.index.packs.ids().find((id) => !seen.has(id)) as string;
    seen.add(made);
    packs.push(packName(made));
    return point;
  };
  const a = await backup(contents.a);
  const b = await backup(contents.b, a);
  const c = await backup(contents.c);
  // Nothing is rewritten: each point keeps its pack.
  const collected = await backup(new Map([[9, 'collected']]));
  const maintenance = await collectAhead(test, 0, keepPacks);
  await maintenance.removePoint(repository, collected);
  await collectAhead(test, 0, keepPacks);
  await collectAhead(test, 2 * day, keepPacks);
  const removedPoint = await backup(new Map([[3, 'removed']]));
  // Nothing is wrong with it: a verification lets it go.
  const place = repository.index.find(test.digestOf(sampleText('five')));
  const digest = hexOf(test.digestOf(sampleText('five')));
  const packId = repository.index.packs.idOf(place?.pack ?? -1);
  await repository.quarantine.add([
    { digest, packId, offset: place?.offset ?? 0, code: 'BLOCK_CORRUPT', foundAt: new Date().toISOString() },
  ]);
  await putDocument(repository, { name: 'configuration/copy', content: Buffer.from('of the server') }, new Date());
  await repository.updateSettings({ codecLevel: 2 });
  // Announces a pack, so that no manifest was told of last.
  const aborted = await test.openSession();
  await test.send(await test.openDisk(aborted, 'disk', sampleSize), 1, sampleText('aborted'), {});
  await repository.blocks.flush();
  await repository.announcePacks();
  await aborted.abort('test');
  await maintenance.removePoint(repository, removedPoint);
  await collectAhead(test, 2 * day, keepPacks);
  const open = await test.openSession();
  await test.send(await test.openDisk(open, 'disk', sampleSize), 2, sampleText('draft'), {});
  return { points: { a, b, c }, removedPoint, packs: { a: packs[0] as string, b: packs[1] as string, c: packs[2] as string } };
}

/** Names of all objects of a repository below `folder`. */
export function objectNames(folder: string): string[] {
  const root = path.join(folder, 'repository');
  return fs
    .readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(root, path.join(entry.parentPath, entry.name)))
    .sort();
}

/** Points that may be hurt when an object is not what it was. */
export function hurtBy({ points, packs }: SampleRepository, objectName: string): SamplePoint[] {
  if (objectName === packs.a) return ['a', 'b'];
  const all: SamplePoint[] = ['a', 'b', 'c'];
  return all.filter((point) => objectName === packs[point] || (objectName.startsWith('points/') && objectName.includes(points[point])));
}
