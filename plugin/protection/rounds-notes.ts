import type { StoredDisk } from '../operations/events';
import type { DiskTaskResult } from './disk-task';
import type { RunNotes } from './run-notes';
import type { PlannedDisk } from './strategy';

/** The engine's reason for making us wait, as a code of product defaults §7. */
export function waitingReason(detail: string): string {
  if (/backup/i.test(detail)) return 'vm-in-backup';
  if (/snapshot/i.test(detail)) return 'vm-snapshot-running';
  return 'disk-locked';
}

export function tellPath(notes: RunNotes, disk: StoredDisk, result: Pick<DiskTaskResult, 'imagePath' | 'imagePathReason'>): void {
  if (result.imagePath !== 'proxy') return;
  const why = result.imagePathReason === '' ? '' : ` (${result.imagePathReason})`;
  notes.tell(
    'net-path-proxy',
    'info',
    `Disk "${disk.name}" was read through the engine's proxy, which is slower, as its host could not be reached${why}.`,
    disk.diskId,
  );
}

/** Not a warning: where image services cannot be reached it is how things are. */
export function tellReadWhole(notes: RunNotes, disk: StoredDisk, reason: string): void {
  notes.tell(
    'attachment-read-whole',
    'info',
    `All of disk "${disk.name}" was read, as the plug-in could not learn what of it was never written (${reason}). It asks the image service of a host, or the engine's proxy.`,
    disk.diskId,
  );
}

export interface LossInput {
  readonly disks: ReadonlyMap<string, StoredDisk>;
  readonly running: boolean;
  readonly notes: RunNotes;
}

/** `otherMoment`: some disks were read already, from an earlier backup. */
export function tellTrackingLost(input: LossInput, again: readonly PlannedDisk[], otherMoment: boolean): void {
  for (const { diskId } of again) {
    const name = input.disks.get(diskId)?.name ?? diskId;
    const later = otherMoment && input.running ? ' It is of a later moment than the other disks, because the VM went on running.' : '';
    input.notes.tell(
      'cbt-bitmap-invalid',
      'warning',
      `The engine could not say what changed on disk "${name}", so it is read again in full.${later}`,
      diskId,
    );
  }
}
