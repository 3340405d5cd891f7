/**
 * Restores: a VM made anew from its stored configuration, a disk made anew, or a file beside the server. Everything that is made is
 * journalled first and removed again unless all of it is complete; the original is never touched (architecture §4).
 */
import { CommonErrors } from '../../common/errors/common-errors';
import { hasCode, isTidemarkError } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import type { Cleaner } from '../janitor/cleaner';
import type { Journal } from '../journal/journal';
import type { DiskOutcome, Transport } from '../operations/events';
import type { OperationScope } from '../operations/operation';
import type { FlowResult } from '../operations/operation-registry';
import type { Dispatcher } from '../workers/dispatcher';
import type { Placement } from '../workers/tasks';
import type { DiskTasks } from './disk-task';
import type { EngineDirectory } from './engine-port';
import { restoreMark } from './marks';
import type { Patience } from './patience';
import type { RestoreRequest } from './requests';
import type { DiskRestorePlan, FileRestorePlan, RestorePlan, VmRestorePlan } from './restore-plan';
import { tellProgress } from './restored-disks';
import type { RestoreRun, RestoredDisk, RestoredDisks } from './restored-disks';
import { RestoredVm } from './restored-vm';
import { RunNotes } from './run-notes';
import { SlotPool } from './slot-pool';
import { fallbackTransport, firstTransport } from './transport';
import { tellHop, tellLoss } from './worker-notes';

/** What is left then is the janitor's. */
const cleanUpMs = 3 * 60_000;
const diskParallel = 2;

export class RestoreFlow {
  constructor(
    private readonly engines: EngineDirectory,
    private readonly dispatcher: Dispatcher,
    private readonly tasks: DiskTasks,
    private readonly disks: RestoredDisks,
    private readonly cleaner: Cleaner,
    private readonly journal: Journal,
    private readonly patience: Patience,
    private readonly logger: Logger,
  ) {}

  async run(scope: OperationScope, request: RestoreRequest, plan: RestorePlan): Promise<FlowResult> {
    const notes = new RunNotes(scope);
    const pool = this.#pool(scope, notes, placementOf(request, plan, request.transport === 'disk-attachment'));
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
        progress: (counters) => tellProgress(scope, disk, counters),
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
      tellProgress(scope, disk, result.counters);
      outcomes.push({
        disk,
        mode: 'full',
        reason: '',
        counters: result.counters,
        startedAt,
        endedAt: this.patience.clock.now(),
        transport: 'local',
        workerId: slot.workerId,
        workerHop: slot.hop,
      });
    });
    return { outcome: 'success', createdId: plan.path, disks: outcomes, leftForJanitor: [] };
  }

  async #disk(scope: OperationScope, request: RestoreRequest, plan: DiskRestorePlan, pool: SlotPool, notes: RunNotes): Promise<FlowResult> {
    const engine = this.engines.of(request.platformId);
    const mark = restoreMark(request.sessionId, request.operationId);
    const restored = await this.#fill({ engine, scope, request, notes, mark, vmId: '' }, plan, pool);
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
    const restored = await this.#fill({ engine, scope, request, notes, mark, vmId }, plan, pool);
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

  /** Makes the disks and fills them, some at a time; those that could not be filled one way are made anew the other way. */
  async #fill(run: RestoreRun, plan: DiskRestorePlan | VmRestorePlan, pool: SlotPool): Promise<RestoredDisk[]> {
    const { request, scope, notes } = run;
    const disks = plan.kind === 'new-vm' ? plan.disks : [plan.disk];
    const complete: RestoredDisk[] = [];
    scope.phase('transferring');
    const fill = async (transport: Transport, slots: SlotPool) => {
      const rest = disks.filter((planned) => !complete.some((disk) => disk.planned === planned));
      await slots.each(rest, diskParallel, scope.signal, async (planned, slot, signal) => {
        complete.push(await this.disks.make(run, planned, transport, slot, signal));
      });
    };
    tellHop(notes, pool.slot);
    const first = firstTransport(request.transport);
    try {
      await fill(first.transport, pool);
    } catch (failure) {
      if (scope.signal.aborted || !fallbackTransport({ wanted: request.transport, failure, workerCanAttach: true })) throw failure;
      pool.release();
      await this.#fillInstead(run, plan, complete, failure, (slots) => fill('disk-attachment', slots));
    }
    // Attached in the stored order, so that the guest sees them as before.
    return disks.flatMap((planned) => complete.find((disk) => disk.planned === planned) ?? []);
  }

  /** No image daemon could be reached: half-written disks go, and the rest is written through a worker VM, if there is one. */
  async #fillInstead(
    run: RestoreRun,
    plan: DiskRestorePlan | VmRestorePlan,
    complete: readonly RestoredDisk[],
    failure: unknown,
    fill: (pool: SlotPool) => Promise<void>,
  ): Promise<void> {
    const { request, scope, notes } = run;
    if (!(await this.disks.discard(run, complete))) throw failure;
    const pool = this.#pool(scope, notes, placementOf(request, plan, true));
    try {
      await pool.reserve(scope.signal).catch((error: unknown) => {
        throw hasCode(error, 'WORKER_NONE') ? failure : error;
      });
      notes.tell(
        'transport-fallback',
        'warning',
        `No image service could be reached (${isTidemarkError(failure) ? failure.message : 'see the log'}), so the disks were written by attaching them to a worker VM.`,
      );
      tellHop(notes, pool.slot);
      await fill(pool);
    } finally {
      pool.release();
    }
  }

  #pool(scope: OperationScope, notes: RunNotes, placement: Placement): SlotPool {
    return new SlotPool(this.dispatcher, placement, (reason) => scope.waiting(reason), tellLoss(notes));
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

/** A worker of the target cluster; for a disk of no VM any of its data centre. */
function placementOf(request: RestoreRequest, plan: RestorePlan, attach: boolean): Placement {
  const { platformId } = request;
  if (plan.kind === 'file') return { platformId: '', clusterId: '' };
  const disks = plan.kind === 'new-vm' ? plan.disks : [plan.disk];
  return {
    platformId,
    clusterId: plan.kind === 'new-vm' ? plan.clusterId : '',
    storageDomainIds: [...new Set(disks.map((disk) => disk.storageDomainId))],
    ...(attach ? { needsAttachment: { dataCenterId: plan.dataCenterId } } : {}),
  };
}
