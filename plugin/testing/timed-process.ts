import type { Clock } from '../operations/clock';
import { Mortal } from './mortal';

/** A process whose time stands still from {@link stand} to {@link go}, but for what {@link pass} lets pass. */
export class TimedProcess extends Mortal {
  #clock: Clock | undefined;
  #standsAt: number | undefined;

  override clock(given: Clock): Clock {
    this.#clock = super.clock(given);
    const elapsed = () => this.#standsAt ?? given.elapsed();
    return { ...this.#clock, elapsed };
  }

  stand(): void {
    this.#standsAt = this.#clock?.elapsed();
  }

  go(): void {
    this.#standsAt = undefined;
  }

  pass(ms: number): void {
    if (this.#standsAt !== undefined) this.#standsAt += ms;
  }
}
