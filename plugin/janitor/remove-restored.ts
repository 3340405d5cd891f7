/** Half-made VMs and disks of restores that failed. The original is never among them: their ids were made by us. */
import { hasCode } from '../../common/errors/tidemark-error';
import type { Journal } from '../journal/journal';
import type { JournalEntry } from '../journal/records';
import { endPace } from '../protection/patience';
import type { Patience } from '../protection/patience';
import type { CleanTools } from './clean-tools';
import { findOwnDisk } from './remove-worker';
import type { CleanOptions, Settlement } from './settlement';

/** How long between two requests to remove the same thing. */
const askAgainMs = 15_000;

/** Removes a VM that a restore made, with the disks that hang on it. */
export async function removeVm(tools: CleanTools, entry: JournalEntry, options: CleanOptions): Promise<Settlement> {
  const { engine, patience, journal } = tools;
  const { signal } = options;
  const name = entry.details['name'] ?? '';
  const find = async () => {
    if (entry.objectId !== undefined) return await engine.vms.find(entry.objectId, { signal });
    const found = await engine.vms.findByName(name, { signal });
    return found?.description === entry.mark ? found : undefined;
  };
  const first = await patience.whileAway(signal, find, options.deadlineMs);
  if (!first) return await absent(tools, entry);
  if (entry.objectId === undefined) await journal.created(entry.entryId, first.id);
  if (first.status !== 'down' && first.status !== 'image_locked') {
    return {
      entry,
      state: 'stuck',
      found: true,
      message: `VM "${name}" (${first.id}) was left by a restore that failed, but it is ${first.status ?? 'in an odd state'}. Stop it to have it removed, or remove it yourself.`,
    };
  }
  const gone = await removeAndWatch(
    patience,
    options,
    () => engine.vms.find(first.id, { signal }),
    () => engine.vms.remove(first.id, { signal }).then(() => true),
  );
  return gone
    ? await settled(journal, entry)
    : { entry, state: 'pending', found: true, message: `VM "${name}" (${first.id}) could not be removed yet.` };
}

/** Removes a disk that a restore or a deployment made. The cancel of its upload does so too; seen to be gone either way. */
export async function removeDisk(tools: CleanTools, entry: JournalEntry, options: CleanOptions): Promise<Settlement> {
  const { engine, patience, journal } = tools;
  const { signal } = options;
  const first = await patience.whileAway(signal, () => findOwnDisk(tools, entry, options), options.deadlineMs);
  if (!first) return await absent(tools, entry);
  const { id } = first;
  if (entry.objectId === undefined) await journal.created(entry.entryId, id);
  const gone = await removeAndWatch(
    patience,
    options,
    () => engine.disks.find(id, { signal }),
    async () => {
      // Locked until its upload's cancel is through, which removes it.
      if ((await engine.disks.find(id, { signal }))?.status === 'locked') return false;
      await engine.disks.remove(id, { signal });
      return true;
    },
  );
  return gone
    ? await settled(journal, entry)
    : { entry, state: 'pending', found: true, message: `Disk ${id} that a failed operation had made could not be removed yet.` };
}

async function absent(tools: CleanTools, entry: JournalEntry): Promise<Settlement> {
  if (tools.mayStillCome) return { entry, state: 'pending', found: false, message: 'Looked for, not there so far.' };
  return await settled(tools.journal, entry, entry.state === 'created');
}

async function settled(journal: Journal, entry: JournalEntry, found = true): Promise<Settlement> {
  await journal.removed(entry.entryId);
  return { entry, state: 'removed', found, message: '' };
}

async function removeAndWatch(
  patience: Patience,
  options: CleanOptions,
  find: () => Promise<unknown>,
  /** False when it was not the time to ask. */
  remove: () => Promise<boolean>,
): Promise<boolean> {
  let askedAt: number | undefined;
  const gone = await patience.poll({ ...options, everyMs: endPace }, async () => {
    if ((await find()) === undefined) return true;
    const now = patience.clock.now();
    if (askedAt === undefined || now - askedAt > askAgainMs) {
      try {
        if (await remove()) askedAt = now;
      } catch (error) {
        // Still locked by the end of a transfer, usually; asked again until the deadline.
        if (!hasCode(error, 'ENGINE_CONFLICT', 'ENGINE_REFUSED', 'ENGINE_INTERNAL_FAILURE')) throw error;
      }
    }
    return undefined;
  });
  return gone === true;
}
