import { pause } from '../../common/rpc/call';

/** Time as a port: flows wait for the engine for minutes, tests do not. */
export interface Clock {
  /** Milliseconds since the epoch, UTC: for stamps, and for nothing that is measured, as whoever sets the machine's clock moves it. */
  now(): number;
  /** Milliseconds since some moment, for waits and time-outs: neither the machine's clock nor a pause of this process moves it. */
  elapsed(): number;
  /** Resolves after the time, as {@link elapsed} counts it; rejects with CANCELLED when the signal aborts. */
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

/** The machine's. */
export class SystemClock implements Clock {
  constructor(
    private readonly running = new RunningTime(),
    private readonly wait: typeof pause = pause,
  ) {
    setInterval(() => this.running.elapsed(), lookMs).unref();
  }

  now(): number {
    return Date.now();
  }

  elapsed(): number {
    return this.running.elapsed();
  }

  /**
   * In pieces, each of which counts as one step: a timer of a quarter of an hour that runs out while the process is stopped fires before
   * anything that arrived meanwhile is read, the very answer that was waited for among it.
   */
  async sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    const until = this.elapsed() + delayMs;
    let leftMs = delayMs;
    do {
      await this.wait(Math.min(leftMs, longestStepMs), signal);
      leftMs = until - this.elapsed();
    } while (leftMs > 0);
  }
}

export const systemClock: Clock = new SystemClock();
