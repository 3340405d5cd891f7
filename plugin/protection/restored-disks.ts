/**
 * Disks that a restore makes: created, filled by a worker one way or the other, and seen to be well. Each is journalled before it is asked
 * for; one that fails is removed by whoever tries it again, or by the operation's clean-up.
 */
import { randomUUID } from 'node:crypto';
import type { Cleaner } from '../janitor/cleaner';
import type { Journal } from '../journal/journal';
import type { JournalEntry } from '../journal/records';
import { noBytes } from '../operations/events';
import type { Counters, DiskOutcome, StoredDisk, Transport } from '../operations/events';
import type { OperationScope } from '../operations/operation';
import type { Slot } from '../workers/slot';
import type { AttachedDiskTasks } from './attached-disk-task';
import type { DiskTasks } from './disk-task';
import { isDefiniteRefusal } from './definite';
import type { EngineApi } from './engine-port';
import { transferPace } from './patience';
import type { Patience } from './patience';
import { ProtectionErrors } from './protection-errors';
import type { RestoreRequest } from './requests';
import type { PlannedRestoreDisk } from './restore-plan';
import type { RunNotes } from './run-notes';
import { isWorkerGone } from './slot-pool';

export interface RestoreRun {
  readonly engine: EngineApi;
  readonly scope: OperationScope;
  readonly request: RestoreRequest;
  readonly notes: RunNotes;
  readonly mark: string;
  /** The VM that is being made; empty for a disk of no VM. */
  readonly vmId: string;
}

export interface RestoredDisk {
  readonly entry: JournalEntry;
  readonly planned: PlannedRestoreDisk;
  readonly diskId: string;
  readonly outcome: DiskOutcome;
}

/** Preallocation of a large disk takes its time. */
const diskCreateMs = 60 * 60_000;
const diskOkMs = 10 * 60_000;
const discardMs = 10 * 60_000;

export class RestoredDisks {
  constructor(
    private readonly tasks: DiskTasks,
    private readonly attached: AttachedDiskTasks,
    private readonly cleaner: Cleaner,
    private readonly journal: Journal,
    private readonly patience: Patience,
  ) {}

  /** Makes one disk and fills it. What it made is in the journal; {@link discard} takes it away for another try. */
  async make(run: RestoreRun, planned: PlannedRestoreDisk, transport: Transport, slot: Slot, signal: AbortSignal): Promise<RestoredDisk> {
    const { stored } = planned;
    const startedAt = this.patience.clock.now();
    tellProgress(run.scope, stored, noBytes);
    const entry = await this.#create(run, planned, signal);
    const diskId = entry.objectId ?? '';
    let counters: Counters;
    try {
      counters = await (transport === 'disk-attachment'
        ? this.#writeAttached(run, planned, diskId, slot, signal)
        : this.#writeTransfer(run, stored, diskId, slot, signal));
    } catch (error) {
      // Another worker begins anew, with a disk of its own.
      if (isWorkerGone(error) && !signal.aborted) await this.#remove(run, (id) => id === diskId, signal);
      throw error;
    }
    const outcome = {
      disk: stored,
      mode: 'full' as const,
      reason: '',
      counters,
      startedAt,
      endedAt: this.patience.clock.now(),
      transport,
      workerId: slot.workerId,
      workerHop: slot.hop,
    };
    return { entry, planned, diskId, outcome };
  }

  /** Removes what is there of disks that are not among `complete`. False when something could not be removed now. */
  async discard(run: RestoreRun, complete: readonly RestoredDisk[]): Promise<boolean> {
    const kept = new Set(complete.map((disk) => disk.diskId));
    return await this.#remove(run, (diskId) => !kept.has(diskId), run.scope.signal);
  }

  async #remove(run: RestoreRun, isMeant: (diskId: string) => boolean, signal: AbortSignal): Promise<boolean> {
    const settled = await this.cleaner.settle(run.request.operationId, {
      signal,
      deadlineMs: discardMs,
      only: ({ kind, objectId, details }) => {
        if (kind === 'image-transfer') return isMeant(details['diskId'] ?? '');
        return (kind === 'attachment' || kind === 'disk') && isMeant(objectId ?? '');
      },
    });
    return settled.every((one) => one.state === 'removed');
  }

