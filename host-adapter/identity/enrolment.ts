import { X509Certificate, createHash, randomUUID } from 'node:crypto';
import { CommonErrors } from '../../common/errors/common-errors';
import { createToken, fingerprintOf } from '../../common/tls/token';
import { issuerIn, normalSerial } from '../../common/tls/trust-state';
import type { CertificateStore } from '../catalogue/certificate-store';
import type { IdentityStore } from '../catalogue/identity-store';
import { HostErrors } from '../errors/host-errors';
import type { CertificateAuthority } from './certificate-authority';
import type { Throttle } from './throttle';

export type EnrolledRole = 'plugin' | 'mover' | 'worker';

export interface Application {
  readonly token: string;
  readonly certificateRequestPem: string;
  readonly addresses: readonly string[];
  readonly instanceId: string;
  readonly hostName: string;
  readonly version: string;
}

export const defaultTokenLifetimeMs = 10 * 60_000;
const maxAddresses = 64;

/** One-time tokens and what they buy. A token is kept as a hash, works once, and answers the same request again until it expires. */
export class Enrolment {
  constructor(
    private readonly authority: CertificateAuthority,
    private readonly store: IdentityStore,
    private readonly throttle: Throttle,
    private readonly now: () => Date,
    private readonly certificates: CertificateStore,
  ) {}

  /** A new token; with an id, for an identity that is there already and enrols anew. Throws IDENTITY_REVOKED. */
  async createToken(
    role: EnrolledRole,
    lifetimeMs = defaultTokenLifetimeMs,
    subjectId?: string,
  ): Promise<{ token: string; subjectId: string; expiresAt: Date }> {
    const known = subjectId === undefined ? undefined : await this.store.identity(subjectId);
    if (subjectId !== undefined && (known?.role !== role || known.revokedAt !== null)) {
      throw CommonErrors.IDENTITY_REVOKED({ id: subjectId });
    }
    // A worker enrols at a plug-in, of which is not known yet whether it has a new CA.
    const pin = role === 'worker' ? this.authority.pinFor(undefined) : this.authority.certificatePem;
    return this.#addToken(createToken(pin), role, subjectId ?? randomUUID(), lifetimeMs, null);
  }

  /**
   * A token for a worker that a plug-in is about to start. The same request of the same plug-in gives the same token again (it is derived,
   * since only its hash is kept). `workerId` is the plug-in's choice; a worker that enrolled through it before may enrol anew. Throws
   * IDENTITY_REVOKED when the id is another's, or was removed.
   */
  async createWorkerToken(
    pluginId: string,
    request: { readonly requestId: string; readonly workerId: string | undefined; readonly lifetimeMs: number },
  ): Promise<{ token: string; subjectId: string; expiresAt: Date }> {
    const requestId = `${pluginId}/${request.requestId}`;
    const pin = this.authority.pinFor((await this.certificates.trustOf(pluginId))?.issuerFingerprint);
    const token = createToken(pin, this.authority.deriveSecret(requestId));
    const known = await this.store.tokenByHash(hash(token));
    if (known) return { token, subjectId: known.subjectId, expiresAt: new Date(known.expiresAt) };
    if (request.workerId !== undefined) await this.#mustBelong(request.workerId, pluginId);
    // Of a CA that was replaced since: nobody can use it any more.
    await this.store.removeTokenOfRequest(requestId);
    return this.#addToken(token, 'worker', request.workerId ?? randomUUID(), request.lifetimeMs, requestId);
  }

  /** A worker is gone for good. Fine for unknown ids. Throws IDENTITY_REVOKED when it is not this plug-in's. */
  async revokeWorker(workerId: string, pluginId: string): Promise<void> {
    const known = await this.store.identity(workerId);
    if (known && (known.role !== 'worker' || known.enrolledThrough !== pluginId)) throw CommonErrors.IDENTITY_REVOKED({ id: workerId });
    await this.store.revoke(workerId, this.now().toISOString());
  }

  /** True for one that enrolled through this plug-in and was not removed. */
  async isWorkerOf(workerId: string, pluginId: string): Promise<boolean> {
    const known = await this.store.identity(workerId);
    return known?.role === 'worker' && known.enrolledThrough === pluginId && known.revokedAt === null;
  }

  /** Throws IDENTITY_REVOKED for who was removed, whatever its certificate says. */
  async mustBeKnown(id: string): Promise<void> {
    const known = await this.store.identity(id);
    if (!known || known.revokedAt !== null) throw CommonErrors.IDENTITY_REVOKED({ id });
  }

