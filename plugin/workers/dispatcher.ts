import type { Clock } from '../operations/clock';
import type { Fleet } from './fleet';
import type { DiskTask, Placement, TaskOutcome, TaskProgressReport } from './tasks';
import { WorkerErrors } from './worker-errors';

/** Why a task waits; the words of product defaults §7. */
export type WaitingReason = 'worker-slots' | 'worker-none' | '';

export interface DispatchOptions {
  readonly placement: Placement;
  readonly correlationId: string;
  readonly signal: AbortSignal;
  /** Told when the reason changes; empty once the task runs. */
  waiting(reason: WaitingReason): void;
  progress(report: TaskProgressReport): void;
}

interface Waiter {
  readonly placement: Placement;
  readonly granted: (slot: Slot) => void;
  readonly waiting: (reason: WaitingReason) => void;
  reason: WaitingReason;
}

export interface DispatcherLimits {
  /** Tasks that may wait for a slot, over all operations. */
  readonly maxWaiting: number;
  /** How long a task waits while there is no worker at all. */
  readonly noWorkerMs: number;
}

export const defaultDispatcherLimits: DispatcherLimits = { maxWaiting: 10_000, noWorkerMs: 10 * 60_000 };

/** A slot of one worker, held until released. */
export interface Slot {
  readonly workerId: string;
  release(): void;
}

/** Hands disk tasks to workers, first come first served. Waiting has a reason; nothing waits for ever without any worker. */
export class Dispatcher {
  readonly #waiters: Waiter[] = [];

  constructor(
    private readonly fleet: Fleet,
    private readonly clock: Clock,
    private readonly limits: DispatcherLimits = defaultDispatcherLimits,
  ) {
    fleet.onChanged(() => this.#serve());
  }

  /** A slot as soon as one is free. Throws CANCELLED, WORKER_NONE, WORKER_QUEUE_FULL. */
  async slot(options: Pick<DispatchOptions, 'placement' | 'signal' | 'waiting'>): Promise<Slot> {
    if (this.#waiters.length >= this.limits.maxWaiting) {
      throw WorkerErrors.WORKER_QUEUE_FULL({ limit: this.limits.maxWaiting }, { retryDelayMs: 60_000 });
    }
    let waiter: Waiter | undefined;
    const granted = new Promise<Slot>((resolve) => {
      waiter = { placement: options.placement, granted: resolve, waiting: options.waiting, reason: '' };
      this.#waiters.push(waiter);
    });
    this.#serve();
    const stop = new AbortController();
    try {
      return await Promise.race([granted, this.#hopeless(() => waiter?.reason ?? '', AbortSignal.any([options.signal, stop.signal]))]);
    } catch (error) {
      // Granted in the same turn as the abort: the slot must not be lost.
      void granted.then((slot) => slot.release());
      throw error;
    } finally {
      stop.abort();
      const index = waiter ? this.#waiters.indexOf(waiter) : -1;
      if (index >= 0) this.#waiters.splice(index, 1);
    }
  }

  /** A slot that is free right now, or undefined. Never overtakes those who wait. */
  trySlot(placement: Placement): Slot | undefined {
    if (this.#waiters.length > 0) return undefined;
    const reserved = this.fleet.reserve(placement);
    return typeof reserved === 'string' ? undefined : this.#slot(reserved.workerId);
  }

  /** Runs a task in a slot that the caller keeps. Resolves with its outcome, failures included. */
  async runIn(slot: Slot, task: DiskTask, options: Omit<DispatchOptions, 'placement' | 'waiting'>): Promise<TaskOutcome> {
    return await this.fleet.run(slot.workerId, task, options).done;
  }

  /** True while the slot's worker is connected. */
  isUsable(slot: Slot): boolean {
    return this.fleet.isUsable(slot.workerId);
  }

  #serve(): void {
    for (const waiter of [...this.#waiters]) {
      const reserved = this.fleet.reserve(waiter.placement);
      if (typeof reserved === 'string') {
        const reason: WaitingReason = reserved === 'none' ? 'worker-none' : 'worker-slots';
        if (waiter.reason !== reason) {
          waiter.reason = reason;
          waiter.waiting(reason);
        }
      } else {
        this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
        if (waiter.reason !== '') waiter.waiting('');
        waiter.granted(this.#slot(reserved.workerId));
      }
    }
  }

  /** Rejects once there was no worker at all for too long, or at the abort. */
  async #hopeless(reason: () => WaitingReason, signal: AbortSignal): Promise<never> {
    const step = Math.min(1000, this.limits.noWorkerMs);
    let since = this.clock.now();
    for (;;) {
      await this.clock.sleep(step, signal);
      const now = this.clock.now();
      if (reason() !== 'worker-none') since = now;
      else if (now - since >= this.limits.noWorkerMs) throw WorkerErrors.WORKER_NONE({ waitedMs: now - since });
    }
  }

  #slot(workerId: string): Slot {
    let held = true;
    return {
      workerId,
      release: () => {
        if (!held) return;
        held = false;
        this.fleet.release(workerId);
      },
    };
  }
}
