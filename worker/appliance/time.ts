/** The clock: certificates and tickets are worth nothing when it is wrong. chrony sets it once before the worker starts, then keeps it. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import type { Logger } from '../../common/log/logger';
import { run } from './commands';

/** How long an answer is waited for at the start. */
const patienceSeconds = 6;

/** No port is opened, nothing is kept: the settings of both runs. */
const base = ['user root', 'cmdport 0', 'port 0', 'pidfile /run/tidemark/chronyd.pid'];

export class TimeKeeper {
  #child: ChildProcess | undefined;
  #ended = false;

  constructor(
    /** Names or addresses. */
    private readonly servers: readonly string[],
    private readonly logger: Logger,
  ) {}

  /** Sets the clock if a server answers in time, and goes on keeping it. Never fails: a wrong clock shows in the self-test. */
  async start(): Promise<void> {
    if (this.servers.length === 0) {
      this.logger.warn(`time: no time server is known; the clock is the host's, ${new Date().toISOString()}`);
      return;
    }
    const names = this.servers.join(', ');
    try {
      const once = this.servers.map((server) => `server ${server} iburst maxsamples 1`);
      const before = Date.now() - performance.now();
      await run('chronyd', ['-q', '-t', String(patienceSeconds), ...base, ...once], (patienceSeconds + 4) * 1000);
      const step = (Date.now() - performance.now() - before) / 1000;
      this.logger.info(`time: set by ${names}; the clock was ${Math.abs(step).toFixed(1)} s ${step < 0 ? 'fast' : 'slow'}`);
    } catch {
      this.logger.warn(
        `time: ${names} did not answer in ${patienceSeconds} s; the clock is the host's, ${new Date().toISOString()}. Allow UDP 123 to it`,
      );
    }
    this.#keep();
  }

  stop(): void {
    this.#ended = true;
    this.#child?.kill('SIGTERM');
  }

  #keep(): void {
    // A VM that was paused wakes with an old clock, so that a step must be allowed at any time.
    const always = ['makestep 1 -1', ...this.servers.map((server) => `server ${server} iburst`)];
    this.#child = spawn('chronyd', ['-n', ...base, ...always], { stdio: 'ignore' });
    const again = (what: string) => {
      if (this.#ended) return;
      this.logger.warn(`time: chronyd ${what}; it is started again`);
      setTimeout(() => !this.#ended && this.#keep(), 30_000).unref();
    };
    const { pid } = this.#child;
    // One that could not be started, for want of memory say, has no exit.
    this.#child.once('error', (error) => pid === undefined && again(`cannot be started (${error.message})`));
    this.#child.once('exit', (code) => again(`ended with ${code}`));
  }
}
