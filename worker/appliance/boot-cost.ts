import fs from 'node:fs';
import path from 'node:path';

/** What a start has taken so far, since the kernel began. */
export interface BootCost {
  readonly seconds: number;
  /** That CPUs computed, all of them together; the rest were waits, for the disk and for others. */
  readonly computedSeconds: number;
}

/** Of the times in /proc/stat, on x86. */
const ticksPerSecond = 100;

/** From /proc/uptime and /proc/stat, see proc(5); undefined where they are not to be had. */
export function bootCost(folder = '/proc'): BootCost | undefined {
  try {
    const seconds = Number(fs.readFileSync(path.join(folder, 'uptime'), 'utf8').split(' ')[0]);
    const stat = fs.readFileSync(path.join(folder, 'stat'), 'utf8');
    const cpus = stat.match(/^cpu\d+ /gm)?.length ?? 0;
    // user nice system idle iowait …
    const [, idle = Number.NaN, ioWait = Number.NaN] = /^cpu +(?:\d+ +){3}(\d+) +(\d+)/m.exec(stat)?.map(Number) ?? [];
    const computedSeconds = Math.max(0, seconds * cpus - (idle + ioWait) / ticksPerSecond);
    return cpus === 0 || !Number.isFinite(computedSeconds) ? undefined : { seconds, computedSeconds };
  } catch {
    return undefined;
  }
}
