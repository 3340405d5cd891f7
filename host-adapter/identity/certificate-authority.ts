/**
 * Identity of everything in the installation: the CA made at the first start, certificates of processes, one-time tokens, users and
 * logins, and the key that signs data tickets. Knows nothing of gRPC or HTTP. Lifetimes: product defaults §10.
 */
import { createHmac, createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { CommonErrors } from '../../common/errors/common-errors';
import type { PeerIdentity, Role } from '../../common/rpc/peer';
import { createAuthority, issueCertificate, issueIdentity } from '../../common/tls/authority';
import type { Authority } from '../../common/tls/authority';
import { durableWrite } from '../../common/tls/durable-write';
import { ProcessIdentity } from '../../common/tls/identity';
import { fingerprintOf } from '../../common/tls/token';

const dayMs = 86_400_000;
const lifetimesMs: Readonly<Record<Role, number>> = { host: 90 * dayMs, plugin: 90 * dayMs, mover: 90 * dayMs, worker: 7 * dayMs };

/** The installation's CA and the host's own certificate, kept under `<dataDirectory>/identity`. */
export class CertificateAuthority {
  private constructor(
    private readonly authority: Authority,
    /** The host's own. */
    readonly own: ProcessIdentity,
    private readonly ticketKey: KeyObject,
    private readonly ownAddresses: readonly string[],
    private readonly installationId: string,
  ) {}

  /** Opens what is there, or makes it. Also writes `ca.pem` into the data folder, for people and command lines. */
  static async open(dataDirectory: string, installationId: string, addresses: readonly string[]): Promise<CertificateAuthority> {
    const folder = path.join(dataDirectory, 'identity');
    const file = path.join(folder, 'authority.json');
    let authority = readAuthority(file);
    if (!authority) {
      authority = await createAuthority('Tidemark CA');
      durableWrite(file, JSON.stringify(authority), 0o600);
    }
    durableWrite(path.join(dataDirectory, 'ca.pem'), `${authority.certificatePem}\n`, 0o644);
    let own = ProcessIdentity.load(folder);
    const names = own?.certificate.subjectAltName ?? '';
    if (!own || own.renewAt.getTime() < Date.now() || !addresses.every((address) => names.includes(address))) {
      own = ProcessIdentity.store(folder, await issueIdentity(authority, { role: 'host', id: installationId }, addresses));
    }
    const ticketFile = path.join(folder, 'ticket-key.pem');
    if (!fs.existsSync(ticketFile)) {
      const made = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
      durableWrite(ticketFile, made.export({ type: 'pkcs8', format: 'pem' }), 0o600);
    }
    const ticketKey = createPrivateKey(fs.readFileSync(ticketFile));
    return new CertificateAuthority(authority, own, ticketKey, addresses, installationId);
  }

  get certificatePem(): string {
    return this.authority.certificatePem;
  }

  get trustBundlePem(): string {
    return `${this.authority.certificatePem}\n`;
  }

  /** SHA-256 of the CA certificate, lower-case hex. */
  get fingerprint(): string {
    return fingerprintOf(this.authority.certificatePem);
  }

  /** Signs data tickets. */
  get ticketSigningKey(): KeyObject {
    return this.ticketKey;
  }

  /** What movers verify tickets with. */
  get ticketPublicKeysPem(): string[] {
    return [createPublicKey(this.ticketKey).export({ type: 'spki', format: 'pem' }).toString()];
  }

  /** A token that depends on the CA's key and a text alone: asked again, it is the same. */
  deriveToken(text: string): string {
    const secret = createHmac('sha256', this.authority.privateKeyPem).update(`enrolment token ${text}`).digest('base64url');
    return `tmk1.${secret}.${Buffer.from(this.fingerprint, 'hex').toString('base64url')}`;
  }

  /** A certificate chain for a request. Throws ENROLMENT_REQUEST_INVALID. */
  issue(identity: PeerIdentity, certificateRequestPem: string, addresses: readonly string[]): Promise<string> {
    return issueCertificate(this.authority, { certificateRequestPem, identity, addresses, lifetimeMs: lifetimesMs[identity.role] });
  }

  /** Renews the host's own certificate when two thirds of its life are over; servers follow without a restart. */
  async renewOwn(now: Date): Promise<boolean> {
    if (now < this.own.renewAt) return false;
    this.own.replace(await issueIdentity(this.authority, { role: 'host', id: this.installationId }, this.ownAddresses));
    return true;
  }
}

function readAuthority(file: string): Authority | undefined {
  if (!fs.existsSync(file)) return undefined;
  try {
    const found = JSON.parse(fs.readFileSync(file, 'utf8')) as Authority;
    fingerprintOf(found.certificatePem);
    createPrivateKey(found.privateKeyPem);
    return found;
  } catch (cause) {
    throw CommonErrors.CONFIGURATION_INVALID({ problems: `${file} is damaged; restore it from a copy` }, { cause });
  }
}
