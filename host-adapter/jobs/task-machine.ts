/**
 * States of a task and the ways between them (product defaults §7).
 *
 *   queued ⇄ preparing → starting → transferring → committing → cleaning → success | warning | partial | skipped | failed | cancelled
 *
 * Every state may end, and every state but `committing` may fall back to `queued`, for the next try. A plug-in that was restarted, or a server
 * that adopts the task, may skip states forward.
 */
import { HostErrors } from '../errors/host-errors';

export const activeStates = ['queued', 'preparing', 'starting', 'transferring', 'committing', 'cleaning'] as const;
export const finalStates = ['success', 'skipped', 'warning', 'partial', 'cancelled', 'failed'] as const;
export type ActiveState = (typeof activeStates)[number];
/** In the order of how bad they are. */
export type FinalState = (typeof finalStates)[number];
export type TaskState = ActiveState | FinalState;

const forward = (from: ActiveState): readonly TaskState[] => [...activeStates.slice(activeStates.indexOf(from) + 1), ...finalStates];

/** What may follow each state, beside itself. */
export const transitions: Readonly<Record<TaskState, readonly TaskState[]>> = {
  queued: forward('queued'),
  preparing: [...forward('preparing'), 'queued'],
  starting: [...forward('starting'), 'queued'],
  transferring: [...forward('transferring'), 'queued'],
  committing: [...forward('committing'), 'queued'],
  cleaning: [...finalStates, 'queued'],
  success: [],
  skipped: [],
  warning: [],
  partial: [],
  cancelled: [],
  failed: [],
};

export function isFinal(state: TaskState): state is FinalState {
  return (finalStates as readonly string[]).includes(state);
}

export function mayEnter(from: TaskState, to: TaskState): boolean {
  return from === to || transitions[from].includes(to);
}

/** Throws STATE_TRANSITION_INVALID. */
export function checkTransition(from: TaskState, to: TaskState): void {
  if (!mayEnter(from, to)) throw HostErrors.STATE_TRANSITION_INVALID({ from, to });
}

/** A session is as bad as its worst task. */
export function worstState(states: readonly FinalState[]): FinalState {
  return states.reduce<FinalState>((worst, state) => (finalStates.indexOf(state) > finalStates.indexOf(worst) ? state : worst), 'success');
}
