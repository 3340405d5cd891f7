/**
 * Chooses how each disk is read. Pure: the engine's answers go in, a plan with reason codes (product defaults §7) comes out. What the
 * engine then serves (`backup_mode`) has the last word, see {@link agreeWithEngine}.
 */
import type { ReadMode } from '../operations/events';
import type { BasePoint } from './requests';

export interface PlannedDisk {
  readonly diskId: string;
  readonly mode: ReadMode;
  /** Why it is not read incrementally; empty when it is. */
  readonly reason: string;
}

export interface StrategyInput {
  readonly disks: readonly { readonly id: string; readonly format: string | undefined }[];
  readonly base: BasePoint | undefined;
  readonly forceFull: boolean;
  /** State of the base's checkpoint in the engine; undefined when it is not there. */
  readonly checkpointState: string | undefined;
  /** Disks that the checkpoint covers; undefined when the engine does not say. */
  readonly checkpointDiskIds: readonly string[] | undefined;
}

/** Reasons that an administrator should know of: something got lost. The others are how things are. */
export const lossReasons: readonly string[] = ['cbt-no-checkpoint', 'cbt-bitmap-invalid', 'cbt-disk-moved'];

export function planDisks(input: StrategyInput): PlannedDisk[] {
  return input.disks.map((disk) => ({ diskId: disk.id, ...planDisk(disk, input) }));
}

function planDisk(disk: StrategyInput['disks'][number], input: StrategyInput): Omit<PlannedDisk, 'diskId'> {
  const { base } = input;
  if (input.forceFull) return { mode: 'full', reason: 'forced-full' };
  const known = base?.diskIds.includes(disk.id) === true;
  // No bitmap in raw: everything is read, and the mover recognises by digest what it has.
  if (disk.format !== 'cow') return { mode: known ? 'digest-compare' : 'full', reason: 'cbt-raw' };
  if (!base) return { mode: 'full', reason: 'first-backup' };
  if (!known) return { mode: 'full', reason: 'cbt-new-disk' };
  if (base.checkpointId === '' || input.checkpointState === undefined) return { mode: 'full', reason: 'cbt-no-checkpoint' };
  if (input.checkpointState !== 'created') return { mode: 'full', reason: 'cbt-bitmap-invalid' };
  // In the base point but not in its checkpoint: detached meanwhile, or converted from raw.
  if (input.checkpointDiskIds && !input.checkpointDiskIds.includes(disk.id)) return { mode: 'full', reason: 'cbt-disk-moved' };
  return { mode: 'incremental', reason: '' };
}

/**
 * Disks that are read through an attachment: everything is read, what the repository has is recognised by its digest. The engine says
 * nothing of changes on this way.
 */
export function planAttachedDisks(input: Pick<StrategyInput, 'disks' | 'base' | 'forceFull'>): PlannedDisk[] {
  const { base, forceFull } = input;
  return input.disks.map(({ id }): PlannedDisk => {
    if (forceFull) return { diskId: id, mode: 'full', reason: 'forced-full' };
    if (!base) return { diskId: id, mode: 'full', reason: 'first-backup' };
    if (!base.diskIds.includes(id)) return { diskId: id, mode: 'full', reason: 'cbt-new-disk' };
    return { diskId: id, mode: 'digest-compare', reason: 'cbt-attachment' };
  });
}

/** The checkpoint to build on, when at least one disk is read incrementally. */
export function fromCheckpoint(plan: readonly PlannedDisk[], base: BasePoint | undefined): string | undefined {
  return base && plan.some((disk) => disk.mode === 'incremental') ? base.checkpointId : undefined;
}

/** The engine may serve full what was to be incremental. The other way round we read everything all the same. */
export function agreeWithEngine(
  plan: readonly PlannedDisk[],
  served: ReadonlyMap<string, 'full' | 'incremental' | undefined>,
): PlannedDisk[] {
  return plan.map((disk) =>
    disk.mode === 'incremental' && served.get(disk.diskId) !== 'incremental' ? { ...disk, mode: 'full', reason: 'cbt-disk-moved' } : disk,
  );
}
