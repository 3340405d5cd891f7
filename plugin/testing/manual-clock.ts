import { CommonErrors } from '../../common/errors/common-errors';
import type { Clock } from '../operations/clock';

/** A clock that stands still until the test moves it. */
export class ManualClock implements Clock {
  #now = 1_800_000_000_000;
  #elapsed = 0;
  readonly #sleepers = new Set<{ readonly until: number; wake(): void }>();

  now(): number {
    return this.#now;
  }

  elapsed(): number {
    return this.#elapsed;
  }

  /** Somebody sets the machine's clock; no time passes. */
  set(byMs: number): void {
    this.#now += byMs;
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const cancelled = () => reject(CommonErrors.CANCELLED({ what: 'waiting' }));
      if (signal?.aborted === true) return cancelled();
      const end = () => {
        this.#sleepers.delete(sleeper);
        signal?.removeEventListener('abort', abort);
      };
      const abort = () => {
        end();
        cancelled();
      };
      const wake = () => {
        end();
        resolve();
      };
      const sleeper = { until: this.#elapsed + delayMs, wake };
      this.#sleepers.add(sleeper);
      signal?.addEventListener('abort', abort, { once: true });
    });
  }

  /** Lets time pass second by second, so that whoever sleeps in a loop is woken as often as in life. */
  async advance(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 1000) {
      this.#now += Math.min(1000, left);
      this.#elapsed += Math.min(1000, left);
      for (const sleeper of [...this.#sleepers]) if (sleeper.until <= this.#elapsed) sleeper.wake();
      await settled();
    }
  }
}

/** What was set going in this process has happened: promises, streams in memory. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) await new Promise<void>((resolve) => setImmediate(resolve));
}
