import type { Database } from './catalogue';

/** What the administrator may change while the server runs. */
export interface Settings {
  readonly repositoryTasks: number;
  readonly retryAttempts: number;
  readonly retryDelaysMs: readonly number[];
  readonly waitLimitMs: number;
  readonly loginLifetimeMs: number;
}

/** Product defaults §5: 8 tasks per repository; 3 tries after 5, 15 and 45 minutes. */
export const defaultSettings: Settings = {
  repositoryTasks: 8,
  retryAttempts: 3,
  retryDelaysMs: [300_000, 900_000, 2_700_000],
  waitLimitMs: 1_800_000,
  loginLifetimeMs: 12 * 3_600_000,
};

/** Settings, kept in memory and in the catalogue. */
export class SettingStore {
  #current: Settings = defaultSettings;

  constructor(private readonly db: Database) {}

  async load(): Promise<void> {
    const rows = await this.db.selectFrom('setting').selectAll().execute();
    this.#current = { ...defaultSettings, ...Object.fromEntries(rows.map((row) => [row.name, JSON.parse(row.valueJson) as unknown])) };
  }

  get current(): Settings {
    return this.#current;
  }

  async change(change: Partial<Settings>): Promise<void> {
    for (const [name, value] of Object.entries(change)) {
      const valueJson = JSON.stringify(value);
      await this.db
        .insertInto('setting')
        .values({ name, valueJson })
        .onConflict((c) => c.column('name').doUpdateSet({ valueJson }))
        .execute();
    }
    this.#current = { ...this.#current, ...change };
  }
}
