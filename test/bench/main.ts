/**
 * `npm run bench`: first backup, identical second backup, incremental, verify, restore and collect of a realistic disk image, in a folder and in a bucket, against
 * restic, borg and plain zstd on the same file in the same run. Rounds alternate between the tools; figures are medians; what matters are the ratios, since the machine differs.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { execFileSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { changeImage, makeImage } from './image';
import { median } from './measure';
import type { Cost } from './measure';
import { Borg, Restic, Zstd } from './peers';
import { caseNames } from './peers';
import type { CaseName, Contender } from './peers';
import { judge, printTables } from './report';
import type { BenchReport, CaseFigures } from './report';
import { S3Server } from './s3-server';
import { Tidemark, runName } from './tidemark';

const usage = `usage: npm run bench -- [--rounds N] [--size-mib N] [--seed N] [--only NAME[,NAME]] [--no-imageio] [--no-s3] [--folder DIR] [--json]
`;

interface Settings {
  readonly rounds: number;
  readonly sizeBytes: number;
  readonly seed: number;
  readonly only: readonly string[];
  readonly imageio: boolean;
  readonly s3: boolean;
  readonly folder: string;
  readonly json: boolean;
}

function settingsFrom(args: string[]): Settings {
  const { values } = parseArgs({
    args,
    options: {
      rounds: { type: 'string', default: '5' },
      'size-mib': { type: 'string', default: '2048' },
      seed: { type: 'string', default: '1' },
      only: { type: 'string', default: '' },
      'no-imageio': { type: 'boolean', default: false },
      'no-s3': { type: 'boolean', default: false },
      folder: { type: 'string', default: os.tmpdir() },
      json: { type: 'boolean', default: false },
    },
  });
  const whole = (name: string, text: string, least: number) => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < least) throw new Error(`--${name} must be a whole number of at least ${least}`);
    return value;
  };
  return {
    rounds: whole('rounds', values.rounds, 1),
    sizeBytes: whole('size-mib', values['size-mib'], 64) * 1024 * 1024,
    seed: whole('seed', values.seed, 0),
    only: values.only === '' ? [] : values.only.split(','),
    imageio: !values['no-imageio'],
    s3: !values['no-s3'],
    folder: values.folder,
    json: values.json,
  };
}

function contenders(settings: Settings, server: () => Promise<S3Server>): Contender[] {
  const all: Contender[] = [
    new Tidemark('tidemark', { source: 'device' }),
    new Tidemark('tidemark encrypted', { source: 'device', encrypted: true }),
    new Restic(),
    new Borg('borg fastest', 'none', ['-C', 'lz4', '--chunker-params', 'fixed,1048576']),
    new Borg('borg encrypted', 'repokey-blake2', ['-C', 'lz4']),
    new Zstd(),
  ];
  if (settings.imageio) all.push(new Tidemark('tidemark imageio', { source: 'imageio' }));
  if (settings.s3) {
    all.push(new Tidemark('tidemark s3', { source: 'device', server }));
    all.push(new Tidemark('tidemark s3 encrypted', { source: 'device', encrypted: true, server }));
    all.push(new Restic(server));
  }
  return settings.only.length === 0 ? all : all.filter((one) => settings.only.includes(one.name));
}

/** One tool's round: all of its cases on its own copy of the image, which ends as it began. */
async function round(
  contender: Contender,
  folder: string,
  image: string,
  number: number,
  settings: Settings,
  note: (figure: Figure) => void,
): Promise<void> {
  const own = path.join(folder, `image-${number}.raw`);
  execFileSync('cp', ['--sparse=never', image, own]);
  settle();
  await contender.prepare(path.join(folder, 'work'), own);
  try {
    for (const name of caseNames) {
      if (!contender.cases.includes(name)) continue;
      // The yardstick has no incremental: it restores what it packed first.
      if (name === 'incremental') changeImage(own, 0.06, settings.seed + 7);
      settle();
      const cost = await contender.run(name);
      note({ contender: contender.name, name, cost });
      if (name === 'first') note({ contender: contender.name, name: 'stored', bytes: await contender.storedBytes() });
    }
    if (spawnCompare(own, contender.restoredFile()) !== 0) throw new Error(`${contender.name} restored something else than it backed up`);
  } finally {
    await contender.cleanUp();
    fs.rmSync(own);
  }
}

