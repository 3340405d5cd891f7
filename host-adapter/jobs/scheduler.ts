import { toTidemarkError } from '../../common/errors/common-errors';
import type { Service } from '../../common/lifecycle/lifecycle';
import type { Logger } from '../../common/log/logger';
import type { EventStore } from '../catalogue/event-store';
import type { JobStore, StoredJob } from '../catalogue/job-store';
import { isStoreAway } from '../catalogue/store-patience';
import type { WorkerPreparation } from '../workers/worker-preparation';
import { dueNow, nextRun } from './schedule';
import type { Schedule } from './schedule';
import type { SessionEngine } from './session-engine';

/** Worker VMs need this long to be made or started, and tested (product defaults §1). */
const prepareAheadMs = 5 * 60_000;
/** A plug-in that could not be asked for them is asked again after this. */
const prepareAgainMs = 15_000;
/** A start that is later than now by more was noted while the machine's clock was wrong. */
const clockSlackMs = 60_000;

/** Starts enabled jobs when their schedule says so, once each, also for runs missed while the server was down; has workers ready by then. */
export class Scheduler implements Service {
  readonly name = 'scheduler';
  #timer: NodeJS.Timeout | undefined;
  #tick: Promise<void> = Promise.resolve();
  #busy = false;
  /** Job id to the run that workers were asked for, and when. */
  readonly #prepared = new Map<string, { readonly run: number; readonly askedAt: number; asked: boolean }>();
  /** Job id to the code of what keeps its schedule from being followed, which was told. */
  readonly #failing = new Map<string, string>();

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

  /** Looks once; never rejects. A job whose schedule cannot be followed does not keep the others from running. */
  async tick(): Promise<void> {
    try {
      const jobs = await this.jobs.all();
      for (const job of jobs) await this.#look(job).then(() => this.#failing.delete(job.id), this.#failed.bind(this, job));
      for (const known of [this.#prepared, this.#failing])
        for (const id of known.keys()) if (!jobs.some((job) => job.id === id)) known.delete(id);
    } catch (error) {
      this.logger.error('the schedule could not be looked at', { error });
    }
  }

  /** It is looked at again at the next tick; told once. */
  async #failed(job: StoredJob, thrown: unknown): Promise<void> {
    const error = toTidemarkError(thrown, 'following a schedule');
    if (this.#failing.get(job.id) === error.code) return;
    this.logger.error('the schedule of a job could not be followed; it is tried again', { jobId: job.id, error });
    // What cannot be told now, as the catalogue cannot be written, is told later.
    await this.#report(job, error.code, `The schedule of job ${job.name} cannot be followed now: ${error.message}`);
    this.#failing.set(job.id, error.code);
  }

  async #look(job: StoredJob): Promise<void> {
    const { schedule } = job.definition;
    if (!job.enabled || !schedule) return;
    const now = this.now();
    const at = now.toISOString();
    const last = new Date(job.scheduledAt);
    // Else it would not run before the clock is there again.
    if (last.getTime() > now.getTime() + clockSlackMs) return this.jobs.setScheduledAt(job.id, at);
    const due = dueNow(schedule, last, now);
    if (due === undefined) return this.#prepare(job, schedule, now);
    if (due === 'missed') {
      await this.jobs.setScheduledAt(job.id, at);
      return this.#report(job, 'SCHEDULE_MISSED', 'A scheduled run was missed by more than 12 hours and is left out.');
    }
    try {
      // The session and the time of its start are kept together: a server that is killed here has started the run, or starts it the next time.
      await this.engine.startBackup(job.id, { full: false, vms: [] }, 'schedule', at);
    } catch (thrown) {
      if (isStoreAway(thrown)) throw thrown;
      const error = toTidemarkError(thrown, 'starting a scheduled job');
      await this.jobs.setScheduledAt(job.id, at);
      await this.#report(job, error.code, `The scheduled run could not start: ${error.message}`);
    }
  }

  /** Until every plug-in was told of the run, and once more after a restart: asking twice changes nothing. */
  #prepare(job: StoredJob, schedule: Schedule, now: Date): void {
    const next = nextRun(schedule, now);
    if (!next || next.getTime() - now.getTime() > prepareAheadMs) return;
    const run = next.getTime();
    const known = this.#prepared.get(job.id);
    if (known?.run === run && (known.asked || performance.now() - known.askedAt < prepareAgainMs)) return;
    const asking = { run, askedAt: performance.now(), asked: true };
    this.#prepared.set(job.id, asking);
    void this.preparation.forJob(job, next).then((told) => (asking.asked = told));
  }

  async #report(job: StoredJob, code: string, message: string): Promise<void> {
    const references = { job_id: job.id, job_name: job.name };
    await this.events.add({ at: this.now(), source: 'host', severity: 'warning', code, message, references });
  }
}
