/**
 * Identity of everything in the installation: the CA made at the first start, certificates of processes, one-time tokens, users and
 * logins, and the key that signs data tickets. Knows nothing of gRPC or HTTP. Lifetimes: product defaults §10.
 */
import { createHmac, createPrivateKey, createPublicKey } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import path from 'node:path';
import { SerialQueue } from '../../common/flow/serial-queue';
import type { PeerIdentity, Role } from '../../common/rpc/peer';
import { issueCertificate, issueIdentity } from '../../common/tls/authority';
import { durableWrite } from '../../common/tls/durable-write';
import { ProcessIdentity } from '../../common/tls/identity';
import { fingerprintOf } from '../../common/tls/token';
import { splitPem, trustStateOf } from '../../common/tls/trust-state';
import { HostErrors } from '../errors/host-errors';
import {
  begin,
  dropRetiredKeys,
  finish,
  newAuthorityState,
  readAuthorityState,
  useNewTicketKey,
  writeAuthorityState,
} from './authority-file';
import type { AuthorityState } from './authority-file';

const dayMs = 86_400_000;
const lifetimesMs: Readonly<Record<Role, number>> = { host: 90 * dayMs, plugin: 90 * dayMs, mover: 90 * dayMs, worker: 7 * dayMs };

/** The installation's CA and the host's own certificate, kept under `<dataDirectory>/identity`. */
export class CertificateAuthority {
  #state: AuthorityState;
  #ticketKey: { pem: string; key: KeyObject } | undefined;
  /** What takes more than one step is done one after the other: each goes from the state that it found. */
  readonly #turn = new SerialQueue();
  /** The state that the host's own certificate and trust were made from. */
  #followed: AuthorityState | undefined;

  private constructor(
    private readonly dataDirectory: string,
    state: AuthorityState,
    /** The host's own. */
    readonly own: ProcessIdentity,
    private readonly ownAddresses: readonly string[],
    private readonly installationId: string,
  ) {
    this.#state = state;
  }

  /** Opens what is there, or makes it, and goes on with a rotation where a kill left it. */
  static async open(dataDirectory: string, installationId: string, addresses: readonly string[]): Promise<CertificateAuthority> {
    const folder = path.join(dataDirectory, 'identity');
    const file = authorityFile(dataDirectory);
    let state = readAuthorityState(file);
    if (!state) {
      state = await newAuthorityState();
      writeAuthorityState(file, state);
    }
    const own = ProcessIdentity.load(folder) ?? ProcessIdentity.store(folder, await issueOwn(state, installationId, addresses));
    const authority = new CertificateAuthority(dataDirectory, state, own, addresses, installationId);
    await authority.catchUp();
    return authority;
  }

  get state(): Pick<AuthorityState, 'rotation' | 'finished' | 'leavesSince'> {
    return this.#state;
  }

  /** The CA that issues, PEM. */
  get certificatePem(): string {
    return this.#state.issuing.certificatePem;
  }

