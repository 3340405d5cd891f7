/**
 * Reads the disks of a VM from a snapshot, each hung on a worker VM. The engine's backups are not used, so there is no checkpoint of this
 * run; nothing is known of changes, and what the repository has is recognised by its digest (docs/operations/disk-attachment.md).
 */
import { CommonErrors } from '../../common/errors/common-errors';
import { noBytes } from '../operations/events';
import type { DiskOutcome } from '../operations/events';
import type { Slot } from '../workers/slot';
import type { AttachedDiskTasks, AttachedTaskResult } from './attached-disk-task';
import type { RoundsInput, RoundsResult } from './backup-rounds';
import { snapshotMark } from './marks';
import type { Patience } from './patience';
import { tellReadWhole, waitingReason } from './rounds-notes';
import type { SnapshotExtents, SnapshotZeroRanges } from './snapshot-extents';
import type { PlannedDisk } from './strategy';
import type { TakenSnapshot, VmSnapshots } from './vm-snapshots';
import { mostPlugged, ownTransferWait } from './worker-attachments';

export class AttachmentRounds {
  constructor(
    private readonly snapshots: VmSnapshots,
    private readonly extents: SnapshotExtents,
    private readonly tasks: AttachedDiskTasks,
    private readonly patience: Patience,
  ) {}

  /** Outcomes come in the order of the VM's disks. The snapshot still stands: removing it is the flow's. */
  async run(input: RoundsInput): Promise<RoundsResult> {
    const { engine, request, scope, plan, slots, running } = input;
    const { operationId, vm, sessionId, jobName, requireConsistency } = request;
    scope.phase('starting');
    const snapshot = await this.snapshots.take(
      engine,
      {
        operationId,
        ...vm,
        mark: snapshotMark(sessionId, operationId, jobName),
        diskIds: plan.map((disk) => disk.diskId),
        requireConsistency: requireConsistency && running,
        windows: input.windows,
        waiting: (detail) => scope.phase('starting', detail === '' ? '' : waitingReason(detail)),
      },
      scope.signal,
    );
    scope.phase('transferring');
    const outcomes = new Map<string, DiskOutcome>();
    const known = this.#askedOnce(input, snapshot);
    const size = (disk: PlannedDisk) => input.disks.get(disk.diskId)?.sizeBytes ?? 0;
    // Large ones first: the run is as long as its longest lane.
    const order = [...plan].sort((a, b) => size(b) - size(a));
    await slots.each(order, Math.min(request.diskParallel, mostPlugged), scope.signal, async (disk, slot, signal) => {
      outcomes.set(disk.diskId, await this.#disk(input, snapshot, disk, await known(disk.diskId, signal), slot, signal));
    });
    return {
      outcomes: [...input.disks.keys()].flatMap((diskId) => outcomes.get(diskId) ?? []),
      open: [],
      checkpointEntry: undefined,
      checkpointId: await this.#olderCheckpoint(input),
      snapshotEntry: snapshot.entry,
      pointInTime: snapshot.pointInTime,
      quiesced: snapshot.quiesced,
    };
  }

  /** What each disk holds nothing in. Asked once, also when a disk is begun again with another worker; no more once nobody can be reached. */
  #askedOnce(input: RoundsInput, snapshot: TakenSnapshot): (diskId: string, signal: AbortSignal) => Promise<SnapshotZeroRanges> {
    const { engine, request, disks, scope } = input;
    const answers = new Map<string, SnapshotZeroRanges>();
    let away = input.imageServiceAway;
    return async (diskId, signal) => {
      const before = answers.get(diskId);
      if (before) return before;
      const order = {
        operationId: request.operationId,
        ...request.vm,
        diskId,
        volumeId: snapshot.volumeIds.get(diskId),
        sizeBytes: snapshot.sizesBytes.get(diskId) ?? disks.get(diskId)?.sizeBytes ?? 0,
        waiting: (reason: string) => scope.waiting(reason),
      };
      const answer = away === undefined ? await this.extents.ask(engine, order, signal) : { unknown: away, away: true };
      if ('unknown' in answer && answer.away) away ??= answer.unknown;
      answers.set(diskId, answer);
      return answer;
    };
  }

