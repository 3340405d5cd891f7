/** A device that fails once, at each single step of a backup, of its commit and of what belongs to it. */
import fs from 'node:fs';
import path from 'node:path';
import { isTidemarkError } from '../../common/errors/tidemark-error';
import { Verifier } from '../maintenance/verifier';
import { crashImage, firstPoint, makeBothPoints, makeSecondPoint, secondPoint } from '../testing/crash-child';
import { temporaryFolder } from '../testing/test-mover';
import { TestRepository } from '../testing/test-repository';

/** Opens the repository, makes the second point with the n-th step failing, and closes. */
async function withFault(folder: string, nth: number, code: string): Promise<{ outcome: unknown; reached: boolean }> {
  let steps = 0;
  let armed = true;
  const step = () => {
    if (armed && ++steps === nth) throw Object.assign(new Error(code), { code });
  };
  let test: TestRepository | undefined;
  try {
    test = await TestRepository.open(folder, { packTargetBytes: 200_000, step });
    await makeSecondPoint(test);
    return { outcome: 'done', reached: steps >= nth };
  } catch (error) {
    return { outcome: error, reached: steps >= nth };
  } finally {
    // Closing may meet the fault, too; what it could not write is written anew at the next open.
    await test?.close().catch((error: unknown) => expect(isTidemarkError(error)).toBe(true));
    armed = false;
  }
}

// Each step of the store itself is tried with both in directory-store.test.ts.
test.each([
  ['EIO', 1],
  ['ENOSPC', 2],
] as const)(
  '%s at any step (every %i) fails the backup or nothing, never an older point; repeated, it succeeds',
  async (code, every) => {
    using base = temporaryFolder();
    // As it is when the first point was made and nothing else.
    await makeBothPoints(
      base.folder,
      () => undefined,
      (word) => {
        if (word === 'first') fs.cpSync(base.folder, `${base.folder}-first`, { recursive: true });
      },
    );
    const start = `${base.folder}-first`;
    // The holder of the lease is this very process.
    fs.rmSync(path.join(start, 'repository', 'writers'), { recursive: true, force: true });
    let failures = 0;
    try {
      for (let nth = 1; ; nth += every) {
        using scratch = temporaryFolder();
        fs.cpSync(start, scratch.folder, { recursive: true });
        const { outcome, reached } = await withFault(scratch.folder, nth, code);
        if (!reached) {
          expect(outcome).toBe('done');
          // Opening, packs, draft, record, manifest, journal: fewer would mean that steps are not seen any more.
          expect(nth).toBeGreaterThan(40);
          break;
        }
        if (outcome !== 'done') {
          failures += 1;
          expect(outcome).toMatchObject({
            code: expect.stringMatching(code === 'EIO' ? /^REPOSITORY_IO$/ : /^REPOSITORY_FULL$/) as unknown,
          });
        }
        fs.rmSync(path.join(scratch.folder, 'repository', 'writers'), { recursive: true, force: true });
        await using again = await TestRepository.open(scratch.folder, { packTargetBytes: 200_000 });
        expect((await again.read(firstPoint)).equals(crashImage(false))).toBe(true);
        if (outcome === 'done') expect(again.repository.points.has(secondPoint)).toBe(true);
        await makeSecondPoint(again);
        expect((await again.read(secondPoint)).equals(crashImage(true))).toBe(true);
        const verifier = new Verifier(again.repository, new AbortController().signal);
        await verifier.run(undefined);
        expect(verifier.findings).toEqual([]);
      }
    } finally {
      fs.rmSync(start, { recursive: true, force: true });
    }
    expect(failures).toBeGreaterThan(20 / every);
  },
  900_000,
);
