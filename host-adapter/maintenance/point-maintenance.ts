import { bytesFromWire, timestampFromWire } from '../../common/rpc/bytes';
import type { HoldStore } from '../catalogue/hold-store';
import type { PointStore, StoredPoint } from '../catalogue/point-store';
import { HostErrors } from '../errors/host-errors';
import { HostMaintenanceErrors } from '../errors/maintenance-errors';
import { pointFrom } from '../repositories/point-mapping';
import type { Repositories } from '../repositories/repositories';

/** A point that was removed and is not deleted yet. */
export interface RemovedPoint {
  readonly point: StoredPoint;
  readonly removedAt: string | null;
  /** Not deleted before; null while no collection has condemned it. */
  readonly deletedAfter: string | null;
}

/** Removing points and taking that back, holds, and the catalogue made anew from a repository. All methods throw what the mover says. */
export class PointMaintenance {
  constructor(
    private readonly repositories: Repositories,
    private readonly points: PointStore,
    private readonly holds: HoldStore,
    private readonly now: () => Date,
  ) {}

  /** Throws POINT_UNKNOWN, POINT_HELD; POINT_IN_USE while a session reads it. */
  async remove(pointId: string): Promise<{ removedAt: string }> {
    const point = await this.#known(pointId);
    const hold = await this.holds.of(point.id);
    if (hold) throw HostMaintenanceErrors.POINT_HELD({ point: point.id, heldBy: hold.heldBy, heldAt: hold.heldAt });
    const { repositoryId } = point;
    const { maintenance } = await this.repositories.mover(repositoryId);
    const { removedAt } = await maintenance.call('RemovePoint', { repositoryId, pointId: point.id }, { deadlineMs: 15_000, attempts: 3 });
    await this.points.remove(repositoryId, point.id);
    return { removedAt: (timestampFromWire(removedAt) ?? this.now()).toISOString() };
  }

  /** Without a repository it is looked for in all of them. Throws POINT_UNKNOWN, POINT_NOT_FOUND when it is being deleted or gone. */
  async undoRemove(pointId: string, repository: string | undefined): Promise<StoredPoint> {
    const repositoryId = repository === undefined ? await this.#repositoryOf(pointId) : (await this.repositories.row(repository)).id;
    const { maintenance } = await this.repositories.mover(repositoryId);
    const { point } = await maintenance.call('UndoRemovePoint', { repositoryId, pointId }, { deadlineMs: 60_000, attempts: 3 });
    if (!point) throw HostErrors.POINT_UNKNOWN({ point: pointId });
    const stored = pointFrom(repositoryId, point);
    await this.points.put(stored);
    return stored;
  }

  /** Removed points of one repository, or of all that can be asked, as their movers list them. */
  async removed(repository: string | undefined): Promise<RemovedPoint[]> {
    if (repository !== undefined) return this.#removedOf((await this.repositories.row(repository)).id);
    const found: RemovedPoint[] = [];
    for (const { row, unavailable } of await this.repositories.list()) if (!unavailable) found.push(...(await this.#removedOf(row.id)));
    return found;
  }

  /** Throws POINT_UNKNOWN. */
  async hold(pointId: string, heldBy: string): Promise<void> {
    const { id, repositoryId } = await this.#known(pointId);
    await this.holds.hold({ pointId: id, repositoryId, heldAt: this.now().toISOString(), heldBy });
  }

  /** Throws POINT_UNKNOWN. */
  async release(pointId: string): Promise<void> {
    await this.holds.release((await this.#known(pointId)).id);
  }

  /** Makes the catalogue anew from the repository: what was removed is left out, what is damaged is listed as such. */
  async import(repository: string): Promise<{ pointCount: number; damagedCount: number; removedCount: number }> {
    const { id } = await this.repositories.row(repository);
    await this.repositories.refreshPoints(id);
    const { usable, damaged } = await this.points.counts(id);
    return { pointCount: usable, damagedCount: damaged, removedCount: (await this.#removedOf(id)).length };
  }

  /** Takes back what collections condemned and did not delete yet. Throws MAINTENANCE_BUSY. */
  async undoCollect(repository: string): Promise<{ restoredPacks: number; restoredBytes: number }> {
    const { id: repositoryId } = await this.repositories.row(repository);
    const { maintenance } = await this.repositories.mover(repositoryId);
    const reply = await maintenance.call('UndoCollect', { repositoryId }, { deadlineMs: 60_000, attempts: 3 });
    return {
      restoredPacks: bytesFromWire(reply.restoredPacks, 'restoredPacks'),
      restoredBytes: bytesFromWire(reply.restoredBytes, 'restoredBytes'),
    };
  }

  async #removedOf(repositoryId: string): Promise<RemovedPoint[]> {
    const { repositories } = await this.repositories.mover(repositoryId);
    const found: RemovedPoint[] = [];
    const request = { repositoryId, vmId: '', includeRemoved: true };
    for await (const { removed } of repositories.stream('ListPoints', request, { idleTimeoutMs: 60_000 })) {
      if (!removed?.point) continue;
      found.push({
        point: pointFrom(repositoryId, removed.point),
        removedAt: timestampFromWire(removed.removedAt)?.toISOString() ?? null,
        deletedAfter: timestampFromWire(removed.deletedAfter)?.toISOString() ?? null,
      });
    }
    return found;
  }

  async #repositoryOf(pointId: string): Promise<string> {
    const removed = (await this.removed(undefined)).find(({ point }) => point.id === pointId)?.point;
    // One that is not removed is answered as well: undoing is idempotent.
    return (removed ?? (await this.#known(pointId))).repositoryId;
  }

  async #known(pointId: string): Promise<StoredPoint> {
    const point = await this.points.find(pointId);
    if (!point) throw HostErrors.POINT_UNKNOWN({ point: pointId });
    return point;
  }
}
