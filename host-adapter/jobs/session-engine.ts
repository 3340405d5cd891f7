/**
 * The job engine: sessions and their tasks, from the order to the last task's end, over restarts of the server. Owns who runs when;
 * what a task does is its flow's. Knows nothing of HTTP.
 */
import { randomUUID } from 'node:crypto';
import { toTidemarkError } from '../../common/errors/common-errors';
import type { Logger } from '../../common/log/logger';
import type { Service } from '../../common/lifecycle/lifecycle';
import type { JobStore, StoredJob } from '../catalogue/job-store';
import type { SessionStore } from '../catalogue/session-store';
import type { SettingStore } from '../catalogue/setting-store';
import { HostErrors } from '../errors/host-errors';
import { HostMaintenanceErrors } from '../errors/maintenance-errors';
import type { Repositories } from '../repositories/repositories';
import type { TaskFlow } from './flow';
import type { JobSelection } from './job-selection';
import type { SelectableVm } from './selector';
import type { BackupOrder, CollectOrder, RestoreOrder, SessionKind, SessionOrder, SessionRecord, VerifyOrder } from './session-record';
import { TaskContext, pluginReason, storedFailure } from './task-context';
import { isFinal, worstState } from './task-machine';
import type { FinalState } from './task-machine';
import { newTask } from './task-record';
import type { TaskRecord } from './task-record';
import type { TaskRunner } from './task-runner';
import type { WorkerOrder } from '../workers/worker-order';
import type { WorkerPreparation } from '../workers/worker-preparation';
import { pause } from '../../common/rpc/call';

interface Running {
  readonly session: SessionRecord;
  readonly tasks: TaskRecord[];
  readonly cancel: AbortController;
  readonly done: Promise<void>;
}

export class SessionEngine implements Service {
  readonly name = 'session-engine';
  readonly #running = new Map<string, Running>();
  readonly #shutdown = new AbortController();
  readonly #endListeners: ((session: SessionRecord) => void)[] = [];

  constructor(
    private readonly store: SessionStore,
    private readonly jobs: JobStore,
    private readonly settings: SettingStore,
    private readonly repositories: Repositories,
    private readonly selection: JobSelection,
    private readonly preparation: WorkerPreparation,
    private readonly flows: Readonly<Record<SessionKind, TaskFlow>>,
    private readonly runner: TaskRunner,
    private readonly logger: Logger,
    private readonly now: () => Date,
  ) {}

  /** Takes up every session that a server before this one left unfinished. */
  async start(): Promise<void> {
    await this.store.releaseEnded();
    for (const session of await this.store.unfinished()) {
      this.logger.info('session adopted', { sessionId: session.id, kind: session.kind });
      this.#run(session, await this.store.tasks(session.id));
    }
  }

