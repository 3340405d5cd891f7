/**
 * Every certificate that the installation depends on: our CAs, what they issued, and what engines and hosts show (told by the plug-ins). Warns
 * 60, 30, 7 and 1 days before the end, each once. What renews itself is worth a warning only when it is overdue. Source: product defaults §10.
 */
import { X509Certificate } from 'node:crypto';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import { fingerprintOf } from '../../common/tls/token';
import { normalSerial, splitPem } from '../../common/tls/trust-state';
import type { CertificateStore } from '../catalogue/certificate-store';
import type { EventStore } from '../catalogue/event-store';
import type { CertificateAuthority } from './certificate-authority';
import type { ConsoleCertificate } from './console-certificate';
import type { PeerStanding, Rotation } from './rotation';

export type WatchedKind =
  'ca' | 'host' | 'console' | 'plugin' | 'mover' | 'worker' | 'engine-ca' | 'engine-web' | 'engine-proxy' | 'engine-host';

/** What a plug-in saw on the wire. */
export interface ObservedCertificate {
  readonly kind: 'engine-ca' | 'engine-web' | 'engine-proxy' | 'engine-host';
  readonly name: string;
  readonly platform: string;
  readonly endpoint: string;
  readonly issuer: string;
  /** Lower-case hex. */
  readonly fingerprint: string;
  readonly expiresAt: Date | undefined;
  readonly observedAt: Date | undefined;
  readonly failure: TidemarkError | undefined;
}

export interface WatchedCertificate {
  readonly kind: WatchedKind;
  readonly name: string;
  readonly id: string | null;
  readonly platform: string | null;
  readonly endpoint: string | null;
  readonly issuer: string | null;
  readonly fingerprint: string | null;
  readonly serialNumber: string | null;
  readonly expiresAt: string | null;
  readonly daysLeft: number | null;
  readonly state: 'valid' | 'expiring' | 'expired' | 'replacing' | 'unreachable';
  readonly note: string;
  readonly observedAt: string | null;
  readonly failure: { code: string; message: string; retry: TidemarkError['retry'] } | null;
}

/** Days before the end at which is warned. */
export const warningDays = [60, 30, 7, 1] as const;
const dayMs = 86_400_000;
/** A renewal that is so late, in parts of the certificate's life, will not come by itself. */
const overduePart = 0.1;
const nothing = {
  id: null,
  platform: null,
  endpoint: null,
  issuer: null,
  fingerprint: null,
  serialNumber: null,
  observedAt: null,
  failure: null,
};

export class CertificateWatch {
  constructor(
    private readonly authority: CertificateAuthority,
    private readonly rotation: Pick<Rotation, 'standings'>,
    private readonly observed: (refresh: boolean) => Promise<ObservedCertificate[]>,
    private readonly store: Pick<CertificateStore, 'noteWarning' | 'wasWarned'>,
    private readonly events: Pick<EventStore, 'add'>,
    private readonly now: () => Date,
    private readonly console?: ConsoleCertificate | undefined,
  ) {}

  async list(refresh = false): Promise<WatchedCertificate[]> {
    const standings = await this.rotation.standings();
    return [
      ...this.#authorities(),
      this.#own(),
      ...this.#consoles(),
      ...standings.map((peer) => this.#peer(peer)),
      ...(await this.observed(refresh)).map((one) => this.#seen(one)),
    ];
  }

  /** Gives the warnings that are due, each once. */
  async warn(): Promise<void> {
    for (const certificate of await this.list()) {
      if (certificate.daysLeft === null || (certificate.state !== 'expiring' && certificate.state !== 'expired')) continue;
      const { daysLeft } = certificate;
      const days = daysLeft < 0 ? 0 : warningDays.filter((threshold) => daysLeft <= threshold).at(-1);
      const key = `${certificate.kind} ${certificate.serialNumber ?? certificate.fingerprint ?? certificate.name}`;
      if (days === undefined || (await this.store.wasWarned(key, days))) continue;
      await this.events.add({
        at: this.now(),
        source: 'host',
        severity: days <= 7 ? 'error' : 'warning',
        code: days === 0 ? 'CERTIFICATE_EXPIRED' : 'CERTIFICATE_EXPIRING',
        message: `The ${title(certificate)} ${days === 0 ? 'ended' : 'ends'} on ${certificate.expiresAt}. ${certificate.note}`,
        references: {
          ...(certificate.id === null ? {} : { identity_id: certificate.id }),
          ...(certificate.platform === null ? {} : { platform: certificate.platform }),
        },
      });
      // Afterwards: rather twice than never.
      await this.store.noteWarning(key, days, this.now().toISOString());
    }
  }

  #authorities(): WatchedCertificate[] {
    return splitPem(this.authority.trustBundlePem).map((pem, index) => {
      const certificate = new X509Certificate(pem);
      const { expiresAt, daysLeft, state } = this.#age(new Date(certificate.validTo), undefined);
      return {
        ...nothing,
        kind: 'ca',
        name: nameOf(certificate.subject),
        fingerprint: fingerprintOf(pem),
        serialNumber: normalSerial(certificate.serialNumber),
        issuer: nameOf(certificate.issuer),
        expiresAt,
        daysLeft,
        state: index > 0 ? 'replacing' : state,
        note:
          index > 0
            ? `Trusted until everybody has the new one, at most until ${this.authority.state.rotation?.overlapEndsAt ?? ''}.`
            : noteOf(state, 'Run "tidemark cert rotate-ca".'),
      };
    });
  }

  #own(): WatchedCertificate {
    const { certificate, renewAt } = this.authority.own;
    const age = this.#age(new Date(certificate.validTo), renewAt);
    return {
      ...nothing,
      kind: 'host',
      name: this.console ? 'server' : 'server and console',
      issuer: nameOf(certificate.issuer),
      serialNumber: normalSerial(certificate.serialNumber),
      ...age,
      note: noteOf(age.state, "It was not renewed; look into the server's log.", renewAt),
    };
  }

