import { hasCode } from '../../common/errors/tidemark-error';
import type { WorkerSlot } from './connected-fleet';
import type { Candidate, Hop, HopReason } from './hops';
import type { DiskTask, Placement, TaskOutcome } from './tasks';
import { WorkerErrors } from './worker-errors';
import { failed } from './worker-tasks';
import type { RunOptions } from './worker-tasks';

/** Why a task waits; the words of docs/operations/worker-scheduling.md. Empty: it does not. */
export type WaitingReason =
  'platform-slots' | 'host-slots' | 'storage-slots' | 'worker-slots' | 'worker-starting' | 'worker-deploying' | 'worker-none' | '';

/**
 * Failures of a task that another worker may not have: the worker was lost, or it still has its slots full of tasks that were given up
 * (WORKER_SLOTS_TAKEN, declared by the worker).
 */
export const lostByWorker = ['WORKER_LOST', 'WORKER_SLOTS_TAKEN'] as const;

/** A slot of one worker, held until released. */
export interface Slot {
  /** Changes when the worker is exchanged for another. */
  readonly workerId: string;
  /** The worker's VM; undefined beside the server. */
  readonly vmId: string | undefined;
  readonly hop: Hop;
  /** Why no nearer hop was taken; undefined for the nearest. */
  readonly hopReason: HopReason | undefined;
  /** Idempotent. */
  release(): void;
}

export interface SlotHolder {
  readonly placement: Placement;
  waiting(reason: WaitingReason): void;
}

/** What the dispatcher keeps of a slot: the worker's slot, which can be exchanged, and what the task takes of hosts, domains and platform. */
export class HeldSlot implements Slot {
  #worker: { readonly slot: WorkerSlot; readonly at: Candidate; readonly hopReason: HopReason | undefined } | undefined;
  #lost = false;
  #released = false;

  constructor(
    readonly holder: SlotHolder,
    private readonly releasePlaces: () => void,
  ) {}

  get workerId(): string {
    return this.#worker?.slot.workerId ?? '';
  }

  get vmId(): string | undefined {
    return this.#worker?.at.vmId;
  }

  get hop(): Hop {
    return this.#worker?.at.hop ?? 'same-cluster';
  }

  get hopReason(): HopReason | undefined {
    return this.#worker?.hopReason;
  }

  get isReleased(): boolean {
    return this.#released;
  }

  /** Its worker could start a task, and lost none of this slot. */
  get isUsable(): boolean {
    return !this.#lost && this.#worker?.slot.isUsable() === true;
  }

  /** The worker that lost a task of this slot. */
  get lostBy(): string | undefined {
    return this.#lost ? this.workerId : undefined;
  }

  assign(slot: WorkerSlot, at: Candidate, hopReason: HopReason | undefined): void {
    this.unassign();
    this.#worker = { slot, at, hopReason };
    this.#lost = false;
    if (this.#released) slot.release();
  }

  /** Gives the worker up, and keeps the rest. */
  unassign(): void {
    const worker = this.#worker;
    this.#worker = undefined;
    worker?.slot.release();
  }

  async run(task: DiskTask, options: RunOptions): Promise<TaskOutcome> {
    const worker = this.#worker;
    if (!worker) return failed(WorkerErrors.WORKER_LOST({ workerId: 'none', during: 'a task not yet begun' }));
    const outcome = await worker.slot.run(task, options);
    if (hasCode(outcome.failure, ...lostByWorker) && worker === this.#worker) this.#lost = true;
    return outcome;
  }

  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.releasePlaces();
    this.#worker?.slot.release();
  }
}
