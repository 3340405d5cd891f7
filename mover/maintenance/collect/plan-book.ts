/** The plans of a repository as the holder of its maintenance lease works on them: writing, taking back, deleting what they condemn. */
import { CommonErrors } from '../../../common/errors/common-errors';
import { RepositoryErrors } from '../../errors/mover-errors';
import { MAX_PLAN_PACKS, MAX_PLAN_POINTS, planName, type CollectionPlan, type CondemnedPack } from '../../format/collection-plan';
import { listAnnouncements } from '../../repository/sharing/announcements';
import { overwritePlan, putPlan, readStoredPlans, swapPlan, type StoredPlan } from '../../repository/sharing/collection-plans';
import type { MaintenanceLease } from '../../repository/sharing/maintenance-lease';
import { packName } from '../../repository/blocks/pack-table';
import type { Repository } from '../../repository/repository';
import type { TidemarkError } from '../../../common/errors/tidemark-error';
import type { CollectProgress } from './collect-progress';
import { forEachOf } from '../../../common/flow/for-each-of';

const deletesAtOnce = 8;

/** What is to go. */
export interface Condemned {
  readonly packs: readonly CondemnedPack[];
  /** Removed points. */
  readonly points: readonly string[];
}

export class PlanBook {
  /** By number, why they cannot be read. What they condemned is not known. */
  private damaged = new Map<number, TidemarkError>();

  private constructor(
    private readonly repository: Repository,
    private readonly lease: MaintenanceLease,
    private readonly now: () => number,
    private plans: StoredPlan[] = [],
  ) {}

  /**
   * Reads the plans, and tells writers of one that a maintainer wrote down and did not live to tell of. Throws REPOSITORY_FORMAT_UNKNOWN: a plan of a later
   * version is not ours to judge.
   */
  static async open(repository: Repository, lease: MaintenanceLease, now: () => number): Promise<PlanBook> {
    const book = new PlanBook(repository, lease, now);
    await book.reread();
    if (book.newest > lease.newestCollection) await lease.announce(book.newest);
    await repository.acknowledge();
    return book;
  }

  in(state: CollectionPlan['state']): CollectionPlan[] {
    return this.plans.map(({ content }) => content).filter((plan) => plan.state === state);
  }

  /** Plans that are over, without their packs' bytes. */
  ended(): CollectionPlan[] {
    return [...this.in('done'), ...this.in('undone')];
  }

  /** Ids of packs that a plan condemns. */
  condemnedPacks(): Set<string> {
    return new Set(this.open().flatMap((plan) => plan.packs.map(({ id }) => id)));
  }

  /** Ids of points that a plan takes away. */
  condemnedPoints(): Set<string> {
    return new Set(this.open().flatMap((plan) => plan.points));
  }

  /** Writes down what is to go, in as many plans as it takes, and tells the writers. */
  async condemn(what: Condemned, graceMs: number): Promise<Date> {
    const created = this.now();
    const deleteAfter = new Date(created + graceMs);
    const journals = await this.newestAnnouncements();
    const plans = Math.max(1, Math.ceil(what.packs.length / MAX_PLAN_PACKS), Math.ceil(what.points.length / MAX_PLAN_POINTS));
    for (let i = 0; i < plans; i++) {
      const content: CollectionPlan = {
        number: this.newest + 1,
        state: 'condemned',
        createdAt: new Date(created).toISOString(),
        deleteAfter: deleteAfter.toISOString(),
        journals,
        packs: what.packs.slice(i * MAX_PLAN_PACKS, (i + 1) * MAX_PLAN_PACKS),
        points: what.points.slice(i * MAX_PLAN_POINTS, (i + 1) * MAX_PLAN_POINTS),
      };
      await this.lease.assertHeld();
      if (!(await putPlan(this.repository.store, content, this.repository.keys))) throw RepositoryErrors.MAINTENANCE_LOST({});
      await this.reread();
    }
    await this.lease.announce(this.newest);
    await this.repository.acknowledge();
    return deleteAfter;
  }

  /** From here there is no way back. What is not left stays. */
  async beginDeleting(number: number, left: Condemned): Promise<void> {
    await this.lease.assertHeld();
    await this.change(number, { state: 'deleting', packs: left.packs, points: left.points });
  }

  /** Deletes what a plan condemns; repeated after a crash it goes on. Throws CANCELLED. */
  async delete(number: number, progress: CollectProgress, signal: AbortSignal): Promise<void> {
    const { repository } = this;
    const plan = this.plan(number).content;
    const changed: string[] = [];
    for (const pointId of plan.points) {
      assertGoesOn(signal);
      this.lease.assertInTime();
      changed.push(...(await repository.points.deleteRemoved(pointId)));
      progress.totals.deletedPoints++;
    }
    if (changed.length > 0) await repository.announce({ changed });
    await forEachOf(plan.packs, deletesAtOnce, async ({ id, length }) => {
      assertGoesOn(signal);
      this.lease.assertInTime();
      await repository.store.delete(packName(id));
      progress.done++;
      progress.totals.deletedPacks++;
      progress.totals.deletedBytes += length;
    });
    repository.index.dropPacks(plan.packs.map(({ id }) => id));
    await this.end(number, 'done');
    await this.lease.announce();
    await repository.acknowledge();
  }

