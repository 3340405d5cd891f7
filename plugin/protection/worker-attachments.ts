/**
 * Hangs disks on worker VMs, journalled before it is asked for: a disk as it was in a snapshot, read-only, or a new disk that is being
 * restored. Taking them off again is the cleaner's. Engine REST API §7.
 */
import { hasCode } from '../../common/errors/tidemark-error';
import type { DiskAttachment } from '../engine/disk-attachments';
import { EngineErrors } from '../engine/engine-errors';
import { finishedTransferPhases } from '../engine/image-transfers';
import type { Journal } from '../journal/journal';
import type { JournalEntry } from '../journal/records';
import { AttachmentErrors } from './attachment-errors';
import { attachmentError, isAlreadyAttached, isPlugFailure } from './attachment-refusal';
import { isDefiniteRefusal } from './definite';
import type { EngineApi } from './engine-port';
import { transferPace } from './patience';
import type { Patience } from './patience';

export interface AttachmentOrder {
  readonly operationId: string;
  readonly platformId: string;
  /** Whose disk it is; empty for a disk of no VM. */
  readonly vmId: string;
  readonly workerVmId: string;
  readonly diskId: string;
  /** To attach the disk as it was then, read-only. Without: the disk itself, to be written. */
  readonly snapshotId?: string | undefined;
  /** Hears why it waits; empty once it goes on. */
  waiting?(detail: string): void;
}

/** Plugged into one worker VM at the same time: guests lose track of more (engine REST API §7.2). */
export const mostPlugged = 8;

const conflictMs = 10 * 60_000;
/** The same while the lock is our own transfer's, which only the host can let go of: longer than a restart of its image service takes. */
const ownTransferMs = 3 * 60_000;
/** Waiting reason meanwhile. */
export const ownTransferWait = 'image-transfer-ending';
const retryDelayMs = 30_000;
const roomMs = 30 * 60_000;
/** A host that cannot take the device now mostly can a moment later. */
const plugTries = 3;
const plugPauseMs = 5_000;

export class WorkerAttachments {
  constructor(
    private readonly journal: Journal,
    private readonly patience: Patience,
  ) {}

  /**
   * From intent to a plugged disk. Throws the codes of attachment-errors.ts and CANCELLED. What it made is in the journal.
   */
  async attach(engine: EngineApi, order: AttachmentOrder, signal: AbortSignal): Promise<JournalEntry> {
    const { operationId, platformId, vmId, workerVmId, diskId, snapshotId } = order;
    await this.#waitForRoom(order, signal);
    const entry = await this.journal.intend({
      operationId,
      platformId,
      vmId,
      kind: 'attachment',
      mark: '',
      objectId: diskId,
      details: { workerVmId, ...(snapshotId === undefined ? {} : { snapshotId }) },
    });
    let made: DiskAttachment;
    const since = this.patience.clock.elapsed();
    try {
      made = await this.patience.whileConflict(
        { signal, deadlineMs: conflictMs, waiting: (detail) => order.waiting?.(detail) },
        async () => {
          try {
            return await this.#add(engine, order, entry, signal);
          } catch (error) {
            const own = await this.#ownTransferOpen(engine, order, error);
            if (own && this.patience.clock.elapsed() - since >= ownTransferMs) throw own;
            throw own ? EngineErrors.ENGINE_CONFLICT({ operation: 'attach', detail: ownTransferWait }, { cause: error }) : error;
          }
        },
      );
    } catch (error) {
      await this.#forgetUnlessThere(engine, entry, hasCode(error, 'ATTACH_TRANSFER_OPEN') ? error.cause : error);
      throw attachmentError(error, { workerVmId, diskId, snapshotId });
    }
    await this.journal.created(entry.entryId, diskId);
    if (!made.active) await this.#plug(engine, order, signal);
    return { ...entry, state: 'created' };
  }

