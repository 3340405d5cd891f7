/**
 * Data tickets: what a bearer may do on a mover's data port, signed by the host. `base64url(claims).base64url(signature)`, claims being
 * tidemark.common.v1.TicketClaims, the signature ECDSA P-256 with SHA-256 over the claims' bytes.
 */
import { createPublicKey, randomUUID, sign, verify } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { loadMessages } from '../../proto/loader';

export type TicketRight = 'write' | 'read' | 'probe';

export interface TicketClaims {
  readonly ticketId: string;
  readonly sessionId: string;
  readonly repositoryId: string;
  readonly rights: readonly TicketRight[];
  readonly expiresAt: Date;
  /** Points that may be read. */
  readonly pointIds: readonly string[];
}

const Claims = loadMessages('tidemark/common/v1/data_path.proto').lookupType('tidemark.common.v1.TicketClaims');
const rightNumbers: Record<TicketRight, number> = { write: 1, read: 2, probe: 3 };

/** Signs claims; the ticket id is made here. */
export function signTicket(claims: Omit<TicketClaims, 'ticketId'>, key: KeyObject): string {
  const body = Claims.encode({
    ticketId: randomUUID(),
    sessionId: claims.sessionId,
    repositoryId: claims.repositoryId,
    rights: claims.rights.map((right) => rightNumbers[right]),
    expiresAt: { seconds: Math.floor(claims.expiresAt.getTime() / 1000), nanos: 0 },
    pointIds: [...claims.pointIds],
  }).finish();
  const signature = sign('sha256', body, { key, dsaEncoding: 'ieee-p1363' });
  return `${Buffer.from(body).toString('base64url')}.${signature.toString('base64url')}`;
}

/** The claims of a ticket that one of the keys signed, `expired` when it is past its time; undefined when forged or malformed. */
export function verifyTicket(
  ticket: string,
  publicKeysPem: readonly string[],
  now: Date,
): { claims: TicketClaims; expired: boolean } | undefined {
  const match = ticket.length <= 4096 ? /^([\w-]+)\.([\w-]+)$/.exec(ticket) : null;
  if (!match?.[1] || !match[2]) return undefined;
  const body = Buffer.from(match[1], 'base64url');
  const signature = Buffer.from(match[2], 'base64url');
  const genuine = publicKeysPem.some((pem) => verify('sha256', body, { key: createPublicKey(pem), dsaEncoding: 'ieee-p1363' }, signature));
  if (!genuine) return undefined;
  const raw = Claims.toObject(Claims.decode(body), { longs: Number, defaults: true, arrays: true }) as {
    ticketId: string;
    sessionId: string;
    repositoryId: string;
    rights: number[];
    expiresAt: { seconds: number } | null;
    pointIds: string[];
  };
  const expiresAt = new Date((raw.expiresAt?.seconds ?? 0) * 1000);
  const claims: TicketClaims = {
    ticketId: raw.ticketId,
    sessionId: raw.sessionId,
    repositoryId: raw.repositoryId,
    rights: (Object.keys(rightNumbers) as TicketRight[]).filter((right) => raw.rights.includes(rightNumbers[right])),
    expiresAt,
    pointIds: raw.pointIds,
  };
  return { claims, expired: expiresAt.getTime() <= now.getTime() };
}
