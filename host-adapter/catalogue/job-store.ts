import type { JobDefinition } from '../jobs/job-definition';
import type { Database } from './catalogue';

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

  async put(stored: StoredJob): Promise<void> {
    const { definition, enabled, ...rest } = stored;
    const row = { ...rest, enabled: enabled ? 1 : 0, definitionJson: JSON.stringify(definition) };
    await this.db
      .insertInto('job')
      .values(row)
      .onConflict((c) => c.column('id').doUpdateSet(row))
      .execute();
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

function job(row: {
  id: string;
  name: string;
  repositoryId: string;
  enabled: number;
  definitionJson: string;
  createdAt: string;
  scheduledAt: string;
}): StoredJob {
  const { definitionJson, enabled, ...rest } = row;
  return { ...rest, enabled: enabled !== 0, definition: JSON.parse(definitionJson) as JobDefinition };
}