  /** Takes back what is condemned and not being deleted. Resolves with what counts again. Throws OBJECT_DAMAGED while a plan cannot be read. */
  async undo(): Promise<{ packs: number; bytes: number }> {
    this.assertReadable();
    let packs = 0;
    let bytes = 0;
    for (const plan of this.in('condemned')) {
      await this.end(plan.number, 'undone');
      packs += plan.packs.length;
      bytes += plan.packs.reduce((sum, { length }) => sum + length, 0);
    }
    await this.lease.announce();
    await this.repository.acknowledge();
    return { packs, bytes };
  }

  /** Takes a point out of the plans that would delete it, since its removal is taken back. Throws OBJECT_DAMAGED: it may be in the plan that cannot be read. */
  async spare(pointId: string): Promise<void> {
    this.assertReadable();
    for (const plan of this.in('condemned'))
      if (plan.points.includes(pointId)) await this.change(plan.number, { points: plan.points.filter((id) => id !== pointId) });
  }

  /** A plan that is over is of no use once every writer has seen that. */
  async forget(number: number): Promise<void> {
    const stored = this.plan(number);
    await this.repository.store.swap(planName(number), stored.bytes, undefined);
    this.plans = this.plans.filter((plan) => plan !== stored);
  }

  /** Numbers of plans that cannot be read. */
  get damagedNumbers(): number[] {
    return [...this.damaged.keys()];
  }

  /**
   * Puts a plan that condemns nothing and is over in the place of each that cannot be read. Only once all packs that nothing needs are condemned by others: what the
   * lost plan was about to delete, or a maintainer that sleeps still deletes, is among them. Resolves with the names.
   */
  async settle(): Promise<string[]> {
    const names: string[] = [];
    const at = new Date(this.now()).toISOString();
    for (const number of this.damaged.keys()) {
      const content = { number, createdAt: at, deleteAfter: at, endedAt: at, journals: [], packs: [], points: [] };
      await this.lease.assertHeld();
      await overwritePlan(this.repository.store, { ...content, state: 'undone', endedAfter: this.newest }, this.repository.keys);
      names.push(planName(number));
    }
    await this.reread();
    await this.lease.announce(this.newest);
    await this.repository.acknowledge();
    return names;
  }

  private open(): CollectionPlan[] {
    return [...this.in('condemned'), ...this.in('deleting')];
  }

  private get newest(): number {
    return Math.max(this.lease.newestCollection, this.plans.at(-1)?.content.number ?? 0, ...this.damaged.keys());
  }

  private plan(number: number): StoredPlan {
    const found = this.plans.find(({ content }) => content.number === number);
    if (!found) throw new RangeError(`plan ${number}`);
    return found;
  }

  private end(number: number, state: 'done' | 'undone'): Promise<void> {
    return this.change(number, { state, endedAt: new Date(this.now()).toISOString(), endedAfter: this.newest });
  }

  /** Throws MAINTENANCE_LOST when somebody else changed the plan: then somebody else maintains. */
  private async change(number: number, change: Partial<CollectionPlan>): Promise<void> {
    const from = this.plan(number);
    const to = await swapPlan(this.repository.store, from, { ...from.content, ...change }, this.repository.keys);
    if (!to) throw RepositoryErrors.MAINTENANCE_LOST({});
    this.plans = this.plans.map((plan) => (plan === from ? to : plan));
  }

  private async reread(): Promise<void> {
    const { store, keys } = this.repository;
    this.plans = [];
    this.damaged = new Map();
    const damaged = (error: TidemarkError, number: number) => {
      if (error.code !== 'OBJECT_DAMAGED') throw error;
      this.damaged.set(number, error);
    };
    for await (const plan of readStoredPlans(store, keys, damaged)) this.plans.push(plan);
  }

  /** Throws OBJECT_DAMAGED while what is condemned is not known. */
  private assertReadable(): void {
    for (const error of this.damaged.values()) throw error;
  }

  private async newestAnnouncements(): Promise<CollectionPlan['journals']> {
    const found = await listAnnouncements(this.repository.store);
    return [...found].map(([instanceId, sequences]) => ({ instanceId, sequence: sequences.at(-1) ?? 1 }));
  }
}

function assertGoesOn(signal: AbortSignal): void {
  if (signal.aborted) throw CommonErrors.CANCELLED({ what: 'collection' });
}
