/**
 * The states of an image disk.
 *
 * ```
 * (POST) locked -> ok <-> locked (transfer, backup, snapshot, merge, move, convert, resize)
 *           |                |-> illegal (failed upload, for a moment) -> removed
 *           `-> removed      `-> illegal (failed merge)
 * ok, illegal -> locked -> removed
 * ```
 *
 * Source: reference "oVirt engine REST API" section 14.6.
 */
import type { TransitionTable } from '../states/transitions';

export type DiskState = 'ok' | 'locked' | 'illegal' | 'removed';

export const DISK_TRANSITIONS: TransitionTable<DiskState> = {
  ok: ['locked'],
  locked: ['ok', 'illegal', 'removed'],
  illegal: ['locked', 'ok', 'removed'],
  removed: [],
};
