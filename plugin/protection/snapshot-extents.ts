/**
 * What of a snapshot's disk holds nothing, for a worker that reads it plugged: a guest cannot see what the layers of an image do not hold,
 * and would read it all. The image service knows; it is asked for its list of extents before the disk is attached, through an image transfer of
 * the snapshot's volume that is over before the disk is attached (attaching is refused while one runs, engine REST API §7.1). The volume is
 * never written again, so what it does not hold it does not hold later.
 */
import { hasCode, isTidemarkError } from '../../common/errors/tidemark-error';
import type { ByteRange } from '../image-service/zero-ranges';
import type { ReadZeroRanges } from '../image-service/read-zero-ranges';
import type { Cleaner } from '../janitor/cleaner';
import type { DiskTransfers, OpenTransfer } from './disk-transfer';
import type { EngineApi } from './engine-port';
import { ownTransferWait } from './worker-attachments';

export interface ExtentsOrder {
  readonly operationId: string;
  readonly platformId: string;
  readonly vmId: string;
  readonly diskId: string;
  /** The snapshot's; undefined when the engine did not name it. */
  readonly volumeId: string | undefined;
  readonly sizeBytes: number;
  /** Hears why it waits; empty once it goes on. */
  waiting?(reason: string): void;
}

/** `unknown` is a reason for people. `away`: no image service can be reached, whatever the disk. */
export type SnapshotZeroRanges = { readonly zeroRanges: readonly ByteRange[] } | { readonly unknown: string; readonly away: boolean };

/** A disk can be read whole: its locks are not waited for as for a backup. */
const conflictMs = 60_000;
/** A transfer ends within seconds; an image daemon that is asked for its ticket waits a minute for connections (product defaults §3). */
const endMs = 2 * 60_000;
const usualEndMs = 20_000;

export class SnapshotExtents {
  constructor(
    private readonly transfers: DiskTransfers,
    private readonly readZeroRanges: ReadZeroRanges,
    private readonly cleaner: Cleaner,
  ) {}

  /** Rejects only with CANCELLED; a transfer that is open then is the operation's clean-up. */
  async ask(engine: EngineApi, order: ExtentsOrder, signal: AbortSignal): Promise<SnapshotZeroRanges> {
    const { volumeId, sizeBytes } = order;
    if (volumeId === undefined) return { unknown: 'the engine does not name the volume of the snapshot', away: false };
    let open: OpenTransfer;
    try {
      open = await this.transfers.open(engine, { ...order, direction: 'download', conflictMs }, signal);
    } catch (error) {
      if (signal.aborted || hasCode(error, 'CANCELLED')) throw error;
      await this.settle(order, signal);
      return { unknown: reasonOf(error), away: false };
    }
    const { transferUrl = '', proxyUrl = '', caPem = '' } = open.wire;
    const found = await this.readZeroRanges({ transferUrl, proxyUrl, caPem }, signal);
    // A download that is cancelled leaves the disk as it was, and a daemon that cannot be reached has nothing to finish.
    await this.#end(open, 'problem' in found ? 'cancel' : 'finalize', order, signal);
    if ('problem' in found) return { unknown: found.problem, away: found.away };
    if (found.sizeBytes !== sizeBytes) {
      return { unknown: `the image service serves ${found.sizeBytes} bytes of a disk of ${sizeBytes} bytes`, away: false };
    }
    return { zeroRanges: found.ranges };
  }

  async #end(open: OpenTransfer, how: 'finalize' | 'cancel', order: ExtentsOrder, signal: AbortSignal): Promise<void> {
    try {
      const ended = await this.cleaner.endTransfer(open.entry, how, { signal, deadlineMs: usualEndMs });
      if (ended.state === 'removed') return;
      order.waiting?.(ownTransferWait);
      await this.cleaner.endTransfer(open.entry, how, { signal, deadlineMs: endMs - usualEndMs });
      order.waiting?.('');
    } catch (error) {
      if (signal.aborted || hasCode(error, 'CANCELLED')) throw error;
      // Whatever it is, it is said where it matters: the disk cannot be attached, or the clean-up of the operation tries again.
      await this.settle(order, signal);
    }
  }

  /** Ends what is left of the question about a disk; nothing is asked of the engine when nothing is. */
  async settle({ operationId, diskId }: Pick<ExtentsOrder, 'operationId' | 'diskId'>, signal: AbortSignal): Promise<void> {
    await this.cleaner.settle(operationId, {
      signal,
      deadlineMs: endMs,
      only: ({ kind, details }) => kind === 'image-transfer' && details['diskId'] === diskId,
    });
  }
}

function reasonOf(error: unknown): string {
  return isTidemarkError(error) ? error.message : 'an unexpected failure';
}
