import type { Dispatcher, Slot, SlotOptions } from '../workers/dispatcher';
import type { Placement } from '../workers/tasks';

/**
 * The worker slots of one operation. It holds one from before anything is created in the engine to its end, so that an engine backup never
 * stands open for want of a worker; more are taken only while they are free, so that two operations cannot wait for each other.
 */
export class SlotPool {
  #held: Slot | undefined;

  constructor(
    private readonly dispatcher: Dispatcher,
    private readonly placement: Placement,
    private readonly waiting: SlotOptions['waiting'],
  ) {}

  /** Waits for the first slot. Throws CANCELLED, WORKER_NONE, WORKER_QUEUE_FULL. */
  async reserve(signal: AbortSignal): Promise<void> {
    if (this.#held) {
      if (!this.dispatcher.isUsable(this.#held)) await this.dispatcher.exchange(this.#held, signal);
      return;
    }
    this.#held = await this.dispatcher.slot({ placement: this.placement, signal, waiting: this.waiting });
  }

  /**
   * Runs `work` over all items, as many at a time as there are slots, up to `parallel`. The first failure aborts the others; rejects with it
   * once all have ended.
   */
  async each<T>(
    items: readonly T[],
    parallel: number,
    signal: AbortSignal,
    work: (item: T, slot: Slot, signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const queue = [...items];
    const failures: unknown[] = [];
    const stop = new AbortController();
    const either = AbortSignal.any([signal, stop.signal]);
    const lane = async (take: () => Promise<Slot | undefined>, give: (slot: Slot) => void): Promise<void> => {
      try {
        while (queue.length > 0 && failures.length === 0) {
          const slot = await take();
          if (!slot) return;
          const item = queue.shift();
          try {
            if (item !== undefined) await work(item, slot, either);
          } finally {
            give(slot);
          }
        }
      } catch (error) {
        failures.push(error);
        stop.abort(error);
      }
    };
    const held = lane(
      async () => {
        await this.reserve(either);
        return this.#held;
      },
      () => undefined,
    );
    const extra = Array.from({ length: Math.max(0, Math.min(parallel, items.length) - 1) }, () =>
      lane(
        () => Promise.resolve(this.dispatcher.trySlot(this.placement, this.#held)),
        (slot) => slot.release(),
      ),
    );
    await Promise.all([held, ...extra]);
    if (failures.length > 0) throw failures[0];
  }

  release(): void {
    this.#held?.release();
    this.#held = undefined;
  }
}
