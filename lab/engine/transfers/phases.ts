/**
 * The phases of an image transfer.
 *
 * ```
 * initializing -> transferring -> finalizing_success -> finished_success
 *      |              |    |               `-> finalizing_failure -> finished_failure
 *      |              |    `-> cancelled_user -> finalizing_cleanup -> finished_cleanup -> finished_failure
 *      |              `-> paused_user / paused_system -> resuming -> transferring
 *      |                         `-> cancelled_user
 *      `-> paused_system (upload) / cancelled_system (download) -> finalizing_failure -> finished_failure
 * ```
 *
 * Two sources of steps are kept apart: what the engine's own loop does ({@link TRANSFER_TRANSITIONS}), and what a client may
 * write with an action, which is any wanted phase from any phase that is not finished ({@link clientMayWrite}).
 *
 * Source: reference "oVirt engine REST API" sections 6.2 and 14.4.
 */
import type { TransferPhase } from '../model/entities';
import type { TransitionTable } from '../states/transitions';

export const TRANSFER_TRANSITIONS: TransitionTable<TransferPhase> = {
  unknown: [],
  initializing: ['transferring', 'paused_system', 'cancelled_system', 'finished_failure'],
  transferring: ['finalizing_success', 'paused_system', 'cancelled_system'],
  resuming: ['transferring', 'paused_system', 'cancelled_system'],
  paused_system: [],
  paused_user: [],
  cancelled_system: ['finalizing_failure'],
  cancelled_user: ['finalizing_cleanup'],
  finalizing_success: ['finished_success', 'finalizing_failure'],
  finalizing_failure: ['finished_failure'],
  finalizing_cleanup: ['finished_cleanup'],
  finished_cleanup: ['finished_failure'],
  finished_success: [],
  finished_failure: [],
};

/** Phases in which the ticket is being taken away: its addresses are no longer shown. */
export function isFinalizing(phase: TransferPhase): boolean {
  return phase === 'finalizing_success' || phase === 'finalizing_failure' || phase === 'finalizing_cleanup';
}

/** `finished_cleanup` is not counted: it still turns into `finished_failure`. */
export function isFinished(phase: TransferPhase): boolean {
  return phase === 'finished_success' || phase === 'finished_failure';
}

export function isPaused(phase: TransferPhase): boolean {
  return phase === 'paused_system' || phase === 'paused_user';
}

export function clientMayWrite(from: TransferPhase): boolean {
  return !isFinished(from);
}
