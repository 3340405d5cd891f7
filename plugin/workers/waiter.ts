import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { Candidate } from './hops';
import type { HeldSlot, SlotHolder, WaitingReason } from './slot';
import type { LimitedPlace } from './slot-limits';
import type { Placement } from './tasks';

/** A task that waits for a slot. */
export class Waiter {
  /** What it needs, as of the last look. */
  places: readonly LimitedPlace[] = [];
  candidates: readonly Candidate[] = [];
  /** It has its places but no worker. */
  awaitsWorker = false;
  /** Slots that later ones got since, of what this one needs too. */
  overtaken = 0;
  /** Since when, in ms: all workers are busy; a worker is said to come; there is none. */
  busySince: number | undefined;
  comingSince: number | undefined;
  noneSince: number | undefined;
  /** Granted, refused or aborted. */
  hasLeft = false;
  #reason: WaitingReason = '';

  constructor(
    readonly holder: SlotHolder,
    /** Only its worker is exchanged: it has its places already. */
    readonly slot: HeldSlot | undefined,
    /** The worker that lost its task. */
    readonly avoid: string | undefined,
    readonly granted: (slot: HeldSlot) => void,
    readonly refused: (error: TidemarkError) => void,
  ) {}

  get placement(): Placement {
    return this.holder.placement;
  }

  /** Tells the holder when it changes. */
  set reason(reason: WaitingReason) {
    if (reason === this.#reason) return;
    this.#reason = reason;
    this.holder.waiting(reason);
  }

  /** True when a slot of that worker, counted in those places, is one that this task needs something of. */
  needsOf(workerId: string, places: readonly LimitedPlace[]): boolean {
    return this.mayUse(workerId) || places.some(({ key }) => this.places.some((own) => own.key === key));
  }

  mayUse(workerId: string): boolean {
    return this.candidates.some((candidate) => candidate.workerId === workerId);
  }
}
