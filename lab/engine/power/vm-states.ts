/**
 * The states of a virtual machine that its power actions lead through.
 *
 * ```
 * image_locked -> down -> wait_for_launch -> powering_up -> up -> powering_down -> down
 *                                                           |<-------'  (guest ignores the request)
 *                  up -> reboot_in_progress -> up           up <-> paused
 *                  up -> saving_state -> suspended -> restoring_state -> up
 *                  up -> migrating -> up     up -> not_responding / unknown -> up or down
 * any running state -> down when its process ends
 * ```
 *
 * Source: reference "oVirt engine REST API" section 14.7.
 */
import type { VmStatus } from '../model/entities';
import type { TransitionTable } from '../states/transitions';

export const VM_TRANSITIONS: TransitionTable<VmStatus> = {
  unassigned: ['down'],
  image_locked: ['down'],
  down: ['wait_for_launch', 'image_locked'],
  wait_for_launch: ['powering_up', 'powering_down', 'down'],
  powering_up: ['up', 'powering_down', 'paused', 'down'],
  up: ['powering_down', 'reboot_in_progress', 'saving_state', 'migrating', 'paused', 'not_responding', 'unknown', 'down'],
  paused: ['up', 'powering_down', 'down'],
  migrating: ['up', 'down'],
  reboot_in_progress: ['up', 'powering_down', 'down'],
  saving_state: ['suspended', 'down'],
  suspended: ['restoring_state', 'down'],
  restoring_state: ['up', 'down'],
  // A machine whose guest takes its time can be stopped.
  powering_down: ['down', 'up', 'powering_down'],
  not_responding: ['up', 'unknown', 'down'],
  unknown: ['up', 'down'],
};

/** States in which the machine's process exists, or should. */
export function isRunning(state: VmStatus): boolean {
  return state !== 'down' && state !== 'image_locked' && state !== 'suspended' && state !== 'unassigned';
}
