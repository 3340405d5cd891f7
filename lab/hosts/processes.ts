import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { HostError } from './driver';
import type { FleetPaths } from './paths';

/**
 * The processes of a fleet, which outlive the process that started them: each is its own process group, writes to files, and has a
 * record `run/<name>.json` with pid and start time (together they name a process for good). A new registry over the same directory
 * finds them again and kills what nobody recorded. Does not know what the processes do.
 */
export interface ProcessRecord<Meta> {
  readonly name: string;
  readonly hostId: string;
  readonly pid: number;
  /** Clock ticks since boot, field 22 of /proc/pid/stat. */
  readonly startTime: string;
  readonly meta: Meta;
}

export interface ProcessStart<Meta> {
  /** Unique in the fleet, and a file name. */
  readonly name: string;
  readonly hostId: string;
  readonly command: readonly string[];
  /** Truncated at start. */
  readonly stdoutFile: string;
  readonly stderrFile: string;
  readonly meta: Meta;
}

/** A killed process that is not gone after this is stuck in the kernel. */
export const killMs = 60_000;

interface ProcStat {
  readonly state: string;
  readonly threads: number;
  readonly startTime: string;
}

function readStat(pid: number): ProcStat | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The command in brackets may hold blanks and brackets itself; fields count from behind it, beginning with the third.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0] ?? 'X', threads: Number(fields[17]), startTime: fields[19] ?? '' };
  } catch {
    return undefined;
  }
}

function isRunning(pid: number, startTime: string): boolean {
  const stat = readStat(pid);
  if (stat === undefined || stat.startTime !== startTime) return false;
  // A killed process may stay a zombie for seconds until its parent, or process 1, reaps it. It is dead only with its last thread: until
  // then it holds its ports and file locks, although the main thread is a zombie already.
  return (stat.state !== 'Z' && stat.state !== 'X') || stat.threads > 1;
}

export class ProcessRegistry {
  readonly #records = new Map<string, ProcessRecord<unknown>>();
  /** Kept so that node reaps those it started itself. */
  readonly #children = new Map<string, ChildProcess>();

  /** Another process had the directory before. */
  readonly #inherited: boolean;

  constructor(readonly paths: FleetPaths) {
    this.#inherited = claimDirectory(paths);
    for (const file of readdirSync(paths.run(''))) {
      if (!file.endsWith('.json')) continue;
      const record = parseRecord(readFileSync(paths.run(file), 'utf8'));
      if (record === undefined) rmSync(paths.run(file), { force: true });
      else this.#records.set(record.name, record);
    }
  }

