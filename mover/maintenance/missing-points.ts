/**
 * Points whose manifest is gone though nobody removed them. What remembers a point: the roster that counts, and the announcements it does not cover yet; where
 * there is no roster, the announcements that no collection swept away (docs/formats/concurrency.md, "The roster").
 */
import { isTidemarkError, type TidemarkError } from '../../common/errors/tidemark-error';
import { RepositoryErrors } from '../errors/mover-errors';
import { announcementName, type Announcement } from '../format/announcement';
import { pointIdOf } from '../format/manifest';
import { rosterName, type Roster } from '../format/roster';
import { readAhead } from '../repository/read-ahead';
import type { Repository } from '../repository/repository';
import { listAnnouncements, readAnnouncement } from '../repository/sharing/announcements';
import { readPlans } from '../repository/sharing/collection-plans';
import { maintenanceState, type MaintenanceState } from '../repository/sharing/maintenance-lease';
import { readRoster } from '../repository/sharing/rosters';

/** How often a maintainer may write a roster while one look at everything is under way. */
const maxLooks = 5;
/** Announcements read at the same time. */
const announcementsAtOnce = 8;

/** Of an object that has to be there. */
export const MISSING_PROBLEM = 'it is missing';

export interface MissingPoint {
  readonly pointId: string;
  /** Of its manifest, as far as it is known. */
  readonly objectName: string;
}

/** What a repository should hold. */
export interface Expected {
  /** The roster that counts. */
  readonly roster: Roster | undefined;
  /** Why the roster that `maintenance` names cannot be used. */
  readonly problem: TidemarkError | undefined;
  readonly rosterNumber: number;
  /** Manifests by point id; empty where only the id is known. */
  readonly points: ReadonlyMap<string, string>;
  /** Newest announcement of each writer that was read for it, or that the roster covers. */
  readonly journals: ReadonlyMap<string, number>;
}

type Told = Pick<Announcement, 'manifests' | 'changed'>;
/** Undefined for one that is gone or cannot be read. */
export type ReadAnnouncement = (name: string) => Promise<Told | undefined>;

/** Looks until nobody wrote a roster meanwhile: what it leaves out a collection deleted, and the plans that say so may be gone. Throws as the store. */
export async function findMissing(
  repository: Repository,
  read: ReadAnnouncement = (name) => readIntact(repository, name),
): Promise<{ readonly missing: readonly MissingPoint[]; readonly expected: Expected }> {
  for (let look = 1; ; look++) {
    const state = await maintenanceState(repository.store);
    const expected = await expectedPoints(repository, state, read);
    const missing = await missingOf(repository, expected.points);
    if (missing.length > 0 && look < maxLooks && (await maintenanceState(repository.store)).roster !== state.roster) continue;
    repository.points.noteMissing(missing.map(({ pointId }) => pointId));
    return { missing, expected };
  }
}

async function missingOf(repository: Repository, expected: ReadonlyMap<string, string>): Promise<MissingPoint[]> {
  const { points, store, keys } = repository;
  await points.reload();
  const missing = new Map<string, string>();
  for (const [pointId, name] of expected)
    if (!points.hasManifest(pointId) && !points.tombstones.has(pointId)) missing.set(pointId, name || `points/${pointId}`);
  if (missing.size === 0) return [];
  // Read after the manifests were looked for: a plan says so before the first of its points is deleted.
  for await (const plan of readPlans(store, keys, () => undefined))
    if (plan.state === 'deleting' || plan.state === 'done') for (const pointId of plan.points) missing.delete(pointId);
  return [...missing].map(([pointId, objectName]) => ({ pointId, objectName }));
}

async function expectedPoints(repository: Repository, state: MaintenanceState, read: ReadAnnouncement): Promise<Expected> {
  const { roster, problem } = await counting(repository, state.roster);
  const covered = new Map(roster?.journals.map(({ instanceId, sequence }) => [instanceId, sequence]));
  const points = new Map<string, string>(roster?.points.map((id) => [id, '']));
  const changed = new Set<string>();
  const journals = new Map(covered);
  for (const [instanceId, sequences] of await listAnnouncements(repository.store)) {
    const newest = sequences.at(-1) ?? 0;
    const wanted = sequences.filter((sequence) => sequence > (covered.get(instanceId) ?? 0));
    const readNamed = async (sequence: number) => ({ sequence, told: await read(announcementName(instanceId, sequence)) });
    for await (const { sequence, told } of readAhead(wanted, announcementsAtOnce, readNamed)) {
      for (const name of told?.changed ?? []) changed.add(name);
      // The newest of each writer outlives collections, even those that deleted what it tells of: without a roster nobody knows.
      if (!roster && state.newestCollection > 0 && sequence === newest) continue;
      for (const name of told?.manifests ?? []) points.set(pointIdOf(name) ?? '', name);
    }
    journals.set(instanceId, Math.max(newest, covered.get(instanceId) ?? 0));
  }
  // A manifest changes by being deleted alone, and who deletes it says so: whatever became of the plan.
  for (const name of changed) points.delete(pointIdOf(name) ?? '');
  points.delete('');
  return { roster, problem, rosterNumber: state.roster, points, journals };
}

async function counting(repository: Repository, number: number): Promise<Pick<Expected, 'roster' | 'problem'>> {
  if (number === 0) return { roster: undefined, problem: undefined };
  try {
    const roster = await readRoster(repository, number);
    const problem = roster ? undefined : RepositoryErrors.OBJECT_DAMAGED({ object: rosterName(number), problem: MISSING_PROBLEM });
    return { roster, problem };
  } catch (error) {
    if (!isTidemarkError(error) || error.code !== 'OBJECT_DAMAGED') throw error;
    return { roster: undefined, problem: error };
  }
}

/** A damaged one tells nothing; verify finds it as such. */
async function readIntact({ store, keys }: Repository, name: string): Promise<Told | undefined> {
  try {
    return await readAnnouncement(store, keys, name);
  } catch (error) {
    if (!isTidemarkError(error) || error.code !== 'OBJECT_DAMAGED') throw error;
    return undefined;
  }
}
