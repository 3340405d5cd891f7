import { CommonErrors } from '../../common/errors/common-errors';

/** One at a time per key, in the order of asking. */
export class KeyedLock {
  readonly #tails = new Map<string, Promise<unknown>>();

  /** Somebody has it, or waits for it. */
  isTaken(key: string): boolean {
    return this.#tails.has(key);
  }

  /** Runs `work` when everybody before has ended, well or not. Throws CANCELLED, at once, when the signal aborts before its turn. */
  async run<T>(key: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const mine = turn(before, signal).then(work);
    // Who left the queue does not let those behind past the one before.
    const tail = Promise.allSettled([before, mine]);
    this.#tails.set(key, tail);
    void tail.then(() => {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    });
    return await mine;
  }
}

function turn(before: Promise<unknown>, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(CommonErrors.CANCELLED({ what: 'waiting for another operation' }));
    if (signal?.aborted === true) return abort();
    signal?.addEventListener('abort', abort, { once: true });
    const go = () => {
      signal?.removeEventListener('abort', abort);
      resolve();
    };
    void before.then(go, go);
  });
}