  async #writeTransfer(run: RestoreRun, stored: StoredDisk, diskId: string, slot: Slot, signal: AbortSignal): Promise<Counters> {
    const { engine, scope, request } = run;
    const result = await this.tasks.run(engine, {
      transfer: {
        operationId: request.operationId,
        platformId: request.platformId,
        vmId: run.vmId,
        diskId,
        direction: 'upload',
        sizeBytes: stored.sizeBytes,
      },
      slot,
      signal,
      correlationId: request.operationId,
      task: (imageTransfer) => ({
        restoreDisk: { imageTransfer, dataPath: request.dataPath, pointId: request.pointId, diskId: stored.diskId },
      }),
      progress: (counters) => tellProgress(scope, stored, counters),
    });
    if (result.failure) throw result.failure;
    // A transfer that ended well, or vanished after its end, leaves a disk that is `ok`; the engine removes one that it did not accept.
    const { transferPhase } = result;
    if (transferPhase !== 'finished_success' && transferPhase !== 'gone') {
      throw ProtectionErrors.RESTORED_DISK_LOST({ diskId, status: transferPhase });
    }
    await this.#waitOk(engine, diskId, signal);
    if (result.imagePath === 'proxy') {
      run.notes.tell(
        'net-path-proxy',
        'info',
        `Disk "${stored.name}" was written through the engine's proxy, which is slower, as its host could not be reached.`,
        stored.diskId,
      );
    }
    return result.counters;
  }

  async #writeAttached(run: RestoreRun, planned: PlannedRestoreDisk, diskId: string, slot: Slot, signal: AbortSignal): Promise<Counters> {
    const { engine, scope, request } = run;
    const { stored } = planned;
    const { failure, counters, detached } = await this.attached.run(engine, {
      attachment: { operationId: request.operationId, platformId: request.platformId, vmId: run.vmId, diskId },
      sizeBytes: stored.sizeBytes,
      readsZero: planned.sparse,
      slot,
      signal,
      task: (attachedDisk) => ({
        restoreDisk: { attachedDisk, dataPath: request.dataPath, pointId: request.pointId, diskId: stored.diskId },
      }),
      progress: (grown) => tellProgress(scope, stored, grown),
    });
    if (failure) throw failure;
    // One that still hangs on the worker can be given to no other VM.
    if (!detached) throw ProtectionErrors.RESTORED_DISK_LOST({ diskId, status: 'still attached to the worker' });
    await this.#waitOk(engine, diskId, signal);
    return counters;
  }

  async #create(run: RestoreRun, planned: PlannedRestoreDisk, signal: AbortSignal): Promise<JournalEntry> {
    const { engine, request, mark, vmId } = run;
    const id = randomUUID();
    const entry = await this.journal.intend({
      operationId: request.operationId,
      platformId: request.platformId,
      vmId,
      kind: 'disk',
      mark,
      objectId: id,
      details: { name: planned.name },
    });
    const create = (lingering: AbortSignal) =>
      engine.disks.create(
        {
          id,
          name: planned.name,
          description: mark,
          storageDomainId: planned.storageDomainId,
          provisionedBytes: planned.stored.sizeBytes,
          format: planned.format,
          sparse: planned.sparse,
          ...(planned.initialBytes === undefined ? {} : { initialBytes: planned.initialBytes }),
          ...(planned.incrementalBackup ? { incrementalBackup: true } : {}),
          ...(planned.wipeAfterDelete ? { wipeAfterDelete: true } : {}),
        },
        { signal: lingering },
      );
    try {
      await this.patience.whileConflict({ signal, deadlineMs: diskOkMs }, () => this.patience.create(signal, create));
    } catch (error) {
      if (isDefiniteRefusal(error) && !(await engine.disks.find(id))) await this.journal.removed(entry.entryId);
      throw error;
    }
    await this.journal.created(entry.entryId, id);
    const status = await this.#unlocked(engine, id, diskCreateMs, signal);
    if (status !== 'ok') throw ProtectionErrors.RESTORED_DISK_LOST({ diskId: id, status: status ?? 'still being made' });
    return { ...entry, state: 'created' };
  }

  async #waitOk(engine: EngineApi, diskId: string, signal: AbortSignal): Promise<void> {
    const status = await this.#unlocked(engine, diskId, diskOkMs, signal);
    if (status !== 'ok') throw ProtectionErrors.RESTORED_DISK_LOST({ diskId, status: status ?? 'locked' });
  }

  async #unlocked(engine: EngineApi, diskId: string, deadlineMs: number, signal: AbortSignal): Promise<string | undefined> {
    return await this.patience.poll({ signal, deadlineMs, everyMs: transferPace }, async () => {
      const disk = await engine.disks.find(diskId, { signal });
      if (!disk) return 'gone';
      return disk.status === 'locked' ? undefined : disk.status;
    });
  }
}

export function tellProgress(scope: OperationScope, disk: StoredDisk, counters: Counters): void {
  scope.progress({ diskId: disk.diskId, diskName: disk.name, counters, totalBytes: disk.sizeBytes, mode: 'full', reason: '' });
}
