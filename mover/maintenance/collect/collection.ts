/**
 * One run of the collection: finishes older ones whose time has come, finds what nothing needs, condemns it. Each step is durable before the next, so
 * that a run that dies at any line is gone on with by the next one. Why it is safe beside everything else: docs/formats/concurrency.md.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { CommonErrors } from '../../../common/errors/common-errors';
import { MaintenanceErrors } from '../../errors/maintenance-errors';
import { hasCode } from '../../../common/errors/tidemark-error';
import { RateLimit } from '../../../common/flow/rate-limit';
import type { CollectionPlan, CondemnedPack } from '../../format/collection-plan';
import type { MaintenanceLease } from '../../repository/sharing/maintenance-lease';
import { packIdOf } from '../../repository/blocks/pack-table';
import type { Repository } from '../../repository/repository';
import { spaceState } from '../../repository/space';
import { findMissing, type Expected } from '../missing-points';
import { CollectProgress } from './collect-progress';
import type { CollectContext } from './collect-context';
import type { CollectSettings } from './collect-settings';
import { Marker } from './marker';
import type { PackMarks } from './pack-marks';
import { PlanBook } from './plan-book';
import { Rewriter, wasteful } from './rewriter';
import { keepRoster } from './roster-keeping';
import { Roots } from './roots';
import { Sweeper } from './sweeper';
import { youngPacks } from './young-packs';

export interface CollectRequest {
  /** Finds out and tells, changes nothing. */
  readonly dryRun: boolean;
  /** 0: no limit. */
  readonly bytesPerSecond: number;
  /** Instead of the repository's, for what this run condemns; raised to two leases where it is less. */
  readonly graceMs?: number;
}

const pollMs = 500;

export class Collection {
  readonly progress = new CollectProgress();
  private readonly rate: RateLimit;
  private readonly roots: Roots;
  private readonly marker: Marker;

  constructor(
    private readonly repository: Repository,
    readonly request: CollectRequest,
    private readonly context: CollectContext,
    private readonly signal: AbortSignal,
  ) {
    this.rate = new RateLimit(request.bytesPerSecond);
    this.roots = new Roots(repository);
    this.marker = new Marker(repository, this.rate, signal);
  }

  /**
   * Throws MAINTENANCE_BUSY, MAINTENANCE_LOST, REPOSITORY_DAMAGED (what is needed cannot be found out), REPOSITORY_LOCK_LOST, CANCELLED, and as the store. What was
   * done stays done.
   */
  async run(): Promise<void> {
    if (this.request.dryRun) return this.tell();
    const { repository, context } = this;
    await repository.assertWritable();
    const lease = await context.memory.lease(repository, context.settings.leaseDurationMs, context.logger);
    try {
      await this.collect(lease);
    } finally {
      await lease.release();
    }
  }

  /** Finds out what a run would condemn. */
  private async tell(): Promise<void> {
    const { repository } = this;
    await repository.refresh();
    await this.assertNothingMissing();
    const known = repository.index.packs.ids();
    await this.mark();
    const { totals } = this.progress;
    const young = await youngPacks(repository, this.context.now() - this.context.settings.packAgeMs);
    const old = known.filter((id) => !young.has(id));
    for (const { length } of this.dead(old)) {
      totals.condemnedPacks++;
      totals.condemnedBytes += length;
    }
    for (const { neededBytes } of wasteful(repository, old, this.marker.marks, this.context.settings.wasteRatio)) {
      totals.rewrittenPacks++;
      totals.rewrittenBytes += neededBytes;
    }
  }

