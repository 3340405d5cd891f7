import { CommonErrors } from '../../common/errors/common-errors';
import type { Clock } from '../operations/clock';

/** A clock that runs `factor` times as fast as the wall: minutes of waiting for an engine pass in milliseconds. */
export class QuickClock implements Clock {
  readonly #start = Date.now();

  constructor(private readonly factor = 500) {}

  now(): number {
    return this.#start + (performance.timeOrigin + performance.now() - this.#start) * this.factor;
  }

  elapsed(): number {
    return this.now();
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const cancelled = () => reject(CommonErrors.CANCELLED({ what: 'waiting' }));
      if (signal?.aborted === true) return cancelled();
      const abort = () => {
        clearTimeout(timer);
        cancelled();
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener('abort', abort);
        resolve();
      }, delayMs / this.factor);
      // What a killed process still waits for must not keep the test alive.
      timer.unref();
      signal?.addEventListener('abort', abort, { once: true });
    });
  }
}
