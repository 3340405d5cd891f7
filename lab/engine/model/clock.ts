/**
 * Time of the simulated engine. Dates are the machine's; durations are engine milliseconds, which pass `factor` times as fast.
 */
export interface Timer {
  cancel(): void;
}

/** `again` keeps the poller going with a growing pause, `soon` starts over at one second, `done` ends it. */
export type PollResult = 'again' | 'soon' | 'done';

const FIRST_POLL_MS = 1_000;
const LAST_POLL_MS = 10_000;

export class EngineClock {
  private readonly timers = new Set<NodeJS.Timeout>();
  private stopped = false;

  constructor(
    private factorValue: number,
    private readonly onError: (error: unknown) => void,
  ) {}

  get factor(): number {
    return this.factorValue;
  }

  /** Takes effect for timers set from now on. */
  setFactor(factor: number): void {
    this.factorValue = factor;
  }

  /** Epoch milliseconds of the machine. */
  now(): number {
    return Date.now();
  }

  /** Engine milliseconds that passed since a date. */
  elapsedMs(since: number): number {
    return (Date.now() - since) * this.factorValue;
  }

  /** Runs `work` once after that many engine milliseconds; its failure goes to the engine's log. */
  after(delayMs: number, work: () => void | Promise<void>): Timer {
    if (this.stopped) {
      return { cancel: () => undefined };
    }
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      Promise.resolve()
        .then(work)
        .catch((error: unknown) => {
          this.onError(error);
        });
    }, delayMs / this.factorValue);
    this.timers.add(timer);
    return {
      cancel: () => {
        clearTimeout(timer);
        this.timers.delete(timer);
      },
    };
  }

  /** Resolves after that many engine milliseconds; never when the engine stops meanwhile. */
  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(delayMs, resolve);
    });
  }

  /**
   * The engine's command callback loop: first after 1 s, then growing to 10 s. A tick that throws is logged and counts as `again`.
   * Ticks of one poller never overlap.
   */
  poll(tick: () => PollResult | Promise<PollResult>): Timer {
    let cancelled = false;
    let current: Timer;
    const schedule = (pauseMs: number): void => {
      current = this.after(pauseMs, async () => {
        let result: PollResult = 'again';
        try {
          result = await tick();
        } catch (error) {
          this.onError(error);
        }
        if (!cancelled && result !== 'done') {
          schedule(result === 'soon' ? FIRST_POLL_MS : Math.min(pauseMs * 2, LAST_POLL_MS));
        }
      });
    };
    schedule(FIRST_POLL_MS);
    return {
      cancel: () => {
        cancelled = true;
        current.cancel();
      },
    };
  }

  /** Ends every timer and poller; nothing set afterwards ever fires. */
  stop(): void {
    this.stopped = true;
    for (const timer of this.timers) {
      clearTimeout(timer);
    }
    this.timers.clear();
  }
}
