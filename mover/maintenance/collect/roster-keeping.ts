import { rosterName } from '../../format/roster';
import { SETTINGS_NAME } from '../../format/settings-document';
import type { MaintenanceLease } from '../../repository/sharing/maintenance-lease';
import { writeRoster } from '../../repository/sharing/rosters';
import type { Repository } from '../../repository/repository';
import { isThere } from '../../stores/is-there';
import type { Expected } from '../missing-points';
import type { CollectContext } from './collect-context';
import type { PlanBook } from './plan-book';

/**
 * Writes down which points there have to be, unless that is written already: what was expected and is not deleted, and what is there. Resolves with the name of
 * the roster that was to count and could not be read. Throws MAINTENANCE_LOST, and as the store.
 */
export async function keepRoster(
  repository: Repository,
  lease: MaintenanceLease,
  book: PlanBook,
  { roster, problem, rosterNumber, points, journals }: Expected,
  { logger, now }: Pick<CollectContext, 'logger' | 'now'>,
): Promise<string | undefined> {
  const deleted = new Set([...book.in('deleting'), ...book.in('done')].flatMap((plan) => plan.points));
  const all = new Set([...points.keys(), ...repository.points.allIds()]);
  const next = {
    writtenAt: new Date(now()).toISOString(),
    journals: [...journals]
      .map(([instanceId, sequence]) => ({ instanceId, sequence }))
      .sort((a, b) => (a.instanceId < b.instanceId ? -1 : 1)),
    hasSettings: roster?.hasSettings === true || (await isThere(repository.store, SETTINGS_NAME)),
    points: [...all].filter((id) => !deleted.has(id)).sort(),
  };
  const { number: _number, ...before } = roster ?? { number: 0 };
  if (JSON.stringify({ ...before, writtenAt: '' }) === JSON.stringify({ ...next, writtenAt: '' })) return undefined;
  await writeRoster(repository, lease, next);
  if (!problem) return undefined;
  logger.warn('the roster of points could not be read and was made anew: a manifest that went before is not missed', { problem });
  return rosterName(rosterNumber);
}
