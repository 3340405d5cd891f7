import type { Database } from './catalogue';

export interface NewEvent {
  readonly at: Date;
  /** Process that reported it: host, or `plugin:<id>`. */
  readonly source: string;
  readonly severity: 'info' | 'warning' | 'error';
  readonly code: string;
  readonly message: string;
  readonly references: Readonly<Record<string, string>>;
}

const maxEvents = 100_000;

/** What happened, for the administrator, and who changed what. */
export class EventStore {
  constructor(private readonly db: Database) {}

  async add(event: NewEvent): Promise<void> {
    await this.db.insertInto('event').values(row(event)).execute();
  }

  /** Stores a plug-in's events behind those up to `after`, and how far they go, or neither. False when others were stored meanwhile. */
  addFromPlugin(pluginId: string, events: readonly NewEvent[], after: number, acknowledgedEvent: number): Promise<boolean> {
    return this.db.transaction().execute(async (tx) => {
      const { numUpdatedRows } = await tx
        .updateTable('plugin')
        .set({ acknowledgedEvent })
        .where('id', '=', pluginId)
        .where('acknowledgedEvent', '=', after)
        .executeTakeFirst();
      if (numUpdatedRows !== 1n) return false;
      await tx.insertInto('event').values(events.map(row)).execute();
      return true;
    });
  }

  events(limit: number, before: number | undefined, severity: string | undefined) {
    let query = this.db.selectFrom('event').selectAll().orderBy('id', 'desc').limit(limit);
    if (before !== undefined) query = query.where('id', '<', before);
    if (severity !== undefined) query = query.where('severity', '=', severity);
    return query.execute();
  }

  async addAudit(entry: {
    at: string;
    user: string;
    action: string;
    target: string;
    status: number;
    remoteAddress: string;
    correlationId: string;
  }): Promise<void> {
    await this.db.insertInto('audit').values(entry).execute();
  }

  audit(limit: number, before: number | undefined) {
    let query = this.db.selectFrom('audit').selectAll().orderBy('id', 'desc').limit(limit);
    if (before !== undefined) query = query.where('id', '<', before);
    return query.execute();
  }

  /** Forgets the oldest events beyond the bound. The audit log is kept. */
  async trim(): Promise<void> {
    const edge = await this.db.selectFrom('event').select('id').orderBy('id', 'desc').offset(maxEvents).limit(1).executeTakeFirst();
    if (edge) await this.db.deleteFrom('event').where('id', '<=', edge.id).execute();
  }
}

function row(event: NewEvent) {
  return {
    at: event.at.toISOString(),
    source: event.source,
    severity: event.severity,
    code: event.code,
    message: event.message,
    referencesJson: JSON.stringify(event.references),
  };
}
