import { spawn } from 'node:child_process';
import type { ChildProcess, SpawnOptions } from 'node:child_process';
import fs from 'node:fs';
import { lastWarnings, tellLogs } from './logs';

/** A started program: its end can be awaited, and it can be killed with everything it started. */
export interface Child {
  readonly pid: number;
  readonly exited: Promise<number | null>;
  /** SIGTERM, then SIGKILL after the time. */
  stop(timeoutMs?: number): Promise<void>;
  kill(): Promise<void>;
}

/** Starts a program under the running Node.js; output goes to `logFile`. */
export function startNode(script: string, args: readonly string[], logFile: string, options: SpawnOptions = {}): Child {
  return startProgram(process.execPath, [script, ...args], logFile, options);
}

/** Starts a program; output goes to `logFile`. */
export function startProgram(program: string, args: readonly string[], logFile: string, options: SpawnOptions = {}): Child {
  const log = fs.openSync(logFile, 'a');
  tellLogs(logFile);
  const child: ChildProcess = spawn(program, [...args], { stdio: ['ignore', log, log], ...options });
  fs.closeSync(log);
  const { pid } = child;
  if (pid === undefined) {
    child.once('error', () => undefined);
    throw new Error(`${[program, ...args].join(' ')} did not start`);
  }
  const exited = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
  return {
    pid,
    exited,
    stop: async (timeoutMs = 60_000) => {
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
      await exited;
      clearTimeout(timer);
    },
    kill: async () => {
      child.kill('SIGKILL');
      await exited;
    },
  };
}

/**
 * Polls until `look` gives something; throws after the time, with `what` and what the processes warned of last. The time is for what hangs: well over what
 * a machine takes that does much else, and stands still for seconds.
 */
export async function eventually<T>(
  what: string,
  timeoutMs: number,
  look: () => Promise<T | undefined> | T | undefined,
  everyMs = 100,
): Promise<T> {
  const until = performance.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      const found = await look();
      if (found !== undefined && found !== false) return found;
    } catch (error) {
      last = error;
    }
    if (performance.now() > until) {
      throw new Error(
        `${what} did not happen within ${timeoutMs} ms${last === undefined ? '' : `: ${last instanceof Error ? last.message : JSON.stringify(last)}`}${lastWarnings()}`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
}

/** Pids of a process's children whose command line contains `part`. */
export function childrenOf(parent: number, part: string): number[] {
  const found: number[] = [];
  for (const name of fs.readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = fs.readFileSync(`/proc/${name}/stat`, 'utf8');
      const after = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (after[0] === 'Z' || Number(after[1]) !== parent) continue;
      if (fs.readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ').includes(part)) found.push(Number(name));
    } catch {
      // Ended while we looked.
    }
  }
  return found;
}

/** Peak resident memory of a process so far, bytes. */
export function peakMemoryBytes(pid: number): number {
  const match = /VmHWM:\s+(\d+) kB/.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(match?.[1] ?? 0) * 1024;
}
