import { normalSerial } from '../../common/tls/trust-state';
import type { CertificateStore, IssuedRow } from '../catalogue/certificate-store';
import type { EventStore } from '../catalogue/event-store';
import type { IdentityRow, IdentityStore } from '../catalogue/identity-store';
import { HostErrors } from '../errors/host-errors';
import type { CertificateAuthority } from './certificate-authority';
import type { Throttle } from './throttle';

/** See tidemark.host.v1.ExplainRefusalResponse. */
export type RefusalCode =
  'CERTIFICATE_UNKNOWN' | 'IDENTITY_REVOKED' | 'CERTIFICATE_ENDED' | 'CERTIFICATE_CA_RETIRED' | 'CERTIFICATE_ACCEPTED';

const dayMs = 86_400_000;
/** Only known processes are remembered; this is far beyond what an installation has. */
const maxTold = 10_000;

const reasons: Readonly<Record<Exclude<RefusalCode, 'CERTIFICATE_UNKNOWN'>, string>> = {
  IDENTITY_REVOKED: 'was revoked',
  CERTIFICATE_ENDED: 'comes with a certificate that has ended',
  CERTIFICATE_CA_RETIRED: 'comes with a certificate of a CA that is not trusted any more: it was off for as long as the rotation went on',
  CERTIFICATE_ACCEPTED:
    'comes with a good certificate, but does not trust this server: it was off for as long as a rotation of the CA went on',
};

/** Answers processes that are not let in, who may be anybody, and tells the administrator of those that are known. */
export class Refusals {
  readonly #told = new Map<string, number>();

  constructor(
    private readonly authority: Pick<CertificateAuthority, 'trustedFingerprints'>,
    private readonly identities: Pick<IdentityStore, 'identity'>,
    private readonly certificates: Pick<CertificateStore, 'issued'>,
    private readonly events: Pick<EventStore, 'add'>,
    private readonly throttle: Throttle,
    private readonly now: () => Date,
  ) {}

  /** Throws ENROLMENT_THROTTLED. */
  async explain(serialNumber: string, remoteAddress: string): Promise<RefusalCode> {
    if (!this.throttle.allow(remoteAddress.replace(/:\d+$/, ''), this.now().getTime())) {
      throw HostErrors.ENROLMENT_THROTTLED({}, { retryDelayMs: 60_000 });
    }
    const issued = await this.certificates.issued(normalSerial(serialNumber));
    const identity = issued && (await this.identities.identity(issued.subjectId));
    if (!identity) return 'CERTIFICATE_UNKNOWN';
    const code = this.#judge(issued, identity);
    await this.#tell(identity, code);
    return code;
  }

  #judge(issued: IssuedRow, identity: IdentityRow): Exclude<RefusalCode, 'CERTIFICATE_UNKNOWN'> {
    if (identity.revokedAt !== null) return 'IDENTITY_REVOKED';
    if (issued.expiresAt <= this.now().toISOString()) return 'CERTIFICATE_ENDED';
    return this.authority.trustedFingerprints.includes(issued.issuerFingerprint) ? 'CERTIFICATE_ACCEPTED' : 'CERTIFICATE_CA_RETIRED';
  }

  /** Once a day: it asks as long as it runs. */
  async #tell({ id, role, hostName }: IdentityRow, code: keyof typeof reasons): Promise<void> {
    const now = this.now();
    const key = `${id} ${code}`;
    if (now.getTime() - (this.#told.get(key) ?? -Infinity) < dayMs) return;
    this.#told.set(key, now.getTime());
    if (this.#told.size > maxTold) this.#told.delete(this.#told.keys().next().value ?? '');
    const again = role === 'worker' ? 'tidemark worker enrol' : `tidemark ${role} enrol --again ${id}`;
    const advice =
      code === 'IDENTITY_REVOKED'
        ? `Stop it, or enrol it as a new one: tidemark ${role} enrol.`
        : `Make a token for it (${again}), remove its folder "identity" and start it with the token.`;
    const message = `The ${role} ${hostName || id} (${id}) ${reasons[code]}. ${advice}`;
    try {
      await this.events.add({
        at: now,
        source: 'host',
        severity: 'warning',
        code: 'PEER_REFUSED',
        message,
        references: { identity_id: id },
      });
    } catch (error) {
      this.#told.delete(key);
      throw error;
    }
  }
}
