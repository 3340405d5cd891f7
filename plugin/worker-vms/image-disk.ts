/**
 * A disk with the content of the worker image: made empty, filled through an image transfer, seen to be whole. Journalled before it is made;
 * what a failure leaves is the cleaner's. Engine REST API §6.6.
 */
import { randomUUID } from 'node:crypto';
import { CommonErrors } from '../../common/errors/common-errors';
import { hasCode } from '../../common/errors/tidemark-error';
import type { Disk } from '../engine/disks';
import type { ImageTransfer } from '../engine/image-transfers';
import type { StorageDomain } from '../engine/storage-domains';
import type { Cleaner } from '../janitor/cleaner';
import type { Journal } from '../journal/journal';
import type { JournalEntry } from '../journal/records';
import { noBytes } from '../operations/events';
import type { OperationScope } from '../operations/operation';
import { isDefiniteRefusal } from '../protection/definite';
import { alivePhases, createTransfer } from '../protection/made-transfer';
import { transferPace } from '../protection/patience';
import type { Patience } from '../protection/patience';
import { initialBytes } from './deployment-plan';
import type { WorkerEngine } from './engine-port';
import type { ImageUpload } from './image-upload';
import { engineMs } from './timing';
import type { WorkerImage } from './worker-image';
import { WorkerVmErrors } from './worker-vm-errors';

export interface ImageDiskOrder {
  readonly name: string;
  readonly description: string;
  readonly domain: StorageDomain;
  readonly image: WorkerImage;
}

/** Slow storage, and a checksum by the engine at the end. */
const finalizeMs = 30 * 60_000;

export class ImageDisks {
  constructor(
    private readonly journal: Journal,
    private readonly patience: Patience,
    private readonly cleaner: Cleaner,
    private readonly upload: ImageUpload,
  ) {}

  /** The journal's entry of the finished disk, still open. Throws WORKER_IMAGE_NOT_UPLOADED, WORKER_DISK_LOST, CANCELLED, engine errors. */
  async make(engine: WorkerEngine, scope: OperationScope, order: ImageDiskOrder): Promise<JournalEntry> {
    const entry = await this.#create(engine, scope, order);
    const diskId = entry.objectId ?? '';
    await this.#fill(engine, scope, order, diskId);
    await this.waitOk(engine, diskId, order.name, scope.signal);
    return entry;
  }

  /** Throws WORKER_DISK_LOST. */
  async waitOk(engine: WorkerEngine, diskId: string, name: string, signal: AbortSignal): Promise<Disk> {
    let last: Disk | undefined;
    const status = await this.patience.poll({ signal, deadlineMs: finalizeMs, everyMs: transferPace }, async () => {
      last = await engine.disks.find(diskId, { signal });
      if (!last) return 'gone';
      return last.status === 'locked' ? undefined : last.status;
    });
    if (status !== 'ok' || !last) throw WorkerVmErrors.WORKER_DISK_LOST({ name, status: status ?? 'still locked' });
    return last;
  }

  async #create(engine: WorkerEngine, scope: OperationScope, order: ImageDiskOrder): Promise<JournalEntry> {
    const { signal, header } = scope;
    const { name, description, domain, image } = order;
    const id = randomUUID();
    const entry = await this.journal.intend({
      operationId: header.operationId,
      platformId: header.platformId,
      vmId: '',
      kind: 'disk',
      mark: description,
      objectId: id,
      details: { name, role: 'worker' },
    });
    const initial = initialBytes(domain, image);
    const create = (lingering: AbortSignal) =>
      engine.disks.create(
        {
          id,
          name,
          description,
          storageDomainId: domain.id,
          provisionedBytes: image.diskBytes,
          format: 'cow',
          sparse: true,
          ...(initial === undefined ? {} : { initialBytes: initial }),
        },
        { signal: lingering },
      );
    try {
      await this.patience.whileConflict({ signal, deadlineMs: engineMs }, () => this.patience.create(signal, create));
    } catch (error) {
      if (isDefiniteRefusal(error) && !(await engine.disks.find(id))) await this.journal.removed(entry.entryId);
      throw error;
    }
    await this.journal.created(entry.entryId, id);
    await this.waitOk(engine, id, name, signal);
    return { ...entry, state: 'created' };
  }

  async #fill(engine: WorkerEngine, scope: OperationScope, order: ImageDiskOrder, diskId: string): Promise<void> {
    const { signal, header } = scope;
    const { image } = order;
    const entry = await this.journal.intend({
      operationId: header.operationId,
      platformId: header.platformId,
      vmId: '',
      kind: 'image-transfer',
      mark: '',
      details: { diskId, direction: 'upload' },
    });
    const transfer = await this.#open(engine, entry, diskId, signal);
    await this.upload({
      file: image.path,
      fileBytes: image.fileBytes,
      sha256: image.sha256,
      transferUrl: transfer.transferUrl?.reveal() ?? '',
      proxyUrl: transfer.proxyUrl?.reveal() ?? '',
      caPem: engine.imageioCaPem,
      signal,
      progress: (sentBytes) => {
        const counters = { ...noBytes, plannedBytes: image.fileBytes, readBytes: sentBytes, transferredBytes: sentBytes };
        scope.progress({ diskId, diskName: order.name, counters, totalBytes: image.fileBytes, mode: 'full', reason: '' });
      },
    });
    if (signal.aborted) throw CommonErrors.CANCELLED({ what: `operation ${header.operationId}` });
    const opened = { ...entry, objectId: transfer.id, state: 'created' as const };
    const { phase } = await this.cleaner.endTransfer(opened, 'finalize', { signal, deadlineMs: finalizeMs });
    if (phase !== 'finished_success' && phase !== 'gone') throw WorkerVmErrors.WORKER_DISK_LOST({ name: order.name, status: phase });
  }

  /** `cow`: the bytes of the file go to the storage as they are. */
  async #open(engine: WorkerEngine, entry: JournalEntry, diskId: string, signal: AbortSignal): Promise<ImageTransfer> {
    let transfer: ImageTransfer;
    let sent = false;
    try {
      transfer = await this.patience.whileConflict({ signal, deadlineMs: engineMs }, () =>
        this.patience.create(signal, (lingering) => {
          sent = true;
          const body = { direction: 'upload', diskId, format: 'cow', timeoutPolicy: 'cancel' } as const;
          return createTransfer(engine, this.patience, body, lingering, (made) => made.diskId === diskId);
        }),
      );
    } catch (error) {
      // After anything but a definite answer one may have been made; the cleaner looks for it by disk and direction.
      if (!sent || (isDefiniteRefusal(error) && !hasCode(error, 'CANCELLED'))) await this.journal.removed(entry.entryId);
      throw error;
    }
    await this.journal.created(entry.entryId, transfer.id);
    const ready = await this.patience.poll({ signal, deadlineMs: engineMs, everyMs: transferPace }, async () => {
      if (transfer.phase === 'transferring' && (transfer.transferUrl ?? transfer.proxyUrl)) return transfer;
      if (!alivePhases.includes(transfer.phase)) throw notOpened(transfer.phase);
      const found = await engine.transfers.find(transfer.id, { signal });
      if (!found) throw notOpened('gone');
      transfer = found;
      return undefined;
    });
    if (!ready) throw notOpened(transfer.phase);
    return ready;
  }
}

function notOpened(phase: string) {
  return WorkerVmErrors.WORKER_IMAGE_NOT_UPLOADED({ problem: `the engine gives no access to the disk (image transfer ${phase})` });
}
