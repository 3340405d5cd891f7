import { compareVersions } from '../engine/mapping';
import type { DiskPlan } from './finding';
import type { AttachedDisk, VmPicture } from './picture';
import { incrementalLevel } from './vm-rules';

/**
 * How each disk would be read, from what is known before the start; the engine's `backup_mode` decides in the end. Pure.
 * Reasons: product defaults §7.
 */
export function planDisks(picture: VmPicture, disks: readonly AttachedDisk[]): readonly DiskPlan[] {
  return disks.map(({ disk }) => ({ diskId: disk.id, name: disk.name, ...planOf(picture, disk.id, disk.format) }));
}

function planOf(
  { base, checkpoints, level, byAttachment }: VmPicture,
  diskId: string,
  format: string | undefined,
): Pick<DiskPlan, 'mode' | 'reason'> {
  if (byAttachment && base) {
    return base.diskIds.includes(diskId) ? { mode: 'digest-compare', reason: 'cbt-attachment' } : { mode: 'full', reason: 'cbt-new-disk' };
  }
  if (!byAttachment && format === 'raw')
    return { mode: base?.diskIds.includes(diskId) === true ? 'digest-compare' : 'full', reason: 'cbt-raw' };
  if (!base) return { mode: 'full', reason: 'first-backup' };
  if (level !== undefined && compareVersions(level, incrementalLevel) < 0) return { mode: 'full', reason: 'cbt-level' };
  const checkpoint = checkpoints.find((one) => one.id === base.checkpointId);
  if (!checkpoint) return { mode: 'full', reason: 'cbt-no-checkpoint' };
  if (checkpoint.state === 'invalid') return { mode: 'full', reason: 'cbt-bitmap-invalid' };
  if (!base.diskIds.includes(diskId)) return { mode: 'full', reason: 'cbt-new-disk' };
  return { mode: 'incremental', reason: '' };
}
