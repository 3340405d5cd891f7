/**
 * The job engine: sessions and their tasks, from the order to the last task's end, over restarts of the server. Owns who runs when;
 * what a task does is its flow's. Knows nothing of HTTP.
 */
import { toTidemarkError } from '../../common/errors/common-errors';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import type { Service } from '../../common/lifecycle/lifecycle';
import type { JobStore } from '../catalogue/job-store';
import type { SessionStore } from '../catalogue/session-store';
import type { SettingStore } from '../catalogue/setting-store';
import { untilStored } from '../catalogue/store-patience';
import { HostErrors } from '../errors/host-errors';
import { HostMaintenanceErrors } from '../errors/maintenance-errors';
import type { Repositories } from '../repositories/repositories';
import type { TaskFlow } from './flow';
import type { JobSelection } from './job-selection';
import { again, isOfRepository, newSession, taskOf } from './session-beginning';
import type { Beginning } from './session-beginning';
import type { BackupOrder, CollectOrder, RestoreOrder, SessionKind, SessionOrder, SessionRecord, VerifyOrder } from './session-record';
import { TaskContext, storedFailure } from './task-context';
import { isFinal, worstState } from './task-machine';
import type { FinalState } from './task-machine';
import type { TaskRecord } from './task-record';
import type { TaskRunner } from './task-runner';
import type { WorkerOrder } from '../workers/worker-order';
import type { WorkerPreparation } from '../workers/worker-preparation';

