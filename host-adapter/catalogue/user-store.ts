import type { Database } from './catalogue';
import type { Tables } from './tables';

/** Users and their logins; passwords and tokens as hashes only. */
export class UserStore {
  constructor(private readonly db: Database) {}

  byName(name: string): Promise<Tables['user'] | undefined> {
    return this.db.selectFrom('user').selectAll().where('name', '=', name).executeTakeFirst();
  }

  async count(): Promise<number> {
    const found = await this.db
      .selectFrom('user')
      .select((e) => e.fn.countAll<number>().as('count'))
      .executeTakeFirstOrThrow();
    return Number(found.count);
  }

  async add(row: Tables['user']): Promise<void> {
    await this.db.insertInto('user').values(row).execute();
  }

  /** Sets a new password and ends all logins but the one named. */
  async changePassword(userId: string, passwordHash: string, exceptTokenHash: string): Promise<void> {
    await this.db.transaction().execute(async (tx) => {
      await tx.updateTable('user').set({ passwordHash }).where('id', '=', userId).execute();
      await tx.deleteFrom('login').where('userId', '=', userId).where('tokenHash', '!=', exceptTokenHash).execute();
    });
  }

  async addLogin(row: Tables['login']): Promise<void> {
    await this.db.insertInto('login').values(row).execute();
  }

  /** The user of a login that is not over. */
  loginByHash(tokenHash: string, now: string): Promise<{ userId: string; name: string } | undefined> {
    return this.db
      .selectFrom('login')
      .innerJoin('user', 'user.id', 'login.userId')
      .select(['login.userId', 'user.name'])
      .where('login.tokenHash', '=', tokenHash)
      .where('login.expiresAt', '>', now)
      .executeTakeFirst();
  }

  async removeLogin(tokenHash: string): Promise<void> {
    await this.db.deleteFrom('login').where('tokenHash', '=', tokenHash).execute();
  }

  async removeExpiredLogins(now: string): Promise<void> {
    await this.db.deleteFrom('login').where('expiresAt', '<=', now).execute();
  }
}