  /** Records of a kind, dead ones too. */
  records<Meta>(prefix: string): ProcessRecord<Meta>[] {
    return [...this.#records.values()].filter((record) => record.name.startsWith(prefix)) as ProcessRecord<Meta>[];
  }

  record<Meta>(name: string): ProcessRecord<Meta> | undefined {
    return this.#records.get(name) as ProcessRecord<Meta> | undefined;
  }

  async start<Meta>(start: ProcessStart<Meta>): Promise<ProcessRecord<Meta>> {
    if (this.isAlive(start.name)) throw new HostError('QEMU_REFUSED', `Process ${start.name} runs already.`);
    mkdirSync(dirname(start.stdoutFile), { recursive: true });
    const out = openSync(start.stdoutFile, 'w');
    const err = start.stderrFile === start.stdoutFile ? out : openSync(start.stderrFile, 'w');
    try {
      const [file = '', ...args] = start.command;
      const child = spawn(file, args, { detached: true, stdio: ['ignore', out, err] });
      await new Promise<void>((resolve, reject) => {
        child.once('spawn', resolve);
        child.once('error', (cause) => reject(new HostError('HOST_DOWN', `Cannot start ${file}: ${cause.message}`, { cause })));
      });
      child.unref();
      const pid = child.pid!;
      const record: ProcessRecord<Meta> = {
        name: start.name,
        hostId: start.hostId,
        pid,
        startTime: readStat(pid)?.startTime ?? '',
        meta: start.meta,
      };
      this.#children.set(start.name, child);
      this.#write(record);
      return record;
    } finally {
      closeSync(out);
      if (err !== out) closeSync(err);
    }
  }

  /** Replaces what the owner keeps beside the process, durable against the death of the lab. */
  updateMeta<Meta>(name: string, meta: Meta): void {
    const record = this.#records.get(name);
    if (record !== undefined) this.#write({ ...record, meta });
  }

  isAlive(name: string): boolean {
    const record = this.#records.get(name);
    if (record === undefined) return false;
    return isRunning(record.pid, record.startTime);
  }

  signal(name: string, signal: NodeJS.Signals): void {
    const record = this.#records.get(name);
    if (record === undefined || !this.isAlive(name)) return;
    try {
      process.kill(record.pid, signal);
    } catch {
      // Gone between the look and the signal.
    }
  }

  /** True when the process ended in time. */
  async waitForEnd(name: string, timeoutMs: number): Promise<boolean> {
    const deadline = Date.now() + timeoutMs;
    while (this.isAlive(name)) {
      if (Date.now() >= deadline) return false;
      await delay(10);
    }
    return true;
  }

  /** Sends `signal`, then SIGKILL when it is not heeded in time; the record stays until {@link forget}. */
  async stop(name: string, signal: NodeJS.Signals, graceMs: number): Promise<void> {
    this.signal(name, signal);
    this.signal(name, 'SIGCONT'); // a stopped process would keep the signal pending
    if (await this.waitForEnd(name, graceMs)) return;
    this.signal(name, 'SIGKILL');
    if (!(await this.waitForEnd(name, killMs))) throw new HostError('HOST_DOWN', `Process ${name} cannot be killed.`);
  }

  forget(name: string): void {
    this.#records.delete(name);
    this.#children.delete(name);
    rmSync(this.paths.run(`${name}.json`), { force: true });
  }

  /**
   * Kills processes of this fleet that have no record: the lab died between starting and recording them. They are known by the
   * fleet's own directories in their command line.
   */
  sweepUnrecorded(): number {
    const known = new Set([...this.#records.values()].map((record) => record.pid));
    const strays = this.#processesOfFleet(/qemu-system|qemu-nbd|ovirt-imageio|^nsenter|--config-drive/).filter((pid) => !known.has(pid));
    for (const pid of strays) killQuietly(pid);
    return strays.length;
  }

  /**
   * A dead lab's qemu-img goes on to its end and would then write behind the back of the new one. Waited for, since killing it would make
   * bitmaps inconsistent; only what takes too long is killed.
   */
  async waitForTools(timeoutMs: number): Promise<void> {
    if (!this.#inherited) return;
    const deadline = Date.now() + timeoutMs;
    // A child that the dead lab had just forked does not look like a tool yet, so the quiet must last a moment.
    for (let quietLooks = 0; quietLooks < 5; quietLooks++) {
      const running = this.#processesOfFleet(/qemu-img|mke2fs/);
      if (running.length > 0) quietLooks = 0;
      if (Date.now() > deadline) for (const pid of running) killQuietly(pid);
      await delay(20);
    }
  }

  #processesOfFleet(programs: RegExp): number[] {
    return readdirSync('/proc')
      .map(Number)
      .filter((pid) => {
        if (!Number.isInteger(pid) || pid === process.pid) return false;
        try {
          const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
          const ours = (argument: string): boolean =>
            argument.includes(`${this.paths.socketDir}/`) || argument.includes(`${this.paths.dataDir}/`);
          return programs.test(command.slice(0, 3).join(' ')) && command.some(ours);
        } catch {
          return false; // ended while we looked
        }
      });
  }

  #write(record: ProcessRecord<unknown>): void {
    this.#records.set(record.name, record);
    const file = this.paths.run(`${record.name}.json`);
    writeFileSync(`${file}.new`, JSON.stringify(record));
    renameSync(`${file}.new`, file);
  }
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // Gone by itself.
  }
}

/**
 * Two labs over one directory would take each other's processes for left-overs. Within one process the caller has to know.
 * True when another process had the directory before.
 */
function claimDirectory(paths: FleetPaths): boolean {
  const file = paths.run('owner');
  let inherited = false;
  try {
    const [pid, startTime] = readFileSync(file, 'utf8').split(' ');
    inherited = Number(pid) !== process.pid;
    if (inherited && isRunning(Number(pid), startTime ?? ''))
      throw new HostError('HOST_DOWN', `${paths.dataDir} is in use by another lab, process ${pid ?? ''}.`);
  } catch (error) {
    if (error instanceof HostError) throw error; // anything else: nobody was here before
  }
  writeFileSync(file, `${process.pid} ${readStat(process.pid)?.startTime ?? ''}`);
  return inherited;
}

function parseRecord(text: string): ProcessRecord<unknown> | undefined {
  try {
    const value = JSON.parse(text) as Partial<ProcessRecord<unknown>>;
    if (
      typeof value.name === 'string' &&
      typeof value.hostId === 'string' &&
      typeof value.pid === 'number' &&
      typeof value.startTime === 'string'
    )
      return value as ProcessRecord<unknown>;
  } catch {
    // Cut off by a kill; its process falls to sweepUnrecorded.
  }
  return undefined;
}
