import { createHash, randomBytes } from 'node:crypto';
import { X509Certificate } from 'node:crypto';
import { CommonErrors } from '../errors/common-errors';

/** The parts of a one-time enrolment token: `tmk1.<secret>.<SHA-256 of the CA certificate>`, both base64url. */
export interface EnrolmentToken {
  readonly secret: string;
  /** SHA-256 over the CA's DER, lower-case hex. */
  readonly caFingerprint: string;
}

/** SHA-256 over the DER of a PEM certificate, lower-case hex. */
export function fingerprintOf(certificatePem: string): string {
  return createHash('sha256').update(new X509Certificate(certificatePem).raw).digest('hex');
}

/** A token that pins the CA; a new one unless the secret is given. */
export function createToken(caPem: string, secret = randomBytes(24).toString('base64url')): string {
  return `tmk1.${secret}.${Buffer.from(fingerprintOf(caPem), 'hex').toString('base64url')}`;
}

/** Throws ENROLMENT_TOKEN_INVALID when it is not of that form. */
export function parseToken(text: string): EnrolmentToken {
  const match = /^tmk1\.([\w-]{16,128})\.([\w-]{43})$/.exec(text.trim());
  if (!match?.[1] || !match[2]) throw CommonErrors.ENROLMENT_TOKEN_INVALID({ why: 'it is not a token; copy the whole line' });
  return { secret: match[1], caFingerprint: Buffer.from(match[2], 'base64url').toString('hex') };
}
