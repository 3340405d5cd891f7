/**
 * The backup of one VM, from preflight to an engine that is as it was before (architecture §4). Owns the order of the steps and what
 * follows from their failures; how a disk is read, how things end in the engine and which worker does it are others'.
 */
import type { Logger } from '../../common/log/logger';
import { isTidemarkError } from '../../common/errors/tidemark-error';
import type { Cleaner } from '../janitor/cleaner';
import type { Journal } from '../journal/journal';
import type { OperationScope } from '../operations/operation';
import type { FlowResult } from '../operations/operation-registry';
import type { PreflightVerdict } from '../preflight/finding';
import type { BackupReading } from './backup-reading';
import type { RoundsResult } from './backup-rounds';
import { CommittedCheckpoints } from './committed-checkpoints';
import { writeConfiguration } from './configuration';
import type { EngineApi, EngineDirectory } from './engine-port';
import { backupMark } from './marks';
import type { Patience } from './patience';
import type { Preflight } from './preflight-port';
import { ProtectionErrors } from './protection-errors';
import type { BackupRequest } from './requests';
import { RunNotes } from './run-notes';
import { takePicture } from './vm-picture';
import type { VmPicture } from './vm-picture';

/** A condition that passes by itself is waited for this long. */
const notReadyMs = 30 * 60_000;
const notReadyStepMs = 10_000;
/** The host may be restarting while we wait for its verdict. */
const commitMs = 15 * 60_000;
const endBackupMs = 60 * 60_000;
/** Clean-up of a run that failed; what is left then is the janitor's. */
const cleanUpMs = 3 * 60_000;

export class BackupFlow {
  readonly #checkpoints: CommittedCheckpoints;

  constructor(
    private readonly engines: EngineDirectory,
    private readonly preflight: Preflight,
    private readonly reading: BackupReading,
    private readonly cleaner: Cleaner,
    private readonly journal: Journal,
    private readonly patience: Patience,
    private readonly logger: Logger,
  ) {
    this.#checkpoints = new CommittedCheckpoints(cleaner, journal, patience);
  }

  async run(scope: OperationScope, request: BackupRequest): Promise<FlowResult> {
    try {
      return await this.#run(scope, request);
    } catch (error) {
      scope.phase('cleaning');
      await this.#cleanUp(request.operationId);
      throw error;
    }
  }

  async #run(scope: OperationScope, request: BackupRequest): Promise<FlowResult> {
    const { vm, operationId } = request;
    const engine = this.engines.of(vm.platformId);
    const notes = new RunNotes(scope);
    const verdict = await this.#waitUntilReady(scope, request);
    if (!verdict.canBackUp) return skipped(request, verdict);
    const picture = await takePicture(engine, this.patience, vm, scope.signal);
    if (!picture) return skipped(request, verdict);
    const selected = this.#select(request, verdict, picture, notes);
    if (selected.length === 0) return skipped(request, verdict);
    if (picture.configuration.ovf === undefined) {
      notes.tell('ovf-missing', 'warning', 'The engine gave no OVF of the VM; its attributes are kept without it.');
    }
    const running = picture.vm.status !== 'down';
    const captured = new Set(selected.map(({ disk }) => disk.id));
    const read = await this.reading.read({ engine, request, scope, notes, picture, selected });

