/** Half-made worker VMs and their disks. They are nobody's yet: running ones are stopped, protected ones unprotected. */
import type { Disk } from '../engine/disks';
import type { JournalEntry } from '../journal/records';
import { removeWorkerVm } from '../worker-vms/vm-power';
import type { CleanTools } from './clean-tools';
import type { CleanOptions, Settlement } from './settlement';

/** Found by id, else by name and the exact comment that was written down before the request. */
export async function removeHalfMadeWorker(tools: CleanTools, entry: JournalEntry, options: CleanOptions): Promise<Settlement> {
  const { engine, patience, journal } = tools;
  const { signal } = options;
  const name = entry.details['name'] ?? '';
  const find = async () => {
    if (entry.objectId !== undefined) return await engine.vms.find(entry.objectId, { signal });
    const found = await engine.vms.findByName(name, { signal });
    return found?.comment === entry.mark ? found : undefined;
  };
  const found = await patience.whileAway(signal, find, options.deadlineMs);
  if (!found) {
    if (tools.mayStillCome) return { entry, state: 'pending', found: false, message: 'Looked for, not there so far.' };
    await journal.removed(entry.entryId);
    return { entry, state: 'removed', found: entry.state === 'created', message: '' };
  }
  if (entry.objectId === undefined) await journal.created(entry.entryId, found.id);
  if (!(await removeWorkerVm(engine, patience, found.id, options))) {
    return { entry, state: 'pending', found: true, message: `Worker VM "${name}" (${found.id}) could not be removed yet.` };
  }
  await journal.removed(entry.entryId);
  return { entry, state: 'removed', found: true, message: '' };
}

/**
 * The disk of an entry. The engine does not tell the id of a copy, so a crash may have left the name alone; it holds the id of the operation,
 * and is no other disk's.
 */
export async function findOwnDisk(tools: CleanTools, entry: JournalEntry, options: CleanOptions): Promise<Disk | undefined> {
  const { engine } = tools;
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
