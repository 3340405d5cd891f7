import { randomInt } from 'node:crypto';
import type { ImageTransfer as WireImageTransfer } from '../../proto/gen/tidemark/worker/v1/ImageTransfer';
import { hasCode } from '../../common/errors/tidemark-error';
import type { ImageTransfer } from '../engine/image-transfers';
import type { Journal } from '../journal/journal';
import type { JournalEntry } from '../journal/records';
import { isDefiniteRefusal } from './definite';
import type { EngineApi } from './engine-port';
import { alivePhases, createTransfer } from './made-transfer';
import { transferPace } from './patience';
import type { Patience } from './patience';
import { ProtectionErrors } from './protection-errors';

export interface TransferOrder {
  readonly operationId: string;
  readonly platformId: string;
  readonly vmId: string;
  readonly diskId: string;
  readonly direction: 'download' | 'upload';
  /** Downloads of a backup. */
  readonly backupId?: string | undefined;
  /** Downloads of a disk as it was in a snapshot of ours: the volume that belongs to it. */
  readonly volumeId?: string | undefined;
  readonly sizeBytes: number;
  /** How long the engine's locks are waited for; default five minutes. */
  readonly conflictMs?: number | undefined;
}

/** A transfer that is open: journalled, with URLs. */
export interface OpenTransfer {
  readonly entry: JournalEntry;
  readonly id: string;
  /** What the worker is given. Secret. */
  readonly wire: WireImageTransfer;
}

/** Extents of 8 TiB take minutes, and a worker may have to wait for its mover (product defaults §3). */
const inactivityTimeoutSeconds = 900;
/**
 * A download of a snapshot's volume locks nothing that would keep somebody else's of the same disk away, and the engine tells neither volume
 * nor a mark of it. Its time-out is told, so it is one of these by chance, and is journalled: who looks for it knows it again.
 */
const markedTimeouts = { from: 600, to: 900 };
const defaultConflictMs = 5 * 60_000;
const urlsMs = 5 * 60_000;

/** Opens image transfers, journalled before they are asked for. Ending them is the cleaner's. */
export class DiskTransfers {
  constructor(
    private readonly journal: Journal,
    private readonly patience: Patience,
  ) {}

  /** Throws TRANSFER_NOT_STARTED when the engine made one that cannot be used; it is left in the journal, to be ended. */
  async open(engine: EngineApi, order: TransferOrder, signal: AbortSignal): Promise<OpenTransfer> {
    const { operationId, platformId, vmId, diskId, direction, backupId, volumeId, conflictMs = defaultConflictMs } = order;
    const timeout = volumeId === undefined ? inactivityTimeoutSeconds : randomInt(markedTimeouts.from, markedTimeouts.to);
    const entry = await this.journal.intend({
      operationId,
      platformId,
      vmId,
      kind: 'image-transfer',
      mark: '',
      details: {
        diskId,
        direction,
        ...(backupId === undefined ? {} : { backupId }),
        ...(volumeId === undefined ? {} : { volumeId, inactivityTimeout: String(timeout) }),
      },
    });
    let transfer: ImageTransfer;
    let sent = false;
    try {
      transfer = await this.patience.whileConflict({ signal, deadlineMs: conflictMs }, () =>
        this.patience.create(signal, (lingering) => {
          sent = true;
          return this.#create(engine, order, timeout, lingering);
        }),
      );
    } catch (error) {
      // A definite answer: nothing was made. After anything else the cleaner has to look for it.
      if (!sent || (isDefiniteRefusal(error) && !hasCode(error, 'CANCELLED'))) await this.journal.removed(entry.entryId);
      throw error;
    }
    await this.journal.created(entry.entryId, transfer.id);
    const made = { ...entry, objectId: transfer.id, state: 'created' as const };
    const ready = await this.patience.poll({ signal, deadlineMs: urlsMs, everyMs: transferPace }, async () => {
      if (!alivePhases.includes(transfer.phase)) throw ProtectionErrors.TRANSFER_NOT_STARTED({ diskId, phase: transfer.phase });
      if (transfer.phase === 'transferring' && transfer.transferUrl) return transfer;
      const found = await engine.transfers.find(transfer.id, { signal });
      if (!found) throw ProtectionErrors.TRANSFER_NOT_STARTED({ diskId, phase: 'gone' });
      transfer = found;
      if (!alivePhases.includes(transfer.phase)) throw ProtectionErrors.TRANSFER_NOT_STARTED({ diskId, phase: transfer.phase });
      return transfer.phase === 'transferring' && transfer.transferUrl ? transfer : undefined;
    });
    if (!ready) throw ProtectionErrors.TRANSFER_NOT_STARTED({ diskId, phase: transfer.phase });
    return {
      entry: made,
      id: ready.id,
      wire: {
        transferUrl: ready.transferUrl?.reveal() ?? '',
        proxyUrl: ready.proxyUrl?.reveal() ?? '',
        caPem: engine.imageioCaPem,
        sizeBytes: String(order.sizeBytes),
      },
    };
  }

  async #create(engine: EngineApi, order: TransferOrder, timeout: number, signal: AbortSignal): Promise<ImageTransfer> {
    const { diskId, direction, backupId, volumeId } = order;
    const known = new Set(this.journal.openEntries().flatMap((e) => (e.kind === 'image-transfer' && e.objectId ? [e.objectId] : [])));
    const body = {
      direction,
      ...(volumeId === undefined ? { diskId } : { volumeId }),
      ...(backupId === undefined ? {} : { backupId }),
      format: 'raw',
      inactivityTimeoutSeconds: timeout,
      timeoutPolicy: direction === 'download' ? 'cancel' : 'pause',
    } as const;
    return createTransfer(
      engine,
      this.patience,
      body,
      signal,
      (made) => made.diskId === diskId && !known.has(made.id) && (volumeId === undefined || made.inactivityTimeoutSeconds === timeout),
    );
  }
}
