/**
 * Follows who has taken over new certificates and a new CA: gives every plug-in, mover and worker its order with the answer to its heartbeat,
 * keeps what they report, and ends the overlap of two CAs when all have confirmed, or when its time is up. What lasts is in the authority's
 * file and the catalogue; a restarted host goes on from there.
 */
import type { Logger } from '../../common/log/logger';
import { timestampFromWire } from '../../common/rpc/bytes';
import { normalSerial, sameAuthorities } from '../../common/tls/trust-state';
import type { TrustState__Output } from '../../proto/gen/tidemark/common/v1/TrustState';
import type { CertificateStore, IssuedRow, PeerTrustRow } from '../catalogue/certificate-store';
import type { EventStore, NewEvent } from '../catalogue/event-store';
import type { IdentityRow, IdentityStore } from '../catalogue/identity-store';
import type { CertificateAuthority } from './certificate-authority';
import type { EnrolledRole } from './enrolment';

/** What is asked of a peer with the answer to its heartbeat. */
export interface Order {
  readonly trustedCaFingerprints: string[];
  readonly renewCertificate: boolean;
}

/** Where a peer stands. */
export interface PeerStanding {
  readonly id: string;
  readonly role: EnrolledRole;
  readonly name: string;
  readonly connected: boolean;
  /** Has what is wanted: the CAs, the issuer, and a certificate that is new enough. */
  readonly confirmed: boolean;
  /** Its certificate is over, or it enrols at its next start anyway: nobody waits for it. */
  readonly awaited: boolean;
  /** Keeps no identity: a worker VM. */
  readonly enrolsAtStart: boolean;
  readonly issued: IssuedRow | undefined;
  readonly reported: PeerTrustRow | undefined;
  readonly lastHeardAt: Date | undefined;
}

const dayMs = 86_400_000;
/** Heartbeats come every five seconds; the length of a lease. */
const connectedMs = 16_000;
/** A worker VM that was not heard for so long is off, and enrols when it starts. */
const offMs = 10 * 60_000;
/** By then a mover has worked through the answer to the heartbeat with which it confirmed, and knows the ticket keys. */
const keySettlingMs = 3_000;

export class Rotation {
  readonly #heard = new Map<string, Date>();
  readonly #confirmedSince = new Map<string, Date>();
  readonly #startedAt: Date;
  #reviewing: Promise<void> | undefined;

  constructor(
    private readonly authority: CertificateAuthority,
    private readonly identities: Pick<IdentityStore, 'identities'>,
    private readonly certificates: CertificateStore,
    private readonly events: Pick<EventStore, 'add'>,
    private readonly logger: Logger,
    private readonly now: () => Date,
  ) {
    this.#startedAt = now();
  }

  /** Notes what a peer reported with its heartbeat; returns what is wanted of it. Undefined for a peer that reports nothing. */
  async report(id: string, trust: TrustState__Output | null): Promise<Order | undefined> {
    const now = this.now();
    this.#heard.set(id, now);
    if (!trust) return undefined;
    const row = {
      subjectId: id,
      trustedJson: JSON.stringify([...trust.trustedCaFingerprints].sort().slice(0, 10)),
      issuerFingerprint: trust.issuerFingerprint,
      serialNumber: normalSerial(trust.serialNumber),
      expiresAt: (timestampFromWire(trust.expiresAt) ?? now).toISOString(),
    };
    const known = await this.certificates.trustOf(id);
    const changed = !known || known.serialNumber !== row.serialNumber || known.trustedJson !== row.trustedJson;
    if (changed) await this.certificates.putTrust({ ...row, reportedAt: now.toISOString() });
    const renewCertificate = await this.#mustRenew(row);
    const order = { trustedCaFingerprints: this.authority.trustedFingerprints, renewCertificate };
    if (changed && this.authority.state.rotation) void this.review();
    return order;
  }

  /** Everybody, and where they stand. */
  async standings(): Promise<PeerStanding[]> {
    const [issued, trust] = await Promise.all([this.certificates.lastIssued(), this.certificates.trust()]);
    const all: PeerStanding[] = [];
    for (const role of ['plugin', 'mover', 'worker'] as const) {
      for (const identity of await this.identities.identities(role)) {
        if (identity.revokedAt === null) all.push(await this.#standing(identity, role, issued.get(identity.id), trust.get(identity.id)));
      }
    }
    return all;
  }

  /** Everybody who does not have what is wanted and is waited for. */
  async missing(): Promise<PeerStanding[]> {
    return (await this.standings()).filter((peer) => peer.awaited && !peer.confirmed);
  }

  /** Every certificate is issued anew, as soon as its bearer is there. */
  async rotateLeaves(by: string): Promise<void> {
    await this.authority.rotateLeaves(this.now());
    this.#confirmedSince.clear();
    await this.#tell('info', 'CERTIFICATES_ROTATING', `${by} asked for new certificates for every process.`);
  }

  /** A new CA takes the old one's place. Throws CA_ROTATION_RUNNING. */
  async rotateAuthority(overlapDays: number, by: string): Promise<void> {
    await this.authority.rotate(this.now(), overlapDays * dayMs);
    this.#confirmedSince.clear();
    const until = this.authority.state.rotation?.overlapEndsAt ?? '';
    await this.#tell(
      'info',
      'CA_ROTATION_STARTED',
      `${by} made a new CA. The old one is trusted until everybody has it, at most until ${until}.`,
    );
    await this.review();
  }

