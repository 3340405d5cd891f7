/**
 * The phases of a backup, by mode, as the engine stores them and as its API shows them.
 *
 * ```
 * live:   INITIALIZING -> CREATING_SCRATCH_DISKS -> STARTING -> READY -> FINALIZING -> SUCCEEDED
 *              |                   |                   |          `-> FINALIZING_FAILURE -> FAILED
 *              `-------------------+-------------------+-> FAILED
 *
 * cold:   INITIALIZING -> ADDING_BITMAPS -> WAITING_FOR_BITMAPS -> READY -> FINALIZING -> SUCCEEDED
 *              `-----------------+-------------------+-> FAILED    `-> FINALIZING_FAILURE -> FAILED
 *
 * hybrid: INITIALIZING -> STARTING -> READY (finalize only sets a flag) -> REMOVING_SNAPSHOT -> SUCCEEDED
 *              `-------------+----------+-> FAILED                              (also when the merge failed)
 * ```
 *
 * Source: reference "oVirt engine REST API" sections 4.3 and 14.1 to 14.3.
 */
import type { BackupMode, BackupPhase, Version } from '../model/entities';
import type { TransitionTable } from '../states/transitions';

export type ApiBackupPhase = 'initializing' | 'starting' | 'ready' | 'finalizing' | 'succeeded' | 'failed';

const unreachable: readonly BackupPhase[] = [];

export const BACKUP_TRANSITIONS: Readonly<Record<BackupMode, TransitionTable<BackupPhase>>> = {
  live: {
    INITIALIZING: ['CREATING_SCRATCH_DISKS', 'FAILED'],
    CREATING_SCRATCH_DISKS: ['STARTING', 'FAILED'],
    STARTING: ['READY', 'FAILED'],
    READY: ['FINALIZING', 'FINALIZING_FAILURE', 'FAILED'],
    FINALIZING: ['SUCCEEDED', 'FINALIZING_FAILURE', 'FAILED'],
    FINALIZING_FAILURE: ['FAILED'],
    SUCCEEDED: [],
    FAILED: [],
    ADDING_BITMAPS: unreachable,
    WAITING_FOR_BITMAPS: unreachable,
    REMOVING_SNAPSHOT: unreachable,
  },
  cold: {
    INITIALIZING: ['ADDING_BITMAPS', 'FAILED'],
    ADDING_BITMAPS: ['WAITING_FOR_BITMAPS', 'FAILED'],
    WAITING_FOR_BITMAPS: ['READY', 'FAILED'],
    READY: ['FINALIZING', 'FINALIZING_FAILURE', 'FAILED'],
    FINALIZING: ['SUCCEEDED', 'FINALIZING_FAILURE', 'FAILED'],
    FINALIZING_FAILURE: ['FAILED'],
    SUCCEEDED: [],
    FAILED: [],
    CREATING_SCRATCH_DISKS: unreachable,
    STARTING: unreachable,
    REMOVING_SNAPSHOT: unreachable,
  },
  hybrid: {
    INITIALIZING: ['STARTING', 'FAILED'],
    STARTING: ['READY', 'FAILED'],
    READY: ['REMOVING_SNAPSHOT', 'FAILED'],
    REMOVING_SNAPSHOT: ['SUCCEEDED', 'FAILED'],
    SUCCEEDED: [],
    FAILED: [],
    CREATING_SCRATCH_DISKS: unreachable,
    ADDING_BITMAPS: unreachable,
    WAITING_FOR_BITMAPS: unreachable,
    FINALIZING: unreachable,
    FINALIZING_FAILURE: unreachable,
  },
};

const API_PHASES: Readonly<Record<BackupPhase, ApiBackupPhase>> = {
  INITIALIZING: 'initializing',
  CREATING_SCRATCH_DISKS: 'initializing',
  ADDING_BITMAPS: 'initializing',
  WAITING_FOR_BITMAPS: 'initializing',
  STARTING: 'starting',
  READY: 'ready',
  FINALIZING: 'finalizing',
  FINALIZING_FAILURE: 'finalizing',
  REMOVING_SNAPSHOT: 'finalizing',
  SUCCEEDED: 'succeeded',
  FAILED: 'failed',
};

export function apiPhase(phase: BackupPhase): ApiBackupPhase {
  return API_PHASES[phase];
}

export function isFinished(phase: BackupPhase): boolean {
  return phase === 'SUCCEEDED' || phase === 'FAILED';
}

/**
 * Hybrid when the effective level is at least 4.7 and the client did not ask for `legacy`; otherwise live or cold by whether
 * the machine runs.
 */
export function chooseMode(level: Version, legacy: boolean, vmIsUp: boolean): BackupMode {
  if (isAtLeast(level, 4, 7) && !legacy) return 'hybrid';
  return vmIsUp ? 'live' : 'cold';
}

export function isAtLeast(level: Version, major: number, minor: number): boolean {
  return level.major > major || (level.major === major && level.minor >= minor);
}

/** Whether the new checkpoint is real by now, so that the API shows its id. */
export function hasCheckpoint(phase: BackupPhase): boolean {
  return ['WAITING_FOR_BITMAPS', 'READY', 'FINALIZING', 'FINALIZING_FAILURE', 'REMOVING_SNAPSHOT', 'SUCCEEDED'].includes(phase);
}
