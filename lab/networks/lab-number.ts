import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mostLabs } from './network-plan';

/**
 * Which lab has which number on this machine: one file per number in a folder that does not outlive the machine's run, as network
 * namespaces and bridges do not either. A number whose lab is gone is free again once its networks are taken down.
 */
export const claimsFolder = '/run/tidemark-lab';

export interface Claim {
  readonly dataDir: string;
  readonly pid: number;
  /** Clock ticks since boot; with the pid it names a process for good. */
  readonly startTime: string;
}

const forgottenAfterMs = 3_600_000;

/** The number that this directory had before, or a free one, beginning with one that comes from its name. */
export function claimNumber(dataDir: string): number {
  mkdirSync(claimsFolder, { recursive: true, mode: 0o700 });
  const claim: Claim = { dataDir, pid: process.pid, startTime: startTimeOf(process.pid) ?? '' };
  for (const [number, known] of claims()) {
    if (known.dataDir === dataDir) {
      writeFileSync(claimFile(number), JSON.stringify(claim));
      return number;
    }
  }
  const first = createHash('sha256').update(dataDir).digest().readUInt16BE(0) % mostLabs;
  for (let step = 0; step < mostLabs; step += 1) {
    const number = (first + step) % mostLabs;
    try {
      writeFileSync(claimFile(number), JSON.stringify(claim), { flag: 'wx' });
      return number;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
  throw new Error('All numbers of labs are in use.');
}

export function releaseNumber(number: number): void {
  rmSync(claimFile(number), { force: true });
}

/**
 * Numbers of labs that will not come back: the process is dead, and its directory is gone or nobody has used the number for an hour while
 * none of its hosts' processes live.
 */
export function abandonedNumbers(): { readonly number: number; readonly dataDir: string }[] {
  return claims().flatMap(([number, claim]) => {
    const alive = claim.startTime !== '' && startTimeOf(claim.pid) === claim.startTime;
    if (alive) return [];
    const isOld = Date.now() - statSync(claimFile(number)).mtimeMs > forgottenAfterMs;
    return !existsSync(claim.dataDir) || (isOld && !anyProcessOf(claim.dataDir)) ? [{ number, dataDir: claim.dataDir }] : [];
  });
}

function claims(): [number, Claim][] {
  if (!existsSync(claimsFolder)) return [];
  return readdirSync(claimsFolder).flatMap((name): [number, Claim][] => {
    const number = Number(/^(\d+)\.json$/.exec(name)?.[1]);
    if (!Number.isInteger(number)) return [];
    try {
      return [[number, JSON.parse(readFileSync(join(claimsFolder, name), 'utf8')) as Claim]];
    } catch {
      return []; // just being written, or released
    }
  });
}

const claimFile = (number: number): string => join(claimsFolder, `${number}.json`);

function anyProcessOf(dataDir: string): boolean {
  const folder = join(dataDir, 'hosts', 'run');
  if (!existsSync(folder)) return false;
  return readdirSync(folder).some((name) => {
    if (!name.endsWith('.json')) return false;
    try {
      const { pid, startTime } = JSON.parse(readFileSync(join(folder, name), 'utf8')) as Claim;
      return startTimeOf(pid) === startTime;
    } catch {
      return false;
    }
  });
}

function startTimeOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}
