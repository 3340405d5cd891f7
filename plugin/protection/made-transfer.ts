import { hasCode } from '../../common/errors/tidemark-error';
import type { ImageTransfer, NewTransfer } from '../engine/image-transfers';
import type { EngineApi } from './engine-port';
import type { Patience } from './patience';

/** Phases of transfers that give, or are about to give, access to their disk. */
export const alivePhases: readonly string[] = ['initializing', 'transferring', 'resuming', 'unknown'];
/** An upload that was being opened when the engine ended is paused by it for good, and keeps its disk locked. */
const lockingPhases: readonly string[] = [...alivePhases, 'paused_system', 'paused_user'];

/**
 * Creates a transfer; when the answer got lost it looks for what was made before anything is tried again, since that locks the disk, and a second one would wait
 * for it in vain. What it finds may be of no use any more: its phase says so.
 */
export async function createTransfer(
  engine: { readonly transfers: Pick<EngineApi['transfers'], 'create' | 'list'> },
  patience: Pick<Patience, 'whileAway'>,
  body: NewTransfer,
  signal: AbortSignal,
  isOurs: (transfer: ImageTransfer) => boolean,
): Promise<ImageTransfer> {
  try {
    return await engine.transfers.create(body, { signal });
  } catch (error) {
    if (!hasCode(error, 'ENGINE_UNAVAILABLE', 'ENGINE_ANSWER_INVALID', 'ENGINE_INTERNAL_FAILURE')) throw error;
    const phases = body.direction === 'upload' ? lockingPhases : alivePhases;
    const made = (await patience.whileAway(signal, () => engine.transfers.list({ signal }))).find(
      (one) => (one.direction ?? body.direction) === body.direction && phases.includes(one.phase) && isOurs(one),
    );
    if (made) return made;
    throw error;
  }
}
