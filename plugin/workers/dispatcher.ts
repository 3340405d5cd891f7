/**
 * Hands slots of workers to tasks. Owns the queue: who waits, why, and whose turn it is. Limits are slot-limits', the choice of a worker is
 * hops'. First come, first served, except that nobody waits behind a task that lacks something else: who waits for host A does not hold up
 * host B. So that nobody is overtaken for ever, the first one waiting of each platform gets what it lacks kept free once
 * `maxOvertaken` later ones went ahead of it. Nothing waits without a reason, nor for ever without any worker.
 */
import { CommonErrors } from '../../common/errors/common-errors';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { Clock } from '../operations/clock';
import type { ConnectedFleet, WorkerSlot } from './connected-fleet';
import { best, choose, hopsOf, isAllowed } from './hops';
import type { Candidate, Choice, HopReason } from './hops';
import { Look } from './look';
import type { WorkerSupply } from './ports';
import { HeldSlot } from './slot';
import type { Slot, SlotHolder } from './slot';
import { Tally, limitedPlaces } from './slot-limits';
import type { LimitedPlace } from './slot-limits';
import type { DiskTask, Placement, TaskOutcome } from './tasks';
import { Waiter } from './waiter';
import { WorkerErrors } from './worker-errors';
import type { RunOptions } from './worker-tasks';

export type { Slot } from './slot';

export interface SlotOptions extends SlotHolder {
  readonly signal: AbortSignal;
}

export interface DispatcherLimits {
  /** Tasks that may wait for a slot, over all operations. */
  readonly maxWaiting: number;
  /** How long a task waits while no worker may do it, and one beside the server could still come. */
  readonly noWorkerMs: number;
  /** The same where no such worker is allowed, or of any use. */
  readonly noHopMs: number;
  /** How long busy workers are waited for before a farther hop is taken. */
  readonly busyMs: number;
  /** How long a worker that is said to come is waited for. */
  readonly comingMs: number;
  readonly maxOvertaken: number;
}

export const defaultDispatcherLimits: DispatcherLimits = {
  maxWaiting: 10_000,
  noWorkerMs: 10 * 60_000,
  noHopMs: 60_000,
  busyMs: 60_000,
  comingMs: 30 * 60_000,
  maxOvertaken: 16,
};

const lookMs = 1000;

export class Dispatcher {
  readonly #waiters: Waiter[] = [];
  readonly #places = new Tally();
  #serving = false;
  #again = false;
  #taking = false;
  #clock: AbortController | undefined;

