import type { Database } from './catalogue';
import type { Tables } from './tables';

export type PlatformRow = Tables['platform'];

/** Which plug-in has which platform. What a platform is, the plug-in knows. */
export class PlatformStore {
  constructor(private readonly db: Database) {}

  async find(reference: string): Promise<PlatformRow | undefined> {
    const rows = await this.db
      .selectFrom('platform')
      .selectAll()
      .where((e) => e.or([e('id', '=', reference), e('name', '=', reference)]))
      .execute();
    return rows.find((row) => row.id === reference) ?? rows[0];
  }

  all(): Promise<PlatformRow[]> {
    return this.db.selectFrom('platform').selectAll().orderBy('name').execute();
  }

  async put(row: PlatformRow): Promise<void> {
    await this.db
      .insertInto('platform')
      .values(row)
      .onConflict((c) => c.column('id').doUpdateSet({ name: row.name, pluginId: row.pluginId }))
      .execute();
  }

  async remove(id: string): Promise<void> {
    await this.db.deleteFrom('platform').where('id', '=', id).execute();
  }
}
