/**
 * Brings engines back to order after crashes and failed clean-ups: every journal entry that no running operation owns is ended, removed
 * and seen to be gone. Owns the loop, the report and the advice; how something is removed is `cleaner.ts`. It never looks for things that
 * merely resemble ours.
 */
import { randomUUID } from 'node:crypto';
import type { Logger } from '../../common/log/logger';
import { withCorrelation } from '../../common/log/correlation';
import type { Journal } from '../journal/journal';
import type { JournalEntry } from '../journal/records';
import type { Clock } from '../operations/clock';
import type { OperationRegistry } from '../operations/operation-registry';
import type { EventReporter } from '../tokens';
import type { Cleaner } from './cleaner';
import { janitorEvents } from './janitor-events';
import type { Settlement } from './settlement';

export interface Leftover {
  readonly platformId: string;
  /** image-transfer, attachment, backup, checkpoint, snapshot, disk, vm, disk-lock. */
  readonly kind: string;
  readonly id: string;
  readonly vmId: string;
  readonly operationId: string;
  readonly state: 'pending' | 'removed' | 'stuck';
  readonly message: string;
  readonly foundAt: number;
  readonly settledAt: number | undefined;
}

export interface JanitorPace {
  /** Between looks while something is pending, and while nothing is. */
  readonly busyMs: number;
  readonly idleMs: number;
  /** One look at one operation's leftovers. */
  readonly lookMs: number;
  /** Pending for longer than this is stuck: an administrator is told. It is tried on. */
  readonly stuckMs: number;
  /** How long a settled one stays in the report. */
  readonly keepMs: number;
}

export const defaultJanitorPace: JanitorPace = {
  busyMs: 5_000,
  idleMs: 60_000,
  lookMs: 90_000,
  stuckMs: 15 * 60_000,
  keepMs: 24 * 3_600_000,
};

/** Operations of one platform whose leftovers are worked on at the same time. */
const parallel = 4;
const maxSettled = 2000;

export class Janitor {
  readonly #leftovers = new Map<string, Leftover>();
  /** Of the clock's elapsed time: since when each has been looked for in vain. */
  readonly #pendingSince = new Map<string, number>();
  readonly #told = new Set<string>();
  readonly #stop = new AbortController();
  #wake: AbortController | undefined;
  #sweeping: Promise<void> | undefined;
  #loop: Promise<void> | undefined;
  #lastSweepAt: number | undefined;

  constructor(
    private readonly journal: Journal,
    private readonly registry: OperationRegistry,
    private readonly cleaner: Cleaner,
    private readonly events: EventReporter,
    private readonly clock: Clock,
    private readonly logger: Logger,
    private readonly pace: JanitorPace = defaultJanitorPace,
  ) {}

  /** Begins with a sweep at once: what a crash left is gone within a minute of the start. */
  start(): void {
    this.registry.onEnded((operation) => {
      if (operation.outcome !== 'success') this.#wake?.abort();
    });
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  get lastSweepAt(): number | undefined {
    return this.#lastSweepAt;
  }

  /** What is pending, and what was settled in the last day. */
  report(): Leftover[] {
    const before = this.clock.now() - this.pace.keepMs;
    for (const [key, leftover] of this.#leftovers) {
      if (leftover.settledAt !== undefined && leftover.settledAt < before) this.#leftovers.delete(key);
    }
    return [...this.#leftovers.values()];
  }

  /** Sweeps now, after one that runs already, and answers the report. What takes longer than `timeoutMs` goes on by itself. */
  async sweep(timeoutMs: number): Promise<Leftover[]> {
    const late = new AbortController();
    const swept = (this.#sweeping ?? Promise.resolve()).then(() => this.#sweepOnce());
    await Promise.race([swept, this.clock.sleep(timeoutMs, late.signal).catch(() => undefined)]);
    late.abort();
    return this.report();
  }

  /** Something of ours in this engine is not cleaned up yet. */
  hasPending(platformId: string): boolean {
    return this.journal.openEntries().some((entry) => entry.platformId === platformId && !this.registry.isRunning(entry.operationId));
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      await this.#sweepOnce();
      const wake = new AbortController();
      this.#wake = wake;
      const orphans = this.#orphans().size > 0;
      await this.clock
        .sleep(orphans ? this.pace.busyMs : this.pace.idleMs, AbortSignal.any([wake.signal, this.#stop.signal]))
        .catch(() => undefined);
    }
  }

  #sweepOnce(): Promise<void> {
    this.#sweeping ??= this.#sweepAll().finally(() => {
      this.#sweeping = undefined;
    });
    return this.#sweeping;
  }

  async #sweepAll(): Promise<void> {
    const lanes = [...this.#orphansByPlatform().values()].flatMap((operations) => {
      const lane = async () => {
        for (let id = operations.shift(); id !== undefined && !this.#stop.signal.aborted; id = operations.shift()) await this.#settle(id);
      };
      return Array.from({ length: Math.min(parallel, operations.length) }, lane);
    });
    await Promise.all(lanes);
    this.#lastSweepAt = this.clock.now();
  }

  /** Operations with open entries that do not run. */
  #orphans(): Set<string> {
    const ids = new Set(this.journal.openEntries().map((entry) => entry.operationId));
    for (const id of ids) if (this.registry.isRunning(id)) ids.delete(id);
    return ids;
  }

