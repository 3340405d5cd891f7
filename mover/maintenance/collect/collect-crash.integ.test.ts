import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { collectAhead, killImage } from '../../testing/collect-child';
import { randomFrom } from '../../testing/test-disk';
import { temporaryFolder } from '../../testing/test-mover';
import { TestRepository } from '../../testing/test-repository';
import { Verifier } from '../verifier';

const child = path.join(__dirname, '..', '..', 'testing', 'collect-child.js');
const day = 24 * 60 * 60 * 1000;

/** What the killed process had said. */
class Told {
  readonly seeds = new Map<string, number[]>();
  readonly made = new Set<string>();
  readonly removing = new Set<string>();
  readonly removed = new Set<string>();

  take(text: string): void {
    for (const line of text.split('\n')) {
      const [word, id, seeds] = line.split(' ') as [string, string, string | undefined];
      if (word === 'point' && seeds !== undefined) this.seeds.set(id, seeds.split(',').map(Number));
      if (word === 'made') this.made.add(id);
      if (word === 'remove') this.removing.add(id);
      if (word === 'removed') this.removed.add(id);
    }
  }
}

/** Runs the child and kills it some time after it has told of something for the first time. */
function killed(folder: string, seed: number, what: 'made' | 'removed', afterMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const started = spawn(process.execPath, [child, folder, String(seed)], { stdio: ['ignore', 'pipe', 'inherit'] });
    let told = '';
    let timer: NodeJS.Timeout | undefined;
    started.stdout.on('data', (chunk: Buffer) => {
      told += chunk.toString();
      if (told.includes(`${what} `)) timer ??= setTimeout(() => started.kill('SIGKILL'), afterMs);
    });
    started.once('error', reject);
    // Only whole lines count.
    started.once('close', (_code, signal) =>
      signal === 'SIGKILL'
        ? resolve(told.slice(0, told.lastIndexOf('\n')))
        : reject(new Error(`the child ended by itself: ${told.slice(-300)}`)),
    );
  });
}

test('a mover killed at random moments of backups, removals, collections and verifications loses nothing, and the next collections give the space back', async () => {
  using scratch = temporaryFolder();
  const random = randomFrom(20261121);
  const told = new Told();
  for (let round = 0; round < 7; round++) {
    // Four lives remove a point at least, however slow the machine is.
    told.take(await killed(scratch.folder, round, round % 3 === 0 ? 'made' : 'removed', Math.floor(random() * 1_500)));
    await using test = await TestRepository.open(scratch.folder);
    const { points } = test.repository;
    for (const id of told.made) if (!told.removing.has(id)) expect(points.has(id)).toBe(true);
    for (const id of told.removed) expect(points.has(id)).toBe(false);
    for (const id of points.ids()) expect((await test.read(id)).equals(killImage(told.seeds.get(id) as number[]))).toBe(true);
    const verifier = new Verifier(test.repository, new AbortController().signal);
    await verifier.run(undefined);
    expect(verifier.findings).toEqual([]);
  }
  let aheadMs = 0;
  await using test = await TestRepository.open(scratch.folder, { sessions: { now: () => Date.now() + aheadMs } });
  const { points } = test.repository;
  // Of backups that were killed sessions are open, which keep what they had committed until their leases run out.
  aheadMs = day;
  test.sessions.start();
  while (test.sessions.openCount(test.repository) > 0) await sleep(50);
  expect(told.removed.size).toBeGreaterThan(3);
  const [last, ...others] = points.ids();
  for (const [i, id] of others.entries()) await (await collectAhead(test, (1000 + i) * day)).removePoint(test.repository, id);
  for (let round = 0; round < 5; round++) await collectAhead(test, (2000 + round * 2) * day);
  expect((await test.read(last as string)).equals(killImage(told.seeds.get(last as string) as number[]))).toBe(true);
  const files = fs.readdirSync(path.join(scratch.folder, 'repository'), { recursive: true, withFileTypes: true });
  const names = files.filter((entry) => entry.isFile()).map((entry) => path.basename(entry.parentPath) + '/' + entry.name);
  expect(names.filter((name) => name.endsWith('.manifest'))).toHaveLength(1);
  // The lock of a file that was being replaced is broken by the next who replaces it.
  expect(names.filter((name) => /^tmp\/.*(?<!\.lock)$|\.tombstone$|\.draft$/.test(name))).toEqual([]);
  // Six blocks that compress to half, and three pages.
  expect(test.repository.index.packs.totalBytes).toBeLessThan(2 * 6 * 40_000);
}, 600_000);
