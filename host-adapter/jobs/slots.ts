import { CommonErrors } from '../../common/errors/common-errors';

/** A bound on how much runs at a time. */
export interface Limit {
  /** e.g. `repository:<id>`. */
  readonly name: string;
  readonly limit: number;
  /** Shown while something waits for it. */
  readonly reason: string;
}

/** Counting limits by name. Waiters are served in the order they came, except that one who waits for something else is passed. */
export class Slots {
  readonly #used = new Map<string, number>();
  readonly #waiters = new Set<() => boolean>();

  /** Takes one of each; waits, telling the reason when it changes. Throws CANCELLED. Call the result once to give back. */
  take(limits: readonly Limit[], waiting: (reason: string) => void, signal: AbortSignal): Promise<() => void> {
    return new Promise((resolve, reject) => {
      let told = '';
      const attempt = (): boolean => {
        const full = limits.find((one) => (this.#used.get(one.name) ?? 0) >= one.limit);
        if (full) {
          if (full.reason !== told) waiting((told = full.reason));
          return false;
        }
        this.#waiters.delete(attempt);
        signal.removeEventListener('abort', abort);
        resolve(this.occupy(limits));
        return true;
      };
      const abort = () => {
        this.#waiters.delete(attempt);
        reject(CommonErrors.CANCELLED({ what: 'waiting for a slot' }));
      };
      if (signal.aborted) return abort();
      signal.addEventListener('abort', abort, { once: true });
      this.#waiters.add(attempt);
      attempt();
    });
  }

  /** Takes one of each, beyond the limit if need be: for work that was found running. */
  occupy(limits: readonly Limit[]): () => void {
    for (const { name } of limits) this.#used.set(name, (this.#used.get(name) ?? 0) + 1);
    let given = false;
    return () => {
      if (given) return;
      given = true;
      for (const { name } of limits) {
        const left = (this.#used.get(name) ?? 1) - 1;
        if (left > 0) this.#used.set(name, left);
        else this.#used.delete(name);
      }
      for (const waiter of [...this.#waiters]) waiter();
    };
  }
}
