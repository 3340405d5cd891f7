import { pause } from '../../common/rpc/call';

/** Time as a port: flows wait for the engine for minutes, tests do not. */
export interface Clock {
  /** Milliseconds since the epoch, UTC: for stamps, and for nothing that is measured, as whoever sets the machine's clock moves it. */
  now(): number;
  /** Milliseconds since some moment, for waits and time-outs: neither the machine's clock nor a pause of this process moves it. */
  elapsed(): number;
  /** Resolves after the time; rejects with CANCELLED when the signal aborts. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

const lookMs = 1_000;
/** More than this between two looks is time in which the process did not run: it or its machine was stopped, or it got no processor. */
const longestStepMs = 5_000;

/**
 * The time that this process could do something in. After a pause of an hour an engine that was silent for a second has been silent for a
 * few, so that nothing is given up on that never had its chance.
 */
export class RunningTime {
  #seenAt: number;
  #elapsedMs = 0;

  constructor(private readonly monotonicMs: () => number = () => performance.now()) {
    this.#seenAt = monotonicMs();
  }

  /** To be called more often than every five seconds, or time is lost. */
  elapsed(): number {
    const now = this.monotonicMs();
    this.#elapsedMs += Math.min(Math.max(0, now - this.#seenAt), longestStepMs);
    this.#seenAt = now;
    return this.#elapsedMs;
  }
}

class SystemClock implements Clock {
  readonly #running = new RunningTime();

  constructor() {
    setInterval(() => this.#running.elapsed(), lookMs).unref();
  }

  now(): number {
    return Date.now();
  }

  elapsed(): number {
    return this.#running.elapsed();
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return pause(delayMs, signal);
  }
}

export const systemClock: Clock = new SystemClock();
