import { QuickClock } from './quick-clock';

/** What one look at the clock may advance it by, in milliseconds of the wall. */
const longestStepMs = 20;

/**
 * A quick clock that does not jump when the machine stands still: with a factor of a thousand, a pause of half a second would be eight minutes,
 * and whoever waits would give up. It must be looked at regularly, as every loop that waits does.
 */
export class SteadyClock extends QuickClock {
  #wall = performance.now();
  #time = Date.now();

  constructor(private readonly pace: number) {
    super(pace);
  }

  override now(): number {
    const wall = performance.now();
    this.#time += Math.min(wall - this.#wall, longestStepMs) * this.pace;
    this.#wall = wall;
    return this.#time;
  }
}
