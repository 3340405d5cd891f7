import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { Verifier } from '../maintenance/verifier';
import { crashImage, firstPoint, makeBothPoints, makeSecondPoint, secondPoint } from '../testing/crash-child';
import { randomFrom } from '../testing/test-disk';
import { temporaryFolder } from '../testing/test-mover';
import { TestRepository } from '../testing/test-repository';

const child = path.join(__dirname, '..', 'testing', 'crash-child.js');

/** What must hold over the remains of a run that had told these words. */
async function checkAndFinish(folder: string, told: string): Promise<void> {
  await using test = await TestRepository.open(folder);
  const { points } = test.repository;
  if (told.includes('first')) expect(points.has(firstPoint)).toBe(true);
  if (told.includes('done')) expect(points.has(secondPoint)).toBe(true);
  for (const id of points.ids()) expect((await test.read(id)).equals(crashImage(id === secondPoint))).toBe(true);
  const verifier = new Verifier(test.repository, new AbortController().signal);
  await verifier.run(undefined);
  expect(verifier.findings).toEqual([]);
  expect(test.repository.index.damagedPacks.size).toBe(0);
  const unfinished = path.join(folder, 'repository', 'tmp');
  // A lock on a name is broken by whoever wants the name next; nobody has to remove it.
  const left = fs.existsSync(unfinished) ? fs.readdirSync(unfinished) : [];
  expect(left.filter((name) => !name.endsWith('.lock'))).toEqual([]);
  if (!points.has(firstPoint)) return;
  // The caller repeats itself, and the next run succeeds.
  await makeSecondPoint(test);
  expect((await test.read(secondPoint)).equals(crashImage(true))).toBe(true);
  expect(points.count).toBe(2);
}

/** Copies a folder. Another pack's file may be renamed by a thread of the file system while this one looks: then once more. */
function copyOf(from: string, to: string): void {
  for (let tries = 1; ; tries++) {
    try {
      return fs.cpSync(from, to, { recursive: true });
    } catch (error) {
      if (tries === 10) throw error;
      fs.rmSync(to, { recursive: true, force: true });
    }
  }
}

test('the disk as it is before any step holds every point that was told of, and the run can go on from there', async () => {
  using whole = temporaryFolder();
  using copies = temporaryFolder();
  const remains: { folder: string; told: string }[] = [];
  let told = '';
  // What a killed process leaves is what the disk holds at that moment: a copy is as good, and there can be one for each step.
  const step = () => {
    const folder = path.join(copies.folder, String(remains.length));
    copyOf(whole.folder, folder);
    // The holder of the lease is this very process; a dead one would be found out by its start time.
    fs.rmSync(path.join(folder, 'repository', 'writers'), { recursive: true, force: true });
    remains.push({ folder, told });
  };
  await makeBothPoints(whole.folder, step, (word) => (told += ` ${word}`));
  expect(remains.length).toBeGreaterThan(60);
  for (const { folder, told: words } of remains) {
    await checkAndFinish(folder, words);
    fs.rmSync(folder, { recursive: true, force: true });
  }
}, 600_000);

test('a process that is killed leaves no lock behind that anybody has to remove', async () => {
  const random = randomFrom(20261121);
  for (let round = 0; round < 6; round++) {
    using scratch = temporaryFolder();
    const killAt = 5 + Math.floor(random() * 80);
    const result = await new Promise<{ told: string; signal: string | null }>((resolve) => {
      execFile(process.execPath, [child, scratch.folder, String(killAt)], { timeout: 120_000 }, (error, stdout) =>
        resolve({ told: stdout, signal: error?.signal ?? null }),
      );
    });
    expect(result.signal).toBe('SIGKILL');
    await checkAndFinish(scratch.folder, result.told);
  }
}, 600_000);
