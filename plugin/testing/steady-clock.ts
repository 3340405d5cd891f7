import { CommonErrors } from '../../common/errors/common-errors';
import type { Clock } from '../operations/clock';
import { settled } from './manual-clock';

/** What passes between two looks at the wall at most, in milliseconds: more is a machine that stood still. */
const longestStepMs = 20;

interface Sleeper {
  readonly until: number;
  wake(): void;
}

/**
 * A clock that runs `pace` times as fast as the wall, so that minutes of waiting for an engine pass in milliseconds. It counts time in which this
 * process ran: with a pace of a thousand, a machine that stands still for a second would make it a quarter of an hour, and whoever waits would
 * give up. Nor does it pass over whoever sleeps: sleepers wake one by one, in order, at the time they asked for, and what each sets going
 * happens before the next one, so that an engine that needs two seconds has them before somebody who gives it twenty gives up.
 */
export class SteadyClock implements Clock {
  #time = Date.now();
  #wall = performance.now();
  /** In the order in which they wake. */
  readonly #sleepers: Sleeper[] = [];
  #running = false;
  #waking = false;

  constructor(private readonly pace = 500) {}

  now(): number {
    if (this.#waking) return this.#time;
    const next = this.#sleepers[0]?.until ?? Number.POSITIVE_INFINITY;
    const now = this.#time + this.#passed();
    if (now >= next) return Math.max(next, this.#time);
    this.#lookAtWall(now);
    return now;
  }

  elapsed(): number {
    return this.now();
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const cancelled = () => reject(CommonErrors.CANCELLED({ what: 'waiting' }));
      if (signal?.aborted === true) return cancelled();
      const leave = () => {
        this.#sleepers.splice(this.#sleepers.indexOf(sleeper), 1);
        signal?.removeEventListener('abort', abort);
      };
      const abort = () => {
        leave();
        cancelled();
      };
      const wake = () => {
        leave();
        resolve();
      };
      const sleeper: Sleeper = { until: this.now() + Math.max(0, delayMs), wake };
      const later = this.#sleepers.findIndex(({ until }) => until > sleeper.until);
      this.#sleepers.splice(later < 0 ? this.#sleepers.length : later, 0, sleeper);
      signal?.addEventListener('abort', abort, { once: true });
      if (!this.#running) void this.#run();
    });
  }

  async #run(): Promise<void> {
    this.#running = true;
    while (this.#sleepers.length > 0) {
      const nextMs = (this.#sleepers[0]!.until - this.#time - this.#passed()) / this.pace;
      await new Promise<void>((resolve) => {
        // What a killed process still waits for must not keep the test alive.
        setTimeout(resolve, Math.min(Math.max(nextMs, 0), longestStepMs)).unref();
      });
      await this.#wakeUntil(this.#time + this.#passed());
    }
    this.#running = false;
  }

  async #wakeUntil(time: number): Promise<void> {
    this.#waking = true;
    for (;;) {
      const next = this.#sleepers[0];
      if (!next || next.until > time) break;
      this.#time = Math.max(this.#time, next.until);
      next.wake();
      await settled();
    }
    this.#waking = false;
    this.#lookAtWall(Math.max(this.#time, time));
  }

  /** Of this clock since the last look at the wall. */
  #passed(): number {
    return Math.min(performance.now() - this.#wall, longestStepMs) * this.pace;
  }

  #lookAtWall(time: number): void {
    this.#time = time;
    this.#wall = performance.now();
  }
}
