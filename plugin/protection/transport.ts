/**
 * Which way a worker gets at disks. Pure: what was asked for and how the first way failed go in, a decision with a reason code comes out.
 * Image transfer is the rule, as it knows what changed; disk attachment is for sites that want it and for image daemons that cannot be
 * reached (docs/operations/disk-attachment.md).
 */
import { isTidemarkError } from '../../common/errors/tidemark-error';
import type { Transport } from '../operations/events';
import type { WantedTransport } from './requests';

export interface TransportDecision {
  readonly transport: Transport;
  /** Note code; empty when there is nothing to tell. */
  readonly reason: '' | 'transport-attachment' | 'transport-fallback';
}

/** The way that a run begins with. */
export function firstTransport(wanted: WantedTransport): TransportDecision {
  return wanted === 'disk-attachment'
    ? { transport: 'disk-attachment', reason: 'transport-attachment' }
    : { transport: 'image-transfer', reason: '' };
}

/** What became of reading or writing by image transfer. */
export interface TransferTrouble {
  readonly wanted: WantedTransport;
  readonly failure: unknown;
  /** A worker VM of the same data centre can have disks attached, now or soon. */
  readonly workerCanAttach: boolean;
}

/** The other way, when the run may take it; undefined when the failure stands. */
export function fallbackTransport(trouble: TransferTrouble): TransportDecision | undefined {
  const { wanted, failure, workerCanAttach } = trouble;
  if (wanted !== 'auto' || !workerCanAttach || !isImageServiceAway(failure)) return undefined;
  return { transport: 'disk-attachment', reason: 'transport-fallback' };
}

/**
 * Neither the host's image daemon nor the engine's proxy could be reached, as the worker says it, or the engine itself could not get a
 * daemon to serve the disk. A certificate that is refused is not among them: attaching would hide it.
 */
export function isImageServiceAway(failure: unknown): boolean {
  return isTidemarkError(failure) && ['IMAGE_UNREACHABLE', 'TRANSFER_NOT_STARTED'].includes(failure.code);
}
