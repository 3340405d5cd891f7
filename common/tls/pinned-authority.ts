/**
 * A token pins one CA. While CAs change places the server that a stranger finds may have been issued by the other one: it then shows its
 * leaf, the CA of that, the cross-certificate, and the older CA, in this order, so that each is found whichever was pinned.
 */
import { X509Certificate } from 'node:crypto';
import type { IdentityMaterial } from './identity';
import { fingerprintOf } from './token';
import { issuerIn, splitPem } from './trust-state';

/** What an enrolment port presents. */
export function chainForStrangers({ certificateChainPem, trustBundlePem }: IdentityMaterial): string {
  const [leaf = '', ...others] = splitPem(certificateChainPem);
  const chain = [leaf];
  const add = (pem: string | undefined) => {
    if (pem !== undefined && !chain.some((one) => fingerprintOf(one) === fingerprintOf(pem))) chain.push(pem);
  };
  add(issuerIn(trustBundlePem, new X509Certificate(leaf)));
  for (const other of others) {
    add(other);
    add(issuerIn(trustBundlePem, new X509Certificate(other)));
  }
  return chain.join('');
}

/**
 * The CAs that may be trusted because the pinned one is among those presented: itself, and one that it signed a cross-certificate for.
 * Empty when it is not there.
 */
export function vouchedFor(pinnedFingerprint: string, presentedPem: readonly string[]): string[] {
  const presented = presentedPem.map((pem) => ({ pem, certificate: new X509Certificate(pem) }));
  const pinned = presented.find(({ pem }) => fingerprintOf(pem) === pinnedFingerprint);
  if (!pinned) return [];
  const keyOf = (certificate: X509Certificate) => certificate.publicKey.export({ type: 'spki', format: 'pem' }).toString();
  const bridged = presented
    .filter(({ certificate }) => certificate.ca && certificate.verify(pinned.certificate.publicKey))
    .map(({ certificate }) => keyOf(certificate));
  const roots = presented.filter(({ certificate }) => certificate.ca && certificate.verify(certificate.publicKey));
  return [
    pinned.pem,
    ...roots.filter(({ pem, certificate }) => pem !== pinned.pem && bridged.includes(keyOf(certificate))).map(({ pem }) => pem),
  ];
}
