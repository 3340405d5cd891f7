import type { Kysely } from 'kysely';
import type { SessionOrder, SessionRecord, SessionKind, SessionState } from '../jobs/session-record';
import { activeStates } from '../jobs/task-machine';
import type { TaskRecord } from '../jobs/task-record';
import type { Database } from './catalogue';
import type { Tables } from './tables';

/**
 * Sessions, their tasks, and the leases on VMs. Every change takes the session's next sequence number and is durable when it returns;
 * watchers are told then.
 */
export class SessionStore {
  readonly #watchers = new Map<string, Set<() => void>>();

  constructor(private readonly db: Database) {}

  /**
   * Adds a session with its tasks. Where one that has not ended keeps it from running (`unless`), that one is answered and nothing is changed. `scheduledAt`: its job's schedule started it
   * then, which is kept with it or not at all.
   */
  async add(
    session: SessionRecord,
    tasks: readonly TaskRecord[],
    { unless, scheduledAt }: { unless?: ((running: SessionRecord) => boolean) | undefined; scheduledAt?: string | undefined } = {},
  ): Promise<SessionRecord | undefined> {
    return this.db.transaction().execute(async (tx) => {
      const running = unless && (await unfinished(tx)).find(unless);
      if (running) return running;
      await tx.insertInto('session').values(sessionRow(session)).execute();
      for (const task of tasks) await tx.insertInto('task').values(taskRow(task)).execute();
      if (scheduledAt !== undefined) await tx.updateTable('job').set({ scheduledAt }).where('id', '=', session.jobId).execute();
      return undefined;
    });
  }

  async addTasks(tasks: readonly TaskRecord[]): Promise<void> {
    await this.db.transaction().execute(async (tx) => {
      for (const task of tasks) await tx.insertInto('task').values(taskRow(task)).execute();
    });
  }

  async get(id: string): Promise<SessionRecord | undefined> {
    const row = await this.db.selectFrom('session').selectAll().where('id', '=', id).executeTakeFirst();
    return row && session(row);
  }

  async list(
    limit: number,
    before: string | undefined,
    filter: { jobId?: string | undefined; kind?: string | undefined; state?: string | undefined },
  ): Promise<SessionRecord[]> {
    let query = this.db.selectFrom('session').selectAll().orderBy('startedAt', 'desc').orderBy('id', 'desc').limit(limit);
    if (before !== undefined) {
      const [at = '', id = ''] = before.split('~');
      query = query.where((e) => e.or([e('startedAt', '<', at), e.and([e('startedAt', '=', at), e('id', '<', id)])]));
    }
    if (filter.jobId !== undefined) query = query.where('jobId', '=', filter.jobId);
    if (filter.kind !== undefined) query = query.where('kind', '=', filter.kind);
    if (filter.state !== undefined) query = query.where('state', '=', filter.state);
    return (await query.execute()).map(session);
  }

  unfinished(): Promise<SessionRecord[]> {
    return unfinished(this.db);
  }

  async runningOfJob(jobId: string): Promise<SessionRecord | undefined> {
    const row = await this.db.selectFrom('session').selectAll().where('jobId', '=', jobId).where('endedAt', 'is', null).executeTakeFirst();
    return row && session(row);
  }

  /** The newest session of each job. */
  async lastOfJobs(): Promise<Map<string, SessionRecord>> {
    const rows = await this.db
      .selectFrom('session')
      .selectAll()
      .where('jobId', 'is not', null)
      .where((e) =>
        e(
          'startedAt',
          '=',
          e
            .selectFrom('session as other')
            .select((s) => s.fn.max('other.startedAt').as('newest'))
            .whereRef('other.jobId', '=', 'session.jobId'),
        ),
      )
      .execute();
    return new Map(rows.map((row) => [row.jobId ?? '', session(row)]));
  }

  /** Tasks that changed after a sequence, in the order of their change; all for -1. */
  async tasks(sessionId: string, afterSequence = -1): Promise<TaskRecord[]> {
    const rows = await this.db
      .selectFrom('task')
      .select(['recordJson', 'sequence'])
      .where('sessionId', '=', sessionId)
      .where('sequence', '>', afterSequence)
      .orderBy(afterSequence < 0 ? 'ordinal' : 'sequence')
      .execute();
    return rows.map((row) => ({ ...(JSON.parse(row.recordJson) as TaskRecord), sequence: row.sequence }));
  }

  /** VMs whose newest ended backup task since a time failed. */
  async failedVms(since: Date): Promise<Set<string>> {
    const rows = await this.db
      .selectFrom('task')
      .innerJoin('session', 'session.id', 'task.sessionId')
      .select(['task.platformId', 'task.vmId', 'task.state', 'session.startedAt'])
      .where('session.kind', '=', 'backup')
      .where('session.startedAt', '>', since.toISOString())
      .where('task.state', 'not in', [...activeStates, 'cancelled', 'skipped'])
      .orderBy('session.startedAt')
      .execute();
    const last = new Map(rows.map((row) => [`${row.platformId}/${row.vmId}`, row.state]));
    return new Set([...last].filter(([, state]) => state === 'failed').map(([vm]) => vm));
  }

