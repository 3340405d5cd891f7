/**
 * Who maintains a repository: one mover at a time. The object `maintenance` stays when nobody does, since it also tells writers which collection is
 * the newest. Renewed by `swap` alone, so that a holder that slept past its lease loses its next step (docs/formats/concurrency.md).
 */
import { randomUUID } from 'node:crypto';
import type { Logger } from '../../../common/log/logger';
import { RepositoryErrors } from '../../errors/mover-errors';
import { PLAN_PREFIX, planNumberOf } from '../../format/collection-plan';
import { ROSTER_PREFIX, rosterNumberOf } from '../../format/roster';
import type { Store } from '../../stores/store';
import { SerialQueue } from '../../../common/flow/serial-queue';
import { WRITER_PREFIX } from './writer-lease';
import { encodeLease, isGone, ownLease, parseLease, readLease, watchLease, type LeaseContent, type LeaseWatch } from './lease-object';

const maintenanceName = 'maintenance';

/** What writers look at with every renewal. */
export interface MaintenanceState {
  readonly newestCollection: number;
  readonly revision: number;
  /** Number of the roster of points that counts; 0 when none does. */
  readonly roster: number;
}

/** Undefined while nobody ever maintained the repository. */
export async function readMaintenance(store: Store): Promise<MaintenanceState | undefined> {
  const text = await readLease(store, maintenanceName);
  return text === undefined ? undefined : parseLease(text);
}

/** As `readMaintenance`; of an object that is lost or torn, what the rest of the repository tells of what it said. */
export async function maintenanceState(store: Store): Promise<MaintenanceState> {
  return (await readMaintenance(store)) ?? (await recoveredState(store));
}

/**
 * No collection may get a number that a writer has acknowledged already, or it would count as obeyed by who never heard of it; and no revision may come
 * again that a writer has seen, or it would not look. Clocks are ahead of revisions, which are raised a few times a day.
 */
async function recoveredState(store: Store): Promise<MaintenanceState> {
  let newestCollection = 0;
  let roster = 0;
  for await (const name of store.list(PLAN_PREFIX)) newestCollection = Math.max(newestCollection, planNumberOf(name) ?? 0);
  for await (const name of store.list(WRITER_PREFIX)) {
    const text = await readLease(store, name);
    newestCollection = Math.max(newestCollection, (text === undefined ? undefined : parseLease(text))?.acknowledged ?? 0);
  }
  for await (const name of store.list(ROSTER_PREFIX)) roster = Math.max(roster, rosterNumberOf(name) ?? 0);
  return { newestCollection, roster, revision: Date.now() };
}

export interface MaintenanceOptions {
  readonly instanceId: string;
  readonly leaseDurationMs: number;
  /** Kept by the caller from try to try, so that a holder elsewhere that is gone is found out. */
  readonly watch: LeaseWatch;
}

export class MaintenanceLease {
  private timer: NodeJS.Timeout | undefined;
  private renewedAt = performance.now();
  private lost = false;
  private readonly steps = new SerialQueue();

  private constructor(
    private readonly store: Store,
    private content: LeaseContent,
    private readonly logger: Logger,
  ) {}

  /** Takes the lease and keeps it. Throws MAINTENANCE_BUSY while somebody alive has it. */
  static async acquire(store: Store, options: MaintenanceOptions, logger: Logger): Promise<MaintenanceLease> {
    const fresh = ownLease(options.instanceId, randomUUID(), options.leaseDurationMs);
    for (;;) {
      const text = await readLease(store, maintenanceName);
      if (text === undefined) {
        const content = { ...fresh, ...(await recoveredState(store)), epoch: 1 };
        if (await store.putNew(maintenanceName, encodeLease(content))) return new MaintenanceLease(store, content, logger).keep();
        continue;
      }
      const holder = parseLease(text);
      watchLease(options.watch, text);
      if (!isGone(holder, options.watch))
        throw RepositoryErrors.MAINTENANCE_BUSY({ holder: holder?.hostName ?? '' }, { retryDelayMs: options.leaseDurationMs });
      const recovered = await recoveredState(store);
      const content = {
        ...fresh,
        ...recovered,
        epoch: (holder?.epoch ?? 0) + 1,
        // The object has no checksum: no less than the rest says, and a revision that nobody has seen, whatever became of the one before.
        newestCollection: Math.max(holder?.newestCollection ?? 0, recovered.newestCollection),
        revision: Math.max((holder?.revision ?? 0) + 1, recovered.revision),
        ...(holder && { roster: holder.roster }),
      };
      if (await store.swap(maintenanceName, Buffer.from(text), encodeLease(content)))
        return new MaintenanceLease(store, content, logger).keep();
    }
  }

  /** Raised by each new holder. */
  get epoch(): number {
    return this.content.epoch;
  }

  get newestCollection(): number {
    return this.content.newestCollection;
  }

  /** Number of the roster that counts; 0 when none does. */
  get roster(): number {
    return this.content.roster;
  }

  /** Throws MAINTENANCE_LOST when the lease ran out or somebody else has it. Call it before each step that cannot be taken back. */
  async assertHeld(): Promise<void> {
    await this.write({});
  }

  /** Tells writers that plans changed, and which is the newest. Throws MAINTENANCE_LOST. */
  async announce(newestCollection = this.content.newestCollection): Promise<void> {
    await this.write({ newestCollection, revision: this.content.revision + 1 });
  }

  /** Says which roster counts from now on. Throws MAINTENANCE_LOST. */
  async nameRoster(roster: number): Promise<void> {
    await this.write({ roster });
  }

  /** As `assertHeld` by this mover's clock alone, for steps that are too many for a request each. */
  assertInTime(): void {
    if (this.lost || !this.isInTime()) throw RepositoryErrors.MAINTENANCE_LOST({});
  }

  async release(): Promise<void> {
    clearTimeout(this.timer);
    // Lost to somebody else: nothing to give up.
    if (!this.lost) await this.write({ released: true }).catch(() => undefined);
    this.lost = true;
    clearTimeout(this.timer);
  }

  private keep(): this {
    this.timer = setTimeout(() => {
      void this.write({})
        .catch((error: unknown) => this.logger.warn('renewing the maintenance lease failed', { error }))
        .finally(() => {
          if (!this.lost && !this.content.released) this.keep();
        });
    }, this.content.leaseDurationMs / 3);
    this.timer.unref();
    return this;
  }

  private isInTime(): boolean {
    return performance.now() - this.renewedAt < this.content.leaseDurationMs;
  }

  private write(change: Partial<LeaseContent>): Promise<void> {
    return this.steps.run(async () => {
      const startedAt = performance.now();
      const next = { ...this.content, ...change, renewedAt: new Date().toISOString() };
      if (this.lost || !this.isInTime() || !(await this.store.swap(maintenanceName, encodeLease(this.content), encodeLease(next)))) {
        this.lost = true;
        throw RepositoryErrors.MAINTENANCE_LOST({});
      }
      this.content = next;
      this.renewedAt = startedAt;
    });
  }
}
