/**
 * Reads the disks of a VM through engine backups. Usually one; a second one when change tracking turns out to be gone for some disks: they
 * are read in full within the same run (architecture, invariant 5).
 *
 * The point's checkpoint is that of the first backup that gave data. A disk read later has changed less since then than that checkpoint
 * says, so the next incremental reads a little too much and never too little.
 */
import { CommonErrors } from '../../common/errors/common-errors';
import { hasCode } from '../../common/errors/tidemark-error';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { Cleaner } from '../janitor/cleaner';
import type { Journal } from '../journal/journal';
import type { JournalEntry } from '../journal/records';
import { noBytes } from '../operations/events';
import type { DiskOutcome, StoredDisk } from '../operations/events';
import type { OperationScope } from '../operations/operation';
import type { Slot } from '../workers/dispatcher';
import type { DiskTaskOrder, DiskTaskResult, DiskTasks } from './disk-task';
import type { EngineBackups, ReadyBackup } from './engine-backup';
import type { EngineApi } from './engine-port';
import type { Patience } from './patience';
import { ProtectionErrors } from './protection-errors';
import type { BackupRequest } from './requests';
import { tellPath, tellTrackingLost, waitingReason } from './rounds-notes';
import type { RunNotes } from './run-notes';
import type { SlotPool } from './slot-pool';
import { agreeWithEngine, fromCheckpoint, lossReasons } from './strategy';
import type { PlannedDisk } from './strategy';

export interface RoundsInput {
  readonly engine: EngineApi;
  readonly request: BackupRequest;
  readonly scope: OperationScope;
  readonly notes: RunNotes;
  readonly slots: SlotPool;
  readonly mark: string;
  readonly plan: readonly PlannedDisk[];
  readonly disks: ReadonlyMap<string, StoredDisk>;
  readonly running: boolean;
  /** The guest is a Windows. */
  readonly windows: boolean;
  /** Why no image service needs to be asked for anything; undefined where one may answer. */
  readonly imageServiceAway?: string | undefined;
}

/** All disks are in the mover; the last engine backup still stands. */
export interface RoundsResult {
  readonly outcomes: readonly DiskOutcome[];
  /** The backup whose checkpoint is the point's, and a later one whose checkpoint is not wanted. */
  readonly open: readonly { readonly entry: JournalEntry; readonly keep: boolean }[];
  /** Checkpoints of ended backups that the point needs. */
  readonly checkpointEntry: JournalEntry | undefined;
  readonly checkpointId: string;
  /** A snapshot of ours that was read from, and stands until the point is committed. */
  readonly snapshotEntry?: JournalEntry | undefined;
  readonly pointInTime: number;
  /** Live, frozen on demand. */
  readonly quiesced: boolean;
}

const endBackupMs = 60 * 60_000;
const deadTransferMs = 3 * 60_000;

type DiskEnd = { readonly outcome: DiskOutcome } | { readonly lost: string };

export class BackupRounds {
  constructor(
    private readonly backups: EngineBackups,
    private readonly tasks: DiskTasks,
    private readonly cleaner: Cleaner,
    private readonly journal: Journal,
    private readonly patience: Patience,
  ) {}

  /** Outcomes come in the order of the VM's disks, whichever was read first. */
  async run(input: RoundsInput): Promise<RoundsResult> {
    const result = await this.#run(input);
    const order = [...input.disks.keys()];
    const place = (outcome: DiskOutcome) => order.indexOf(outcome.disk.diskId);
    return { ...result, outcomes: [...result.outcomes].sort((a, b) => place(a) - place(b)) };
  }

