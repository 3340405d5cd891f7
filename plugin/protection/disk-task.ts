import { CommonErrors } from '../../common/errors/common-errors';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { Cleaner } from '../janitor/cleaner';
import { noBytes } from '../operations/events';
import type { Counters } from '../operations/events';
import type { Dispatcher, Slot } from '../workers/dispatcher';
import type { DiskTask, TaskOutcome } from '../workers/tasks';
import type { DiskTransfers, OpenTransfer, TransferOrder } from './disk-transfer';
import type { EngineApi } from './engine-port';
import type { Patience } from './patience';
import { largest, runWatched } from './stall-watch';

export interface DiskTaskOrder {
  readonly transfer: TransferOrder;
  readonly slot: Slot;
  readonly signal: AbortSignal;
  readonly correlationId: string;
  task(transfer: OpenTransfer['wire']): DiskTask;
  progress(counters: Counters): void;
}

export interface DiskTaskResult {
  readonly failure?: TidemarkError | undefined;
  readonly counters: Counters;
  readonly imagePath: TaskOutcome['imagePath'];
  readonly imagePathReason: string;
  /** How the engine ended the transfer: finished_success, finished_failure, gone, or still something else. */
  readonly transferPhase: string;
}

/** Tries of one disk: tickets expire when an imageio daemon restarts, and a fresh one goes on. */
const attempts = 3;
const endTransferMs = 10 * 60_000;

/** Moves one disk through an image transfer and a worker, and ends the transfer whatever comes. */
export class DiskTasks {
  constructor(
    private readonly transfers: DiskTransfers,
    private readonly dispatcher: Dispatcher,
    private readonly cleaner: Cleaner,
    private readonly patience: Patience,
  ) {}

  /**
   * Resolves with the failure of the task in it, tried again with a fresh transfer where that may help. Rejects when the transfer cannot be
   * opened (TRANSFER_NOT_STARTED) or at the abort; what is open then is the operation's clean-up.
   */
  async run(engine: EngineApi, order: DiskTaskOrder): Promise<DiskTaskResult> {
    let counters = noBytes;
    const grow = (next: Counters) => {
      counters = largest(counters, next);
      order.progress(counters);
    };
    for (let attempt = 1; ; attempt += 1) {
      const transfer = await this.transfers.open(engine, order.transfer, order.signal);
      const outcome = await runWatched(this.dispatcher, this.patience, {
        slot: order.slot,
        diskId: order.transfer.diskId,
        signal: order.signal,
        correlationId: order.correlationId,
        task: order.task(transfer.wire),
        progress: grow,
      });
      if (outcome.counters !== noBytes) grow(outcome.counters);
      if (order.signal.aborted) throw CommonErrors.CANCELLED({ what: `disk ${order.transfer.diskId}` });
      const { failure } = outcome;
      // An upload that failed must not be finalized: the engine would take half a disk for whole.
      const how = failure ? 'cancel' : 'finalize';
      const keepsDisk = failure === undefined || order.transfer.direction === 'download';
      const again = failure?.retry === 'fresh-ticket' && attempt < attempts && order.transfer.direction === 'download';
      const ended = keepsDisk
        ? await this.cleaner.endTransfer(transfer.entry, how, { signal: order.signal, deadlineMs: endTransferMs })
        : undefined;
      if (again && ended?.state === 'removed') continue;
      return {
        failure,
        counters,
        imagePath: outcome.imagePath,
        imagePathReason: outcome.imagePathReason,
        transferPhase: ended?.phase ?? '',
      };
    }
  }

  /** Runs a task that needs no transfer: a file beside the worker. */
  async runFile(order: Pick<DiskTaskOrder, 'slot' | 'signal' | 'correlationId' | 'progress'> & { task: DiskTask }): Promise<TaskOutcome> {
    return await this.dispatcher.runIn(order.slot, order.task, {
      correlationId: order.correlationId,
      signal: order.signal,
      progress: (report) => order.progress(report.counters),
    });
  }
}
