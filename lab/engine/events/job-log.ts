import { randomUUID } from 'node:crypto';
import type { EngineClock } from '../model/clock';
import type { Database } from '../model/database';
import type { Job } from '../model/entities';
import { RETENTION } from '../model/settings';

/** Who a job belongs to: a request context, or a stored entity that goes on after its request. */
export interface JobOwner {
  readonly correlationId: string;
  readonly userId: string;
}

/** The task list. Finished jobs vanish after 10 minutes, failed ones after 60. */
export class JobLog {
  constructor(
    private readonly db: Database,
    private readonly clock: EngineClock,
  ) {}

  /** `description` like "Creating Snapshot nightly for VM web". */
  start(description: string, owner: JobOwner, external = false, autoCleared = true): Job {
    const now = this.clock.now();
    return this.db.jobs.put({
      id: randomUUID(),
      description,
      status: 'started',
      correlationId: owner.correlationId,
      external,
      autoCleared,
      ownerId: owner.userId,
      startTime: now,
      lastUpdated: now,
      steps: [],
    });
  }

  /** Idempotent; unknown ids are ignored (the job may have been cleared). */
  end(id: string, succeeded: boolean): void {
    const now = this.clock.now();
    if (this.db.jobs.get(id)?.status === 'started') {
      this.db.jobs.update(id, { status: succeeded ? 'finished' : 'failed', endTime: now, lastUpdated: now });
    }
  }

  /** Runs `work` as a job that ends with it; a failure is rethrown. */
  async run<T>(description: string, owner: JobOwner, work: (job: Job) => Promise<T> | T): Promise<T> {
    const job = this.start(description, owner);
    try {
      const result = await work(job);
      this.end(job.id, true);
      return result;
    } catch (error) {
      this.end(job.id, false);
      throw error;
    }
  }

  /** Without those that have vanished by now. */
  list(): Job[] {
    for (const job of this.db.jobs.list()) {
      const ageMs = job.endTime === undefined ? 0 : this.clock.now() - job.endTime;
      if (ageMs > (job.status === 'finished' ? RETENTION.jobFinishedMs : RETENTION.jobFailedMs)) {
        this.db.jobs.delete(job.id);
      }
    }
    return this.db.jobs.list();
  }
}
