/**
 * A process's certificate, key and the CAs it trusts, kept in its data folder and replaceable without a restart: gRPC servers and
 * clients, and the TLS contexts made from it, follow {@link ProcessIdentity.replace}.
 */
import { X509Certificate, createPrivateKey } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import type { experimental } from '@grpc/grpc-js';
import { CommonErrors } from '../errors/common-errors';
import { durableWrite } from './durable-write';
import { peerIdentity } from '../rpc/peer';
import type { PeerIdentity } from '../rpc/peer';

export interface IdentityMaterial {
  /** PEM, leaf first, then the issuing CA, or during a rotation its cross-certificate. */
  readonly certificateChainPem: string;
  /** PEM, PKCS#8. */
  readonly privateKeyPem: string;
  /** PEM of every CA to trust now. */
  readonly trustBundlePem: string;
}

type CertificateProvider = Parameters<typeof experimental.createCertificateProviderServerCredentials>[0];
type CaListener = Parameters<CertificateProvider['addCaCertificateListener']>[0];
type IdentityListener = Parameters<CertificateProvider['addIdentityCertificateListener']>[0];

const fileName = 'identity.json';

export class ProcessIdentity implements CertificateProvider {
  #material: IdentityMaterial;
  #generation = 0;
  readonly #caListeners = new Set<CaListener>();
  readonly #identityListeners = new Set<IdentityListener>();
  readonly #listeners = new Set<() => void>();

  constructor(
    material: IdentityMaterial,
    private readonly folder: string | undefined,
  ) {
    this.#material = material;
  }

  /** The stored identity, or undefined before enrolment. Throws CONFIGURATION_INVALID when the file is damaged. */
  static load(folder: string): ProcessIdentity | undefined {
    const file = path.join(folder, fileName);
    let text: string;
    try {
      text = fs.readFileSync(file, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw CommonErrors.CONFIGURATION_INVALID({ problems: `${file} cannot be read` }, { cause: error });
    }
    try {
      const material = JSON.parse(text) as IdentityMaterial;
      new X509Certificate(material.certificateChainPem);
      createPrivateKey(material.privateKeyPem);
      return new ProcessIdentity(material, folder);
    } catch (error) {
      throw CommonErrors.CONFIGURATION_INVALID({ problems: `${file} is damaged; remove it and enrol again` }, { cause: error });
    }
  }

  /** Stores new material and makes it current. */
  static store(folder: string, material: IdentityMaterial): ProcessIdentity {
    durableWrite(path.join(folder, fileName), JSON.stringify(material), 0o600);
    return new ProcessIdentity(material, folder);
  }

  get material(): IdentityMaterial {
    return this.#material;
  }

  get certificate(): X509Certificate {
    return new X509Certificate(this.#material.certificateChainPem);
  }

  /** Role and id that the own certificate carries. */
  get self(): PeerIdentity {
    const found = peerIdentity({ subjectaltname: this.certificate.subjectAltName ?? '' });
    if (!found) throw CommonErrors.CONFIGURATION_INVALID({ problems: 'the certificate carries no Tidemark identity; enrol again' });
    return found;
  }

  /** When two thirds of the certificate's life are over. */
  get renewAt(): Date {
    const { validFrom, validTo } = this.certificate;
    const from = Date.parse(validFrom);
    return new Date(from + ((Date.parse(validTo) - from) * 2) / 3);
  }

  /** How often the material was replaced in this process. */
  get generation(): number {
    return this.#generation;
  }

  /** New certificate or trust; stored first, then used for new connections. Who follows with {@link onReplaced} drains the running ones. */
  replace(material: IdentityMaterial): void {
    if (this.folder !== undefined) durableWrite(path.join(this.folder, fileName), JSON.stringify(material), 0o600);
    this.#material = material;
    this.#generation += 1;
    for (const listener of this.#caListeners) listener(this.#caUpdate());
    for (const listener of this.#identityListeners) listener(this.#identityUpdate());
    for (const listener of this.#listeners) listener();
  }

  /** Called after each {@link replace}; returns the way to stop. */
  onReplaced(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  addCaCertificateListener(listener: CaListener): void {
    this.#caListeners.add(listener);
    process.nextTick(listener, this.#caUpdate());
  }

  removeCaCertificateListener(listener: CaListener): void {
    this.#caListeners.delete(listener);
  }

  addIdentityCertificateListener(listener: IdentityListener): void {
    this.#identityListeners.add(listener);
    process.nextTick(listener, this.#identityUpdate());
  }

  removeIdentityCertificateListener(listener: IdentityListener): void {
    this.#identityListeners.delete(listener);
  }

  #caUpdate() {
    return { caCertificate: Buffer.from(this.#material.trustBundlePem) };
  }

  #identityUpdate() {
    return { certificate: Buffer.from(this.#material.certificateChainPem), privateKey: Buffer.from(this.#material.privateKeyPem) };
  }
}
