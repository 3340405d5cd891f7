import type { Database } from './catalogue';

/** What the administrator may change while the server runs. */
export interface Settings {
  readonly repositoryTasks: number;
  readonly retryAttempts: number;
  readonly retryDelaysMs: readonly number[];
  readonly waitLimitMs: number;
  readonly loginLifetimeMs: number;
  readonly configurationCopySchedule: string;
  readonly collectSchedule: string;
  readonly collectBytesPerSecond: number;
  readonly verifyPeriodDays: number;
  readonly verifyBytesPerSecond: number;
}

/**
 * Product defaults §5: 8 tasks per repository; 3 tries after 5, 15 and 45 minutes; every repository verified once per 30 days with 50 MB/s. Copies of the
 * configuration come before the night's collections, both in the small hours of the server's own time zone.
 */
export const defaultSettings: Settings = {
  repositoryTasks: 8,
  retryAttempts: 3,
  retryDelaysMs: [300_000, 900_000, 2_700_000],
  waitLimitMs: 1_800_000,
  loginLifetimeMs: 12 * 3_600_000,
  configurationCopySchedule: '30 2 * * *',
  collectSchedule: '30 4 * * *',
  collectBytesPerSecond: 0,
  verifyPeriodDays: 30,
  verifyBytesPerSecond: 50_000_000,
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

  /** All of it or nothing. */
  async change(change: Partial<Settings>): Promise<void> {
    await this.db.transaction().execute(async (tx) => {
      for (const [name, value] of Object.entries(change)) {
        const valueJson = JSON.stringify(value);
        await tx
          .insertInto('setting')
          .values({ name, valueJson })
          .onConflict((c) => c.column('name').doUpdateSet({ valueJson }))
          .execute();
      }
    });
    this.#current = { ...this.#current, ...change };
  }
}