  /** One that the administrator brought does not renew itself. */
  #consoles(): WatchedCertificate[] {
    if (!this.console) return [];
    const certificate = new X509Certificate(this.console.certificateChainPem);
    const age = this.#age(new Date(certificate.validTo), undefined);
    return [
      {
        ...nothing,
        kind: 'console',
        name: nameOf(certificate.subject),
        issuer: nameOf(certificate.issuer),
        fingerprint: certificate.fingerprint256.replaceAll(':', '').toLowerCase(),
        serialNumber: normalSerial(certificate.serialNumber),
        ...age,
        note: noteOf(age.state, 'Replace the files that the setting "console" names, and restart the server.'),
      },
    ];
  }

  #peer(peer: PeerStanding): WatchedCertificate {
    const { issued } = peer;
    const base = { ...nothing, kind: peer.role, name: peer.name, id: peer.id, serialNumber: issued?.serialNumber ?? null };
    const gone = `if it is gone for good: tidemark cert revoke ${peer.id}.`;
    const again = `Start it, or enrol it again: tidemark ${peer.role} enrol${peer.role === 'worker' ? '' : ` --again ${peer.id}`}; ${gone}`;
    if (!issued) return { ...base, expiresAt: null, daysLeft: null, state: 'valid', note: '' };
    if (peer.enrolsAtStart && !peer.connected) {
      const { expiresAt, daysLeft } = this.#age(new Date(issued.expiresAt), undefined);
      return { ...base, expiresAt, daysLeft, state: 'valid', note: 'Not running; enrols at its next start.' };
    }
    const [from, to] = [Date.parse(issued.issuedAt), Date.parse(issued.expiresAt)];
    const renewAt = new Date(from + ((to - from) * 2) / 3);
    const age = this.#age(new Date(to), renewAt);
    const replacing = age.state === 'valid' && peer.awaited && peer.reported !== undefined && !peer.confirmed;
    const waiting = peer.connected ? 'It takes over the new one now.' : `Not connected; ${again}`;
    const advice = age.state === 'valid' ? waiting : again;
    return {
      ...base,
      ...age,
      state: replacing ? 'replacing' : age.state,
      note: noteOf(replacing ? 'replacing' : age.state, advice, renewAt),
    };
  }

  #seen(one: ObservedCertificate): WatchedCertificate {
    const age = one.expiresAt ? this.#age(one.expiresAt, undefined) : { expiresAt: null, daysLeft: null, state: 'unreachable' as const };
    const failure = one.failure ? { code: one.failure.code, message: one.failure.message, retry: one.failure.retry } : null;
    const state = failure && age.state === 'valid' ? 'unreachable' : age.state;
    return {
      ...nothing,
      kind: one.kind,
      name: one.name,
      platform: one.platform,
      endpoint: one.endpoint || null,
      issuer: one.issuer || null,
      fingerprint: one.fingerprint || null,
      observedAt: one.observedAt?.toISOString() ?? null,
      ...age,
      state,
      note: failure ? failure.message : noteOf(state, renewalOf(one.kind)),
      failure,
    };
  }

  /** `renewAt`: when it renews itself, where it does. */
  #age(
    end: Date,
    renewAt: Date | undefined,
  ): Pick<WatchedCertificate, 'expiresAt' | 'daysLeft'> & { state: 'valid' | 'expiring' | 'expired' } {
    const now = this.now().getTime();
    const daysLeft = Math.floor((end.getTime() - now) / dayMs);
    const overdue = renewAt && now > renewAt.getTime() + (end.getTime() - renewAt.getTime()) * 3 * overduePart;
    const near = renewAt ? overdue : daysLeft <= warningDays[0];
    return { expiresAt: end.toISOString(), daysLeft, state: now >= end.getTime() ? 'expired' : near ? 'expiring' : 'valid' };
  }
}

/** For people: whose certificate. */
export function title({ kind, name, platform, endpoint }: Pick<WatchedCertificate, 'kind' | 'name' | 'platform' | 'endpoint'>): string {
  const of = platform === null ? '' : ` of platform ${platform}`;
  const where = endpoint === null ? '' : ` (${endpoint})`;
  if (kind === 'ca') return `CA ${name}`;
  return `certificate of ${kind.startsWith('engine') ? `${kind.replace('-', ' ')} ${name}` : kind === 'host' ? name : `${kind} ${name}`}${where}${of}`;
}

function noteOf(state: WatchedCertificate['state'], advice: string, renewAt?: Date): string {
  if (state !== 'valid') return advice;
  return renewAt ? `Renews itself on ${renewAt.toISOString().slice(0, 10)}.` : '';
}

/** Source: oVirt administration guide, "Renewing certificates before they expire". */
function renewalOf(kind: ObservedCertificate['kind']): string {
  if (kind === 'engine-host') return 'In the engine: put the host into maintenance, then Installation > Enroll Certificate.';
  if (kind === 'engine-web') return 'Run "engine-setup --offline" on the engine, or renew its own web certificate.';
  return 'Run "engine-setup --offline" on the engine; it offers to renew certificates.';
}

function nameOf(distinguished: string): string {
  return /(?:^|\n)CN=([^\n]*)/.exec(distinguished)?.[1] ?? distinguished.replaceAll('\n', ', ');
}
