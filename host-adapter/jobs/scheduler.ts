import { toTidemarkError } from '../../common/errors/common-errors';
import type { Service } from '../../common/lifecycle/lifecycle';
import type { Logger } from '../../common/log/logger';
import type { EventStore } from '../catalogue/event-store';
import type { JobStore, StoredJob } from '../catalogue/job-store';
import type { WorkerPreparation } from '../workers/worker-preparation';
import { dueNow, nextRun } from './schedule';
import type { Schedule } from './schedule';
import type { SessionEngine } from './session-engine';

/** Worker VMs need this long to be made or started, and tested (product defaults §1). */
const prepareAheadMs = 5 * 60_000;

/** Starts enabled jobs when their schedule says so, once each, also for runs missed while the server was down; has workers ready by then. */
export class Scheduler implements Service {
  readonly name = 'scheduler';
  #timer: NodeJS.Timeout | undefined;
  #tick: Promise<void> = Promise.resolve();
  #busy = false;
  /** Job id to the run that workers were asked for. */
  readonly #prepared = new Map<string, number>();

  constructor(
    private readonly jobs: JobStore,
    private readonly engine: SessionEngine,
    private readonly preparation: WorkerPreparation,
    private readonly events: EventStore,
    private readonly logger: Logger,
    private readonly now: () => Date,
    private readonly everyMs = 1000,
  ) {}

  start(): Promise<void> {
    this.#timer = setInterval(() => {
      if (this.#busy) return;
      this.#busy = true;
      this.#tick = this.tick().finally(() => {
        this.#busy = false;
      });
    }, this.everyMs);
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#tick;
  }

  /** Looks once; never rejects. */
  async tick(): Promise<void> {
    try {
      for (const job of await this.jobs.all()) await this.#look(job);
    } catch (error) {
      this.logger.error('the schedule could not be looked at', { error });
    }
  }

  async #look(job: StoredJob): Promise<void> {
    const { schedule } = job.definition;
    if (!job.enabled || !schedule) return;
    const now = this.now();
    const due = dueNow(schedule, new Date(job.scheduledAt), now);
    if (due === undefined) return this.#prepare(job, schedule, now);
    // Before the start: a run that kills the server must not be started again and again.
    await this.jobs.setScheduledAt(job.id, now.toISOString());
    if (due === 'missed') return this.#report(job, 'SCHEDULE_MISSED', 'A scheduled run was missed by more than 12 hours and is left out.');
    try {
      await this.engine.startBackup(job.id, { full: false, vms: [] }, 'schedule');
    } catch (thrown) {
      const error = toTidemarkError(thrown, 'starting a scheduled job');
      await this.#report(job, error.code, `The scheduled run could not start: ${error.message}`);
    }
  }

  /** Once per run, and once more after a restart: asking twice changes nothing. */
  #prepare(job: StoredJob, schedule: Schedule, now: Date): void {
    const next = nextRun(schedule, now);
    if (!next || next.getTime() - now.getTime() > prepareAheadMs || this.#prepared.get(job.id) === next.getTime()) return;
    this.#prepared.set(job.id, next.getTime());
    void this.preparation.forJob(job, next);
  }

  async #report(job: StoredJob, code: string, message: string): Promise<void> {
    const references = { job_id: job.id, job_name: job.name };
    await this.events.add({ at: this.now(), source: 'host', severity: 'warning', code, message, references });
  }
}