  async #disk(
    input: RoundsInput,
    snapshot: TakenSnapshot,
    planned: PlannedDisk,
    holds: SnapshotZeroRanges,
    slot: Slot,
    signal: AbortSignal,
  ): Promise<DiskOutcome> {
    const { engine, request, scope } = input;
    const { diskId, mode, reason } = planned;
    const known = input.disks.get(diskId);
    if (!known) throw CommonErrors.INTERNAL({ what: `disk ${diskId}` });
    const sizeBytes = snapshot.sizesBytes.get(diskId) ?? known.sizeBytes;
    const startedAt = this.patience.clock.now();
    const tell = (counters: AttachedTaskResult['counters']) =>
      scope.progress({ diskId, diskName: known.name, counters, totalBytes: sizeBytes, mode, reason });
    tell(noBytes);
    if ('unknown' in holds) tellReadWhole(input.notes, known, holds.unknown);
    const zeroRanges = ('zeroRanges' in holds ? holds.zeroRanges : []).map(({ start, length }) => ({
      startBytes: String(start),
      lengthBytes: String(length),
    }));
    const { failure, counters } = await this.tasks.run(engine, {
      attachment: {
        operationId: request.operationId,
        ...request.vm,
        diskId,
        snapshotId: snapshot.snapshotId,
        waiting: (detail) => scope.waiting(['', 'worker-slots', ownTransferWait].includes(detail) ? detail : 'disk-locked'),
      },
      sizeBytes,
      slot,
      signal,
      task: (attachedDisk) => ({
        backupDisk: {
          attachedDisk: { ...attachedDisk, zeroRanges },
          dataPath: request.dataPath,
          diskId,
          readScope: 'READ_SCOPE_ALLOCATED',
          basePointId: '',
          baseDiskId: '',
        },
      }),
      progress: tell,
    });
    if (failure) throw failure;
    // An image service that was away when its transfer was to be ended has let go of it by now, or the disk could not have been attached.
    await this.extents.settle({ operationId: request.operationId, diskId }, signal);
    return {
      disk: { ...known, sizeBytes },
      mode,
      reason,
      counters,
      startedAt,
      endedAt: this.patience.clock.now(),
      transport: 'disk-attachment',
      workerId: slot.workerId,
      workerHop: slot.hop,
    };
  }

  /**
   * The checkpoint from which a later run by image transfer may read changes on top of this point: the base point's own, when the engine
   * still has it. It is older than this point, so what changed since it holds all that will have changed since this point, and a little more.
   * Engines after 4.5.7 drop it when a disk is taken off a worker; then there is none, and the next such run reads in full.
   */
  async #olderCheckpoint(input: RoundsInput): Promise<string> {
    const { engine, request, scope, notes, plan } = input;
    const checkpointId = request.base?.checkpointId ?? '';
    if (checkpointId === '') return '';
    const { vmId } = request.vm;
    const { signal } = scope;
    const away = <T>(work: () => Promise<T>) => this.patience.whileAway(signal, work);
    const known = (await away(() => engine.checkpoints.list(vmId, { signal }))).find((one) => one.id === checkpointId);
    const usable = known && (known.state ?? 'created') === 'created';
    const covered = usable ? await away(() => engine.checkpoints.disks(vmId, checkpointId, { signal })) : [];
    if (covered.some((disk) => plan.some(({ diskId }) => diskId === disk.id))) return checkpointId;
    notes.tell(
      'cbt-detached',
      'info',
      'The engine has no checkpoint of this VM any more on which the next backup by image transfer could build, so that one reads everything. Engines after 4.5.7 drop checkpoints when a disk is taken off a worker.',
    );
    return '';
  }
}
