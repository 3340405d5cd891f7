/** Snapshots that we took ourselves: the guest thawed, the snapshot merged, the disks seen to be well again (engine REST API §5.4). */
import { hasCode, isTidemarkError } from '../../common/errors/tidemark-error';
import type { Snapshot } from '../engine/snapshots';
import type { JournalEntry } from '../journal/records';
import { endPace } from '../protection/patience';
import type { CleanTools } from './clean-tools';
import type { CleanOptions, Settlement } from './settlement';
import type { VmVerifier } from './vm-verifier';

/** A merge that failed is asked for again; the engine skips what is merged already. */
const askAgainMs = 30_000;

/** By id once it is known, else by the description, which names the operation. */
export async function removeSnapshot(
  tools: CleanTools,
  verifier: VmVerifier,
  entry: JournalEntry,
  options: CleanOptions,
): Promise<Settlement> {
  const { engine, patience, journal } = tools;
  const { signal } = options;
  const { vmId, mark } = entry;
  const until = patience.clock.elapsed() + options.deadlineMs;
  await thaw(tools, entry, options);
  const find = async (): Promise<Snapshot | undefined> => {
    const all = await listOf(tools, vmId, signal);
    return all.find((one) => one.type !== 'active' && (one.id === entry.objectId || one.description === mark));
  };
  let seen: Snapshot | undefined;
  let refusal = '';
  let askedAt: number | undefined;
  const gone = await patience.poll({ ...options, everyMs: endPace }, async () => {
    const found = await find();
    if (!found) return true;
    if (!seen && entry.objectId === undefined) await journal.created(entry.entryId, found.id);
    seen = found;
    const now = patience.clock.elapsed();
    if (found.status === 'ok' && (askedAt === undefined || now - askedAt > askAgainMs)) {
      askedAt = now;
      try {
        await engine.snapshots.remove(vmId, found.id, { signal });
        refusal = '';
      } catch (error) {
        // Locked, or still attached somewhere: asked again, and told when the time is over.
        if (!hasCode(error, 'ENGINE_CONFLICT', 'ENGINE_REFUSED', 'ENGINE_INTERNAL_FAILURE')) throw error;
        refusal = isTidemarkError(error) ? String(error.meta['detail'] ?? '') : '';
      }
    }
    return undefined;
  });
  if (gone !== true) {
    const why = refusal === '' ? '' : `: ${refusal}`;
    const message = `Snapshot "${mark}" of VM ${vmId} is still there (${seen?.status ?? 'unknown'}${why}); its merge is asked for again.`;
    return { entry, state: 'pending', found: true, message, obstacle: { kind: 'snapshot', id: seen?.id ?? entry.objectId ?? '' } };
  }
  const found = seen !== undefined || entry.state === 'created';
  if (!found && tools.mayStillCome) return { entry, state: 'pending', found: false, message: 'Looked for, not there so far.' };
  const left = { ...options, deadlineMs: Math.max(0, until - patience.clock.elapsed()) };
  const obstacle = await verifier.disksOk(engine, entry, left);
  if (obstacle) return { entry, found: true, ...obstacle };
  await journal.removed(entry.entryId);
  return { entry, state: 'removed', found, message: '' };
}

/** A guest that a crash left frozen stands still until somebody does this. One that is down or gone needs it no more. */
async function thaw({ engine, patience, journal }: CleanTools, entry: JournalEntry, options: CleanOptions): Promise<void> {
  if (entry.details['frozen'] !== 'yes') return;
  await patience.whileAway(
    options.signal,
    async () => {
      if ((await engine.vms.find(entry.vmId, { signal: options.signal }))?.status !== 'up') return;
      await engine.vms.thawFileSystems(entry.vmId, { signal: options.signal });
    },
    options.deadlineMs,
  );
  await journal.noted(entry.entryId, { frozen: 'no' });
}

/** Nothing when the VM is gone, its snapshots with it. */
async function listOf({ engine }: CleanTools, vmId: string, signal: AbortSignal | undefined): Promise<readonly Snapshot[]> {
  try {
    return await engine.snapshots.list(vmId, { signal });
  } catch (error) {
    if (hasCode(error, 'ENGINE_NOT_FOUND')) return [];
    throw error;
  }
}
