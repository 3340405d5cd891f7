import type { Database } from './catalogue';
import type { Tables } from './tables';

export type PluginRow = Tables['plugin'];
export type MoverRow = Tables['mover'];
export type MoverRule = Tables['moverRule'];

/** Registrations of plug-ins and movers. */
export class ProcessStore {
  constructor(private readonly db: Database) {}

  plugin(id: string): Promise<PluginRow | undefined> {
    return this.db.selectFrom('plugin').selectAll().where('id', '=', id).executeTakeFirst();
  }

  pluginByInstance(instanceId: string): Promise<PluginRow | undefined> {
    return this.db.selectFrom('plugin').selectAll().where('instanceId', '=', instanceId).executeTakeFirst();
  }

  plugins(): Promise<PluginRow[]> {
    return this.db.selectFrom('plugin').selectAll().execute();
  }

  async putPlugin(row: PluginRow): Promise<void> {
    const { acknowledgedEvent: _kept, ...changed } = row;
    await this.db
      .insertInto('plugin')
      .values(row)
      .onConflict((c) => c.column('id').doUpdateSet(changed))
      .execute();
  }

  async removePlugin(id: string): Promise<void> {
    await this.db.deleteFrom('plugin').where('id', '=', id).execute();
  }

  async renewPlugin(id: string, leaseExpiresAt: string, lastSeenAt: string): Promise<void> {
    await this.db.updateTable('plugin').set({ leaseExpiresAt, lastSeenAt }).where('id', '=', id).execute();
  }

  mover(id: string): Promise<MoverRow | undefined> {
    return this.db.selectFrom('mover').selectAll().where('id', '=', id).executeTakeFirst();
  }

  movers(): Promise<MoverRow[]> {
    return this.db.selectFrom('mover').selectAll().execute();
  }

  async putMover(row: MoverRow): Promise<void> {
    await this.db
      .insertInto('mover')
      .values(row)
      .onConflict((c) => c.column('id').doUpdateSet(row))
      .execute();
  }

  moverRules(): Promise<MoverRule[]> {
    return this.db.selectFrom('moverRule').selectAll().execute();
  }

  /** Changes some of what was ruled of a mover, which may not have registered yet. */
  async ruleMover(id: string, change: Partial<Omit<MoverRule, 'id'>>): Promise<void> {
    await this.db
      .insertInto('moverRule')
      .values({ id, gateway: null, drainingSince: null, ...change })
      .onConflict((c) => c.column('id').doUpdateSet(change))
      .execute();
  }

  async renewMover(id: string, leaseExpiresAt: string, lastSeenAt: string): Promise<void> {
    await this.db.updateTable('mover').set({ leaseExpiresAt, lastSeenAt }).where('id', '=', id).execute();
  }
}
