import { isTidemarkError } from '../../common/errors/tidemark-error';
import type { Slot } from '../workers/slot';
import type { RunNotes } from './run-notes';

/** A worker from farther away than the VM's own cluster is told with the reason, but not where no other was ever meant to be. */
export function tellHop(notes: RunNotes, slot: Slot | undefined): void {
  if (!slot?.hopReason || (slot.hop === 'beside-server' && slot.hopReason.code === 'worker-vms-off')) return;
  const where = slot.hop === 'beside-server' ? 'a worker beside the server' : 'a worker of another cluster';
  notes.tell('worker-hop', 'info', `The data went through ${where}, as there was none nearer by (${slot.hopReason.message}).`);
}

/** A worker was lost, and what it had in hand is begun again elsewhere. */
export function tellLoss(notes: RunNotes): (workerId: string, error: unknown) => void {
  return (workerId, error) => {
    const why = isTidemarkError(error) ? ` (${error.code})` : '';
    notes.tell(
      'worker-lost',
      'info',
      `Worker ${workerId} was lost on the way${why}; what it had in hand was begun again with another one.`,
    );
  };
}
