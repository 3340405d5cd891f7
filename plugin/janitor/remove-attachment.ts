/** Disks that we hung on worker VMs: unplugged, taken off and seen to be gone. The disk itself always stays (engine REST API §7.3). */
import { hasCode, isTidemarkError } from '../../common/errors/tidemark-error';
import type { JournalEntry } from '../journal/records';
import { endPace } from '../protection/patience';
import type { CleanTools } from './clean-tools';
import type { CleanOptions, Settlement } from './settlement';

/** How long between two requests of the same kind. */
const askAgainMs = 15_000;

/**
 * Takes one disk off a worker VM. The guest's reader must be through with it. An attachment of the same disk that is not the journalled
 * one (another snapshot, or another run's) is left alone.
 */
export async function removeAttachment(tools: CleanTools, entry: JournalEntry, options: CleanOptions): Promise<Settlement> {
  const { engine, patience, journal } = tools;
  const { signal } = options;
  const { objectId: diskId = '' } = entry;
  const { workerVmId = '', snapshotId } = entry.details;
  const find = async () => {
    const found = await engine.diskAttachments.find(workerVmId, diskId, { signal });
    return found && found.snapshotId === snapshotId && !isNewerRuns(tools, entry) ? found : undefined;
  };
  let seen = entry.state === 'created';
  let lastRefusal = '';
  let unplugAskedAt: number | undefined;
  let detachAskedAt: number | undefined;
  const isDue = (askedAt: number | undefined) => askedAt === undefined || patience.clock.elapsed() - askedAt > askAgainMs;
  const ask = async (work: () => Promise<unknown>) => {
    try {
      await work();
      lastRefusal = '';
    } catch (error) {
      // Locked, a guest that holds on to the device, a VM between two states: asked again until the deadline.
      if (!hasCode(error, 'ENGINE_CONFLICT', 'ENGINE_REFUSED', 'ENGINE_INTERNAL_FAILURE', 'ENGINE_NOT_FOUND')) throw error;
      lastRefusal = isTidemarkError(error) ? String(error.meta['detail'] ?? error.message) : '';
    }
  };
  const gone = await patience.poll({ ...options, everyMs: endPace }, async () => {
    const found = await find();
    if (!found) return true;
    seen = true;
    if (found.active && isDue(unplugAskedAt)) {
      // Fails on a VM that does not run; taking it off does without there.
      await ask(() => engine.diskAttachments.unplug(workerVmId, diskId, { signal }));
      unplugAskedAt = patience.clock.elapsed();
    }
    if (isDue(detachAskedAt)) {
      await ask(() => engine.diskAttachments.detach(workerVmId, diskId, { signal }));
      detachAskedAt = patience.clock.elapsed();
      if ((await find()) === undefined) return true;
    }
    return undefined;
  });
  if (gone !== true) {
    const why = lastRefusal === '' ? '' : ` (${lastRefusal})`;
    return { entry, state: 'pending', found: true, message: `Disk ${diskId} still hangs on worker VM ${workerVmId}${why}.` };
  }
  if (!seen && tools.mayStillCome) return { entry, state: 'pending', found: false, message: 'Looked for, not there so far.' };
  await journal.removed(entry.entryId);
  return { entry, state: 'removed', found: seen, message: '' };
}

/** A later entry names the same disk on the same VM: what hangs there is that one's, as two cannot hang there at once. */
function isNewerRuns({ journal }: CleanTools, entry: JournalEntry): boolean {
  const open = journal.openEntries();
  // The journal keeps them in the order of intent; their times do not, where somebody set the machine's clock back.
  const later = open.slice(open.findIndex(({ entryId }) => entryId === entry.entryId) + 1);
  return later.some(
    (e) =>
      e.kind === 'attachment' &&
      e.objectId === entry.objectId &&
      e.details['workerVmId'] === entry.details['workerVmId'] &&
      e.state === 'created',
  );
}
