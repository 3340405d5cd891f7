import type { Database } from './catalogue';
import type { Tables } from './tables';

export type RepositoryRow = Tables['repository'];

/** Repositories and which mover serves each. */
export class RepositoryStore {
  constructor(private readonly db: Database) {}

  /** By id, else by name. */
  async find(reference: string): Promise<RepositoryRow | undefined> {
    const rows = await this.db
      .selectFrom('repository')
      .selectAll()
      .where((e) => e.or([e('id', '=', reference), e('name', '=', reference)]))
      .execute();
    return rows.find((row) => row.id === reference) ?? rows[0];
  }

  all(): Promise<RepositoryRow[]> {
    return this.db.selectFrom('repository').selectAll().orderBy('name').execute();
  }

  async add(row: RepositoryRow): Promise<void> {
    await this.db.insertInto('repository').values(row).execute();
  }

  async setLastKnown(id: string, lastKnownJson: string): Promise<void> {
    await this.db.updateTable('repository').set({ lastKnownJson }).where('id', '=', id).execute();
  }

  /** Which movers serve it, and what they open it with. */
  async setServing(
    id: string,
    serving: Partial<Pick<RepositoryRow, 'gatewaysJson' | 'preferredGatewaysJson' | 'sealedJson'>>,
  ): Promise<void> {
    await this.db.updateTable('repository').set(serving).where('id', '=', id).execute();
  }

  async remove(id: string): Promise<void> {
    await this.db.deleteFrom('repository').where('id', '=', id).execute();
  }
}
