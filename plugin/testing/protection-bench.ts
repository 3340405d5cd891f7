/** A whole protection half over an engine in memory: real journal, operations, fleet, flows and janitor; time runs fast. */
import { randomUUID } from 'node:crypto';
import { CommonErrors } from '../../common/errors/common-errors';
import type { ReadZeroRanges } from '../image-service/read-zero-ranges';
import { Cleaner } from '../janitor/cleaner';
import { Janitor } from '../janitor/janitor';
import { Journal } from '../journal/journal';
import type { Clock } from '../operations/clock';
import type { AwaitingCommitEvent, NoteEvent, OperationEvent, ProgressEvent, ResultEvent, StateEvent } from '../operations/events';
import { OperationRegistry } from '../operations/operation-registry';
import { PlatformErrors } from '../platforms/platform-errors';
import { preflightVm } from '../preflight/preflight';
import { AttachedDiskTasks } from '../protection/attached-disk-task';
import { AttachmentRounds } from '../protection/attachment-rounds';
import { BackupFlow } from '../protection/backup-flow';
import { BackupReading } from '../protection/backup-reading';
import { BackupRounds } from '../protection/backup-rounds';
import { DiskTasks } from '../protection/disk-task';
import { DiskTransfers } from '../protection/disk-transfer';
import { EngineBackups } from '../protection/engine-backup';
import type { EngineApi } from '../protection/engine-port';
import { Patience } from '../protection/patience';
import type { Preflight } from '../protection/preflight-port';
import { Protection } from '../protection/protection';
import type { BackupRequest, RestoreRequest } from '../protection/requests';
import { RestoreFlow } from '../protection/restore-flow';
import { RestoredDisks } from '../protection/restored-disks';
import { SnapshotExtents } from '../protection/snapshot-extents';
import { VmSnapshots } from '../protection/vm-snapshots';
import { WorkerAttachments } from '../protection/worker-attachments';
import type { ReportedEvent } from '../tokens';
import { workersBesideServerOnly } from './beside-server-only';
import { ConnectedFleet } from '../workers/connected-fleet';
import { Dispatcher } from '../workers/dispatcher';
import type { WorkerVm } from '../workers/ports';
import { defaultFleetTiming } from '../workers/timing';
import { eventually } from './eventually';
import { FakeEngine } from './fake-engine';
import type { FakeVm } from './fake-rows';
import { MemoryJournalFile } from './memory-journal-file';
import { MemoryWorker } from './memory-worker';
import { Mortal } from './mortal';
import { quietLogger } from './quiet-logger';
import { SteadyClock } from './steady-clock';

export const platformId = 'platform1';

export interface Bench extends AsyncDisposable {
  readonly engine: FakeEngine;
  readonly file: MemoryJournalFile;
  readonly journal: Journal;
  readonly registry: OperationRegistry;
  readonly protection: Protection;
  readonly janitor: Janitor;
  readonly fleet: ConnectedFleet;
  /** The first of {@link workers}, of which those in VMs come last. */
  readonly worker: MemoryWorker;
  readonly workers: readonly MemoryWorker[];
  readonly mortal: Mortal;
  readonly reported: ReportedEvent[];
  readonly lines: { text: string; fields: Readonly<Record<string, unknown>> }[];
}

export interface BenchOptions {
  readonly engine?: FakeEngine;
  readonly file?: MemoryJournalFile;
  readonly mortal?: Mortal;
  readonly workers?: number;
  readonly slots?: number;
  /** Worker VMs with a worker in each, beside those of `workers`. */
  readonly workerVms?: readonly WorkerVm[];
  /** Default: what the engine in memory says. */
  readonly readZeroRanges?: ReadZeroRanges;
  /** Default: a thousand times as fast as the wall. */
  readonly clock?: Clock;
}

export const quick = new SteadyClock(1000);

export function newEngine(): FakeEngine {
  return new FakeEngine(quick);
}