  #orphansByPlatform(): Map<string, string[]> {
    const platforms = new Map<string, string[]>();
    for (const id of this.#orphans()) {
      const platformId = this.journal.openEntries(id)[0]?.platformId ?? '';
      platforms.set(platformId, [...(platforms.get(platformId) ?? []), id]);
    }
    return platforms;
  }

  async #settle(operationId: string): Promise<void> {
    const before = new Map(this.journal.openEntries(operationId).map((entry) => [entry.entryId, entry]));
    // An engine that takes requests and does not answer must not keep us from what is left in the others.
    const late = AbortSignal.timeout(2 * this.pace.lookMs);
    const signal = AbortSignal.any([this.#stop.signal, late]);
    try {
      const settled = await withCorrelation({ correlationId: `tidemark-janitor-${randomUUID().slice(0, 8)}`, operationId }, () =>
        this.cleaner.settle(operationId, { signal, deadlineMs: this.pace.lookMs }),
      );
      for (const settlement of settled) this.#record(settlement, before.get(settlement.entry.entryId) ?? settlement.entry);
    } catch (error) {
      // The next look, or the next start, goes on with it.
      if (late.aborted) this.logger.warn('a look at what an operation left took too long', { operationId, platforms: platformsOf(before) });
      else if (!this.#stop.signal.aborted) this.logger.error('sweep failed', { operationId, error });
    }
  }

  #record(settlement: Settlement, before: JournalEntry): void {
    const { state, obstacle, found } = settlement;
    // The cleaner may have learnt its id meanwhile.
    const now = this.journal.openEntries(before.operationId).find((entry) => entry.entryId === before.entryId) ?? before;
    if (!found && state !== 'stuck') {
      this.#leftovers.delete(before.entryId);
      this.#pendingSince.delete(before.entryId);
      return;
    }
    const known = this.#leftovers.get(before.entryId);
    const foundAt = known?.foundAt ?? this.clock.now();
    const overdue = state === 'pending' && this.#pendingMs(before.entryId) > this.pace.stuckMs;
    if (state === 'removed') this.#pendingSince.delete(before.entryId);
    const leftover: Leftover = {
      platformId: before.platformId,
      kind: obstacle?.kind ?? before.kind,
      id: obstacle?.id ?? now.objectId ?? before.entryId,
      vmId: before.vmId,
      operationId: before.operationId,
      state: overdue ? 'stuck' : state,
      message: overdue
        ? `${settlement.message} It has not gone for ${Math.round(this.pace.stuckMs / 60_000)} minutes; look at the engine's events and tasks.`
        : settlement.message,
      foundAt,
      settledAt: state === 'removed' ? this.clock.now() : undefined,
    };
    this.#leftovers.set(before.entryId, leftover);
    this.#bound();
    this.#tell(before.entryId, leftover);
  }

  #pendingMs(entryId: string): number {
    const now = this.clock.elapsed();
    const since = this.#pendingSince.get(entryId) ?? now;
    this.#pendingSince.set(entryId, since);
    return now - since;
  }

  /** Each change of state once. */
  #tell(key: string, leftover: Leftover): void {
    if (leftover.state === 'pending') return;
    const told = `${key}/${leftover.state}`;
    if (this.#told.has(told)) return;
    this.#told.add(told);
    if (this.#told.size > 2 * maxSettled) this.#told.delete([...this.#told][0] ?? '');
    const { platformId, vmId, operationId, kind, id } = leftover;
    const stuck = leftover.state === 'stuck';
    this.events.report({
      severity: stuck ? 'error' : 'info',
      code: stuck ? janitorEvents.stuck : janitorEvents.removed,
      message: stuck ? leftover.message : `Removed what operation ${operationId} had left in the engine: ${kind} ${id}.`,
      references: { platform_id: platformId, vm_id: vmId, operation_id: operationId, kind, id },
    });
    this.logger[stuck ? 'error' : 'info'](stuck ? 'a leftover needs an administrator' : 'leftover removed', { ...leftover });
  }

  #bound(): void {
    const settled = [...this.#leftovers].filter(([, leftover]) => leftover.settledAt !== undefined);
    for (const [key] of settled.slice(0, Math.max(0, settled.length - maxSettled))) this.#leftovers.delete(key);
  }
}

function platformsOf(entries: ReadonlyMap<string, JournalEntry>): string[] {
  return [...new Set([...entries.values()].map(({ platformId }) => platformId))];
}
