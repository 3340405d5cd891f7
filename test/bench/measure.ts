import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { peakMemoryBytes } from '../harness/child';

/** What one case cost. */
export interface Cost {
  readonly wallSeconds: number;
  /** User and system time of all processes concerned. */
  readonly cpuSeconds: number;
  /** Largest resident memory, summed over the processes concerned. */
  readonly peakBytes: number;
}

/** Runs a program to its end under `time`; throws when it fails. Memory is the largest of any one process in it. */
export async function measureCommand(command: readonly string[], options: { cwd: string; env?: NodeJS.ProcessEnv }): Promise<Cost> {
  const startedAt = performance.now();
  const child = spawn('/usr/bin/time', ['-f', '\n%U %S %M', ...command], {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (text: Buffer) => (said = (said + text.toString('utf8')).slice(-4000)));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  const wallSeconds = (performance.now() - startedAt) / 1000;
  const figures = /(\d+\.\d+) (\d+\.\d+) (\d+)\s*$/.exec(said);
  if (code !== 0 || !figures) throw new Error(`${command.join(' ')} ended with ${code}: ${said}`);
  return { wallSeconds, cpuSeconds: Number(figures[1]) + Number(figures[2]), peakBytes: Number(figures[3]) * 1024 };
}

/** Measures long-lived processes over a piece of work done by them. */
export async function measureProcesses(pids: readonly number[], work: () => Promise<void>): Promise<Cost> {
  for (const pid of pids) fs.writeFileSync(`/proc/${pid}/clear_refs`, '5'); // the peak starts again at the present size
  const before = pids.reduce((sum, pid) => sum + cpuSecondsOf(pid), 0);
  const startedAt = performance.now();
  await work();
  const wallSeconds = (performance.now() - startedAt) / 1000;
  const cpuSeconds = pids.reduce((sum, pid) => sum + cpuSecondsOf(pid), 0) - before;
  return { wallSeconds, cpuSeconds, peakBytes: pids.reduce((sum, pid) => sum + peakMemoryBytes(pid), 0) };
}

/** `/proc/PID/stat` counts in ticks of 10 ms on every Linux there is. */
function cpuSecondsOf(pid: number): number {
  const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12]) + Number(fields[13]) + Number(fields[14])) / 100;
}

/** Bytes that a folder's files take, as `du` counts them. */
export function folderBytes(folder: string): number {
  let total = 0;
  for (const entry of fs.readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) total += fs.statSync(`${entry.parentPath}/${entry.name}`).blocks * 512;
  }
  return total;
}

/** The middle one; of two in the middle their mean. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2;
}
