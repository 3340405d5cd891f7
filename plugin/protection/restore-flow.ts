/**
 * Restores: a VM made anew from its stored configuration, a disk made anew, or a file beside the server. Everything that is made is
 * journalled first and removed again unless all of it is complete; the original is never touched (architecture §4).
 */
import { randomUUID } from 'node:crypto';
import { CommonErrors } from '../../common/errors/common-errors';
import type { Logger } from '../../common/log/logger';
import type { Cleaner } from '../janitor/cleaner';
import type { Journal } from '../journal/journal';
import type { JournalEntry } from '../journal/records';
import { noBytes } from '../operations/events';
import type { Counters, DiskOutcome, StoredDisk } from '../operations/events';
import type { OperationScope } from '../operations/operation';
import type { FlowResult } from '../operations/operation-registry';
import type { Dispatcher, Slot } from '../workers/dispatcher';
import type { DiskTasks } from './disk-task';
import { isDefiniteRefusal } from './definite';
import type { EngineApi, EngineDirectory } from './engine-port';
import { restoreMark } from './marks';
import { transferPace } from './patience';
import type { Patience } from './patience';
import { ProtectionErrors } from './protection-errors';
import type { RestoreRequest } from './requests';
import type { DiskRestorePlan, FileRestorePlan, PlannedRestoreDisk, RestorePlan, VmRestorePlan } from './restore-plan';
import { RestoredVm } from './restored-vm';
import { RunNotes } from './run-notes';
import { SlotPool } from './slot-pool';

const cleanUpMs = 10 * 60_000;
/** Preallocation of a large disk takes its time. */
const diskCreateMs = 60 * 60_000;
const diskOkMs = 10 * 60_000;
const diskParallel = 2;

interface Run {
  readonly engine: EngineApi;
  readonly scope: OperationScope;
  readonly request: RestoreRequest;
  readonly notes: RunNotes;
  readonly mark: string;
  readonly vmId: string;
}

interface RestoredDisk {
  readonly entry: JournalEntry;
  readonly planned: PlannedRestoreDisk;
  readonly diskId: string;
  readonly outcome: DiskOutcome;
}

export class RestoreFlow {
  constructor(
    private readonly engines: EngineDirectory,
    private readonly dispatcher: Dispatcher,
    private readonly tasks: DiskTasks,
    private readonly cleaner: Cleaner,
    private readonly journal: Journal,
    private readonly patience: Patience,
    private readonly logger: Logger,
  ) {}

  async run(scope: OperationScope, request: RestoreRequest, plan: RestorePlan): Promise<FlowResult> {
    const clusterId = plan.kind === 'new-vm' ? plan.clusterId : '';
    const pool = new SlotPool(this.dispatcher, { platformId: request.platformId, clusterId }, (reason) => scope.waiting(reason));
    const notes = new RunNotes(scope);
    try {
      await pool.reserve(scope.signal);
      scope.phase('preparing');
      switch (plan.kind) {
        case 'file':
          return await this.#file(scope, request, plan, pool);
        case 'new-disk':
          return await this.#disk(scope, request, plan, pool, notes);
        case 'new-vm':
          return await this.#vm(scope, request, plan, pool, notes);
      }
    } catch (error) {
      scope.phase('cleaning');
      pool.release();
      await this.#cleanUp(request.operationId);
      throw error;
    } finally {
      pool.release();
    }
  }

