import type { Database } from './catalogue';
import type { Tables } from './tables';

export type EnrolmentTokenRow = Tables['enrolmentToken'];
export type IdentityRow = Tables['identity'];

/** One-time tokens and the identities made with them. Tokens are stored as hashes only. */
export class IdentityStore {
  constructor(private readonly db: Database) {}

  async addToken(row: EnrolmentTokenRow): Promise<void> {
    await this.db.insertInto('enrolmentToken').values(row).execute();
  }

  tokenByHash(tokenHash: string): Promise<EnrolmentTokenRow | undefined> {
    return this.db.selectFrom('enrolmentToken').selectAll().where('tokenHash', '=', tokenHash).executeTakeFirst();
  }

  /** Also one that was used up. */
  async removeTokenOfRequest(requestId: string): Promise<void> {
    await this.db.deleteFrom('enrolmentToken').where('requestId', '=', requestId).execute();
  }

  /**
   * Uses a token up: records the answer and makes the identity (again, where it enrols anew), or does neither. False when another request was
   * quicker.
   */
  useToken(tokenHash: string, usedByRequest: string, certificateChainPem: string, identity: IdentityRow): Promise<boolean> {
    return this.db.transaction().execute(async (tx) => {
      const result = await tx
        .updateTable('enrolmentToken')
        .set({ usedByRequest, certificateChainPem })
        .where('tokenHash', '=', tokenHash)
        .where('usedByRequest', 'is', null)
        .executeTakeFirst();
      if (result.numUpdatedRows !== 1n) return false;
      const { id: _same, role: _kept, enabled: _ruled, revokedAt: _decided, ...changed } = identity;
      await tx
        .insertInto('identity')
        .values(identity)
        .onConflict((c) => c.column('id').doUpdateSet(changed))
        .execute();
      return true;
    });
  }

  async removeExpiredTokens(before: string): Promise<void> {
    await this.db.deleteFrom('enrolmentToken').where('expiresAt', '<', before).execute();
  }

  identity(id: string): Promise<IdentityRow | undefined> {
    return this.db.selectFrom('identity').selectAll().where('id', '=', id).executeTakeFirst();
  }

  identities(role: string): Promise<IdentityRow[]> {
    return this.db.selectFrom('identity').selectAll().where('role', '=', role).orderBy('enrolledAt').execute();
  }

  /** From now on it gets no certificate; tokens for it are void. */
  revoke(id: string, revokedAt: string): Promise<void> {
    return this.db.transaction().execute(async (tx) => {
      await tx.updateTable('identity').set({ revokedAt }).where('id', '=', id).where('revokedAt', 'is', null).execute();
      await tx.deleteFrom('enrolmentToken').where('subjectId', '=', id).execute();
    });
  }

  async setEnabled(id: string, enabled: boolean): Promise<void> {
    await this.db
      .updateTable('identity')
      .set({ enabled: enabled ? 1 : 0 })
      .where('id', '=', id)
      .execute();
  }
}
