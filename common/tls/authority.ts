/**
 * The installation's certificate authority: ECDSA P-256. The host keeps one; tests make their own. Pure but for randomness and time.
 */
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import net from 'node:net';
import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  Pkcs10CertificateRequest,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  AuthorityKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
  cryptoProvider,
} from '@peculiar/x509';
import { defineErrors } from '../errors/define-errors';
import { identityUri } from '../rpc/peer';
import type { PeerIdentity } from '../rpc/peer';
import { createCertificateRequest } from './certificate-request';
import type { IdentityMaterial } from './identity';

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const dayMs = 86_400_000;
/** Clocks of peers may be behind; a certificate is valid from a little before its making. */
const clockToleranceMs = 5 * 60_000;

export const AuthorityErrors = defineErrors({
  ENROLMENT_REQUEST_INVALID: {
    kind: 'bug',
    retry: 'never',
    status: 'INVALID_ARGUMENT',
    message: (m: { problem: string }) => `The certificate request cannot be signed: ${m.problem}.`,
  },
});

export interface Authority {
  readonly certificatePem: string;
  /** PEM, PKCS#8. */
  readonly privateKeyPem: string;
  /**
   * While it takes the place of an older CA: its key and name, signed by that one. Sent along with each certificate it issues, so that a
   * peer which knows only the older CA can still verify it; see {@link crossSign}.
   */
  readonly crossCertificatePem?: string | undefined;
}

/** A new CA, valid for ten years unless told. */
export async function createAuthority(commonName: string, lifetimeMs = 3650 * dayMs, now = new Date()): Promise<Authority> {
  cryptoProvider.set(webcrypto as never);
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: serial(),
    name: [{ CN: [commonName] }, { O: ['Tidemark'] }],
    notBefore: new Date(now.getTime() - clockToleranceMs),
    notAfter: new Date(now.getTime() + lifetimeMs),
    signingAlgorithm: algorithm,
    keys: keys as never,
    extensions: [
      // One CA below it: the next one, during a rotation.
      new BasicConstraintsExtension(true, 1, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return {
    certificatePem: certificate.toString('pem'),
    privateKeyPem: pem('PRIVATE KEY', await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)),
  };
}

/**
 * A certificate for the newer CA's key and name, signed by the older CA: the bridge for peers that trust only the older one. Ends with the
 * older CA.
 */
export async function crossSign(older: Authority, newer: Authority, now = new Date()): Promise<string> {
  cryptoProvider.set(webcrypto as never);
  const subject = new X509Certificate(newer.certificatePem);
  const issuer = new X509Certificate(older.certificatePem);
  const certificate = await X509CertificateGenerator.create({
    serialNumber: serial(),
    subject: subject.subject,
    issuer: issuer.subject,
    notBefore: new Date(now.getTime() - clockToleranceMs),
    notAfter: issuer.notAfter,
    signingAlgorithm: algorithm,
    publicKey: subject.publicKey,
    signingKey: await importKey(older.privateKeyPem),
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(subject.publicKey),
      await AuthorityKeyIdentifierExtension.create(issuer.publicKey as never),
    ],
  });
  return `${certificate.toString('pem')}\n`;
}

/**
 * Signs a request for an identity; subject and names of the request are ignored. Returns the chain, leaf first, then the CA or its
 * cross-certificate.
 * Throws ENROLMENT_REQUEST_INVALID.
 */
export async function issueCertificate(
  authority: Authority,
  request: {
    readonly certificateRequestPem: string;
    readonly identity: PeerIdentity;
    readonly addresses: readonly string[];
    readonly lifetimeMs: number;
    readonly now?: Date;
  },
): Promise<string> {
  cryptoProvider.set(webcrypto as never);
  let parsed: Pkcs10CertificateRequest;
  try {
    parsed = new Pkcs10CertificateRequest(request.certificateRequestPem);
    if (!(await parsed.verify())) throw new TypeError('its signature is wrong');
  } catch (cause) {
    throw AuthorityErrors.ENROLMENT_REQUEST_INVALID({ problem: 'it is not a self-signed PKCS#10 request' }, { cause });
  }
  const keyAlgorithm = parsed.publicKey.algorithm as { name: string; namedCurve?: string };
  if (keyAlgorithm.name !== 'ECDSA' || keyAlgorithm.namedCurve !== 'P-256') {
    throw AuthorityErrors.ENROLMENT_REQUEST_INVALID({ problem: 'its key is not ECDSA P-256' });
  }
  const issuer = new X509Certificate(authority.certificatePem);
  const now = request.now ?? new Date();
  const certificate = await X509CertificateGenerator.create({
    serialNumber: serial(),
    subject: [{ CN: [`tidemark ${request.identity.role} ${request.identity.id}`] }],
    issuer: issuer.subject,
    notBefore: new Date(now.getTime() - clockToleranceMs),
    notAfter: new Date(Math.min(now.getTime() + request.lifetimeMs, issuer.notAfter.getTime())),
    signingAlgorithm: algorithm,
    publicKey: parsed.publicKey,
    signingKey: await importKey(authority.privateKeyPem),
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
      new SubjectAlternativeNameExtension([
        { type: 'url', value: identityUri(request.identity) },
        ...[...new Set(request.addresses)].map((name) => ({ type: net.isIP(name) ? ('ip' as const) : ('dns' as const), value: name })),
      ]),
      await AuthorityKeyIdentifierExtension.create(issuer.publicKey as never),
    ],
  });
  return `${certificate.toString('pem')}\n${(authority.crossCertificatePem ?? authority.certificatePem).trimEnd()}\n`;
}

/** Key, certificate and trust for an identity, all made here: for the host itself, and for tests. */
export async function issueIdentity(
  authority: Authority,
  identity: PeerIdentity,
  addresses: readonly string[],
  lifetimeMs = 90 * dayMs,
): Promise<IdentityMaterial> {
  const { privateKeyPem, certificateRequestPem } = await createCertificateRequest();
  const certificateChainPem = await issueCertificate(authority, { certificateRequestPem, identity, addresses, lifetimeMs });
  return { certificateChainPem, privateKeyPem, trustBundlePem: `${authority.certificatePem}\n` };
}

function serial(): string {
  return Buffer.from(webcrypto.getRandomValues(new Uint8Array(16))).toString('hex');
}

function importKey(privateKeyPem: string): Promise<never> {
  const der = Buffer.from(privateKeyPem.replace(/-----[^-]+-----/g, ''), 'base64');
  return webcrypto.subtle.importKey('pkcs8', der, algorithm, false, ['sign']) as Promise<never>;
}

function pem(label: string, der: ArrayBuffer): string {
  const body = Buffer.from(der).toString('base64').replace(/.{64}/g, '$&\n').trimEnd();
  return `-----BEGIN ${label}-----\n${body}\n-----END ${label}-----\n`;
}
