import { isTidemarkError } from '../../common/errors/tidemark-error';
import type { PointRecord } from '../format/manifest';
import type { Repository } from '../repository/repository';

/** A point, or why it cannot be read. */
export interface OfflinePoint {
  readonly pointId: string;
  readonly point: PointRecord | undefined;
  readonly problem?: string;
  /** Of a point that was removed; without a time when its tombstone is damaged. */
  readonly removedAt?: { readonly removedAt: string | undefined };
}

/** The points of a repository, then (if asked for) those that were removed and not deleted yet. Throws REPOSITORY_IO. */
export async function* listPoints({ points }: Pick<Repository, 'points'>, removed: boolean): AsyncGenerator<OfflinePoint> {
  for await (const listed of points.list()) {
    if ('point' in listed) yield { pointId: listed.point.pointId, point: listed.point };
    else yield { pointId: listed.damaged.pointId, point: undefined, problem: listed.damaged.message };
  }
  if (!removed) return;
  for (const pointId of points.removedIds()) {
    const removedAt = { removedAt: (await points.tombstones.removedAt(pointId))?.toISOString() };
    try {
      yield { pointId, point: await points.readRemoved(pointId), removedAt };
    } catch (error) {
      if (!isTidemarkError(error) || error.code === 'REPOSITORY_IO') throw error;
      yield { pointId, point: undefined, problem: error.message, removedAt };
    }
  }
}