  /** The mover that carried the newest task on a VM in a repository, if that is known. */
  async lastMover(repositoryId: string, platformId: string, vmId: string): Promise<string | undefined> {
    const rows = await this.db
      .selectFrom('task')
      .innerJoin('session', 'session.id', 'task.sessionId')
      .select('task.recordJson')
      .where('task.platformId', '=', platformId)
      .where('task.vmId', '=', vmId)
      .where('session.repositoryId', '=', repositoryId)
      .orderBy('session.startedAt', 'desc')
      .limit(5)
      .execute();
    for (const row of rows) {
      const moverId = (JSON.parse(row.recordJson) as TaskRecord).path?.moverId;
      if (moverId !== undefined) return moverId;
    }
    return undefined;
  }

  async saveSession(record: SessionRecord): Promise<void> {
    await this.db.transaction().execute(async (tx) => {
      const sequence = await this.#next(tx, record.id);
      record.sequence = sequence;
      await tx
        .updateTable('session')
        .set({ ...sessionRow(record), sequence })
        .where('id', '=', record.id)
        .execute();
    });
    this.#tell(record.id);
  }

  async saveTask(record: TaskRecord): Promise<void> {
    await this.db.transaction().execute(async (tx) => {
      record.sequence = await this.#next(tx, record.sessionId);
      await tx.updateTable('task').set(taskRow(record)).where('id', '=', record.id).execute();
    });
    this.#tell(record.sessionId);
  }

  /** Calls back after each change of a session; returns the way to stop. */
  watch(sessionId: string, changed: () => void): () => void {
    const watchers = this.#watchers.get(sessionId) ?? new Set();
    this.#watchers.set(sessionId, watchers.add(changed));
    return () => {
      watchers.delete(changed);
      if (watchers.size === 0) this.#watchers.delete(sessionId);
    };
  }

  /** Takes the lease of a VM; answers the kind of work that has it, or undefined when it is ours now (or was). */
  async takeVm(platformId: string, vmId: string, taskId: string, kind: string): Promise<string | undefined> {
    await this.db
      .insertInto('vmLease')
      .values({ platformId, vmId, taskId, kind })
      .onConflict((c) => c.doNothing())
      .execute();
    const held = await this.db
      .selectFrom('vmLease')
      .selectAll()
      .where('platformId', '=', platformId)
      .where('vmId', '=', vmId)
      .executeTakeFirstOrThrow();
    return held.taskId === taskId ? undefined : held.kind;
  }

  async releaseVm(taskId: string): Promise<void> {
    await this.db.deleteFrom('vmLease').where('taskId', '=', taskId).execute();
  }

  /** Drops leases whose task, or session, has ended. */
  async releaseEnded(): Promise<void> {
    await this.db
      .deleteFrom('vmLease')
      .where('taskId', 'not in', (e) =>
        e
          .selectFrom('task')
          .innerJoin('session', 'session.id', 'task.sessionId')
          .select('task.id')
          .where('task.state', 'in', [...activeStates])
          .where('session.endedAt', 'is', null),
      )
      .execute();
  }

  /** Forgets sessions that ended and began before a time, with their tasks; so many at most, the oldest first. Restore points are none of theirs. */
  async trim(before: Date, most: number): Promise<void> {
    await this.db
      .deleteFrom('session')
      .where('id', 'in', (e) =>
        e
          .selectFrom('session')
          .select('id')
          .where('startedAt', '<', before.toISOString())
          .where('endedAt', 'is not', null)
          .orderBy('startedAt')
          .limit(most),
      )
      .execute();
  }

  async #next(tx: Kysely<Tables>, sessionId: string): Promise<number> {
    const row = await tx
      .updateTable('session')
      .set((e) => ({ sequence: e('sequence', '+', 1) }))
      .where('id', '=', sessionId)
      .returning('sequence')
      .executeTakeFirstOrThrow();
    return row.sequence;
  }

  #tell(sessionId: string): void {
    for (const watcher of this.#watchers.get(sessionId) ?? []) watcher();
  }
}

async function unfinished(db: Kysely<Tables>): Promise<SessionRecord[]> {
  const rows = await db.selectFrom('session').selectAll().where('endedAt', 'is', null).orderBy('startedAt').execute();
  return rows.map(session);
}

function sessionRow(record: SessionRecord): Tables['session'] {
  const { order, failure, stopping, ...rest } = record;
  return {
    ...rest,
    stopping: stopping ? 1 : 0,
    requestJson: JSON.stringify(order),
    failureJson: failure === null ? null : JSON.stringify(failure),
  };
}

function session(row: Tables['session']): SessionRecord {
  const { requestJson, failureJson, stopping, ...rest } = row;
  return {
    ...rest,
    kind: rest.kind as SessionKind,
    state: rest.state as SessionState,
    trigger: rest.trigger as 'user' | 'schedule',
    stopping: stopping !== 0,
    order: JSON.parse(requestJson) as SessionOrder,
    failure: failureJson === null ? null : (JSON.parse(failureJson) as SessionRecord['failure']),
  };
}

function taskRow(record: TaskRecord): Tables['task'] {
  return {
    id: record.id,
    sessionId: record.sessionId,
    ordinal: record.ordinal,
    platformId: record.platformId,
    vmId: record.vmId,
    vmName: record.vmName,
    state: record.state,
    step: record.step,
    sequence: record.sequence,
    recordJson: JSON.stringify(record),
  };
}
