/**
 * Who maintains a repository: one mover at a time. The object `maintenance` stays when nobody does, since it also tells writers which collection is
 * the newest. Renewed by `swap` alone, so that a holder that slept past its lease loses its next step (docs/formats/concurrency.md).
 */
import { randomUUID } from 'node:crypto';
import type { Logger } from '../../../common/log/logger';
import { RepositoryErrors } from '../../errors/mover-errors';
import type { Store } from '../../stores/store';
import { SerialQueue } from '../serial-queue';
import { encodeLease, isGone, ownLease, parseLease, readLease, watchLease, type LeaseContent, type LeaseWatch } from './lease-object';

const maintenanceName = 'maintenance';

/** What writers look at with every renewal. */
export interface MaintenanceState {
  readonly newestCollection: number;
  readonly revision: number;
}

/** Undefined while nobody ever maintained the repository. */
export async function readMaintenance(store: Store): Promise<MaintenanceState | undefined> {
  const text = await readLease(store, maintenanceName);
  return text === undefined ? undefined : parseLease(text);
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
        const content = { ...fresh, epoch: 1 };
        if (await store.putNew(maintenanceName, encodeLease(content))) return new MaintenanceLease(store, content, logger).keep();
        continue;
      }
      const holder = parseLease(text);
      watchLease(options.watch, text);
      if (!isGone(holder, options.watch))
        throw RepositoryErrors.MAINTENANCE_BUSY({ holder: holder?.hostName ?? '' }, { retryDelayMs: options.leaseDurationMs });
      const { epoch = 0, revision = 0, newestCollection = 0 } = holder ?? {};
      const content = { ...fresh, epoch: epoch + 1, revision, newestCollection };
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

  /** Throws MAINTENANCE_LOST when the lease ran out or somebody else has it. Call it before each step that cannot be taken back. */
  async assertHeld(): Promise<void> {
    await this.write({});
  }

  /** Tells writers that plans changed, and which is the newest. Throws MAINTENANCE_LOST. */
  async announce(newestCollection = this.content.newestCollection): Promise<void> {
    await this.write({ newestCollection, revision: this.content.revision + 1 });
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

  private write(change: Partial<LeaseContent>): Promise<void> {
    return this.steps.run(async () => {
      const startedAt = performance.now();
      const inTime = startedAt - this.renewedAt < this.content.leaseDurationMs;
      const next = { ...this.content, ...change, renewedAt: new Date().toISOString() };
      if (this.lost || !inTime || !(await this.store.swap(maintenanceName, encodeLease(this.content), encodeLease(next)))) {
        this.lost = true;
        throw RepositoryErrors.MAINTENANCE_LOST({});
      }
      this.content = next;
      this.renewedAt = startedAt;
    });
  }
}
