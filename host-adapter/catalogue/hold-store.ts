import type { Database } from './catalogue';
import type { Tables } from './tables';

export type PointHold = Tables['pointHold'];

/** Points that somebody wants to keep whatever happens: they are neither removed by hand nor by retention. */
export class HoldStore {
  constructor(private readonly db: Database) {}

  async all(): Promise<Map<string, PointHold>> {
    return new Map((await this.db.selectFrom('pointHold').selectAll().execute()).map((hold) => [hold.pointId, hold]));
  }

  of(pointId: string): Promise<PointHold | undefined> {
    return this.db.selectFrom('pointHold').selectAll().where('pointId', '=', pointId).executeTakeFirst();
  }

  /** One that is held stays as it is. */
  async hold(hold: PointHold): Promise<void> {
    await this.db
      .insertInto('pointHold')
      .values(hold)
      .onConflict((c) => c.column('pointId').doNothing())
      .execute();
  }

  async release(pointId: string): Promise<void> {
    await this.db.deleteFrom('pointHold').where('pointId', '=', pointId).execute();
  }
}
