import { pause } from '../../common/rpc/call';
import type { Clock } from '../operations/clock';

/** A clock that runs `factor` times as fast as the wall: minutes of waiting for an engine pass in milliseconds. */
export class QuickClock implements Clock {
  readonly #start = Date.now();

  constructor(private readonly factor = 500) {}

  now(): number {
    return this.#start + (performance.timeOrigin + performance.now() - this.#start) * this.factor;
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return pause(delayMs / this.factor, signal);
  }
}
