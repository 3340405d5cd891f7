import type { Database } from './catalogue';
import type { Tables } from './tables';

export type IssuedRow = Tables['certificate'];
export type PeerTrustRow = Tables['peerTrust'];

/** Certificates that the CA issued, what their bearers say they trust and show, and which warnings were given. */
export class CertificateStore {
  constructor(private readonly db: Database) {}

  async addIssued(row: IssuedRow): Promise<void> {
    await this.db
      .insertInto('certificate')
      .values(row)
      .onConflict((c) => c.column('serialNumber').doNothing())
      .execute();
  }

  issued(serialNumber: string): Promise<IssuedRow | undefined> {
    return this.db.selectFrom('certificate').selectAll().where('serialNumber', '=', serialNumber).executeTakeFirst();
  }

  /** The last one of each bearer. */
  async lastIssued(): Promise<Map<string, IssuedRow>> {
    const rows = await this.db.selectFrom('certificate').selectAll().orderBy('issuedAt').execute();
    return new Map(rows.map((row) => [row.subjectId, row]));
  }

  trustOf(subjectId: string): Promise<PeerTrustRow | undefined> {
    return this.db.selectFrom('peerTrust').selectAll().where('subjectId', '=', subjectId).executeTakeFirst();
  }

  async putTrust(row: PeerTrustRow): Promise<void> {
    await this.db
      .insertInto('peerTrust')
      .values(row)
      .onConflict((c) => c.column('subjectId').doUpdateSet(row))
      .execute();
  }

  async trust(): Promise<Map<string, PeerTrustRow>> {
    return new Map((await this.db.selectFrom('peerTrust').selectAll().execute()).map((row) => [row.subjectId, row]));
  }

  /** True when this warning was given. */
  async wasWarned(certificate: string, days: number): Promise<boolean> {
    const rows = this.db.selectFrom('certificateWarning').select('at').where('certificate', '=', certificate).where('days', '=', days);
    return (await rows.executeTakeFirst()) !== undefined;
  }

  async noteWarning(certificate: string, days: number, at: string): Promise<void> {
    await this.db
      .insertInto('certificateWarning')
      .values({ certificate, days, at })
      .onConflict((c) => c.columns(['certificate', 'days']).doNothing())
      .execute();
  }

  /** Forgets certificates and warnings that ended or were given before. */
  async trim(before: string): Promise<void> {
    await this.db.deleteFrom('certificate').where('expiresAt', '<', before).execute();
    await this.db.deleteFrom('certificateWarning').where('at', '<', before).execute();
  }
}
