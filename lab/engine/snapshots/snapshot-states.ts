/**
 * The states of a snapshot.
 *
 * ```
 * (POST) locked -> ok -> locked (merging) -> removed
 *           |       |         `-> ok  (failed; some disks may be merged)
 *           |       `-> in_preview -> ok   (commit or undo)
 *           `-> removed (creation failed)
 * ```
 *
 * Source: reference "oVirt engine REST API" section 14.5.
 */
import type { TransitionTable } from '../states/transitions';

export type SnapshotState = 'locked' | 'ok' | 'in_preview' | 'removed';

export const SNAPSHOT_TRANSITIONS: TransitionTable<SnapshotState> = {
  locked: ['ok', 'removed'],
  ok: ['locked', 'in_preview', 'removed'],
  in_preview: ['ok', 'removed'],
  removed: [],
};
