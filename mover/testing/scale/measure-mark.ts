/** What marking everything in a large repository costs: the one phase of a collection whose memory grows with the repository. For docs/scale.md and its test. */
import fs from 'node:fs';
import path from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { RateLimit } from '../../../common/flow/rate-limit';
import { DIGEST_BYTES } from '../../format/block';
import { levelCount, PAGE_BYTES, PAGE_FAN_OUT } from '../../format/index-page';
import { Marker } from '../../maintenance/collect/marker';
import type { Repository } from '../../repository/repository';
import { openLarge } from './measure-index';
import { cpuMs, heldMemory, PeakMemory } from './process-figures';
import { syntheticDigest } from './synthetic-packs';

/** Of 1 TiB, with blocks of 1 MiB. */
const blocksOfDisk = 2 ** 20;

/** Bytes and milliseconds. */
export interface MarkFigures {
  readonly markMs: number;
  readonly markCpuMs: number;
  readonly disks: number;
  readonly packs: number;
  /** What the marks hold, garbage apart, beside the open repository. */
  readonly heldBytes: number;
  /** Of the whole process, before the mark and at most. */
  readonly rssBytes: number;
  readonly maxRssBytes: number;
}

interface Tree {
  /** Hex digest of the root page. */
  readonly root: string;
  readonly levels: number;
}

const treesFile = (folder: string) => path.join(folder, 'trees.json');

/** Writes the index pages of disks that hold all the blocks of a repository made by `makeLarge`, each block once. */
export async function writeTrees(folder: string, blocks: number): Promise<void> {
  const repository = await openLarge(folder);
  const trees: Tree[] = [];
  for (let first = 0; first < blocks; first += blocksOfDisk)
    trees.push(await writeTree(repository, first, Math.min(blocks - first, blocksOfDisk)));
  fs.writeFileSync(treesFile(folder), JSON.stringify(trees));
  await repository.close();
}

async function writeTree({ pages }: Repository, first: number, blocks: number): Promise<Tree> {
  const levels = levelCount(blocks);
  let below = function* () {
    for (let block = 0; block < blocks; block++) yield syntheticDigest(first + block);
  };
  for (let level = 0; ; level++) {
    const digests: Buffer[] = [];
    let page = Buffer.alloc(PAGE_BYTES);
    let position = 0;
    const write = async () => {
      digests.push((await pages.write(page)).digest);
      page = Buffer.alloc(PAGE_BYTES);
      position = 0;
      // Memory of digests is given back between turns of the event loop only.
      await setImmediate();
    };
    for (const digest of below()) {
      digest.copy(page, position++ * DIGEST_BYTES);
      if (position === PAGE_FAN_OUT) await write();
    }
    if (position > 0) await write();
    if (level === levels - 1) return { root: (digests[0] as Buffer).toString('hex'), levels };
    below = function* () {
      yield* digests;
    };
  }
}

/** Marks all of it. Throws when a pack was not marked, or a block was not found. */
export async function measureMark(folder: string): Promise<MarkFigures> {
  const trees = JSON.parse(fs.readFileSync(treesFile(folder), 'utf8')) as Tree[];
  const repository = await openLarge(folder);
  const heldBefore = await heldMemory();
  const rssBytes = process.memoryUsage.rss();
  using peak = new PeakMemory();
  const startedAt = performance.now();
  const startedCpu = cpuMs();
  const marker = new Marker(repository, new RateLimit(0), new AbortController().signal);
  for (const { root, levels } of trees) await marker.mark({ owner: root, tree: Buffer.from(root, 'hex'), levels });
  const markMs = performance.now() - startedAt;
  const markCpuMs = cpuMs() - startedCpu;
  peak.sample();
  const heldBytes = (await heldMemory()) - heldBefore;
  const { packs } = repository.index;
  const unmarked = packs.ids().filter((id) => !marker.marks.hasAny(packs.add(id)));
  if (marker.missing + unmarked.length > 0) throw new Error(`${marker.missing} blocks missing, ${unmarked.length} packs not marked`);
  const figures = { markMs, markCpuMs, disks: trees.length, packs: packs.count, heldBytes, rssBytes, maxRssBytes: peak.bytes };
  await repository.close();
  return figures;
}
