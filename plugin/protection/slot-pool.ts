import { hasCode } from '../../common/errors/tidemark-error';
import type { Dispatcher, Slot, SlotOptions } from '../workers/dispatcher';
import { lostByWorker } from '../workers/slot';
import type { Placement } from '../workers/tasks';

/** How often an item is begun again because its worker was lost. */
const retries = 2;

interface Queued<T> {
  readonly item: T;
  readonly losses: readonly unknown[];
}

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
    /** Hears of a worker that was lost, while its item is begun again. */
    private readonly lost: (workerId: string, error: unknown) => void = () => undefined,
  ) {}

  /** The slot that it holds for good. */
  get slot(): Slot | undefined {
    return this.#held;
  }

  /** Waits for the first slot. Throws CANCELLED, WORKER_NONE, WORKER_QUEUE_FULL. */
  async reserve(signal: AbortSignal): Promise<void> {
    if (this.#held) {
      if (!this.dispatcher.isUsable(this.#held)) await this.dispatcher.exchange(this.#held, signal);
      return;
    }
    this.#held = await this.dispatcher.slot({ placement: this.placement, signal, waiting: this.waiting });
  }

  /**
   * Runs `work` over all items, as many at a time as there are slots, up to `parallel`. An item whose worker is lost is begun again with
   * another one; what `work` had made must be gone by then. Any other failure aborts the rest; rejects with the first once all have ended.
   */
  async each<T>(
    items: readonly T[],
    parallel: number,
    signal: AbortSignal,
    work: (item: T, slot: Slot, signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const queue = items.map((item): Queued<T> => ({ item, losses: [] }));
    const failures: unknown[] = [];
    const stop = new AbortController();
    const either = AbortSignal.any([signal, stop.signal]);
    const lane = async (take: () => Promise<Slot | undefined>, give: (slot: Slot) => void): Promise<void> => {
      try {
        while (queue.length > 0 && failures.length === 0) {
          const slot = await take();
          if (!slot) return;
          const next = queue.shift();
          try {
            if (next) await work(next.item, slot, either);
          } catch (error) {
            if (!next || !isWorkerGone(error) || next.losses.length >= retries || either.aborted) throw error;
            this.lost(slot.workerId, error);
            queue.push({ ...next, losses: [...next.losses, error] });
          } finally {
            give(slot);
          }
        }
      } catch (error) {
        failures.push(error);
        stop.abort(error);
      }
    };
    const held = () =>
      lane(
        async () => {
          const lost = queue[0]?.losses.at(-1);
          await this.reserve(either).catch((error: unknown) => {
            // There is no other worker: what became of the first one says more.
            throw hasCode(error, 'WORKER_NONE') && lost !== undefined ? lost : error;
          });
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
    await Promise.all([held(), ...extra]);
    // Given back by a lane that found no other slot.
    while (queue.length > 0 && failures.length === 0) await held();
    if (failures.length > 0) throw failures[0];
  }

  release(): void {
    this.#held?.release();
    this.#held = undefined;
  }
}

/** Nothing is wrong with the disk: another worker can do it. */
export function isWorkerGone(error: unknown): boolean {
  return hasCode(error, ...lostByWorker, 'ATTACH_WORKER_VM_STATE');
}
