import Table from 'cli-table3';
import { caseNames as cases } from './peers';
import type { CaseName } from './peers';

export interface CaseFigures {
  readonly wallSeconds: number;
  readonly cpuSeconds: number;
  readonly peakBytes: number;
}

export interface ToolFigures {
  readonly name: string;
  readonly cases: Partial<Record<CaseName, CaseFigures>>;
  readonly storedBytes: number;
}

export interface Target {
  readonly what: string;
  /** What was found, in the words of `what`. */
  readonly found: number;
  readonly wanted: string;
  readonly held: boolean;
}

export interface BenchReport {
  readonly rounds: number;
  readonly imageBytes: number;
  readonly fileBytes: number;
  readonly seed: number;
  readonly tools: readonly ToolFigures[];
  readonly targets: readonly Target[];
}

const mib = 1024 * 1024;

/** What the project promises of itself on two cores, each judged when both tools took part. */
export function judge(tools: readonly ToolFigures[]): Target[] {
  const ours = tools.find((tool) => tool.name === 'tidemark');
  const targets: Target[] = [];
  const faster = (peer: string, name: CaseName, times: number) => {
    const theirs = tools.find((tool) => tool.name === peer)?.cases[name];
    const own = ours?.cases[name];
    if (!theirs || !own) return;
    const found = theirs.wallSeconds / own.wallSeconds;
    targets.push({ what: `${name}: times as fast as ${peer}`, found, wanted: `at least ${times}`, held: found >= times });
  };
  faster('restic', 'first', 2.5);
  faster('borg fastest', 'first', 1.2);
  // Within 1.3 times of the yardstick's time.
  faster('zstd -1 -T2', 'first', Number((1 / 1.3).toFixed(3)));
  faster('restic', 'second', 5);
  faster('restic', 'restore', 1.4);
  faster('restic', 'verify', 1);
  const restic = tools.find((tool) => tool.name === 'restic');
  if (ours && restic) {
    const found = ours.storedBytes / restic.storedBytes;
    targets.push({ what: 'stored bytes: share of restic’s', found, wanted: 'at most 1.12', held: found <= 1.12 });
  }
  if (ours) {
    const found = Math.max(...Object.values(ours.cases).map((figures) => figures.peakBytes)) / mib;
    targets.push({ what: 'peak memory of worker and mover, MiB', found, wanted: 'below 500', held: found < 500 });
  }
  return targets;
}

export function printTables(report: BenchReport): void {
  const out = (text: string) => process.stdout.write(`${text}\n`);
  const size = `${Math.round(report.imageBytes / mib)} MiB image with ${Math.round(report.fileBytes / mib)} MiB of files`;
  out(`\n${size}, seed ${report.seed}, medians of ${report.rounds} alternating rounds: wall s / CPU s / peak MiB\n`);
  const imageio = (tool: ToolFigures) => tool.name.endsWith('imageio');
  const bucket = (tool: ToolFigures) => tool.name.includes(' s3');
  const inFolder = report.tools.filter((tool) => !imageio(tool) && !bucket(tool));
  if (inFolder.length > 0) out(figuresTable(inFolder));
  const ours = report.tools.find((tool) => tool.name === 'tidemark');
  const peers = report.tools.filter((tool) => tool !== ours && !imageio(tool) && !bucket(tool));
  if (ours && peers.length > 0) {
    out('\nTimes as fast as each tool, wall (CPU); stored bytes as a share of the tool’s\n');
    out(ratiosTable(ours, peers));
  }
  const through = report.tools.filter(imageio);
  if (through.length > 0) {
    out('\nThrough oVirt’s image service (ovirt-imageio over qemu-nbd, whose own CPU is not counted)\n');
    out(figuresTable(through));
    for (const tool of through) if (peers.length > 0) out(ratiosTable(tool, peers));
  }
  const inBucket = report.tools.filter(bucket);
  if (inBucket.length > 0) {
    out('\nIn a bucket of an S3 server on this machine, through a gateway (the server’s own CPU is not counted)\n');
    out(figuresTable(inBucket));
    const [gateway, ...others] = inBucket;
    const compared = ours ? [ours, ...others] : others;
    if (gateway && compared.length > 0) out(ratiosTable(gateway, compared));
  }
  out('\nRates, MiB/s: backup and restore of the image, verify and collect of what is stored\n');
  out(ratesTable(report));
  out(
    '\ncollect: all points but the newest are removed. Ours marks and condemns; deleting packs, a request each, follows when the grace time is over.',
  );
  if (report.targets.length === 0) return;
  out('\nTargets\n');
  const targets = new Table({ head: ['', 'found', 'wanted', ''], style: { head: [], border: [] } });
  for (const target of report.targets) {
    targets.push([target.what, target.found.toFixed(2), target.wanted, target.held ? 'held' : 'MISSED']);
  }
  out(targets.toString());
}

function figuresTable(tools: readonly ToolFigures[]): string {
  const table = new Table({ head: ['', ...cases, 'stored MiB'], style: { head: [], border: [] } });
  for (const tool of tools) {
    const cells = cases.map((name) => {
      const found = tool.cases[name];
      return found ? `${found.wallSeconds.toFixed(2)} / ${found.cpuSeconds.toFixed(2)} / ${Math.round(found.peakBytes / mib)}` : '–';
    });
    table.push([tool.name, ...cells, String(Math.round(tool.storedBytes / mib))]);
  }
  return table.toString();
}

function ratesTable({ tools, imageBytes }: BenchReport): string {
  const table = new Table({ head: ['', ...cases], style: { head: [], border: [] } });
  for (const tool of tools) {
    const cells = cases.map((name) => {
      const seconds = tool.cases[name]?.wallSeconds;
      if (seconds === undefined) return '–';
      const bytes = name === 'verify' || name === 'collect' ? tool.storedBytes : imageBytes;
      return String(Math.round(bytes / mib / seconds));
    });
    table.push([tool.name, ...cells]);
  }
  return table.toString();
}

function ratiosTable(ours: ToolFigures, peers: readonly ToolFigures[]): string {
  const table = new Table({ head: [`${ours.name} against`, ...cases, 'stored'], style: { head: [], border: [] } });
  for (const peer of peers) {
    const cells = cases.map((name) => {
      const [theirs, own] = [peer.cases[name], ours.cases[name]];
      if (!theirs || !own) return '–';
      return `${(theirs.wallSeconds / own.wallSeconds).toFixed(2)} (${(theirs.cpuSeconds / own.cpuSeconds).toFixed(2)})`;
    });
    table.push([peer.name, ...cells, (ours.storedBytes / peer.storedBytes).toFixed(2)]);
  }
  return table.toString();
}