  /** Every CA to trust, the issuing one first. */
  get trustBundlePem(): string {
    return bundleOf(this.#state);
  }

  /** SHA-256 of the issuing CA's certificate, lower-case hex. */
  get fingerprint(): string {
    return fingerprintOf(this.certificatePem);
  }

  /** The same of every CA to trust, the issuing one first. */
  get trustedFingerprints(): string[] {
    return splitPem(this.trustBundlePem).map(fingerprintOf);
  }

  /**
   * The CA that a token pins for whoever enrols at a process which shows certificates of `issuerFingerprint`. While that is not known it is the
   * oldest: the newer one's certificates can be verified from there too.
   */
  pinFor(issuerFingerprint: string | undefined): string {
    const trusted = splitPem(this.trustBundlePem);
    return trusted.find((pem) => fingerprintOf(pem) === issuerFingerprint) ?? trusted.at(-1) ?? this.certificatePem;
  }

  /** Signs data tickets; changes in a rotation. */
  get ticketSigningKey(): KeyObject {
    const pem = this.#state.ticketKeys[0]?.privateKeyPem ?? '';
    if (this.#ticketKey?.pem !== pem) this.#ticketKey = { pem, key: createPrivateKey(pem) };
    return this.#ticketKey.key;
  }

  /** What movers verify tickets with. */
  get ticketPublicKeysPem(): string[] {
    return this.#state.ticketKeys.map((key) => createPublicKey(key.privateKeyPem).export({ type: 'spki', format: 'pem' }).toString());
  }

  /** The secret part of a token, depending on the CA's key and a text alone: asked again, it is the same. */
  deriveSecret(text: string): string {
    return createHmac('sha256', this.#state.issuing.privateKeyPem).update(`enrolment token ${text}`).digest('base64url');
  }

  /** A certificate chain for a request. Throws ENROLMENT_REQUEST_INVALID. */
  issue(identity: PeerIdentity, certificateRequestPem: string, addresses: readonly string[]): Promise<string> {
    return issueCertificate(this.#state.issuing, { certificateRequestPem, identity, addresses, lifetimeMs: lifetimesMs[identity.role] });
  }

  /** Renews the host's own certificate when two thirds of its life are over; servers follow without a restart. */
  renewOwn(now: Date): Promise<boolean> {
    return this.#turn.run(async () => {
      if (now < this.own.renewAt) return false;
      await this.#issueOwn();
      return true;
    });
  }

  /** Goes on with what a step could not do to its end, as on a full disk: without, nobody who has the new CA would be let in. */
  catchUp(): Promise<void> {
    return this.#turn.run(async () => {
      if (this.#followed !== this.#state) await this.#follow();
    });
  }

  /** Every certificate issued before now is to be replaced; the host's own at once. */
  rotateLeaves(now: Date): Promise<void> {
    return this.#turn.run(async () => {
      this.#write({ ...this.#state, leavesSince: now.toISOString() });
      await this.#issueOwn();
    });
  }

  /** Throws CA_ROTATION_RUNNING. */
  mustNotRotate(): void {
    const { rotation } = this.#state;
    if (rotation) throw HostErrors.CA_ROTATION_RUNNING({ startedAt: rotation.startedAt, overlapEndsAt: rotation.overlapEndsAt });
  }

  /** A new CA beside the old one. Throws CA_ROTATION_RUNNING. */
  rotate(now: Date, overlapMs: number): Promise<void> {
    return this.#turn.run(async () => {
      this.mustNotRotate();
      for (let before: AuthorityState | undefined; before !== this.#state;) {
        before = this.#state;
        const next = await begin(before, now, overlapMs);
        // Keys of tickets come and go meanwhile.
        if (before === this.#state) this.#write((before = next));
      }
      await this.#follow();
    });
  }

  /** Trusts the older CA no more. Idempotent. */
  finishRotation(now: Date, missing: readonly { id: string; name: string }[]): Promise<void> {
    return this.#turn.run(async () => {
      this.#write(finish(this.#state, now, missing));
      await this.#follow();
    });
  }

  /** Every connected mover has the new ticket key. True when it signs from now on. */
  useNewTicketKey(now: Date): boolean {
    const before = this.#state;
    this.#write(useNewTicketKey(this.#state, now));
    return this.#state !== before;
  }

  dropRetiredKeys(now: Date): void {
    this.#write(dropRetiredKeys(this.#state, now));
  }

  #write(state: AuthorityState): void {
    if (state === this.#state) return;
    writeAuthorityState(authorityFile(this.dataDirectory), state);
    this.#state = state;
  }

  /** Makes the host's own certificate, its trust, and `ca.pem` (for people and command lines) what the CA's state says. */
  async #follow(): Promise<void> {
    const state = this.#state;
    await this.#followNow();
    this.#followed = state;
  }

  async #followNow(): Promise<void> {
    durableWrite(path.join(this.dataDirectory, 'ca.pem'), this.trustBundlePem, 0o644);
    const { issuerFingerprint } = trustStateOf(this.own);
    const names = this.own.certificate.subjectAltName ?? '';
    const { leavesSince } = this.#state;
    const outdated =
      issuerFingerprint !== this.fingerprint ||
      this.own.renewAt.getTime() < Date.now() ||
      // Valid from five minutes before its making, hence the earlier of the two is enough to see that it was made before.
      (leavesSince !== undefined && Date.parse(this.own.certificate.validFrom) + 5 * 60_000 < Date.parse(leavesSince) - 1_000) ||
      !this.ownAddresses.every((address) => names.includes(address));
    if (outdated) return this.#issueOwn();
    const [leaf = ''] = splitPem(this.own.material.certificateChainPem);
    const certificateChainPem = `${leaf}${(this.#state.issuing.crossCertificatePem ?? this.certificatePem).trimEnd()}\n`;
    const wanted = { ...this.own.material, certificateChainPem, trustBundlePem: this.trustBundlePem };
    if (JSON.stringify(wanted) !== JSON.stringify(this.own.material)) this.own.replace(wanted);
  }

  async #issueOwn(): Promise<void> {
    this.own.replace(await issueOwn(this.#state, this.installationId, this.ownAddresses));
  }
}

function authorityFile(dataDirectory: string): string {
  return path.join(dataDirectory, 'identity', 'authority.json');
}

function bundleOf(state: AuthorityState): string {
  return [state.issuing.certificatePem, ...state.older].map((pem) => `${pem.trimEnd()}\n`).join('');
}

async function issueOwn(state: AuthorityState, installationId: string, addresses: readonly string[]) {
  const material = await issueIdentity(state.issuing, { role: 'host', id: installationId }, addresses);
  return { ...material, trustBundlePem: bundleOf(state) };
}
