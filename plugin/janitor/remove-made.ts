/** Half-made VMs and disks of restores and deployments that failed. What was there before is never among them: their ids or marks were made by us. */
import { hasCode } from '../../common/errors/tidemark-error';
import type { Disk } from '../engine/disks';
import type { Journal } from '../journal/journal';
import type { JournalEntry } from '../journal/records';
import { endPace } from '../protection/patience';
import type { Patience } from '../protection/patience';
import { removeWorkerVm } from '../worker-vms/vm-power';
import type { CleanTools } from './clean-tools';
import type { CleanOptions, Settlement } from './settlement';

/** How long between two requests to remove the same thing. */
const askAgainMs = 15_000;

/**
 * Removes a VM that was made, with the disks that hang on it; known by its id, else by its name and the exact words that were written down
 * before the request: a restored VM has them in its description, a worker in its comment. A half-made worker is nobody's: it is stopped and
 * unprotected. A restored VM that runs may be somebody's by now, and is left alone.
 */
export async function removeVm(tools: CleanTools, entry: JournalEntry, options: CleanOptions): Promise<Settlement> {
  const { engine, patience, journal } = tools;
  const { signal } = options;
  const { name = '', role } = entry.details;
  const isWorker = role === 'worker';
  const find = async () => {
    if (entry.objectId !== undefined) return await engine.vms.find(entry.objectId, { signal });
    const found = await engine.vms.findByName(name, { signal });
    return (isWorker ? found?.comment : found?.description) === entry.mark ? found : undefined;
  };
  const first = await patience.whileAway(signal, find, options.deadlineMs);
  if (!first) return await absent(tools, entry);
  const { id, status } = first;
  if (entry.objectId === undefined) await journal.created(entry.entryId, id);
  if (!isWorker && status !== 'down' && status !== 'image_locked') {
    const message = `VM "${name}" (${id}) was left by a restore that failed, but it is ${status ?? 'in an odd state'}. Stop it to have it removed, or remove it yourself.`;
    return { entry, state: 'stuck', found: true, message };
  }
  const gone = isWorker
    ? await removeWorkerVm(engine, patience, id, options)
    : await removeAndWatch(
        patience,
        options,
        () => engine.vms.find(id, { signal }),
        () => engine.vms.remove(id, { signal }).then(() => true),
      );
  if (gone) return await settled(journal, entry);
  return { entry, state: 'pending', found: true, message: `${isWorker ? 'Worker VM' : 'VM'} "${name}" (${id}) could not be removed yet.` };
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

/**
 * The disk of an entry. The engine does not tell the id of a copy, so a crash may have left the name alone; it holds the id of the operation,
 * and is no other disk's.
 */
async function findOwnDisk({ engine }: CleanTools, entry: JournalEntry, options: CleanOptions): Promise<Disk | undefined> {
  const { signal } = options;
  if (entry.objectId !== undefined) return await engine.disks.find(entry.objectId, { signal });
  const { name = '', role } = entry.details;
  if (role !== 'worker' || !name.includes(entry.operationId)) return undefined;
  for await (const page of engine.disks.pages({ signal, search: `alias=*${name}*`, pageSize: 100 })) {
    const found = page.find((disk) => disk.name === name);
    if (found) return found;
  }
  return undefined;
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
    const now = patience.clock.elapsed();
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