  /** Counted by the journal, which knows them all, also after a restart. */
  async #waitForRoom(order: AttachmentOrder, signal: AbortSignal): Promise<void> {
    const plugged = () =>
      this.journal.openEntries().filter((e) => e.kind === 'attachment' && e.details['workerVmId'] === order.workerVmId).length;
    const until = this.patience.clock.elapsed() + roomMs;
    let waited = false;
    while (plugged() >= mostPlugged) {
      if (this.patience.clock.elapsed() >= until) {
        throw AttachmentErrors.ATTACH_NO_CONTROLLER({ workerVmId: order.workerVmId, detail: `${mostPlugged} disks are plugged already` });
      }
      order.waiting?.('worker-slots');
      waited = true;
      await this.patience.clock.sleep(1000, signal);
    }
    if (waited) order.waiting?.('');
  }

  async #add(engine: EngineApi, order: AttachmentOrder, entry: JournalEntry, signal: AbortSignal): Promise<DiskAttachment> {
    const { workerVmId, diskId, snapshotId } = order;
    try {
      return await this.patience.create(signal, (lingering) =>
        engine.diskAttachments.add(
          workerVmId,
          {
            diskId,
            interface: 'virtio_scsi',
            active: true,
            bootable: false,
            readOnly: snapshotId !== undefined,
            ...(snapshotId === undefined ? {} : { snapshotId }),
          },
          { signal: lingering },
        ),
      );
    } catch (error) {
      if (!isPlugFailure(error) && !isAlreadyAttached(error)) throw error;
      // Attached but not plugged, or the answer to an earlier try was lost: the row tells whether it is ours.
      const found = await engine.diskAttachments.find(workerVmId, diskId, { signal });
      if (found && found.snapshotId === snapshotId && !this.#isSomebodyElses(entry)) return found;
      // A leftover of ours goes within a minute: worth waiting for.
      if (found) throw EngineErrors.ENGINE_CONFLICT({ operation: 'attach', detail: 'the disk is already attached' }, { cause: error });
      throw error;
    }
  }

  /** What locks the disk may be the transfer by which this run looked at it: the engine ends it again and again until the host lets go. */
  async #ownTransferOpen(engine: EngineApi, { operationId, workerVmId, diskId }: AttachmentOrder, error: unknown) {
    if (!hasCode(error, 'ENGINE_CONFLICT')) return undefined;
    const entry = this.journal
      .openEntries(operationId)
      .find(({ kind, details, objectId }) => kind === 'image-transfer' && details['diskId'] === diskId && objectId !== undefined);
    const transfer = entry?.objectId === undefined ? undefined : await engine.transfers.find(entry.objectId).catch(() => undefined);
    if (!transfer || finishedTransferPhases.includes(transfer.phase)) return undefined;
    const { id: transferId, phase, hostId = 'unknown' } = transfer;
    const meta = { diskId, workerVmId, transferId, phase, hostId };
    return AttachmentErrors.ATTACH_TRANSFER_OPEN(meta, { cause: error, retryDelayMs });
  }

  /** A leftover of an earlier run hangs there in its own right, until the janitor has taken it off. */
  #isSomebodyElses(entry: JournalEntry): boolean {
    return this.journal
      .openEntries()
      .some(
        (e) =>
          e.kind === 'attachment' &&
          e.entryId !== entry.entryId &&
          e.objectId === entry.objectId &&
          e.details['workerVmId'] === entry.details['workerVmId'],
      );
  }

  async #plug(engine: EngineApi, order: AttachmentOrder, signal: AbortSignal): Promise<void> {
    const { workerVmId, diskId, snapshotId } = order;
    for (let tried = 1; ; tried += 1) {
      try {
        await this.patience.whileAway(signal, () => engine.diskAttachments.plug(workerVmId, diskId, { signal }));
        const plugged = await this.patience.poll({ signal, deadlineMs: 60_000, everyMs: transferPace }, async () =>
          (await engine.diskAttachments.find(workerVmId, diskId, { signal }))?.active === true ? true : undefined,
        );
        if (plugged) return;
        const status = (await engine.vms.find(workerVmId, { signal }))?.status ?? 'gone';
        throw AttachmentErrors.ATTACH_WORKER_VM_STATE({ workerVmId, status });
      } catch (error) {
        if (!hasCode(error, 'ENGINE_CONFLICT') || tried >= plugTries) throw attachmentError(error, { workerVmId, diskId, snapshotId });
        await this.patience.clock.sleep(plugPauseMs, signal);
      }
    }
  }

  async #forgetUnlessThere(engine: EngineApi, entry: JournalEntry, error: unknown): Promise<void> {
    if (!isDefiniteRefusal(error)) return;
    // Not under the signal: a cancel must not keep us from knowing.
    const found = await engine.diskAttachments.find(entry.details['workerVmId'] ?? '', entry.objectId ?? '');
    const ours = found && found.snapshotId === entry.details['snapshotId'] && !this.#isSomebodyElses(entry);
    if (!ours) await this.journal.removed(entry.entryId);
  }
}