  async #file(scope: OperationScope, request: RestoreRequest, plan: FileRestorePlan, pool: SlotPool): Promise<FlowResult> {
    const outcomes: DiskOutcome[] = [];
    scope.phase('transferring');
    await pool.each([plan.disk], 1, scope.signal, async (disk, slot, signal) => {
      const startedAt = this.patience.clock.now();
      const result = await this.tasks.runFile({
        slot,
        signal,
        correlationId: request.operationId,
        progress: (counters) => this.#tell(scope, disk, counters),
        task: {
          restoreDisk: {
            dataPath: request.dataPath,
            pointId: request.pointId,
            diskId: disk.diskId,
            localFile: { path: plan.path, format: plan.format === 'raw' ? 'FILE_FORMAT_RAW' : 'FILE_FORMAT_QCOW2' },
          },
        },
      });
      if (result.failure) throw result.failure;
      this.#tell(scope, disk, result.counters);
      outcomes.push({ disk, mode: 'full', reason: '', counters: result.counters, startedAt, endedAt: this.patience.clock.now() });
    });
    return { outcome: 'success', createdId: plan.path, disks: outcomes, leftForJanitor: [] };
  }

  async #disk(scope: OperationScope, request: RestoreRequest, plan: DiskRestorePlan, pool: SlotPool, notes: RunNotes): Promise<FlowResult> {
    const engine = this.engines.of(request.platformId);
    const mark = restoreMark(request.sessionId, request.operationId);
    const restored = await this.#fill({ engine, scope, request, notes, mark, vmId: '' }, [plan.disk], pool);
    throwIfAborted(scope);
    for (const disk of restored) await this.journal.kept(disk.entry.entryId);
    return { outcome: notes.outcome, createdId: restored[0]?.diskId ?? '', disks: restored.map((d) => d.outcome), leftForJanitor: [] };
  }

  async #vm(scope: OperationScope, request: RestoreRequest, plan: VmRestorePlan, pool: SlotPool, notes: RunNotes): Promise<FlowResult> {
    const engine = this.engines.of(request.platformId);
    const mark = restoreMark(request.sessionId, request.operationId);
    const maker = new RestoredVm(engine, this.journal, this.patience, notes, scope.signal);
    scope.phase('starting');
    const { entry, vmId } = await maker.create(request, plan, mark);
    await maker.addNics(vmId, plan);
    const restored = await this.#fill({ engine, scope, request, notes, mark, vmId }, plan.disks, pool);
    scope.phase('committing');
    for (const { diskId, planned } of restored) await maker.attach(vmId, diskId, planned);
    await maker.finish(vmId, plan);
    throwIfAborted(scope);
    // Disks first: with the VM's entry still open a crash here removes VM and disks together, never a disk of a VM that stays.
    for (const disk of restored) await this.journal.kept(disk.entry.entryId);
    await this.journal.kept(entry.entryId);
    if (plan.target.powerOn) await maker.powerOn(vmId);
    return { outcome: notes.outcome, createdId: vmId, disks: restored.map((d) => d.outcome), leftForJanitor: [] };
  }

  /** Makes the disks and fills them, some at a time. */
  async #fill(run: Run, disks: readonly PlannedRestoreDisk[], pool: SlotPool): Promise<RestoredDisk[]> {
    const restored: RestoredDisk[] = [];
    run.scope.phase('transferring');
    await pool.each(disks, diskParallel, run.scope.signal, async (planned, slot, signal) => {
      restored.push(await this.#fillOne(run, planned, slot, signal));
    });
    // Attached in the stored order, so that the guest sees them as before.
    return disks.flatMap((planned) => restored.find((disk) => disk.planned === planned) ?? []);
  }

  async #fillOne(run: Run, planned: PlannedRestoreDisk, slot: Slot, signal: AbortSignal): Promise<RestoredDisk> {
    const { engine, scope, request } = run;
    const { stored } = planned;
    const startedAt = this.patience.clock.now();
    this.#tell(scope, stored, noBytes);
    const entry = await this.#createDisk(run, planned, signal);
    const diskId = entry.objectId ?? '';
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
      progress: (counters) => this.#tell(scope, stored, counters),
    });
    if (result.failure) throw result.failure;
    await this.#waitOk(engine, diskId, result.transferPhase, signal);
    if (result.imagePath === 'proxy') {
      run.notes.tell(
        'net-path-proxy',
        'info',
        `Disk "${stored.name}" was written through the engine's proxy, which is slower, as its host could not be reached.`,
        stored.diskId,
      );
    }
    const outcome = {
      disk: stored,
      mode: 'full' as const,
      reason: '',
      counters: result.counters,
      startedAt,
      endedAt: this.patience.clock.now(),
    };
    return { entry, planned, diskId, outcome };
  }

  async #createDisk(run: Run, planned: PlannedRestoreDisk, signal: AbortSignal): Promise<JournalEntry> {
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
    const status = await this.patience.poll({ signal, deadlineMs: diskCreateMs, everyMs: transferPace }, async () => {
      const disk = await engine.disks.find(id, { signal });
      if (!disk) return 'gone';
      return disk.status === 'locked' ? undefined : disk.status;
    });
    if (status !== 'ok') throw ProtectionErrors.RESTORED_DISK_LOST({ diskId: id, status: status ?? 'still being made' });
    return { ...entry, state: 'created' };
  }

  /** A transfer that ended well, or vanished after its end, leaves a disk that is `ok`; the engine removes one that it did not accept. */
  async #waitOk(engine: EngineApi, diskId: string, phase: string, signal: AbortSignal): Promise<void> {
    if (phase !== 'finished_success' && phase !== 'gone') throw ProtectionErrors.RESTORED_DISK_LOST({ diskId, status: phase });
    const status = await this.patience.poll({ signal, deadlineMs: diskOkMs, everyMs: transferPace }, async () => {
      const disk = await engine.disks.find(diskId, { signal });
      if (!disk) return 'gone';
      return disk.status === 'locked' ? undefined : disk.status;
    });
    if (status !== 'ok') throw ProtectionErrors.RESTORED_DISK_LOST({ diskId, status: status ?? 'locked' });
  }

  #tell(scope: OperationScope, disk: StoredDisk, counters: Counters): void {
    scope.progress({ diskId: disk.diskId, diskName: disk.name, counters, totalBytes: disk.sizeBytes, mode: 'full', reason: '' });
  }

  async #cleanUp(operationId: string): Promise<void> {
    try {
      await this.cleaner.settle(operationId, { deadlineMs: cleanUpMs });
    } catch (error) {
      // The restore's own failure is what counts.
      this.logger.warn("clean-up after a failed restore did not end; it is the janitor's", { operationId, error });
    }
  }
}

function throwIfAborted(scope: OperationScope): void {
  if (scope.signal.aborted) throw CommonErrors.CANCELLED({ what: `operation ${scope.header.operationId}` });
}
