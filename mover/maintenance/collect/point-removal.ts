/** Removing points and taking that back. A removed point's blocks go with a later collection (docs/formats/concurrency.md). */
import { MaintenanceErrors } from '../../errors/maintenance-errors';
import { RepositoryErrors } from '../../errors/mover-errors';
import type { PointRecord } from '../../format/manifest';
import { sessionName } from '../../format/session-record';
import { tombstoneName } from '../../format/tombstone';
import type { MaintenanceLease } from '../../repository/sharing/maintenance-lease';
import type { Repository } from '../../repository/repository';
import { findMissing } from '../missing-points';
import { PlanBook } from './plan-book';
import { readSession, sessionIds } from './session-records';

/**
 * Removes a point, or tells when that happened. Throws POINT_NOT_FOUND, POINT_IN_USE (an open session of any mover reads it or starts from it),
 * REPOSITORY_LOCK_LOST, and as the store.
 */
export async function removePoint(repository: Repository, pointId: string, now: Date): Promise<Date> {
  const { points } = repository;
  const { tombstones } = points;
  await repository.assertWritable();
  await repository.refresh();
  if (await tombstones.look(pointId)) {
    // Whoever removed it may not have lived to tell.
    await repository.announce({ changed: tombstoneName(pointId) });
    return (await tombstones.removedAt(pointId)) ?? now;
  }
  if (!points.has(pointId)) await points.reload();
  // One whose manifest is gone can be removed, or nothing would be collected any more.
  if (!points.has(pointId) && !(await isMissing(repository, pointId))) throw RepositoryErrors.POINT_NOT_FOUND({ pointId });
  await tombstones.put(pointId, now);
  // In this order, and a session writes its record before it looks for the tombstone: one of the two sees the other.
  const sessionId = await userOf(repository, pointId);
  if (sessionId !== undefined) await tombstones.delete(pointId);
  await repository.announce({ changed: tombstoneName(pointId) });
  if (sessionId !== undefined) throw MaintenanceErrors.POINT_IN_USE({ pointId, sessionId }, { retryDelayMs: 60_000 });
  return (await tombstones.removedAt(pointId)) ?? now;
}

/**
 * Takes a removal back; a point that is not removed is left as it is. The maintenance lease keeps a collection from deleting it meanwhile. Throws
 * POINT_NOT_FOUND (it is being deleted, or gone), MAINTENANCE_LOST, and as the store.
 */
export async function undoRemovePoint(
  repository: Repository,
  lease: MaintenanceLease,
  pointId: string,
  now: () => number,
): Promise<PointRecord> {
  const { points } = repository;
  await repository.refresh();
  await points.reload();
  if (points.tombstones.has(pointId)) {
    const book = await PlanBook.open(repository, lease, now);
    if (book.in('deleting').some((plan) => plan.points.includes(pointId))) throw RepositoryErrors.POINT_NOT_FOUND({ pointId });
    // First out of the plans: a maintainer that slept and wakes up now finds them changed.
    await book.spare(pointId);
    await lease.assertHeld();
    await points.tombstones.delete(pointId);
    await repository.announce({ changed: tombstoneName(pointId) });
  }
  return points.read(pointId);
}

async function isMissing(repository: Repository, pointId: string): Promise<boolean> {
  return (await findMissing(repository)).missing.some((point) => point.pointId === pointId);
}

/** Id of an open session that names a point. */
async function userOf(repository: Repository, pointId: string): Promise<string | undefined> {
  for (const id of await sessionIds(repository)) {
    const record = (await readSession(repository, sessionName(id)))?.content;
    if (record?.state === 'open' && record.pointIds.includes(pointId)) return id;
  }
  return undefined;
}
