/**
 * Moves one disk by hanging it on a worker VM: attach, read or write, unplug, take off. Whatever comes, the disk is taken off again, at once
 * or, when the engine cannot now, by the operation's clean-up.
 */
import { CommonErrors } from '../../common/errors/common-errors';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { AttachedDisk } from '../../proto/gen/tidemark/worker/v1/AttachedDisk';
import type { Cleaner } from '../janitor/cleaner';
import type { JournalEntry } from '../journal/records';
import { noBytes } from '../operations/events';
import type { Counters } from '../operations/events';
import type { Dispatcher } from '../workers/dispatcher';
import type { Slot } from '../workers/slot';
import type { DiskTask } from '../workers/tasks';
import type { EngineApi } from './engine-port';
import type { Patience } from './patience';
import { largest, runWatched } from './stall-watch';
import type { AttachmentOrder, WorkerAttachments } from './worker-attachments';

export interface AttachedTaskOrder {
  readonly attachment: Omit<AttachmentOrder, 'workerVmId'>;
  readonly sizeBytes: number;
  /** It is new and thin, and reads zero where nothing was written. */
  readonly readsZero?: boolean;
  readonly slot: Slot;
  readonly signal: AbortSignal;
  task(attachedDisk: AttachedDisk): DiskTask;
  progress(counters: Counters): void;
}

export interface AttachedTaskResult {
  readonly failure?: TidemarkError | undefined;
  readonly counters: Counters;
  /** The disk hangs on the worker no more. */
  readonly detached: boolean;
}

/** The guest sees a new device within seconds; a host under load takes longer. */
const devicePatienceSeconds = 120;
const detachMs = 10 * 60_000;

export class AttachedDiskTasks {
  constructor(
    private readonly attachments: WorkerAttachments,
    private readonly dispatcher: Dispatcher,
    private readonly cleaner: Cleaner,
    private readonly patience: Patience,
  ) {}

  /**
   * Resolves with the failure of the task in it. Rejects when the disk cannot be attached (attachment-errors.ts) or at the abort; what hangs
   * on the worker then is the operation's clean-up.
   */
  async run(engine: EngineApi, order: AttachedTaskOrder): Promise<AttachedTaskResult> {
    const { attachment, slot, signal, sizeBytes, readsZero = false } = order;
    const { diskId, operationId } = attachment;
    // Placement asks for a worker VM, so there is one.
    if (slot.vmId === undefined) throw CommonErrors.INTERNAL({ what: `worker ${slot.workerId} without a VM for disk ${diskId}` });
    const entry = await this.#attach(engine, { ...attachment, workerVmId: slot.vmId }, signal);
    let counters = noBytes;
    const grow = (next: Counters) => {
      counters = largest(counters, next);
      order.progress(counters);
    };
    const outcome = await runWatched(this.dispatcher, this.patience, {
      slot,
      diskId,
      signal,
      correlationId: operationId,
      task: order.task({
        serial: diskId,
        sizeBytes: String(sizeBytes),
        patience: { seconds: String(devicePatienceSeconds), nanos: 0 },
        readsZero,
      }),
      progress: grow,
    });
    if (outcome.counters !== noBytes) grow(outcome.counters);
    if (signal.aborted) throw CommonErrors.CANCELLED({ what: `disk ${diskId}` });
    // A detach that fails now fails no backup: the entry stays, and the snapshot waits for it.
    const detached = await this.#detach(operationId, signal, ({ entryId }) => entryId === entry.entryId);
    return { failure: outcome.failure, counters, detached };
  }

  /** What was half attached is taken off again, so that another worker can have it. */
  async #attach(engine: EngineApi, order: AttachmentOrder, signal: AbortSignal): Promise<JournalEntry> {
    try {
      return await this.attachments.attach(engine, order, signal);
    } catch (error) {
      if (!signal.aborted) await this.#detach(order.operationId, signal, ({ objectId }) => objectId === order.diskId);
      throw error;
    }
  }

  async #detach(operationId: string, signal: AbortSignal, isMeant: (entry: JournalEntry) => boolean): Promise<boolean> {
    const only = (entry: JournalEntry) => entry.kind === 'attachment' && isMeant(entry);
    const settled = await this.cleaner.settle(operationId, { signal, deadlineMs: detachMs, only });
    return settled.every((one) => one.state === 'removed');
  }
}