/** Starts a process: journal, operations, janitor, and a worker that dials in. */
export async function startBench(options: BenchOptions = {}): Promise<Bench> {
  const { engine = newEngine(), file = new MemoryJournalFile(), mortal = new Mortal() } = options;
  const { logger, lines } = quietLogger();
  const time = options.clock ?? quick;
  const clock = mortal.clock(time);
  const journal = new Journal(mortal.journalFile(file), logger, () => time.now());
  await journal.open();
  const registry = new OperationRegistry(journal, clock, logger);
  await registry.restore();
  const fleet = new ConnectedFleet(logger, { ...defaultFleetTiming, heartbeatMs: 1000, reconnectMs: 100, cancelMs: 200, forgetMs: 60_000 });
  const { workerVms = [] } = options;
  const vmOf = (workerId: string) => workerVms.find((vm) => workerIdOf(vm) === workerId);
  const dispatcher = new Dispatcher(fleet, { ...workersBesideServerOnly, vmOf }, clock);
  const patience = new Patience(clock);
  const api: EngineApi = mortal.engine(engine.asEngine());
  const engines = {
    of: (id: string) => {
      if (id !== platformId) throw PlatformErrors.PLATFORM_NOT_FOUND({ platformId: id });
      return api;
    },
  };
  const cleaner = new Cleaner(engines, journal, patience, logger);
  const reported: ReportedEvent[] = [];
  const janitor = new Janitor(journal, registry, cleaner, { report: (event) => reported.push(event) }, clock, logger);
  const transfers = new DiskTransfers(journal, patience);
  const tasks = new DiskTasks(transfers, dispatcher, cleaner, patience);
  const attached = new AttachedDiskTasks(new WorkerAttachments(journal, patience), dispatcher, cleaner, patience);
  const rounds = new BackupRounds(new EngineBackups(journal, patience), tasks, cleaner, journal, patience);
  const attachments = new AttachmentRounds(
    new VmSnapshots(journal, patience, { linuxMs: 3_600_000, windowsMs: 1_000_000 }),
    new SnapshotExtents(transfers, options.readZeroRanges ?? engine.readZeroRanges, cleaner),
    attached,
    patience,
  );
  const reading = new BackupReading(dispatcher, rounds, attachments, cleaner, patience);
  const preflight: Preflight = {
    check: (vm, { base, requireConsistency, byAttachment }) =>
      preflightVm(engine.asEngine(), vm.vmId, base, { requireConsistency, byAttachment }),
  };
  const backups = new BackupFlow(engines, preflight, reading, cleaner, journal, patience, logger);
  const disks = new RestoredDisks(tasks, attached, cleaner, journal, patience);
  const restores = new RestoreFlow(engines, dispatcher, tasks, disks, cleaner, journal, patience, logger);
  const protection = new Protection(registry, engines, backups, restores, clock, fleet);
  const slots = options.slots ?? 4;
  const workers = [
    ...Array.from({ length: options.workers ?? 1 }, (_, index) => new MemoryWorker(fleet, `w${index}`, slots)),
    ...workerVms.map((vm) => new MemoryWorker(fleet, workerIdOf(vm), slots, { ...vm, capabilities: ['disk-attachment'] })),
  ];
  if (workers.length > 0) await eventually('the worker to be there', () => fleet.list().length === workers.length);
  return {
    engine,
    file,
    journal,
    registry,
    protection,
    janitor,
    fleet,
    worker: workers[0]!,
    workers,
    mortal,
    reported,
    lines,
    [Symbol.asyncDispose]: async () => {
      for (const worker of workers) worker.kill();
      fleet.stop();
      if (!mortal.dead) {
        await registry.stop(60_000_000);
        await janitor.stop();
      }
      mortal.kill();
    },
  };
}

function workerIdOf(vm: WorkerVm): string {
  return `worker-in-${vm.vmId}`;
}

/** A VM in the engine in memory that a worker runs in. */
export function addWorkerVm(engine: FakeEngine, more: Partial<WorkerVm> = {}): WorkerVm {
  const { vm } = engine.addVm(`tidemark-worker-${engine.vmsById.size}`, [{}]);
  return { platformId, vmId: vm.id, clusterId: vm.clusterId, dataCenterId: 'dc1', ...more };
}

export function backupOf(vm: FakeVm, more: Partial<BackupRequest> = {}): BackupRequest {
  return {
    operationId: randomUUID(),
    vm: { platformId, vmId: vm.vm.id },
    jobName: 'nightly',
    sessionId: randomUUID(),
    dataPath: { endpoints: ['mover:8445'], ticket: 'planted-ticket' },
    forceFull: false,
    excludedDiskIds: [],
    requireConsistency: false,
    diskParallel: 2,
    transport: 'auto',
    ...more,
  };
}

export interface Run {
  readonly events: OperationEvent[];
  readonly result: ResultEvent;
  readonly awaiting: AwaitingCommitEvent | undefined;
  readonly notes: NoteEvent[];
  readonly phases: string[];
  readonly progress: ProgressEvent[];
}

export interface Host {
  /** Asked at awaiting-commit; undefined gives no verdict. */
  readonly verdict?: (event: AwaitingCommitEvent) => boolean | undefined | Promise<boolean | undefined>;
  readonly each?: (event: OperationEvent) => void | Promise<void>;
}

/** Does what the host does: starts, watches, concludes. */
export async function runBackup(bench: Bench, request: BackupRequest, host: Host = {}): Promise<Run> {
  await bench.protection.startBackup(request, request.operationId);
  return await follow(bench, request.operationId, host);
}

export async function runRestore(bench: Bench, request: RestoreRequest, host: Host = {}): Promise<Run> {
  await bench.protection.startRestore(request, request.operationId);
  return await follow(bench, request.operationId, host);
}

export async function follow(bench: Bench, operationId: string, host: Host = {}): Promise<Run> {
  const events: OperationEvent[] = [];
  for await (const next of bench.protection.watch(operationId, 0, 1000, AbortSignal.timeout(150_000))) {
    if (!next) continue;
    events.push(next.event);
    await host.each?.(next.event);
    if (next.event.type === 'awaiting-commit') {
      const verdict = host.verdict ? await host.verdict(next.event) : true;
      if (verdict !== undefined) bench.protection.conclude(operationId, verdict);
    }
  }
  const of = <T extends OperationEvent['type']>(type: T) =>
    events.filter((e): e is Extract<OperationEvent, { type: T }> => e.type === type);
  const result = of('result')[0];
  if (!result) throw CommonErrors.INTERNAL({ what: `operation ${operationId}: no result among ${events.map((e) => e.type).join(' ')}` });
  return {
    events,
    result,
    awaiting: of('awaiting-commit')[0],
    notes: of('note'),
    progress: of('progress'),
    phases: of('state').map((e: StateEvent) => (e.waitingReason === '' ? e.phase : `${e.phase}(${e.waitingReason})`)),
  };
}