  async #record(subjectId: string, role: EnrolledRole, certificateChainPem: string): Promise<void> {
    const certificate = new X509Certificate(certificateChainPem);
    const issuer = issuerIn(this.authority.trustBundlePem, certificate);
    await this.certificates.addIssued({
      serialNumber: normalSerial(certificate.serialNumber),
      subjectId,
      role,
      issuerFingerprint: issuer === undefined ? '' : fingerprintOf(issuer),
      issuedAt: this.now().toISOString(),
      expiresAt: new Date(certificate.validTo).toISOString(),
    });
  }

  /** A process is gone for good, or must not be trusted any more. Throws IDENTITY_UNKNOWN. */
  async revoke(id: string): Promise<void> {
    if (!(await this.store.identity(id))) throw HostErrors.IDENTITY_UNKNOWN({ id });
    await this.store.revoke(id, this.now().toISOString());
  }

  async #mustBelong(workerId: string, pluginId: string): Promise<void> {
    const known = await this.store.identity(workerId);
    if (known && (known.role !== 'worker' || known.enrolledThrough !== pluginId || known.revokedAt !== null)) {
      throw CommonErrors.IDENTITY_REVOKED({ id: workerId });
    }
  }

  async #addToken(token: string, role: EnrolledRole, subjectId: string, lifetimeMs: number, requestId: string | null) {
    const now = this.now();
    const expiresAt = new Date(now.getTime() + lifetimeMs);
    await this.store.removeExpiredTokens(new Date(now.getTime() - 86_400_000).toISOString());
    await this.store.addToken({
      tokenHash: hash(token),
      role,
      subjectId,
      requestId,
      createdAt: now.toISOString(),
      expiresAt: expiresAt.toISOString(),
      usedByRequest: null,
      certificateChainPem: null,
    });
    return { token, subjectId, expiresAt };
  }

  /**
   * Trades a token for a certificate. `through` is the plug-in that passed a worker's application on.
   * Throws ENROLMENT_TOKEN_INVALID, ENROLMENT_REQUEST_INVALID, ENROLMENT_THROTTLED.
   */
  async enrol(
    application: Application,
    roles: readonly EnrolledRole[],
    caller: { readonly remoteAddress: string; readonly through?: string },
  ): Promise<{ subjectId: string; certificateChainPem: string; trustBundlePem: string }> {
    const now = this.now();
    const address = caller.remoteAddress.replace(/:\d+$/, '');
    if (!this.throttle.allow(address, now.getTime())) throw HostErrors.ENROLMENT_THROTTLED({}, { retryDelayMs: 60_000 });
    const tokenHash = hash(application.token.trim());
    const requestHash = hash(application.certificateRequestPem);
    const found = await this.store.tokenByHash(tokenHash);
    if (!found) throw CommonErrors.ENROLMENT_TOKEN_INVALID({ why: 'unknown' });
    if (found.expiresAt <= now.toISOString()) throw CommonErrors.ENROLMENT_TOKEN_INVALID({ why: 'expired' });
    const role = roles.find((one) => one === found.role);
    if (!role) throw CommonErrors.ENROLMENT_TOKEN_INVALID({ why: `made for a ${found.role}` });
    const trustBundlePem = this.authority.trustBundlePem;
    if (found.usedByRequest === requestHash && found.certificateChainPem !== null) {
      return { subjectId: found.subjectId, certificateChainPem: found.certificateChainPem, trustBundlePem };
    }
    if (found.usedByRequest !== null) throw CommonErrors.ENROLMENT_TOKEN_INVALID({ why: 'used already' });
    const known = await this.store.identity(found.subjectId);
    if (known && (known.revokedAt !== null || known.enrolledThrough !== (caller.through ?? null))) {
      throw CommonErrors.ENROLMENT_TOKEN_INVALID({ why: 'its identity was removed' });
    }
    const addresses = checkAddresses(application.addresses);
    const certificateChainPem = await this.authority.issue({ role, id: found.subjectId }, application.certificateRequestPem, addresses);
    const used = await this.store.useToken(tokenHash, requestHash, certificateChainPem, {
      id: found.subjectId,
      role,
      enrolledThrough: caller.through ?? null,
      instanceId: application.instanceId,
      hostName: application.hostName,
      version: application.version,
      addressesJson: JSON.stringify(addresses),
      enrolledAt: now.toISOString(),
      enabled: 0,
      revokedAt: null,
      enrolsAtStart: found.requestId === null ? 0 : 1,
    });
    if (!used) throw CommonErrors.ENROLMENT_TOKEN_INVALID({ why: 'used already' });
    this.throttle.forget(address);
    await this.#record(found.subjectId, role, certificateChainPem);
    return { subjectId: found.subjectId, certificateChainPem, trustBundlePem };
  }

  /** A new certificate for a known identity. Throws IDENTITY_REVOKED, ENROLMENT_REQUEST_INVALID. */
  async renew(
    identity: { readonly role: EnrolledRole; readonly id: string },
    certificateRequestPem: string,
    addresses: readonly string[] | undefined,
    through?: string,
  ): Promise<{ certificateChainPem: string; trustBundlePem: string }> {
    const known = await this.store.identity(identity.id);
    const strange = through !== undefined && known?.enrolledThrough !== through;
    if (!known || known.revokedAt !== null || known.role !== identity.role || strange) {
      throw CommonErrors.IDENTITY_REVOKED({ id: identity.id });
    }
    const names = addresses && addresses.length > 0 ? checkAddresses(addresses) : (JSON.parse(known.addressesJson) as string[]);
    const certificateChainPem = await this.authority.issue(identity, certificateRequestPem, names);
    await this.#record(identity.id, identity.role, certificateChainPem);
    return { certificateChainPem, trustBundlePem: this.authority.trustBundlePem };
  }
}

/** Names that go into a certificate: host names and addresses, nothing else. Throws ARGUMENT_INVALID. */
function checkAddresses(addresses: readonly string[]): string[] {
  if (addresses.length > maxAddresses) throw CommonErrors.ARGUMENT_INVALID({ field: 'addresses', problem: `more than ${maxAddresses}` });
  for (const address of addresses) {
    if (!/^[0-9A-Za-z.:_-]{1,253}$/.test(address)) {
      throw CommonErrors.ARGUMENT_INVALID({ field: 'addresses', problem: 'not a host name or address' });
    }
  }
  return [...addresses];
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