  /** Takes the steps that are due: sign tickets with the new key, end the overlap. Idempotent; never two at a time. */
  review(): Promise<void> {
    this.#reviewing ??= this.#review()
      .catch((error: unknown) => this.logger.error('the rotation of the CA could not be followed; it is tried again', { error }))
      .finally(() => {
        this.#reviewing = undefined;
      });
    return this.#reviewing;
  }

  async #review(): Promise<void> {
    const now = this.now();
    await this.authority.catchUp();
    this.authority.dropRetiredKeys(now);
    const { rotation } = this.authority.state;
    if (!rotation) return;
    const standings = await this.standings();
    for (const peer of standings) {
      if (!peer.confirmed) this.#confirmedSince.delete(peer.id);
      else if (!this.#confirmedSince.has(peer.id)) this.#confirmedSince.set(peer.id, now);
    }
    const settled = (id: string) => now.getTime() - (this.#confirmedSince.get(id)?.getTime() ?? Infinity) >= keySettlingMs;
    // Just started, it has not heard yet of those that are connected: who is silent is gone only after the length of a lease.
    const isEarly = now.getTime() - this.#startedAt.getTime() < connectedMs;
    const haveKeys = standings.filter((peer) => peer.role === 'mover' && (peer.connected || isEarly)).every((peer) => settled(peer.id));
    if (haveKeys && this.authority.useNewTicketKey(now)) this.logger.info('tickets are signed with the new key', {});
    const missing = standings.filter((peer) => peer.awaited && !peer.confirmed);
    if (!haveKeys || (missing.length > 0 && now.toISOString() < rotation.overlapEndsAt)) return;
    await this.#finish(now, missing);
  }

  async #finish(now: Date, missing: readonly PeerStanding[]): Promise<void> {
    await this.authority.finishRotation(
      now,
      missing.map(({ id, role, name }) => ({ id, name: `${role} ${name}` })),
    );
    if (missing.length === 0) {
      await this.#tell('info', 'CA_ROTATION_FINISHED', 'Every process has the new CA; the old one is not trusted any more.');
      return;
    }
    const names = missing.map(({ id, role, name }) => `${role} ${name} (${id})`).join(', ');
    await this.#tell(
      'warning',
      'CA_ROTATION_INCOMPLETE',
      `The overlap of the two CAs is over; the old one is not trusted any more. These processes were never seen with the new one and have to enrol again: ${names}.`,
    );
  }

  async #standing(
    identity: IdentityRow,
    role: EnrolledRole,
    issued: IssuedRow | undefined,
    reported: PeerTrustRow | undefined,
  ): Promise<PeerStanding> {
    const now = this.now();
    const lastHeardAt = this.#heard.get(identity.id);
    const silentMs = now.getTime() - (lastHeardAt ?? this.#startedAt).getTime();
    const expiresAt = issued?.expiresAt ?? reported?.expiresAt;
    const over = expiresAt !== undefined && expiresAt <= now.toISOString();
    const off = identity.enrolsAtStart !== 0 && silentMs > offMs;
    return {
      id: identity.id,
      role,
      name: identity.hostName || identity.id,
      connected: lastHeardAt !== undefined && silentMs < connectedMs,
      confirmed: reported !== undefined && (await this.#isConfirmed(reported)),
      awaited: !over && !off,
      enrolsAtStart: identity.enrolsAtStart !== 0,
      issued,
      reported,
      lastHeardAt: lastHeardAt ?? (reported ? new Date(reported.reportedAt) : undefined),
    };
  }

  async #isConfirmed(trust: PeerTrustRow): Promise<boolean> {
    const trusted = JSON.parse(trust.trustedJson) as string[];
    return sameAuthorities(trusted, this.authority.trustedFingerprints) && !(await this.#mustRenew(trust));
  }

  async #mustRenew(shown: Pick<PeerTrustRow, 'issuerFingerprint' | 'serialNumber'>): Promise<boolean> {
    if (shown.issuerFingerprint !== this.authority.fingerprint) return true;
    const { leavesSince } = this.authority.state;
    if (leavesSince === undefined) return false;
    const issued = await this.certificates.issued(shown.serialNumber);
    return issued === undefined || issued.issuedAt < leavesSince;
  }

  async #tell(severity: NewEvent['severity'], code: string, message: string): Promise<void> {
    this.logger.info('event', { code, severity, message });
    await this.events.add({ at: this.now(), source: 'host', severity, code, message, references: {} });
  }
}