  constructor(
    private readonly fleet: ConnectedFleet,
    private readonly supply: WorkerSupply,
    private readonly clock: Clock,
    private readonly limits: DispatcherLimits = defaultDispatcherLimits,
  ) {
    fleet.onChanged(() => {
      // What we take ourselves gives nobody anything.
      if (!this.#taking) this.#serve();
    });
    supply.onChanged(() => this.#serve());
  }

  /** A slot as soon as one is free. Throws CANCELLED, WORKER_NONE, WORKER_QUEUE_FULL. */
  async slot(options: SlotOptions): Promise<Slot> {
    if (this.#waiters.length >= this.limits.maxWaiting) {
      throw WorkerErrors.WORKER_QUEUE_FULL({ limit: this.limits.maxWaiting }, { retryDelayMs: 60_000 });
    }
    return await this.#queue(options, options.signal, undefined);
  }

  /**
   * Another worker for a slot whose worker is gone or lost its task; what the task takes of host, domains and platform stays its own, and
   * its turn comes before those that have nothing yet. Throws CANCELLED, WORKER_NONE: then the slot has no worker.
   */
  async exchange(slot: Slot, signal: AbortSignal): Promise<void> {
    const held = heldOf(slot);
    await this.#queue(held.holder, signal, held);
  }

  /**
   * A slot that is free right now, or undefined: for a further disk of a task, which counts at the worker only. Goes no farther than
   * `beside`, and never takes what somebody waits for.
   */
  trySlot(placement: Placement, beside?: Slot): Slot | undefined {
    const look = new Look(this.fleet, this.supply);
    const policy = look.policy(placement.platformId);
    const free = look.candidates(placement).filter(({ workerId }) => !this.#isWaitedFor(workerId));
    for (const hop of hopsOf(placement)) {
      const worker = isAllowed(placement, hop, policy)
        ? best(
            free.filter((candidate) => candidate.hop === hop),
            undefined,
          )
        : undefined;
      if (worker) {
        const slot = new HeldSlot({ placement, waiting: () => undefined }, () => undefined);
        slot.assign(this.#takeFrom(worker.workerId), worker, beside?.hopReason);
        return slot;
      }
      if (hop === beside?.hop) return undefined;
    }
    return undefined;
  }

  /** Runs a task in a slot that the caller keeps. Resolves with its outcome, failures included. */
  async runIn(slot: Slot, task: DiskTask, options: RunOptions): Promise<TaskOutcome> {
    return await heldOf(slot).run(task, options);
  }

  /** True while the slot's worker is connected and has lost no task of it. */
  isUsable(slot: Slot): boolean {
    return heldOf(slot).isUsable;
  }

  #queue(holder: SlotHolder, signal: AbortSignal, held: HeldSlot | undefined): Promise<Slot> {
    const cancelled = () => CommonErrors.CANCELLED({ what: 'waiting for a worker' });
    return new Promise<Slot>((resolve, reject) => {
      const avoid = held?.lostBy;
      held?.unassign();
      if (signal.aborted) return reject(cancelled());
      const leave = () => {
        signal.removeEventListener('abort', abort);
        waiter.hasLeft = true;
        this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
        if (this.#waiters.length === 0) this.#clock?.abort();
      };
      const granted = (slot: HeldSlot) => {
        leave();
        resolve(slot);
      };
      const refused = (error: TidemarkError) => {
        leave();
        reject(error);
        this.#serve();
      };
      const abort = () => refused(cancelled());
      const waiter = new Waiter(holder, held, avoid, granted, refused);
      signal.addEventListener('abort', abort, { once: true });
      const firstWithoutPlaces = this.#waiters.findIndex(({ slot }) => slot === undefined);
      this.#waiters.splice(held && firstWithoutPlaces >= 0 ? firstWithoutPlaces : this.#waiters.length, 0, waiter);
      this.#serve();
      void this.#watch();
    });
  }

  /** Looks at all who wait. What changes meanwhile is looked at once more; what changes then, within a second. */
  #serve(): void {
    this.#again = true;
    if (this.#serving) return;
    this.#serving = true;
    try {
      for (let pass = 0; pass < 2 && this.#again; pass += 1) {
        this.#again = false;
        this.#serveAll();
      }
    } finally {
      this.#serving = false;
    }
  }

  #serveAll(): void {
    const look = new Look(this.fleet, this.supply);
    const kept = new Tally();
    const platforms = new Set<string>();
    for (const waiter of [...this.#waiters]) {
      if (waiter.hasLeft) continue;
      const worker = this.#turn(waiter, look, kept);
      if (worker) {
        this.#grant(waiter, worker.worker, worker.hopReason);
        look.forget();
      } else if (waiter.overtaken >= this.limits.maxOvertaken && !platforms.has(waiter.placement.platformId)) {
        platforms.add(waiter.placement.platformId);
        kept.take([...waiter.places.map(({ key }) => key), ...this.#preferred(waiter)]);
      }
    }
  }

  /** The worker for a task whose turn it is; else what it waits for is told, or that it waits in vain. */
  #turn(waiter: Waiter, look: Look, kept: Tally): Extract<Choice, { kind: 'worker' }> | undefined {
    const { placement } = waiter;
    const policy = look.policy(placement.platformId);
    const now = this.clock.elapsed();
    waiter.places = waiter.slot ? [] : limitedPlaces(placement, policy);
    waiter.candidates = look.candidates(placement);
    const full = waiter.places.find(({ key, limit }) => this.#places.of(key) + kept.of(key) >= limit);
    waiter.awaitsWorker = full === undefined;
    if (full) {
      waiter.busySince = waiter.comingSince = waiter.noneSince = undefined;
      waiter.reason = full.reason;
      return undefined;
    }
    const isOver = (since: number | undefined, ms: number) => since !== undefined && now - since >= ms;
    const candidates = waiter.candidates.map((c) => ({ ...c, freeSlots: c.freeSlots - kept.of(workerKey(c.workerId)) }));
    const choice = choose(placement, policy, candidates, {
      expectation: () => look.expectation(placement),
      busyForLong: isOver(waiter.busySince, this.limits.busyMs),
      comingForLong: isOver(waiter.comingSince, this.limits.comingMs),
      avoid: waiter.avoid,
    });
    if (choice.kind === 'worker') return choice;
    waiter.busySince = choice.kind === 'busy' ? (waiter.busySince ?? now) : undefined;
    waiter.noneSince = choice.kind === 'none' ? (waiter.noneSince ?? now) : undefined;
    if (choice.kind === 'coming') waiter.comingSince ??= now;
    waiter.reason = choice.kind === 'coming' ? choice.reason : choice.kind === 'busy' ? 'worker-slots' : 'worker-none';
    if (choice.kind === 'none') {
      const mayComeBySelf = hopsOf(placement).some((hop) => hop === 'beside-server' && isAllowed(placement, hop, policy));
      const waitedMs = now - (waiter.noneSince ?? now);
      if (waitedMs >= (mayComeBySelf ? this.limits.noWorkerMs : this.limits.noHopMs)) {
        waiter.refused(WorkerErrors.WORKER_NONE({ waitedMs, hops: choice.hops }));
      }
    }
    return undefined;
  }

  #grant(waiter: Waiter, worker: Candidate, hopReason: HopReason | undefined): void {
    const slot = waiter.slot ?? new HeldSlot(waiter.holder, this.#take(waiter.places));
    for (const earlier of this.#waiters.slice(0, this.#waiters.indexOf(waiter))) {
      if (earlier.needsOf(worker.workerId, waiter.places)) earlier.overtaken += 1;
    }
    slot.assign(this.#takeFrom(worker.workerId), worker, hopReason);
    waiter.reason = '';
    waiter.granted(slot);
  }

  #take(places: readonly LimitedPlace[]): () => void {
    const release = this.#places.take(places.map(({ key }) => key));
    return () => {
      release();
      this.#serve();
    };
  }

  #takeFrom(workerId: string): WorkerSlot {
    this.#taking = true;
    try {
      return this.fleet.take(workerId);
    } finally {
      this.#taking = false;
    }
  }

  #isWaitedFor(workerId: string): boolean {
    return this.#waiters.some((waiter) => (waiter.awaitsWorker || waiter.overtaken >= this.limits.maxOvertaken) && waiter.mayUse(workerId));
  }

  /** The worker whose next slot is kept for one that was overtaken too often. */
  #preferred({ placement, candidates }: Waiter): string[] {
    for (const hop of hopsOf(placement)) {
      const worker = candidates.filter((c) => c.hop === hop).sort((a, b) => b.freeSlots - a.freeSlots)[0];
      if (worker) return [workerKey(worker.workerId)];
    }
    return [];
  }

  /** Time passes for those who wait: patience ends, and what others forgot to tell is seen. */
  async #watch(): Promise<void> {
    if (this.#clock) return;
    const stop = (this.#clock = new AbortController());
    const { noWorkerMs, noHopMs, busyMs } = this.limits;
    try {
      while (this.#waiters.length > 0) {
        await this.clock.sleep(Math.min(lookMs, noWorkerMs, noHopMs, busyMs), stop.signal);
        this.#serve();
      }
    } catch {
      // Stopped, as nobody waits any more.
    } finally {
      this.#clock = undefined;
      if (this.#waiters.length > 0 && stop.signal.aborted) void this.#watch();
    }
  }
}

function workerKey(workerId: string): string {
  return `worker ${workerId}`;
}

function heldOf(slot: Slot): HeldSlot {
  if (slot instanceof HeldSlot) return slot;
  throw CommonErrors.INTERNAL({ what: 'a slot that is none of the dispatcher' });
}
