/**
 * Worlds of random work, collisions and deaths, one after the other, until the time is up: `npm run soak -- --minutes 10 --seed 1`. Each world is told with
 * its seed; a failure ends the run with it and leaves the repository where it is.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { RepositoryWorld } from './world/repository-world';
import { testKey } from './test-repository';

const stepsPerWorld = 150;

/** A folder in memory where there is one: what is tested is the order of steps, not the disk. */
export function worldFolder(): string {
  const base = fs.existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir();
  return fs.mkdtempSync(path.join(base, 'tidemark-world-'));
}

/** One world from its seed, every fourth encrypted. Throws with the seed when something is lost, or more is kept than has to be. */
export async function runWorld(seed: number, steps: number, folder: string): Promise<ReadonlyMap<string, number>> {
  const world = await RepositoryWorld.make(folder, { seed, ...(seed % 4 === 3 && { key: testKey }) });
  for (let step = 0; step < steps; step++) await world.step();
  const { storedBytes, neededBytes, leftovers } = await world.settle();
  await world.close();
  if (leftovers.length > 0) throw new Error(`seed ${seed}: left behind: ${leftovers.join()}`);
  // Packs are rewritten from a quarter of waste on; what the marks' filters keep by mistake comes on top.
  const allowed = neededBytes / 0.7 + 100_000;
  if (storedBytes > allowed) throw new Error(`seed ${seed}: ${storedBytes} bytes are kept, ${neededBytes} are needed`);
  return world.counts;
}

async function soak(minutes: number, firstSeed: number): Promise<void> {
  const until = Date.now() + minutes * 60_000;
  const totals = new Map<string, number>();
  let seed = firstSeed;
  for (; Date.now() < until; seed++) {
    const folder = worldFolder();
    try {
      for (const [what, count] of await runWorld(seed, stepsPerWorld, folder)) totals.set(what, (totals.get(what) ?? 0) + count);
    } catch (error) {
      process.stderr.write(`the repository is left in ${folder}\n`);
      throw error;
    }
    fs.rmSync(folder, { recursive: true, force: true });
    process.stdout.write(`seed ${seed}: ${stepsPerWorld} steps\n`);
  }
  process.stdout.write(`${(seed - firstSeed) * stepsPerWorld} steps, nothing lost\n`);
  for (const [what, count] of [...totals].sort()) process.stdout.write(`  ${what}: ${count}\n`);
}

if (require.main === module) {
  const { values } = parseArgs({ options: { minutes: { type: 'string', default: '10' }, seed: { type: 'string', default: '1' } } });
  soak(Number(values.minutes), Number(values.seed)).catch((error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  });
}
