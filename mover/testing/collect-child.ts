/**
 * A process that makes, removes, collects and verifies on a repository until it is killed: `node collect-child.js FOLDER SEED`. It says what it is about to do
 * and what it has done, a line each: `point ID SEEDS` (about to be committed), `made ID`, `remove ID`, `removed ID`. Its clock runs ahead, a day with each
 * round, so that everything that is condemned is deleted soon.
 */
import { randomUUID } from 'node:crypto';
import type { CollectSettings } from '../maintenance/collect/collect-settings';
import { Maintenance } from '../maintenance/maintenance';
import { Verifier } from '../maintenance/verifier';
import { randomFrom, sampleBlock } from './test-disk';
import { quiet, TestRepository } from './test-repository';

export const killBlock = 65_536;
export const killSize = 60 * killBlock;

/** What a point of these seeds holds: seed n lies at block n modulo 60. */
export function killImage(seeds: readonly number[]): Buffer {
  const image = Buffer.alloc(killSize);
  for (const [block, raw] of killContent(seeds)) raw.copy(image, block * killBlock);
  return image;
}

function killContent(seeds: readonly number[]): Map<number, Buffer> {
  return new Map(seeds.map((seed) => [seed % 60, sampleBlock(seed, killBlock)] as const));
}

/** A collection as the child does it, `aheadMs` later than now. */
export async function collectAhead(
  { repository }: TestRepository,
  aheadMs: number,
  more: Partial<CollectSettings> = {},
): Promise<Maintenance> {
  const settings = { packAgeMs: 0, reserveBytes: 0, acknowledgeWaitMs: 0, ...more };
  const maintenance = new Maintenance(quiet, { settings, now: () => Date.now() + aheadMs });
  const operation = maintenance.startCollect(randomUUID(), repository, { dryRun: false, bytesPerSecond: 0 });
  await operation.done;
  if (operation.failure) throw operation.failure;
  return maintenance;
}

async function run(folder: string, seed: number): Promise<void> {
  const random = randomFrom(seed);
  const say = (line: string) => process.stdout.write(`${line}\n`);
  const test = await TestRepository.open(folder, { packTargetBytes: 200_000 });
  const whole: string[] = [];
  for (let round = 0; ; round++) {
    for (let i = 0; i < 2; i++) {
      const pointId = randomUUID();
      const seeds = Array.from({ length: 6 }, () => 1 + Math.floor(random() * 200));
      say(`point ${pointId} ${seeds.join()}`);
      await test.backup(killSize, killContent(seeds), '', pointId);
      say(`made ${pointId}`);
      whole.push(pointId);
    }
    const maintenance = await collectAhead(test, round * 25 * 60 * 60 * 1000);
    while (whole.length > 3) {
      const [pointId] = whole.splice(Math.floor(random() * whole.length), 1) as [string];
      say(`remove ${pointId}`);
      await maintenance.removePoint(test.repository, pointId);
      say(`removed ${pointId}`);
    }
    if (round % 3 === 2) await new Verifier(test.repository, new AbortController().signal).run(undefined);
  }
}

if (require.main === module) void run(process.argv[2] as string, Number(process.argv[3]));