    scope.phase('committing');
    const committed = await scope.awaitCommit(
      {
        pointInTime: read.pointInTime,
        checkpointId: read.checkpointId,
        consistency: running ? (read.quiesced ? 'quiesced' : 'crash') : 'offline',
        disks: read.outcomes,
        configuration: writeConfiguration(leaveOut(picture, captured, verdict)),
        vmName: picture.vm.name,
      },
      commitMs,
    );
    if (!committed) throw ProtectionErrors.POINT_NOT_COMMITTED({ operationId });
    scope.phase('cleaning');
    const leftForJanitor = await this.#conclude(engine, request, read, picture, notes);
    return { outcome: notes.outcome, createdId: '', disks: read.outcomes, leftForJanitor };
  }

  /** Preflight, asked again while something stands in the way that passes by itself. Throws VM_NOT_READY after the time. */
  async #waitUntilReady(scope: OperationScope, request: BackupRequest): Promise<PreflightVerdict> {
    const { vm, requireConsistency } = request;
    const byAttachment = request.transport === 'disk-attachment';
    const base = request.base && { checkpointId: request.base.checkpointId, diskIds: request.base.diskIds };
    const since = this.patience.clock.elapsed();
    for (;;) {
      const verdict = await this.patience.whileAway(scope.signal, () =>
        this.preflight.check(vm, { base, requireConsistency, byAttachment, signal: scope.signal }),
      );
      const passing = verdict.findings.find(
        (finding) => finding.severity === 'blocking' && finding.passes === true && !request.excludedDiskIds.includes(finding.diskId ?? ''),
      );
      if (!passing) {
        scope.phase('preparing');
        return verdict;
      }
      const waitedMs = this.patience.clock.elapsed() - since;
      if (waitedMs >= notReadyMs) {
        throw ProtectionErrors.VM_NOT_READY({ vmId: vm.vmId, reason: passing.code, waitedMs }, { retryDelayMs: 60_000 });
      }
      scope.phase('preparing', passing.code);
      await this.patience.clock.sleep(notReadyStepMs, scope.signal);
    }
  }

  /** What preflight lets through and the job does not exclude; everything that is left out is told. */
  #select(request: BackupRequest, verdict: PreflightVerdict, picture: VmPicture, notes: RunNotes): VmPicture['attachments'] {
    const excluded = new Set(request.excludedDiskIds);
    for (const { code, severity, message, advice, diskId } of verdict.findings) {
      if (diskId !== undefined && excluded.has(diskId)) continue;
      // "Blocking" about a disk means that the disk is left out, and the run goes on.
      const left = severity === 'blocking' && diskId !== undefined;
      notes.tell(code, left ? 'warning' : severity, advice === '' ? message : `${message} ${advice}`, diskId);
      if (left && code !== 'disk-not-data') notes.incomplete();
    }
    const allowed = new Set(verdict.disks.map((disk) => disk.diskId));
    return picture.attachments.filter(({ disk }) => {
      if (excluded.has(disk.id)) notes.tell('disk-excluded', 'info', `Disk "${disk.name}" is left out, as the job says.`, disk.id);
      return allowed.has(disk.id) && !excluded.has(disk.id);
    });
  }

  /** The point is committed: nothing that happens now makes the run fail; what cannot be tidied is the janitor's. */
  async #conclude(engine: EngineApi, request: BackupRequest, read: RoundsResult, picture: VmPicture, notes: RunNotes): Promise<string[]> {
    const { operationId, vm } = request;
    try {
      if (read.checkpointEntry) await this.journal.kept(read.checkpointEntry.entryId);
      for (const { entry, keep } of read.open) if (keep) await this.cleaner.commit(entry);
      for (const { entry, keep } of read.open) {
        const ended = await this.cleaner.endBackup(entry, { deadlineMs: endBackupMs, keepCheckpoint: keep });
        if (ended.state !== 'removed') notes.tell('engine-not-clean', 'warning', `${ended.message} The janitor goes on with it.`);
        else if (keep && ended.phase === 'failed') {
          notes.tell(
            'cbt-no-checkpoint',
            'warning',
            'The engine could not end its backup properly, so the next one of this VM is a full one.',
          );
        }
      }
      await this.#endSnapshot(read, notes);
      await this.#checkpoints.letGoOlder(engine, {
        operationId,
        vm,
        jobName: request.jobName,
        mark: backupMark(request.jobName, request.sessionId),
        base: request.base,
        newest: read.checkpointId,
      });
      await this.#compareStatus(engine, request, picture, notes);
    } catch (error) {
      this.logger.warn('what a committed backup leaves in the engine could not be tidied', { operationId, error });
      notes.tell(
        'engine-not-clean',
        'warning',
        `The point is good, but the engine is not clean yet: ${isTidemarkError(error) ? error.message : 'see the log'}`,
      );
    }
    return this.journal.openEntries(operationId).map((entry) => `${entry.kind} ${entry.objectId ?? entry.entryId}`);
  }

  /** Whatever of it still hangs on a worker goes first. */
  async #endSnapshot({ snapshotEntry }: RoundsResult, notes: RunNotes): Promise<void> {
    if (!snapshotEntry) return;
    const { operationId, vmId } = snapshotEntry;
    const settled = await this.cleaner.settle(operationId, {
      deadlineMs: endBackupMs,
      only: ({ kind }) => kind === 'attachment' || kind === 'snapshot',
    });
    const left = settled.find((one) => one.state !== 'removed');
    if (left) notes.tell('engine-not-clean', 'warning', `VM ${vmId}: ${left.message} The janitor goes on with it.`);
  }

  async #compareStatus(engine: EngineApi, request: BackupRequest, picture: VmPicture, notes: RunNotes): Promise<void> {
    const now = await this.patience.whileAway(undefined, () => engine.vms.find(request.vm.vmId));
    if (now && now.status === 'paused' && picture.vm.status === 'up') {
      notes.tell(
        'vm-paused',
        'warning',
        `The VM is paused now (${now.statusDetail ?? 'no reason given'}) and was up before the backup. Look at its storage, then resume it.`,
      );
    }
  }

  /** Never rejects: the run's own failure is what counts. */
  async #cleanUp(operationId: string): Promise<void> {
    try {
      await this.cleaner.settle(operationId, { deadlineMs: cleanUpMs });
    } catch (error) {
      this.logger.warn("clean-up after a failed backup did not end; it is the janitor's", { operationId, error });
    }
  }
}

function skipped(request: BackupRequest, verdict: PreflightVerdict): FlowResult {
  const finding =
    verdict.findings.find((f) => f.severity === 'blocking' && f.diskId === undefined) ??
    verdict.findings.find((f) => f.severity === 'blocking');
  return {
    outcome: 'skipped',
    failure: ProtectionErrors.VM_CANNOT_BE_BACKED_UP({
      vmId: request.vm.vmId,
      reason: finding?.code ?? 'vm-no-disks',
      problem: finding ? `${finding.message} ${finding.advice}`.trim() : 'No disk is left to back up.',
    }),
    createdId: '',
    disks: [],
    leftForJanitor: [],
  };
}

/** The configuration with a reason at each disk whose data is not in the point. */
function leaveOut(picture: VmPicture, captured: ReadonlySet<string>, verdict: PreflightVerdict): VmPicture['configuration'] {
  const reason = (diskId: string) =>
    verdict.findings.find((f) => f.diskId === diskId && f.severity === 'blocking')?.code ?? 'disk-excluded';
  const { configuration } = picture;
  return {
    ...configuration,
    disks: configuration.disks.map((disk) => (captured.has(disk.diskId) ? disk : { ...disk, leftOut: reason(disk.diskId) })),
  };
}
