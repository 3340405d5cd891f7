/**
 * What a process trusts and shows, as it tells the host with each heartbeat, and what the host's answer asks of it. A CA is known by the
 * SHA-256 of its certificate. Pure but for reading the identity.
 */
import { X509Certificate } from 'node:crypto';
import { timestampToWire } from '../rpc/bytes';
import type { TrustOrder } from '../../proto/gen/tidemark/common/v1/TrustOrder';
import type { TrustState } from '../../proto/gen/tidemark/common/v1/TrustState';
import type { ProcessIdentity } from './identity';
import { fingerprintOf } from './token';

/** The certificates of a PEM file, in its order. */
export function splitPem(pem: string): string[] {
  return (pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []).map((one) => `${one}\n`);
}

/** True when a PEM file names CAs, and nothing but CAs. */
export function isAuthorityBundle(pem: string): boolean {
  const certificates = splitPem(pem);
  try {
    return certificates.length > 0 && certificates.every((one) => new X509Certificate(one).ca);
  } catch {
    return false;
  }
}

/** SHA-256 of each certificate of a PEM file, lower-case hex, in its order. */
export function fingerprintsOf(pem: string): string[] {
  return splitPem(pem).map(fingerprintOf);
}

/** True when both name the same CAs, in whatever order. */
export function sameAuthorities(some: readonly string[], others: readonly string[]): boolean {
  return new Set(some).size === new Set(others).size && some.every((one) => others.includes(one));
}

/** The CA of a bundle whose key signed a certificate; undefined when none did. */
export function issuerIn(bundlePem: string, certificate: X509Certificate): string | undefined {
  return splitPem(bundlePem).find((pem) => certificate.verify(new X509Certificate(pem).publicKey));
}

/** For the heartbeat. */
export function trustStateOf(identity: ProcessIdentity): TrustState & { serialNumber: string } {
  const { certificate, material } = identity;
  const issuer = issuerIn(material.trustBundlePem, certificate);
  return {
    trustedCaFingerprints: fingerprintsOf(material.trustBundlePem),
    issuerFingerprint: issuer === undefined ? '' : fingerprintOf(issuer),
    serialNumber: normalSerial(certificate.serialNumber),
    expiresAt: timestampToWire(new Date(certificate.validTo)),
  };
}

/** Serial numbers as we compare them: lower-case hex, without leading zeros. */
export function normalSerial(serialNumber: string): string {
  return serialNumber.toLowerCase().replace(/^0+(?=.)/, '');
}

/** What is to be done to obey an order; both false when nothing is. */
export interface TrustTask {
  readonly bundle: boolean;
  readonly certificate: boolean;
}

/**
 * Compares an order with what the process has now. `reportedSerial` is the certificate that the host knew of when it gave the order: an
 * order to renew one that was replaced meanwhile is done already.
 */
export function taskOf(
  order: Pick<TrustOrder, 'renewCertificate'> & { readonly trustedCaFingerprints?: readonly string[] },
  identity: ProcessIdentity,
  reportedSerial: string,
): TrustTask {
  const now = trustStateOf(identity);
  const wanted = order.trustedCaFingerprints ?? [];
  return {
    bundle: wanted.length > 0 && !sameAuthorities(wanted, now.trustedCaFingerprints ?? []),
    certificate: order.renewCertificate === true && now.serialNumber === reportedSerial,
  };
}