  async #run(input: RoundsInput): Promise<RoundsResult> {
    const first = await this.#start(input, input.plan);
    const ends = await this.#read(input, first.ready, first.plan);
    const outcomes = [...ends.values()].flatMap((end) => ('outcome' in end ? [end.outcome] : []));
    const lost = first.plan.filter((disk) => 'lost' in (ends.get(disk.diskId) ?? {}));
    const base = { pointInTime: first.ready.pointInTime, quiesced: isQuiesced(input, first.ready) };
    if (lost.length === 0) {
      const checkpointId = first.ready.backup.toCheckpointId ?? '';
      return { ...base, outcomes, open: [{ entry: first.ready.entry, keep: true }], checkpointEntry: undefined, checkpointId };
    }
    const kept = outcomes.length > 0 ? await this.#keepCheckpoint(input, first.ready) : undefined;
    await this.#end(first.ready.entry, outcomes.length > 0, input.scope.signal);
    const again: PlannedDisk[] = lost.map((disk) => ({ diskId: disk.diskId, mode: 'full', reason: 'cbt-bitmap-invalid' }));
    tellTrackingLost(input, again, outcomes.length > 0);
    const second = await this.#start(input, again);
    const secondEnds = await this.#read(input, second.ready, second.plan);
    for (const end of secondEnds.values()) if ('outcome' in end) outcomes.push(end.outcome);
    if (kept) {
      return {
        ...base,
        outcomes,
        open: [{ entry: second.ready.entry, keep: false }],
        checkpointEntry: kept,
        checkpointId: kept.objectId ?? '',
      };
    }
    return {
      outcomes,
      open: [{ entry: second.ready.entry, keep: true }],
      checkpointEntry: undefined,
      checkpointId: second.ready.backup.toCheckpointId ?? '',
      pointInTime: second.ready.pointInTime,
      quiesced: isQuiesced(input, second.ready),
    };
  }

  /** Starts an engine backup; when it cannot build on the checkpoint, a full one at once. */
  async #start(input: RoundsInput, plan: readonly PlannedDisk[]): Promise<{ ready: ReadyBackup; plan: readonly PlannedDisk[] }> {
    const { engine, request, scope, notes, mark } = input;
    const order = (from: string | undefined) => ({
      operationId: request.operationId,
      platformId: request.vm.platformId,
      vmId: request.vm.vmId,
      mark,
      diskIds: plan.map((disk) => disk.diskId),
      fromCheckpointId: from,
      requireConsistency: request.requireConsistency && input.running,
      waiting: (detail: string) => scope.phase('starting', detail === '' ? '' : waitingReason(detail)),
    });
    scope.phase('starting');
    const from = fromCheckpoint(plan, request.base);
    let planned = plan;
    let ready: ReadyBackup;
    try {
      ready = await this.backups.start(engine, order(from), scope.signal);
    } catch (error) {
      if (from === undefined || !hasCode(error, 'ENGINE_CHECKPOINT_UNUSABLE')) throw error;
      const reason = /not exist|does not exist|no such/i.test(String(error.meta['detail'])) ? 'cbt-no-checkpoint' : 'cbt-bitmap-invalid';
      await this.#endOpenBackups(request.operationId, scope.signal);
      planned = plan.map((disk) => (disk.mode === 'incremental' ? { ...disk, mode: 'full', reason } : disk));
      ready = await this.backups.start(engine, order(undefined), scope.signal);
    }
    const served = new Map(ready.disks.map((disk) => [disk.id, disk.backupMode]));
    planned = agreeWithEngine(planned, served);
    for (const disk of planned) {
      if (lossReasons.includes(disk.reason)) {
        const name = input.disks.get(disk.diskId)?.name ?? disk.diskId;
        notes.tell(
          disk.reason,
          'warning',
          `Changes of disk "${name}" since the last backup are not known, so it is read in full.`,
          disk.diskId,
        );
      }
    }
    return { ready, plan: planned };
  }

  /** Reads the disks, some at a time. Change tracking that is gone is an end of the disk, not a failure. */
  async #read(input: RoundsInput, ready: ReadyBackup, plan: readonly PlannedDisk[]): Promise<Map<string, DiskEnd>> {
    const { request, scope, slots } = input;
    const ends = new Map<string, DiskEnd>();
    scope.phase('transferring');
    // Large ones first: the run is as long as its longest lane.
    const order = [...plan].sort((a, b) => (input.disks.get(b.diskId)?.sizeBytes ?? 0) - (input.disks.get(a.diskId)?.sizeBytes ?? 0));
    await slots.each(order, request.diskParallel, scope.signal, async (disk, slot, signal) => {
      ends.set(disk.diskId, await this.#disk(input, ready, disk, slot, signal));
    });
    return ends;
  }

  async #disk(input: RoundsInput, ready: ReadyBackup, planned: PlannedDisk, slot: Slot, signal: AbortSignal): Promise<DiskEnd> {
    const { engine, request, scope } = input;
    const { diskId, mode, reason } = planned;
    const known = input.disks.get(diskId);
    // The size may have grown since the picture was taken; the backup's own list is of the moment.
    const sizeBytes = ready.disks.find((disk) => disk.id === diskId)?.provisionedBytes ?? known?.sizeBytes ?? 0;
    if (!known) throw CommonErrors.INTERNAL({ what: `disk ${diskId}` });
    const startedAt = this.patience.clock.now();
    const tell = (counters: DiskTaskResult['counters']) =>
      scope.progress({ diskId, diskName: known.name, counters, totalBytes: sizeBytes, mode, reason });
    tell(noBytes);
    const order: DiskTaskOrder = {
      transfer: {
        operationId: request.operationId,
        platformId: request.vm.platformId,
        vmId: request.vm.vmId,
        diskId,
        direction: 'download',
        backupId: ready.backup.id,
        sizeBytes,
      },
      slot,
      signal,
      correlationId: request.operationId,
      task: (imageTransfer) => ({
        backupDisk: {
          imageTransfer,
          dataPath: request.dataPath,
          diskId,
          ...(mode === 'incremental'
            ? { readScope: 'READ_SCOPE_CHANGED', basePointId: request.base?.pointId ?? '', baseDiskId: diskId }
            : { readScope: 'READ_SCOPE_ALLOCATED', basePointId: '', baseDiskId: '' }),
        },
      }),
      progress: tell,
    };
    let result: DiskTaskResult | undefined;
    for (let tried = 1; !result; tried += 1) {
      try {
        result = await this.tasks.run(engine, order);
      } catch (error) {
        if (!hasCode(error, 'TRANSFER_NOT_STARTED')) throw error;
        // Another one is refused while this one stands.
        if (!(await this.#endTransfersOf(request.operationId, diskId, signal))) throw error;
        // An imageio daemon that restarts looks like a bitmap that is gone, but only for a moment.
        if (tried >= (mode === 'incremental' ? 2 : 3)) {
          if (mode === 'incremental') return { lost: error.code };
          throw error;
        }
        await this.patience.clock.sleep(tried * 3000, signal);
      }
    }
    const { failure, counters } = result;
    if (failure) {
      if (mode === 'incremental' && isTrackingLost(failure, result)) return { lost: failure.code };
      throw failure;
    }
    tellPath(input.notes, known, result);
    return {
      outcome: {
        disk: { ...known, sizeBytes },
        mode,
        reason,
        counters,
        startedAt,
        endedAt: this.patience.clock.now(),
        transport: 'image-transfer',
        workerId: slot.workerId,
        workerHop: slot.hop,
      },
    };
  }

  /** Journals the checkpoint of a backup that ends before the point is committed. */
  async #keepCheckpoint(input: RoundsInput, ready: ReadyBackup): Promise<JournalEntry | undefined> {
    const checkpointId = ready.backup.toCheckpointId;
    if (checkpointId === undefined) return undefined;
    const { operationId, vm } = input.request;
    const entry = await this.journal.intend({ operationId, ...vm, kind: 'checkpoint', mark: input.mark, objectId: checkpointId });
    await this.journal.created(entry.entryId, checkpointId);
    return { ...entry, state: 'created' };
  }

  async #end(entry: JournalEntry, keepCheckpoint: boolean, signal: AbortSignal): Promise<void> {
    const ended = await this.cleaner.endBackup(entry, { signal, deadlineMs: endBackupMs, keepCheckpoint });
    if (ended.state !== 'removed') {
      throw ProtectionErrors.ENGINE_BACKUP_LATE({
        vmId: entry.vmId,
        backupId: entry.objectId ?? '',
        phase: ended.phase,
        waitedMs: endBackupMs,
      });
    }
  }

  async #endOpenBackups(operationId: string, signal: AbortSignal): Promise<void> {
    for (const entry of this.journal.openEntries(operationId)) if (entry.kind === 'backup') await this.#end(entry, false, signal);
  }

  /** False when the engine does not let go of one: a host whose image daemon is gone keeps its ticket. */
  async #endTransfersOf(operationId: string, diskId: string, signal: AbortSignal): Promise<boolean> {
    const ended = await this.cleaner.settle(operationId, {
      signal,
      deadlineMs: deadTransferMs,
      only: ({ kind, details }) => kind === 'image-transfer' && details['diskId'] === diskId,
    });
    return ended.every((one) => one.state === 'removed');
  }
}

/** A failure that reading in full gets around: said so by the worker, or the transfer broke before the first byte. */
function isTrackingLost(failure: TidemarkError, result: DiskTaskResult): boolean {
  if (failure.code === 'CHANGED_EXTENTS_UNAVAILABLE' || failure.retry === 'full-backup') return true;
  return result.counters.readBytes === 0 && result.transferPhase === 'finished_failure' && failure.retry === 'fresh-ticket';
}

function isQuiesced(input: RoundsInput, ready: ReadyBackup): boolean {
  return input.running && input.request.requireConsistency && ready.backup.snapshotId === undefined;
}
