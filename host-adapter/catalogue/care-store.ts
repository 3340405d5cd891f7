import type { StoredFailure } from '../jobs/task-record';
import type { Database } from './catalogue';

/** What is done for a repository beside backups. */
export type CareKind = 'copy' | 'collect' | 'verify';

/** Times are ISO 8601 UTC; null: never. */
export interface Care {
  readonly doneAt: string | null;
  readonly triedAt: string | null;
  /** Why the last try failed; null when it did not. */
  readonly failure: StoredFailure | null;
}

export type RepositoryCare = Readonly<Record<CareKind, Care>>;

const columns = {
  copy: { done: 'copiedAt', tried: 'copyTriedAt', failure: 'copyFailureJson' },
  collect: { done: 'collectedAt', tried: 'collectTriedAt', failure: 'collectFailureJson' },
  verify: { done: 'verifiedAt', tried: 'verifyTriedAt', failure: 'verifyFailureJson' },
} as const;
const never: Care = { doneAt: null, triedAt: null, failure: null };

/** What was done for each repository, and what of it failed. */
export class CareStore {
  constructor(private readonly db: Database) {}

  async of(repositoryId: string): Promise<RepositoryCare> {
    const row = await this.db.selectFrom('repositoryCare').selectAll().where('repositoryId', '=', repositoryId).executeTakeFirst();
    const care = (kind: CareKind): Care => {
      if (!row) return never;
      const { done, tried, failure } = columns[kind];
      const text = row[failure];
      return { doneAt: row[done], triedAt: row[tried], failure: text === null ? null : (JSON.parse(text) as StoredFailure) };
    };
    return { copy: care('copy'), collect: care('collect'), verify: care('verify') };
  }

  /** Before it begins, so that what kills the server is not begun again and again. */
  tried(repositoryId: string, kind: CareKind, at: string): Promise<void> {
    return this.put(repositoryId, { [columns[kind].tried]: at });
  }

  done(repositoryId: string, kind: CareKind, at: string): Promise<void> {
    return this.put(repositoryId, { [columns[kind].done]: at, [columns[kind].failure]: null });
  }

  failed(repositoryId: string, kind: CareKind, failure: StoredFailure): Promise<void> {
    return this.put(repositoryId, { [columns[kind].failure]: JSON.stringify(failure) });
  }

  private async put(repositoryId: string, change: Readonly<Record<string, string | null>>): Promise<void> {
    await this.db
      .insertInto('repositoryCare')
      .values({ repositoryId, ...change })
      .onConflict((c) => c.column('repositoryId').doUpdateSet(change))
      .execute();
  }
}
