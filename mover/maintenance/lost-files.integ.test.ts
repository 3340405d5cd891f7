/** Each file of a repository is deleted in turn: it is missed, or its loss does no harm. docs/operations/verify.md says which is which, and why. */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { isTidemarkError } from '../../common/errors/tidemark-error';
import {
  makeSampleRepository,
  objectNames,
  sampleBlockBytes,
  sampleContent,
  sampleSize,
  sampleText,
  type SamplePoint,
  type SampleRepository,
} from '../testing/damage/sample-repository';
import { collectAhead } from '../testing/collect-child';
import { temporaryFolder } from '../testing/test-mover';
import { TestRepository } from '../testing/test-repository';
import { Verifier } from './verifier';

const day = 24 * 60 * 60 * 1000;
const names: readonly SamplePoint[] = ['a', 'b', 'c'];

/** What is missed, by the first part of the name; of the rest the test proves that nobody is hurt. */
const isFound = (object: string, { packs, removedPoint }: SampleRepository) =>
  object === 'tidemark-repository' ||
  object === 'settings' ||
  object.startsWith('roster/') ||
  (object.startsWith('points/') && !object.includes(removedPoint)) ||
  Object.values(packs).includes(object);

/** Of announcements and records of sessions, which are many and alike, the first and the last. */
function fewOf(objects: readonly string[]): string[] {
  const isOneOfMany = (object: string) => /^(journal|sessions)\//.test(object);
  const ends = ['journal/', 'sessions/'].flatMap((prefix) => {
    const all = objects.filter((object) => object.startsWith(prefix));
    return [all[0] as string, all.at(-1) as string];
  });
  return [...objects.filter((object) => !isOneOfMany(object)), ...new Set(ends)];
}

async function findings({ repository }: TestRepository): Promise<string[]> {
  const verifier = new Verifier(repository, new AbortController().signal);
  await verifier.run(undefined);
  return verifier.findings.map(({ code, objectName }) => `${code} ${objectName}`);
}

async function assertWhole(test: TestRepository, pointId: string, content: ReadonlyMap<number, Buffer>): Promise<void> {
  const image = await test.read(pointId);
  for (let block = 0; block * sampleBlockBytes < image.length; block++) {
    const found = image.subarray(block * sampleBlockBytes, (block + 1) * sampleBlockBytes);
    if (!found.equals(content.get(block) ?? Buffer.alloc(sampleBlockBytes))) throw new Error(`block ${block} of ${pointId}`);
  }
}

test('whichever file of a repository is deleted, it is missed or nobody is hurt, then and after backups and collections', async () => {
  using template = temporaryFolder();
  const sample = await makeSampleRepository(template.folder);
  const objects = objectNames(template.folder);
  // One of everything.
  expect(new Set(objects.map((name) => name.split('/')[0]))).toEqual(
    new Set(
      'collections documents drafts journal maintenance packs points quarantine removed roster sessions settings tidemark-repository writers'.split(
        ' ',
      ),
    ),
  );
  for (const object of fewOf(objects)) {
    using scratch = temporaryFolder();
    fs.cpSync(template.folder, scratch.folder, { recursive: true });
    fs.rmSync(path.join(scratch.folder, 'cache'), { recursive: true });
    fs.rmSync(path.join(scratch.folder, 'repository', object));
    try {
      if (object === 'tidemark-repository') {
        // Opening would make a new one here: a mover finds that the place is not empty.
        expect(objectNames(scratch.folder)).not.toContain(object);
        continue;
      }
      await using test = await TestRepository.open(scratch.folder);
      const found = await findings(test);
      // Of announcements those are missed after which there is another, or that the roster knows.
      if (!object.startsWith('journal/'))
        expect({ object, isFound: found.length > 0 }).toEqual({ object, isFound: isFound(object, sample) });
      if (/^(points|packs)/.test(object) && found.length > 0) continue;
      const content = new Map([[7, sampleText(`after ${object}`)], ...sampleContent('c')]);
      const fresh = await test.backup(sampleSize, content, '', randomUUID());
      // Condemns, and deletes.
      for (const aheadMs of [3 * day, 6 * day]) await collectAhead(test, aheadMs);
      for (const point of names) await assertWhole(test, sample.points[point], sampleContent(point));
      await assertWhole(test, fresh, content);
      expect({ object, left: (await findings(test)).filter((finding) => !/ (settings|journal\/.*)$/.test(finding)) }).toEqual({
        object,
        left: [],
      });
    } catch (error) {
      throw isTidemarkError(error) ? new Error(`${object}: ${error.code} ${error.message}`, { cause: error }) : error;
    }
  }
}, 600_000);