/** Thirteen months: a year can be compared with the one before. docs/operations/events.md */
const keptMs = 400 * 86_400_000;

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

  /**
   * Starts a job; `scheduledAt` is kept with it when its schedule does. Throws JOB_NOT_FOUND, JOB_ALREADY_RUNNING, REPOSITORY_UNKNOWN; then nothing is
   * changed.
   */
  async startBackup(
    reference: string,
    order: Omit<BackupOrder, 'kind'>,
    trigger: SessionRecord['trigger'],
    scheduledAt?: string,
  ): Promise<SessionRecord> {
    const job = await this.jobs.find(reference);
    if (!job) throw HostErrors.JOB_NOT_FOUND({ job: reference });
    return this.#begin({ kind: 'backup', ...order }, job.repositoryId, trigger, {
      job,
      scheduledAt,
      alone: {
        with: (running) => running.jobId === job.id,
        refuse: (running) => HostErrors.JOB_ALREADY_RUNNING({ job: job.name, sessionId: running.id }),
      },
    });
  }

  /** Starts a restore; the point was looked up by the caller. */
  startRestore(
    order: RestoreOrder,
    at: { readonly repositoryId: string; readonly vm: Pick<TaskRecord, 'platformId' | 'vmId' | 'vmName'> },
  ): Promise<SessionRecord> {
    return this.#begin(order, at.repositoryId, 'user', { vms: [at.vm], pointId: order.pointId });
  }

  /** Starts a verification of one point. */
  startVerify(
    order: VerifyOrder,
    at: { readonly repositoryId: string; readonly vm: Pick<TaskRecord, 'platformId' | 'vmId' | 'vmName'> },
  ): Promise<SessionRecord> {
    return this.#begin(order, at.repositoryId, 'user', { vms: [at.vm], pointId: order.pointId || null });
  }

  /** Starts a verification or a collection of a whole repository. Throws MAINTENANCE_RUNNING. */
  async startMaintenance(
    order: CollectOrder | VerifyOrder,
    { id, name }: { readonly id: string; readonly name: string },
    trigger: SessionRecord['trigger'],
  ): Promise<SessionRecord> {
    return this.#begin(order, id, trigger, {
      vms: [{ platformId: '', vmId: '', vmName: name }],
      alone: {
        with: (running) => running.repositoryId === id && running.kind === order.kind && isOfRepository(running),
        refuse: (running) => HostMaintenanceErrors.MAINTENANCE_RUNNING({ what: order.kind, repository: name, sessionId: running.id }),
      },
    });
  }

  /** Called when a session has ended. Must not throw. */
  onEnded(listener: (session: SessionRecord) => void): void {
    this.#endListeners.push(listener);
  }

  /** Starts something on a worker VM. */
  startWorkerOperation(order: WorkerOrder, vm: Pick<TaskRecord, 'platformId' | 'vmId' | 'vmName'>): Promise<SessionRecord> {
    return this.#begin(order, '', 'user', { vms: [vm] });
  }

  /** Cancels what still runs; idempotent. Throws BACKUP_SESSION_NOT_FOUND. */
  async stopSession(id: string): Promise<SessionRecord> {
    const running = this.#running.get(id);
    if (!running) return this.get(id);
    const isAsked = running.session.stopping;
    running.session.stopping = true;
    // Before it is written down: a catalogue that has to be waited for does not keep it from ending.
    running.cancel.abort();
    if (!isAsked) await this.#stored(() => this.store.saveSession(running.session));
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
    if (session.order.kind === 'worker') return this.#begin(again(session.order), '', 'user', { vms: [task] });
    if (session.order.kind !== 'restore' && isOfRepository(session))
      return this.startMaintenance(session.order, { id: session.repositoryId, name: session.repositoryName }, 'user');
    const pointId = session.order.kind === 'collect' ? null : session.order.pointId || null;
    return this.#begin(session.order, session.repositoryId, 'user', { vms: [task], pointId });
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
    { job, vms = [], pointId = null, alone, scheduledAt }: Beginning,
  ): Promise<SessionRecord> {
    const repositoryName = repositoryId === '' ? '' : (await this.repositories.row(repositoryId)).name;
    const at = { jobId: job?.id ?? null, jobName: job?.name ?? '', repositoryId, repositoryName };
    const session = newSession(order, at, trigger, this.now());
    const tasks = vms.map((vm, ordinal) => taskOf(session, vm, ordinal, pointId));
    const running = await this.store.add(session, tasks, { unless: alone && ((one) => alone.with(one)), scheduledAt });
    if (running && alone) throw alone.refuse(running);
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
        // All of them, also when one breaks: a session that has ended has nobody at work any more.
        const ends = await Promise.allSettled(tasks.map((task) => this.#task(running, task)));
        for (const end of ends) if (end.status === 'rejected') throw end.reason;
      } finally {
        unwatch();
      }
      await this.#finish(session, worstState(tasks.map((task) => task.state as FinalState)));
    } catch (thrown) {
      if (this.#shutdown.signal.aborted) return;
      const error = toTidemarkError(thrown, 'a session');
      this.logger.error('a session failed', { sessionId: session.id, error });
      session.failure = storedFailure(error);
      await this.#breakOff(running, error).catch((again: unknown) => {
        if (!this.#shutdown.signal.aborted)
          this.logger.error('the end of a session could not be stored', { sessionId: session.id, error: again });
      });
    } finally {
      this.#running.delete(session.id);
    }
  }

  /** Ends a session that broke, with those of its tasks that did: nothing of it is at work any more. */
  async #breakOff({ session, tasks }: Running, error: TidemarkError): Promise<void> {
    for (const task of tasks.filter(({ state }) => !isFinal(state))) {
      Object.assign(task, { state: 'failed', step: 'ended', failure: storedFailure(error), waitingReason: null, nextAttemptAt: null });
      task.endedAt = this.now().toISOString();
      // Whatever is wrong with one task: the session must not stay without an end.
      await this.#stored(() => this.store.saveTask(task)).catch((thrown: unknown) => {
        this.logger.error('the end of a task could not be stored', { taskId: task.id, error: thrown });
      });
    }
    await this.#finish(session, 'failed');
  }

  #stored<T>(work: () => Promise<T>): Promise<T> {
    return untilStored(work, { signal: this.#shutdown.signal, logger: this.logger });
  }

  #task(running: Running, task: TaskRecord): Promise<void> {
    const { session, cancel } = running;
    const { signal } = this.#shutdown;
    const context = new TaskContext(task, session, cancel.signal, signal, this.store, this.settings, this.now, this.logger);
    return this.runner.run(context, this.flows[session.kind]);
  }

  /** Makes one task per selected VM. False when the session ended instead. */
  async #expand(running: Running): Promise<boolean> {
    const { session, tasks } = running;
    const job = await this.jobs.find(session.jobId ?? '');
    let failure = HostErrors.JOB_NOT_FOUND({ job: session.jobName });
    if (job && session.order.kind === 'backup') {
      const signal = AbortSignal.any([running.cancel.signal, this.#shutdown.signal]);
      const vms = await this.selection.patiently(job.definition, session.order.vms, this.settings.current.waitLimitMs, signal);
      if (vms === undefined) {
        this.#shutdown.signal.throwIfAborted();
        await this.#finish(session, 'cancelled');
        return false;
      }
      if (vms.length > 0) {
        void this.preparation.forVms(vms, this.now());
        tasks.push(...vms.map((vm, ordinal) => taskOf(session, { ...vm, vmName: vm.name }, ordinal, null)));
        await this.#stored(() => this.store.addTasks(tasks));
        await this.#stored(() => this.store.saveSession(session));
        return true;
      }
      failure = HostErrors.JOB_SELECTS_NOTHING({ job: job.name });
    }
    session.failure = storedFailure(failure);
    await this.#finish(session, 'failed');
    return false;
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
    await this.#stored(() => this.store.saveSession(session));
    this.logger.info('session ended', { sessionId: session.id, kind: session.kind, state, code: session.failure?.code });
    for (const listener of this.#endListeners) listener(session);
    await this.#tidy().catch((error: unknown) =>
      this.logger.warn('the catalogue could not be tidied; it is with the next session', { error }),
    );
  }

  async #tidy(): Promise<void> {
    // Also of tasks that ended without another try, as after a stop and a restart of the server.
    await this.store.releaseEnded();
    // A few with each that ends: the catalogue does not grow for ever, and nobody waits for a night's worth of them.
    await this.store.trim(new Date(this.now().getTime() - keptMs), 10);
  }
}
