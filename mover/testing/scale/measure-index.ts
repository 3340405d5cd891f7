/** What opening a large repository costs, and how fast its index answers; for docs/scale.md and its test. */
import fs from 'node:fs';
import path from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { defaultIndexLimits, type PackIndexLimits } from '../../repository/blocks/pack-index';
import { createRepository, defaultSettings, Repository } from '../../repository/repository';
import { DirectoryStore } from '../../stores/directory-store';
import { randomFrom } from '../test-disk';
import { quiet } from '../test-repository';
import { cpuMs, heldMemory, PeakMemory } from './process-figures';
import { syntheticDigest, writeSyntheticPacks } from './synthetic-packs';

/** Digests made at a time, so that they count for nothing in the memory that is measured. */
const batch = 1000;

/** Figures of one opening. Bytes and milliseconds; rates per second of processor time, which others on the machine do not take part in. */
export interface IndexFigures {
  readonly openMs: number;
  readonly openCpuMs: number;
  readonly maxRssBytes: number;
  /** What the open repository holds, garbage apart. */
  readonly heldBytes: number;
  readonly rssBytes: number;
  readonly packs: number;
  readonly entries: number;
  readonly hitsPerSecond: number;
  readonly missesPerSecond: number;
  readonly cacheBytes: number;
}

const repositoryOf = (folder: string) => path.join(folder, 'repository');

/** Makes the repository below `folder`. */
export async function makeLarge(folder: string, blocks: number): Promise<void> {
  fs.mkdirSync(repositoryOf(folder), { recursive: true });
  const store = new DirectoryStore(repositoryOf(folder));
  const header = await createRepository(store, 'scale', defaultSettings, new Date());
  await store.close();
  await writeSyntheticPacks(repositoryOf(folder), header.repositoryId, blocks);
}

/** Opens it for writing. */
export function openLarge(folder: string, indexLimits: PackIndexLimits = defaultIndexLimits): Promise<Repository> {
  return Repository.open(new DirectoryStore(repositoryOf(folder)), {
    cacheFolder: path.join(folder, 'cache'),
    lock: { instanceId: 'scale', leaseDurationMs: 600_000, waitMs: 0 },
    logger: quiet,
    indexLimits,
  });
}

/** Opens it for writing, asks for `lookups` blocks that are there and as many that are not, and closes it. Throws when an answer is wrong. */
export async function measureIndex(
  folder: string,
  blocks: number,
  lookups: number,
  limits: PackIndexLimits = defaultIndexLimits,
): Promise<IndexFigures> {
  using peak = new PeakMemory();
  const heldBefore = await heldMemory();
  const startedAt = performance.now();
  const startedCpu = cpuMs();
  const repository = await openLarge(folder, limits);
  const openMs = performance.now() - startedAt;
  const openCpuMs = cpuMs() - startedCpu;
  const heldBytes = (await heldMemory()) - heldBefore;
  const random = randomFrom(1);
  const rate = async (expected: boolean) => {
    let lookedMs = 0;
    for (let done = 0; done < lookups; done += batch) {
      const digests = Array.from({ length: batch }, () => syntheticDigest(Math.floor(random() * blocks) + (expected ? 0 : blocks)));
      const from = cpuMs();
      for (const digest of digests)
        if (repository.index.has(digest) !== expected) throw new Error(`${digest.toString('hex')}: not ${String(expected)}`);
      lookedMs += cpuMs() - from;
      await setImmediate();
    }
    return (lookups / lookedMs) * 1000;
  };
  const hitsPerSecond = await rate(true);
  const missesPerSecond = await rate(false);
  peak.sample();
  const { count, totalEntries } = repository.index.packs;
  const rssBytes = process.memoryUsage.rss();
  await repository.close();
  peak.sample();
  const cache = path.join(folder, 'cache', repository.id);
  const cacheBytes = fs.readdirSync(cache).reduce((sum, name) => sum + fs.statSync(path.join(cache, name)).size, 0);
  return {
    openMs,
    openCpuMs,
    heldBytes,
    maxRssBytes: peak.bytes,
    rssBytes,
    packs: count,
    entries: totalEntries,
    hitsPerSecond,
    missesPerSecond,
    cacheBytes,
  };
}
