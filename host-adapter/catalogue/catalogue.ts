/**
 * The catalogue: the host's searchable record of jobs, sessions, points, processes and users, in SQLite through Kysely. It is a cache of
 * what the repositories hold, and the only home of jobs, users and settings. This file alone knows which database it is; stores (one per
 * noun) see Kysely. Knows nothing of gRPC or HTTP.
 */
import fs from 'node:fs';
import path from 'node:path';
import Sqlite from 'better-sqlite3';
import { Kysely, SqliteDialect } from 'kysely';
import { Migrator } from 'kysely/migration';
import { HostErrors } from '../errors/host-errors';
import { migrations } from './migrations';
import type { Tables } from './tables';

export type Database = Kysely<Tables>;

/** Names of the schema's steps, oldest first. */
export function stepsOf(): string[] {
  return Object.keys(migrations).sort();
}

/**
 * Opens the catalogue and brings its schema up to date. Commits are durable when they return (WAL with full synchronisation). `fill` is called when the
 * schema is at the step `at`, before it goes on: for rows of an older schema. Throws CATALOGUE_UNUSABLE.
 */
export async function openCatalogue(file: string, fill?: (db: Database) => Promise<void>, at?: string): Promise<Database> {
  let db: Database | undefined;
  try {
    if (file !== ':memory:') fs.mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
    const sqlite = new Sqlite(file, { timeout: 5000 });
    if (file !== ':memory:') fs.chmodSync(file, 0o600);
    sqlite.pragma('journal_mode = WAL');
    sqlite.pragma('synchronous = FULL');
    sqlite.pragma('foreign_keys = ON');
    db = new Kysely<Tables>({ dialect: new SqliteDialect({ database: sqlite }) });
    const migrator = new Migrator({ db, provider: { getMigrations: () => Promise.resolve(migrations) } });
    if (fill && at !== undefined) {
      const { error } = await migrator.migrateTo(at);
      if (error !== undefined) throw error;
      await fill(db);
    }
    const { error } = await migrator.migrateToLatest();
    if (error !== undefined) throw error;
    return db;
  } catch (cause) {
    await db?.destroy();
    throw HostErrors.CATALOGUE_UNUSABLE({ file, why: cause instanceof Error ? cause.message : 'unknown' }, { cause });
  }
}
