import type { JobDefinition } from '../jobs/job-definition';
import { HostErrors } from '../errors/host-errors';
import type { Database } from './catalogue';
import type { Tables } from './tables';

export interface StoredJob {
  readonly id: string;
  readonly name: string;
  readonly repositoryId: string;
  readonly enabled: boolean;
  readonly definition: JobDefinition;
  readonly createdAt: string;
  readonly scheduledAt: string;
}

/** Job definitions. */
export class JobStore {
  constructor(private readonly db: Database) {}

  async find(reference: string): Promise<StoredJob | undefined> {
    const rows = await this.#query()
      .where((e) => e.or([e('id', '=', reference), e('name', '=', reference)]))
      .execute();
    const row = rows.find((found) => found.id === reference) ?? rows[0];
    return row && job(row);
  }

  async all(): Promise<StoredJob[]> {
    return (await this.#query().orderBy('name').execute()).map(job);
  }

  /** Throws NAME_TAKEN. */
  add(stored: StoredJob): Promise<void> {
    return this.db.transaction().execute(async (tx) => {
      await mustBeFree(tx, stored);
      await tx.insertInto('job').values(rowOf(stored)).execute();
    });
  }

  /** Changes a job as it is now, whatever the schedule or somebody else made of it meanwhile. `change` may throw. Throws JOB_NOT_FOUND, NAME_TAKEN. */
  change(id: string, change: (job: StoredJob) => StoredJob): Promise<StoredJob> {
    return this.db.transaction().execute(async (tx) => {
      const row = await tx.selectFrom('job').selectAll().where('id', '=', id).executeTakeFirst();
      if (!row) throw HostErrors.JOB_NOT_FOUND({ job: id });
      const changed = change(job(row));
      await mustBeFree(tx, changed);
      await tx.updateTable('job').set(rowOf(changed)).where('id', '=', id).execute();
      return changed;
    });
  }

  async setScheduledAt(id: string, scheduledAt: string): Promise<void> {
    await this.db.updateTable('job').set({ scheduledAt }).where('id', '=', id).execute();
  }

  async remove(id: string): Promise<void> {
    await this.db.deleteFrom('job').where('id', '=', id).execute();
  }

  #query() {
    return this.db.selectFrom('job').selectAll();
  }
}

async function mustBeFree(db: Database, { id, name }: StoredJob): Promise<void> {
  const taken = await db.selectFrom('job').select('id').where('name', '=', name).where('id', '!=', id).executeTakeFirst();
  if (taken) throw HostErrors.NAME_TAKEN({ what: 'job', name });
}

function rowOf({ definition, enabled, ...rest }: StoredJob): Tables['job'] {
  return { ...rest, enabled: enabled ? 1 : 0, definitionJson: JSON.stringify(definition) };
}

function job(row: Tables['job']): StoredJob {
  const { definitionJson, enabled, ...rest } = row;
  return { ...rest, enabled: enabled !== 0, definition: JSON.parse(definitionJson) as JobDefinition };
}
