import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { Service } from '../../common/lifecycle/lifecycle';
import type { Logger } from '../../common/log/logger';

export interface SupervisedChildOptions {
  /** plugin, mover, worker: for logs. */
  readonly name: string;
  /** Compiled entry file. */
  readonly script: string;
  /** Arguments of a start; called before each one, so that a fresh enrolment token can be laid ready. */
  prepare(): Promise<readonly string[]>;
  /** Standard error of the child, appended. */
  readonly logFile: string;
  readonly logger: Logger;
  readonly firstDelayMs?: number;
  readonly maxDelayMs?: number;
}

/** A child that ran this long counts as healthy: the next restart comes at once again. */
const healthyAfterMs = 30_000;
const stopTimeoutMs = 8_000;

/**
 * Keeps one program running: started again after each end, with back-off. The child holds a pipe on standard input, so that it ends when this
 * process is killed; it prints one JSON line on standard output when it is ready.
 */
export class SupervisedChild implements Service {
  #child: ChildProcess | undefined;
  #stopping = false;
  #restarts = 0;
  #delayMs: number;
  #timer: NodeJS.Timeout | undefined;
  #ready: Readonly<Record<string, unknown>> | undefined;
  readonly #waiting = new Set<(ready: Readonly<Record<string, unknown>>) => void>();

  constructor(private readonly options: SupervisedChildOptions) {
    this.#delayMs = options.firstDelayMs ?? 200;
  }

  get name(): string {
    return this.options.name;
  }

  get state(): { readonly pid: number | undefined; readonly ready: boolean; readonly restarts: number } {
    return { pid: this.#child?.pid, ready: this.#ready !== undefined, restarts: this.#restarts };
  }

  /** Starts it; does not wait until it is ready, since children may need this process to become so. */
  async start(): Promise<void> {
    this.#stopping = false;
    await this.#launch();
  }

  /** The child's ready line, of this start or the next one. */
  ready(): Promise<Readonly<Record<string, unknown>>> {
    return this.#ready ? Promise.resolve(this.#ready) : new Promise((resolve) => this.#waiting.add(resolve));
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#timer);
    const child = this.#child;
    if (child?.pid === undefined) return;
    const exited = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    // A runtime may hang at its exit (nodejs/node issue 54918): it has nothing left to save then.
    const timer = setTimeout(() => child.kill('SIGKILL'), stopTimeoutMs);
    await exited;
    clearTimeout(timer);
  }

  async #launch(): Promise<void> {
    let args: readonly string[];
    try {
      args = await this.options.prepare();
    } catch (error) {
      this.options.logger.error('child could not be prepared', { child: this.name, error });
      return this.#later();
    }
    if (this.#stopping) return;
    let child: ChildProcess;
    try {
      child = this.#spawn(args);
    } catch (error) {
      this.options.logger.error('child did not start', { child: this.name, error });
      return this.#later();
    }
    const startedMs = performance.now();
    this.#child = child;
    // Writing to a dead child's pipe must not end this process.
    child.stdin?.on('error', () => undefined);
    if (child.stdout) createInterface({ input: child.stdout }).on('line', (line) => this.#onLine(child, line));
    const ended = (how: object) => {
      if (this.#child !== child) return;
      this.#child = undefined;
      this.#ready = undefined;
      if (this.#stopping) return;
      this.options.logger.warn('child ended; it is started again', { child: this.name, ...how });
      if (performance.now() - startedMs > healthyAfterMs) this.#delayMs = this.options.firstDelayMs ?? 200;
      this.#restarts += 1;
      this.#later();
    };
    // A machine without room for one more process: there is no end of one that never began.
    child.once('error', (error) => {
      if (child.pid === undefined) ended({ error });
      else this.options.logger.warn('a signal did not reach a child', { child: this.name, error });
    });
    child.once('exit', (code, signal) => ended({ code, signal }));
    if (child.pid !== undefined) this.options.logger.info('child started', { child: this.name, pid: child.pid });
  }

  /** Throws what the system says. */
  #spawn(args: readonly string[]): ChildProcess {
    fs.mkdirSync(path.dirname(this.options.logFile), { recursive: true, mode: 0o700 });
    const log = fs.openSync(this.options.logFile, 'a', 0o600);
    try {
      return spawn(process.execPath, [this.options.script, ...args], { stdio: ['pipe', 'pipe', log] });
    } finally {
      fs.closeSync(log);
    }
  }

  #later(): void {
    if (this.#stopping) return;
    this.#timer = setTimeout(() => void this.#launch(), this.#delayMs);
    this.#delayMs = Math.min(this.#delayMs * 2, this.options.maxDelayMs ?? 5_000);
  }

  #onLine(child: ChildProcess, line: string): void {
    let parsed: unknown;
    try {
      parsed = JSON.parse(line);
    } catch {
      return;
    }
    if (this.#child !== child || typeof parsed !== 'object' || parsed === null || !('ready' in parsed)) return;
    this.#ready = parsed;
    for (const waiting of this.#waiting) waiting(this.#ready);
    this.#waiting.clear();
    this.options.logger.info('child is ready', { child: this.name });
  }
}
