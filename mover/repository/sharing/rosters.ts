/** The rosters of a repository, read and written; see docs/formats/concurrency.md. */
import { decodeRoster, encodeRoster, MAX_ROSTER_BYTES, ROSTER_PREFIX, rosterName, rosterNumberOf, type Roster } from '../../format/roster';
import { readDocument } from '../read-document';
import type { Repository } from '../repository';
import type { MaintenanceLease } from './maintenance-lease';
import { RepositoryErrors } from '../../errors/mover-errors';

/** A sleeping maintainer may have taken a number meanwhile; more than one of these there are not. */
const tries = 3;

/** Undefined when it is not there. Throws OBJECT_DAMAGED, REPOSITORY_FORMAT_UNKNOWN, and as `Store.readWhole`. */
export async function readRoster({ store, keys }: Repository, number: number): Promise<Roster | undefined> {
  return (await readDocument(store, keys, rosterName(number), MAX_ROSTER_BYTES, decodeRoster))?.content;
}

/** Makes a roster the one that counts, and removes those of before. Throws MAINTENANCE_LOST, and as the store. */
export async function writeRoster(repository: Repository, lease: MaintenanceLease, content: Omit<Roster, 'number'>): Promise<void> {
  const { store, keys } = repository;
  for (let left = tries; ; left--) {
    const numbers = await rosterNumbers(repository);
    const number = Math.max(lease.roster, ...numbers) + 1;
    const name = rosterName(number);
    await lease.assertHeld();
    if (await store.putNew(name, encodeRoster({ ...content, number }, keys?.document(name)))) {
      // From here on it counts. The one of before stays until then, so that at any moment the one that counts is there.
      await lease.nameRoster(number);
      for (const older of numbers) await store.delete(rosterName(older));
      return;
    }
    if (left === 0) throw RepositoryErrors.MAINTENANCE_LOST({});
  }
}

export async function rosterNumbers({ store }: Repository): Promise<number[]> {
  const numbers: number[] = [];
  for await (const name of store.list(ROSTER_PREFIX)) {
    const number = rosterNumberOf(name);
    if (number !== undefined) numbers.push(number);
  }
  return numbers;
}
