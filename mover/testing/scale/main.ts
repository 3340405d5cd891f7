/**
 * `npm run scale [-- --blocks 10000000 --folder /tmp]`: makes a repository of that many blocks without data, opens it without and with an index
 * cache, each in a process of its own, prints what that cost, and removes it. docs/scale.md has the figures.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { makeLarge, measureIndex, type IndexFigures } from './measure-index';

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
  const folder = fs.mkdtempSync(path.join(values.folder, 'tidemark-scale-'));
  try {
    const startedAt = performance.now();
    await makeLarge(folder, blocks);
    const { model } = os.cpus()[0] as os.CpuInfo;
    console.log(
      `${blocks} blocks made in ${seconds(performance.now() - startedAt)}; ${os.cpus().length} × ${model}, Node ${process.version}`,
    );
    for (const what of ['index rebuilt from the packs', 'opened with the index cache']) print(what, measureInChild(folder, blocks));
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

function measureInChild(folder: string, blocks: number): IndexFigures {
  const args = [__filename, '--step', 'measure', '--folder', folder, '--blocks', String(blocks)];
  return JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8', maxBuffer: 1024 * 1024 })) as IndexFigures;
}

function print(what: string, figures: IndexFigures): void {
  const mib = (bytes: number) => `${Math.round(bytes / 1024 / 1024)} MiB`;
  console.log(
    `${what}: ${seconds(figures.openMs)} (${seconds(figures.openCpuMs)} of processor time), ${figures.packs} packs, ${figures.entries} entries, holds ${mib(figures.heldBytes)}, RSS ${mib(figures.rssBytes)} (at most ${mib(figures.maxRssBytes)}), ` +
      `${Math.round(figures.hitsPerSecond)} hits/s, ${Math.round(figures.missesPerSecond)} misses/s, cache ${mib(figures.cacheBytes)}`,
  );
}

const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;

void main();