type Figure =
  | { readonly contender: string; readonly name: CaseName; readonly cost: Cost }
  | { readonly contender: string; readonly name: 'stored'; readonly bytes: number };

/** Writing back what an earlier case left behind must not slow the next one. */
function settle(): void {
  execFileSync('sync');
}

function spawnCompare(a: string, b: string): number {
  try {
    execFileSync('cmp', ['-s', a, b]);
    return 0;
  } catch {
    return 1;
  }
}

function summarise(figures: readonly Figure[], names: readonly string[]): BenchReport['tools'] {
  return names.map((name) => {
    const own = figures.filter((figure) => figure.contender === name);
    const cases: Partial<Record<CaseName, CaseFigures>> = {};
    for (const one of caseNames) {
      const costs = own.flatMap((figure) => (figure.name === one ? [figure.cost] : []));
      if (costs.length === 0) continue;
      cases[one] = {
        wallSeconds: median(costs.map((c) => c.wallSeconds)),
        cpuSeconds: median(costs.map((c) => c.cpuSeconds)),
        peakBytes: Math.max(...costs.map((c) => c.peakBytes)),
      };
    }
    const stored = own.flatMap((figure) => (figure.name === 'stored' ? [figure.bytes] : []));
    return { name, cases, storedBytes: median(stored) };
  });
}

async function main(args: string[]): Promise<number> {
  let settings: Settings;
  try {
    settings = settingsFrom(args);
  } catch (error) {
    process.stderr.write(`bench: ${(error as Error).message}\n${usage}`);
    return 2;
  }
  const say = (text: string) => process.stderr.write(`${text}\n`);
  const load = os.loadavg()[0] ?? 0;
  if (load > 0.5) say(`others keep this machine busy (load ${load.toFixed(1)}): trust CPU seconds, not wall seconds`);
  const folder = path.join(settings.folder, runName());
  fs.mkdirSync(folder, { recursive: true });
  let started: Promise<S3Server> | undefined;
  const server = () => (started ??= S3Server.start(path.join(folder, 's3')));
  try {
    const image = path.join(folder, 'image.raw');
    say(`making an image of ${settings.sizeBytes / 1024 / 1024} MiB from files of this machine (seed ${settings.seed})`);
    const fileBytes = makeImage(image, settings.sizeBytes, settings.seed);
    const tools = contenders(settings, server);
    const figures: Figure[] = [];
    for (let number = 1; number <= settings.rounds; number += 1) {
      // Another one begins each time: whoever follows a heavy writer has it harder.
      const order = tools.map((_, index) => tools[(index + number - 1) % tools.length] as Contender);
      for (const tool of order) {
        await round(tool, folder, image, number, settings, (figure) => figures.push(figure));
        const last = figures.filter((f) => f.contender === tool.name && f.name !== 'stored').slice(-tool.cases.length);
        const walls = last.map((f) => (f.name === 'stored' ? '' : `${f.name} ${f.cost.wallSeconds.toFixed(2)} s`));
        say(`round ${number}/${settings.rounds} ${tool.name.padEnd(16)} ${walls.join(', ')}`);
      }
    }
    const summary = summarise(
      figures,
      tools.map((tool) => tool.name),
    );
    const report: BenchReport = {
      rounds: settings.rounds,
      imageBytes: settings.sizeBytes,
      fileBytes,
      seed: settings.seed,
      tools: summary,
      targets: judge(summary),
    };
    if (settings.json) process.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
    else printTables(report);
    return report.targets.every((target) => target.held) ? 0 : 1;
  } finally {
    await (await started?.catch(() => undefined))?.stop();
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

void main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`bench: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.exit(1);
  },
);