  private async collect(lease: MaintenanceLease): Promise<void> {
    const { repository, context, signal } = this;
    const book = await PlanBook.open(repository, lease, context.now);
    const sweeper = new Sweeper(repository, context);
    // While a plan cannot be read nothing is deleted; this run settles it.
    const isSettling = book.damagedNumbers.length > 0;
    if (!isSettling) for (const plan of book.in('deleting')) await this.delete(book, plan);
    const expected = await this.assertNothingMissing();
    const due = isSettling ? [] : await this.due(book);
    await this.adopt();
    const known = repository.index.packs.ids();
    await this.mark();
    await this.finish(book, due);
    this.progress.totals.waitingCollections = book.in('condemned').length;

    const condemned = book.condemnedPacks();
    const young = await youngPacks(repository, context.now() - context.settings.packAgeMs);
    const old = known.filter((id) => !condemned.has(id) && !young.has(id) && repository.index.packs.numberOf(id) !== undefined);
    // In place of a plan that is lost, everything that it can have condemned: young packs too.
    await this.condemnDead(book, isSettling ? known.filter((id) => !condemned.has(id)) : old);
    if (isSettling) await this.settle(book);
    await this.rewrite(book, old);
    if (signal.aborted) throw CommonErrors.CANCELLED({ what: 'collection' });
    // Before anything goes that remembers points.
    const repaired = await keepRoster(repository, lease, book, expected, context);
    if (repaired !== undefined) this.progress.totals.repaired.push(repaired);
    await sweeper.sweep(book, expected.journals);
  }

  /** What a point needs whose manifest is gone nobody knows. Throws REPOSITORY_DAMAGED. */
  private async assertNothingMissing(): Promise<Expected> {
    const { missing, expected } = await findMissing(this.repository);
    for (const { pointId } of missing) throw MaintenanceErrors.REPOSITORY_DAMAGED({ pointId, problem: 'its manifest is missing' });
    return expected;
  }

  private async settle(book: PlanBook): Promise<void> {
    const names = await book.settle();
    this.context.logger.warn('plans of collections could not be read; what nothing needs was condemned anew', { names });
    this.progress.totals.repaired.push(...names);
  }

  /** Plans whose time has come, and that every writer obeys. */
  private async due(book: PlanBook): Promise<CollectionPlan[]> {
    const { settings, now } = this.context;
    const waiting = book.in('condemned');
    if (waiting.length === 0) return [];
    // Below the soft watermark grace times are cut to the least.
    const isLow = (await spaceState(this.repository)).level !== 'enough';
    const over = waiting.filter(
      (plan) => now() >= Date.parse(plan.deleteAfter) || (isLow && now() >= Date.parse(plan.createdAt) + leastGrace(settings)),
    );
    if (over.length === 0) return [];
    const until = performance.now() + settings.acknowledgeWaitMs;
    for (;;) {
      if (this.signal.aborted) throw CommonErrors.CANCELLED({ what: 'collection' });
      const writers = (await this.repository.writers.list()).filter((writer) => !writer.isGone);
      const obeyed = Math.min(...writers.map((writer) => writer.acknowledged));
      if (over.every((plan) => plan.number <= obeyed) || performance.now() >= until) return over.filter((plan) => plan.number <= obeyed);
      await sleep(pollMs, undefined, { signal: this.signal }).catch(() => undefined);
    }
  }

  private async mark(): Promise<void> {
    const { progress, roots, marker, repository } = this;
    progress.begin('marking', 0);
    for await (const root of roots.find()) {
      await marker.mark(root);
      progress.total = roots.points;
      progress.done = roots.done;
    }
    const { packs } = repository.index;
    progress.totals.storedBytes = packs.totalBytes;
    for (const id of packs.ids()) progress.totals.neededBytes += marker.marks.neededBytes(packs.add(id));
  }

  /**
   * Deletes what plans condemned and nothing needs; what something needs after all is taken out of them. So is what a removed point holds that is in
   * none of these plans, because its removal was taken back in between, or is younger: undo would bring back a point without its blocks.
   */
  private async finish(book: PlanBook, due: readonly CollectionPlan[]): Promise<void> {
    const { tombstones } = this.repository.points;
    const going = new Set<string>();
    for (const id of due.flatMap((plan) => plan.points)) if ((await tombstones.look(id)) && !this.roots.inUse.has(id)) going.add(id);
    if (due.length > 0) for await (const root of this.roots.undoable(going)) await this.marker.markUndoable(root);
    for (const plan of due) {
      const packs = plan.packs.filter(({ id }) => this.isSure(id) && !this.isNeeded(id) && !this.isMarked(this.marker.undoable, id));
      const points = plan.points.filter((id) => going.has(id));
      await book.beginDeleting(plan.number, { packs, points });
      await this.delete(book, { ...plan, packs });
    }
  }

  private async delete(book: PlanBook, plan: CollectionPlan): Promise<void> {
    this.progress.begin('deleting', plan.packs.length);
    await book.delete(plan.number, this.progress, this.signal);
  }

