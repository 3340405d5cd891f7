/**
 * What the CA is made of, in one file that is replaced whole: each step of a rotation is one write, so a kill leaves the step before or the
 * step after, and whoever opens the file goes on from there. Pure but for reading, writing and making keys.
 *
 *     one CA ── begin ──▶ new CA issues, old one is still trusted ── finish ──▶ one CA
 *
 * Ticket keys change with the CA: the new one is published at once, signs when every connected mover has it (`useNewTicketKey`), and the old one
 * is forgotten when its last ticket is over.
 */
import { createPrivateKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { z } from 'zod';
import { CommonErrors } from '../../common/errors/common-errors';
import { createAuthority, crossSign } from '../../common/tls/authority';
import { durableWrite } from '../../common/tls/durable-write';
import { fingerprintOf } from '../../common/tls/token';

/** Tickets are never valid for longer. */
export const longestTicketMs = 24 * 3_600_000;

const schema = z.strictObject({
  version: z.literal(2),
  /** Issues. The cross-certificate is there while an older CA is trusted. */
  issuing: z.strictObject({ certificatePem: z.string(), privateKeyPem: z.string(), crossCertificatePem: z.string().optional() }),
  /** CAs that issue no more, but are trusted until the rotation is over. Their keys are gone. */
  older: z.array(z.string()),
  /** The first one signs. `retiresAt`: when the last ticket that it signed is over. */
  ticketKeys: z.array(z.strictObject({ privateKeyPem: z.string(), retiresAt: z.string().optional() })).min(1),
  /** Certificates issued before are to be replaced now, whatever their age. */
  leavesSince: z.string().optional(),
  rotation: z.strictObject({ startedAt: z.string(), overlapEndsAt: z.string() }).optional(),
  /** The last rotation that ended, and who had not confirmed by then: these have to enrol again. */
  finished: z
    .strictObject({ startedAt: z.string(), finishedAt: z.string(), missing: z.array(z.strictObject({ id: z.string(), name: z.string() })) })
    .optional(),
});

export type AuthorityState = z.infer<typeof schema>;

/** Undefined when there is none yet. Throws CONFIGURATION_INVALID when the file is damaged. */
export function readAuthorityState(file: string): AuthorityState | undefined {
  if (!fs.existsSync(file)) return undefined;
  try {
    const found = schema.parse(JSON.parse(fs.readFileSync(file, 'utf8')));
    for (const pem of [found.issuing.certificatePem, ...found.older]) fingerprintOf(pem);
    for (const pem of [found.issuing.privateKeyPem, ...found.ticketKeys.map((key) => key.privateKeyPem)]) createPrivateKey(pem);
    return found;
  } catch (cause) {
    throw CommonErrors.CONFIGURATION_INVALID({ problems: `${file} is damaged; restore it from a copy` }, { cause });
  }
}

/** Durable when it returns. */
export function writeAuthorityState(file: string, state: AuthorityState): void {
  durableWrite(file, JSON.stringify(state), 0o600);
}

export async function newAuthorityState(): Promise<AuthorityState> {
  return { version: 2, issuing: await newAuthority(), older: [], ticketKeys: [newTicketKey()] };
}

/** A new CA beside the old one, signed by it too; everything it issued is to be replaced. */
export async function begin(state: AuthorityState, now: Date, overlapMs: number): Promise<AuthorityState> {
  const made = await newAuthority();
  const crossCertificatePem = await crossSign(state.issuing, made, now);
  return {
    version: 2,
    issuing: { ...made, crossCertificatePem },
    older: [state.issuing.certificatePem],
    ticketKeys: [...state.ticketKeys, newTicketKey()],
    leavesSince: now.toISOString(),
    rotation: { startedAt: now.toISOString(), overlapEndsAt: new Date(now.getTime() + overlapMs).toISOString() },
    ...(state.finished ? { finished: state.finished } : {}),
  };
}

/** The older CA is trusted no more. */
export function finish(state: AuthorityState, now: Date, missing: readonly { id: string; name: string }[]): AuthorityState {
  const { rotation, issuing, ...rest } = useNewTicketKey(state, now);
  const { certificatePem, privateKeyPem } = issuing;
  if (!rotation) return state;
  return {
    ...rest,
    issuing: { certificatePem, privateKeyPem },
    older: [],
    finished: { startedAt: rotation.startedAt, finishedAt: now.toISOString(), missing: [...missing] },
  };
}

/** The newest ticket key signs from now on. */
export function useNewTicketKey(state: AuthorityState, now: Date): AuthorityState {
  const newest = state.ticketKeys.at(-1);
  if (!newest || newest.retiresAt !== undefined || state.ticketKeys[0] === newest) return state;
  const retiresAt = new Date(now.getTime() + longestTicketMs).toISOString();
  const others = state.ticketKeys.slice(0, -1).map((key) => ({ retiresAt, ...key }));
  return { ...state, ticketKeys: [newest, ...others] };
}

/** Forgets ticket keys whose last ticket is over. The same object when there is none. */
export function dropRetiredKeys(state: AuthorityState, now: Date): AuthorityState {
  const ticketKeys = state.ticketKeys.filter((key) => key.retiresAt === undefined || key.retiresAt > now.toISOString());
  return ticketKeys.length === state.ticketKeys.length ? state : { ...state, ticketKeys };
}

/** Each CA has a name of its own, so that nothing has to guess which one a certificate is from. */
function newAuthority() {
  return createAuthority(`Tidemark CA ${randomBytes(4).toString('hex')}`);
}

function newTicketKey() {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { privateKeyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() };
}
