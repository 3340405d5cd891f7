/**
 * `npm run scale [-- --blocks 10000000 --folder /tmp]`: makes a repository of that many blocks without data, opens it without and with an index
 * cache and marks all of it as a collection does, each in a process of its own, prints what that cost, and removes it. docs/scale.md has the figures.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { makeLarge, measureIndex, type IndexFigures } from './measure-index';
import { measureMark, writeTrees, type MarkFigures } from './measure-mark';

const lookups = 200_000;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      blocks: { type: 'string', default: '10000000' },
      folder: { type: 'string', default: os.tmpdir() },
      step: { type: 'string' },
    },
  });
  const blocks = Number(values.blocks);
  if (values.step === 'measure') {
    process.stdout.write(JSON.stringify(await measureIndex(values.folder, blocks, lookups)));
    return;
  }
  if (values.step === 'write-trees') return writeTrees(values.folder, blocks);
  if (values.step === 'mark') {
    process.stdout.write(JSON.stringify(await measureMark(values.folder)));
    return;
  }
  const folder = fs.mkdtempSync(path.join(values.folder, 'tidemark-scale-'));
  try {
    const startedAt = performance.now();
    await makeLarge(folder, blocks);
    const { model } = os.cpus()[0] as os.CpuInfo;
    console.log(
      `${blocks} blocks made in ${seconds(performance.now() - startedAt)}; ${os.cpus().length} × ${model}, Node ${process.version}`,
    );
    for (const what of ['index rebuilt from the packs', 'opened with the index cache'])
      print(what, JSON.parse(inChild('measure', folder, blocks)) as IndexFigures);
    inChild('write-trees', folder, blocks);
    printMark(JSON.parse(inChild('mark', folder, blocks)) as MarkFigures);
    console.log(
      `load of the machine: ${os
        .loadavg()
        .map((load) => load.toFixed(1))
        .join(', ')}`,
    );
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

/** Does a step in a process of its own; what it printed. */
function inChild(step: string, folder: string, blocks: number): string {
  const args = [__filename, '--step', step, '--folder', folder, '--blocks', String(blocks)];
  return execFileSync(process.execPath, args, { encoding: 'utf8', maxBuffer: 1024 * 1024, stdio: ['ignore', 'pipe', 'inherit'] });
}

const mib = (bytes: number) => `${Math.round(bytes / 1024 / 1024)} MiB`;

function printMark(figures: MarkFigures): void {
  console.log(
    `marked: ${seconds(figures.markMs)} (${seconds(figures.markCpuMs)} of processor time), ${figures.disks} disks, ${figures.packs} packs, marks hold ${mib(figures.heldBytes)}, ` +
      `RSS ${mib(figures.rssBytes)} before, at most ${mib(figures.maxRssBytes)}`,
  );
}

function print(what: string, figures: IndexFigures): void {
  console.log(
    `${what}: ${seconds(figures.openMs)} (${seconds(figures.openCpuMs)} of processor time), ${figures.packs} packs, ${figures.entries} entries, holds ${mib(figures.heldBytes)}, RSS ${mib(figures.rssBytes)} (at most ${mib(figures.maxRssBytes)}), ` +
      `${Math.round(figures.hitsPerSecond)} hits/s, ${Math.round(figures.missesPerSecond)} misses/s, cache ${mib(figures.cacheBytes)}`,
  );
}

const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;

void main();