  /** Leaves everything as it is, for the next start. */
  async stop(): Promise<void> {
    this.#shutdown.abort();
    await Promise.allSettled([...this.#running.values()].map((running) => running.done));
  }

  /** Starts a job. Throws JOB_NOT_FOUND, JOB_ALREADY_RUNNING, REPOSITORY_UNKNOWN. */
  async startBackup(reference: string, order: Omit<BackupOrder, 'kind'>, trigger: SessionRecord['trigger']): Promise<SessionRecord> {
    const job = await this.jobs.find(reference);
    if (!job) throw HostErrors.JOB_NOT_FOUND({ job: reference });
    const active = await this.store.runningOfJob(job.id);
    if (active) throw HostErrors.JOB_ALREADY_RUNNING({ job: job.name, sessionId: active.id });
    return this.#begin({ kind: 'backup', ...order }, job.repositoryId, trigger, job);
  }

  /** Starts a restore; the point was looked up by the caller. */
  startRestore(
    order: RestoreOrder,
    at: { readonly repositoryId: string; readonly vm: Pick<TaskRecord, 'platformId' | 'vmId' | 'vmName'> },
  ): Promise<SessionRecord> {
    return this.#begin(order, at.repositoryId, 'user', undefined, [at.vm], order.pointId);
  }

  /** Starts a verification of one point. */
  startVerify(
    order: VerifyOrder,
    at: { readonly repositoryId: string; readonly vm: Pick<TaskRecord, 'platformId' | 'vmId' | 'vmName'> },
  ): Promise<SessionRecord> {
    return this.#begin(order, at.repositoryId, 'user', undefined, [at.vm], order.pointId || null);
  }

  /** Starts a verification or a collection of a whole repository. Throws MAINTENANCE_RUNNING. */
  async startMaintenance(
    order: CollectOrder | VerifyOrder,
    { id, name }: { readonly id: string; readonly name: string },
    trigger: SessionRecord['trigger'],
  ): Promise<SessionRecord> {
    const same = (await this.store.unfinished()).find(
      (session) => session.repositoryId === id && session.kind === order.kind && isOfRepository(session),
    );
    if (same) throw HostMaintenanceErrors.MAINTENANCE_RUNNING({ what: order.kind, repository: name, sessionId: same.id });
    return this.#begin(order, id, trigger, undefined, [{ platformId: '', vmId: '', vmName: name }]);
  }

  /** Called when a session has ended. Must not throw. */
  onEnded(listener: (session: SessionRecord) => void): void {
    this.#endListeners.push(listener);
  }

  /** Starts something on a worker VM. */
  startWorkerOperation(order: WorkerOrder, vm: Pick<TaskRecord, 'platformId' | 'vmId' | 'vmName'>): Promise<SessionRecord> {
    return this.#begin(order, '', 'user', undefined, [vm]);
  }

  /** Cancels what still runs; idempotent. Throws BACKUP_SESSION_NOT_FOUND. */
  async stopSession(id: string): Promise<SessionRecord> {
    const running = this.#running.get(id);
    if (!running) return this.get(id);
    if (!running.session.stopping) {
      running.session.stopping = true;
      await this.store.saveSession(running.session);
    }
    running.cancel.abort();
    return running.session;
  }

  /** Runs again what did not succeed. Throws SESSION_RUNNING, SESSION_NOTHING_TO_RETRY, JOB_NOT_FOUND … */
  async retrySession(id: string): Promise<SessionRecord> {
    const session = await this.get(id);
    if (session.endedAt === null) throw HostErrors.SESSION_RUNNING({ session: id });
    const tasks = await this.store.tasks(id);
    const open = tasks.filter((task) => task.state !== 'success' && task.state !== 'warning');
    if (open.length === 0 && session.state !== 'failed' && session.state !== 'cancelled') {
      throw HostErrors.SESSION_NOTHING_TO_RETRY({ session: id });
    }
    if (session.order.kind === 'backup') {
      const vms = open.length > 0 ? open.map((task) => task.vmId) : session.order.vms;
      return this.startBackup(session.jobId ?? '', { full: session.order.full, vms }, 'user');
    }
    const [task] = tasks;
    if (!task) throw HostErrors.SESSION_NOTHING_TO_RETRY({ session: id });
    if (session.order.kind === 'worker') return this.#begin(again(session.order), '', 'user', undefined, [task]);
    if (session.order.kind !== 'restore' && isOfRepository(session))
      return this.startMaintenance(session.order, { id: session.repositoryId, name: session.repositoryName }, 'user');
    const pointId = session.order.kind === 'collect' ? null : session.order.pointId || null;
    return this.#begin(session.order, session.repositoryId, 'user', undefined, [task], pointId);
  }

  /** Throws BACKUP_SESSION_NOT_FOUND. */
  async get(id: string): Promise<SessionRecord> {
    const session = this.#running.get(id)?.session ?? (await this.store.get(id));
    if (!session) throw HostErrors.BACKUP_SESSION_NOT_FOUND({ session: id });
    return session;
  }

  /** Resolves when a session that runs here has ended. */
  async ended(id: string): Promise<void> {
    await this.#running.get(id)?.done;
  }

  async #begin(
    order: SessionOrder,
    repositoryId: string,
    trigger: SessionRecord['trigger'],
    job?: StoredJob,
    vms: readonly Pick<TaskRecord, 'platformId' | 'vmId' | 'vmName'>[] = [],
    pointId: string | null = null,
  ): Promise<SessionRecord> {
    const repositoryName = repositoryId === '' ? '' : (await this.repositories.row(repositoryId)).name;
    const session: SessionRecord = {
      id: randomUUID(),
      kind: order.kind,
      jobId: job?.id ?? null,
      jobName: job?.name ?? '',
      repositoryId,
      repositoryName,
      state: 'running',
      trigger,
      stopping: false,
      order,
      failure: null,
      sequence: 0,
      startedAt: this.now().toISOString(),
      endedAt: null,
    };
    const tasks = vms.map((vm, ordinal) => taskOf(session, vm, ordinal, pointId));
    await this.store.add(session, tasks);
    this.#run(session, tasks);
    return session;
  }

  #run(session: SessionRecord, tasks: TaskRecord[]): void {
    const cancel = new AbortController();
    if (session.stopping) cancel.abort();
    const running: Running = {
      session,
      tasks,
      cancel,
      // Begins after the map knows it, so that a session that ends at once is not left in it.
      done: Promise.resolve().then(() => this.#toTheEnd(running)),
    };
    this.#running.set(session.id, running);
  }

  async #toTheEnd(running: Running): Promise<void> {
    const { session, tasks } = running;
    try {
      if (session.kind === 'backup' && tasks.length === 0 && !(await this.#expand(running))) return;
      const unwatch = this.store.watch(session.id, () => this.#noteRetryWait(running));
      try {
        await Promise.all(tasks.map((task) => this.#task(running, task)));
      } finally {
        unwatch();
      }
      await this.#finish(session, worstState(tasks.map((task) => task.state as FinalState)));
    } catch (thrown) {
      if (this.#shutdown.signal.aborted) return;
      const error = toTidemarkError(thrown, 'a session');
      this.logger.error('a session failed', { sessionId: session.id, error });
      session.failure = storedFailure(error);
      await this.#finish(session, 'failed').catch((again: unknown) => {
        this.logger.error('the end of a session could not be stored', { sessionId: session.id, error: again });
      });
    } finally {
      this.#running.delete(session.id);
    }
  }

  #task(running: Running, task: TaskRecord): Promise<void> {
    const { session, cancel } = running;
    const context = new TaskContext(task, session, cancel.signal, this.#shutdown.signal, this.store, this.settings, this.now);
    return this.runner.run(context, this.flows[session.kind]);
  }

  /** Makes one task per selected VM. False when the session ended instead. */
  async #expand(running: Running): Promise<boolean> {
    const { session, tasks } = running;
    const job = await this.jobs.find(session.jobId ?? '');
    let failure = HostErrors.JOB_NOT_FOUND({ job: session.jobName });
    if (job && session.order.kind === 'backup') {
      const vms = await this.#selected(running, job, session.order);
      if (vms === undefined) {
        await this.#finish(session, 'cancelled');
        return false;
      }
      if (vms.length > 0) {
        void this.preparation.forVms(vms, this.now());
        tasks.push(...vms.map((vm, ordinal) => taskOf(session, { ...vm, vmName: vm.name }, ordinal, null)));
        await this.store.addTasks(tasks);
        await this.store.saveSession(session);
        return true;
      }
      failure = HostErrors.JOB_SELECTS_NOTHING({ job: job.name });
    }
    session.failure = storedFailure(failure);
    await this.#finish(session, 'failed');
    return false;
  }

  /** Waits for the plug-ins as long as the settings allow; undefined when cancelled. */
  async #selected(running: Running, job: StoredJob, order: BackupOrder): Promise<SelectableVm[] | undefined> {
    const began = this.now().getTime();
    for (;;) {
      try {
        return await this.selection.vmsOf(job.definition, order.vms);
      } catch (thrown) {
        const error = toTidemarkError(thrown, 'selecting VMs');
        const waitedMs = this.now().getTime() - began;
        if (pluginReason(error) === undefined || waitedMs > this.settings.current.waitLimitMs) throw error;
      }
      try {
        await pause(1000, AbortSignal.any([running.cancel.signal, this.#shutdown.signal]));
      } catch (error) {
        if (this.#shutdown.signal.aborted) throw error;
        return undefined;
      }
    }
  }

  /** `retry-wait` while every task that is left waits for its next try. */
  #noteRetryWait(running: Running): void {
    const { session, tasks } = running;
    const open = tasks.filter((task) => !isFinal(task.state));
    const state = open.length > 0 && open.every((task) => task.nextAttemptAt !== null) ? 'retry-wait' : 'running';
    if (session.endedAt !== null || session.state === state) return;
    session.state = state;
    this.store.saveSession(session).catch((error: unknown) => {
      if (!this.#shutdown.signal.aborted) this.logger.warn('a session could not be stored', { sessionId: session.id, error });
    });
  }

  async #finish(session: SessionRecord, state: FinalState): Promise<void> {
    session.state = state;
    session.endedAt = this.now().toISOString();
    await this.store.saveSession(session);
    this.logger.info('session ended', { sessionId: session.id, kind: session.kind, state, code: session.failure?.code });
    for (const listener of this.#endListeners) listener(session);
  }
}

/** True for maintenance of a whole repository, which is done once at a time. */
export function isOfRepository({ order }: Pick<SessionRecord, 'order'>): boolean {
  return order.kind === 'collect' || (order.kind === 'verify' && order.pointId === '');
}

/** The same order; a deployment makes another worker. */
function again(order: WorkerOrder): WorkerOrder {
  return order.action.name === 'deploy' ? { ...order, action: { ...order.action, workerId: randomUUID() } } : order;
}

function taskOf(
  session: SessionRecord,
  vm: Pick<TaskRecord, 'platformId' | 'vmId' | 'vmName' | 'clusterId'>,
  ordinal: number,
  pointId: string | null,
): TaskRecord {
  const { platformId, vmId, vmName, clusterId } = vm;
  return newTask({ id: randomUUID(), sessionId: session.id, ordinal, platformId, vmId, vmName, clusterId }, pointId);
}