  private isNeeded(id: string): boolean {
    return this.isMarked(this.marker.marks, id);
  }

  private isMarked(marks: PackMarks, id: string): boolean {
    const number = this.repository.index.packs.numberOf(id);
    return number !== undefined && marks.hasAny(number);
  }

  /** Of these, the packs that nothing needs. */
  private dead(ids: readonly string[]): CondemnedPack[] {
    const { packs } = this.repository.index;
    return ids.filter((id) => this.isSure(id) && !this.isNeeded(id)).map((id) => ({ id, length: packs.lengthOf(packs.add(id)) }));
  }

  /** Who knows what lies in a pack whose list cannot be read: while something is missing, it may be there. */
  private isSure(id: string): boolean {
    return this.marker.missing === 0 || !this.repository.index.damagedPacks.has(id);
  }

  private async condemnDead(book: PlanBook, old: readonly string[]): Promise<void> {
    this.progress.begin('condemning', 0);
    const taken = book.condemnedPoints();
    const points = this.repository.points.tombstones.ids().filter((id) => !taken.has(id) && !this.roots.inUse.has(id));
    const packs = this.dead(old);
    if (packs.length > 0 || points.length > 0) await this.condemn(book, packs, points);
  }

  private async rewrite(book: PlanBook, old: readonly string[]): Promise<void> {
    const { repository, context, marker, rate, progress, signal } = this;
    const { wasteRatio, rewriteBytes, reserveBytes } = context.settings;
    const candidates = wasteful(repository, old, marker.marks, wasteRatio);
    if (candidates.length === 0) return;
    const { freeBytes, hardFreeBytes } = await spaceState(repository);
    const reserve = Math.max(reserveBytes, hardFreeBytes);
    const budget = Math.min(rewriteBytes, freeBytes === undefined ? rewriteBytes : Math.max(0, freeBytes - reserve));
    if (budget === 0) context.logger.warn('too little space to rewrite packs; remove points first', { freeBytes, reserve });
    try {
      const done = await new Rewriter(repository, marker.marks, rate, progress, context.logger, signal).rewrite(
        candidates,
        wasteRatio,
        budget,
      );
      if (done.length > 0) await this.condemn(book, this.lengths(done), []);
    } catch (error) {
      if (!hasCode(error, 'REPOSITORY_FULL')) throw error;
      // What was condemned gives space; then there is room.
      context.logger.warn('rewriting packs stopped: the repository is full', { error });
    }
  }

  private async condemn(book: PlanBook, packs: readonly CondemnedPack[], points: readonly string[]): Promise<void> {
    const { settings } = this.context;
    const { graceMs } = this.request;
    // Who asks for a shorter time for one run gets it, down to what safety needs.
    const grace =
      graceMs === undefined ? Math.max(this.repository.settings.graceMs, leastGrace(settings)) : Math.max(graceMs, twoLeases(settings));
    const { totals } = this.progress;
    const deletedAfter = await book.condemn({ packs, points }, grace);
    totals.condemnedPacks += packs.length;
    totals.condemnedBytes += packs.reduce((sum, { length }) => sum + length, 0);
    totals.deletedAfter = deletedAfter;
  }

  private lengths(ids: readonly string[]): CondemnedPack[] {
    const { packs } = this.repository.index;
    return ids.map((id) => ({ id, length: packs.lengthOf(packs.add(id)) }));
  }

  /**
   * Packs that their maker sealed and did not live to announce become known to everybody: from then on they are packs like others. Without that, what lies
   * in them could be needed by somebody who knows them and nobody else would see it.
   */
  private async adopt(): Promise<void> {
    const { repository } = this;
    const listed: string[] = [];
    for await (const name of repository.store.list('packs/')) {
      const id = packIdOf(name);
      if (id !== undefined && repository.index.packs.numberOf(id) === undefined) listed.push(id);
    }
    await repository.refresh();
    await repository.adopt(listed);
  }
}

/** Of plans for which nobody asked for less. */
function leastGrace(settings: CollectSettings): number {
  return Math.max(settings.minimumGraceMs, twoLeases(settings));
}

/** No grace time is shorter: a writer that slept stops itself in that time. */
function twoLeases({ leaseDurationMs }: CollectSettings): number {
  return 2 * leaseDurationMs;
}
