/**
 * Slots: ways to the master key of an encrypted repository. The secret of a slot becomes an X25519 key pair, and the master key is encrypted
 * for its public half: a new master key can be given to every slot without its secret. Written in docs/formats/encryption.md. Pure.
 */
import { generateKeyPairSync, randomBytes, scrypt } from 'node:crypto';
import { z } from 'zod';
import { CommonErrors } from '../../common/errors/common-errors';
import type { Secret } from '../../common/log/redact';
import { parseRecoveryKey } from '../../common/secrets/recovery-key';
import { privateKeyOf, publicBytes, sharedSecret } from '../../common/secrets/x25519';
import { deriveKey, KEY_BYTES, openBytes, sealBytes } from './encryption';

export type SlotKind = 'passphrase' | 'key-file' | 'recovery';

/** What opens a repository: the secret of a slot as its owner has it, or (`slot-key`) what became of it, as a mover keeps it: 64 hex digits. */
export interface RepositoryKey {
  readonly kind: SlotKind | 'slot-key';
  readonly secret: Secret;
}

const base64 = z.base64();

export const keySlotSchema = z.object({
  slotId: z.uuid(),
  kind: z.enum(['passphrase', 'key-file', 'recovery']),
  createdAt: z.iso.datetime(),
  salt: base64,
  /** Only for passphrases; bounded, since whoever can write to the store chooses them. */
  scrypt: z
    .object({ N: z.number().int().min(1024).max(1_048_576), r: z.number().int().min(1).max(16), p: z.number().int().min(1).max(4) })
    .optional(),
  publicKey: base64,
  wrappedMasterKey: base64,
});

export type KeySlot = z.infer<typeof keySlotSchema>;

export const MINIMUM_PASSPHRASE_CHARACTERS = 12;
/** 128 MiB and about half a second: https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html#scrypt. */
export const scryptCost = { N: 131_072, r: 8, p: 1 };

/** The secret's own bytes. Throws ARGUMENT_INVALID, which names what is wrong and never the secret. */
export function secretBytes(key: RepositoryKey): Buffer {
  const text = key.secret.reveal();
  const invalid = (problem: string) => CommonErrors.ARGUMENT_INVALID({ field: key.kind, problem });
  if (key.kind === 'passphrase') {
    const passphrase = text.normalize('NFC');
    if ([...passphrase].length < MINIMUM_PASSPHRASE_CHARACTERS)
      throw invalid(`a passphrase has at least ${MINIMUM_PASSPHRASE_CHARACTERS} characters`);
    return Buffer.from(passphrase);
  }
  if (key.kind === 'recovery') {
    const parsed = parseRecoveryKey(text);
    if ('problem' in parsed) throw invalid(`it is not a recovery key: ${parsed.problem}`);
    return parsed.key;
  }
  if (!/^[0-9a-f]{64}$/i.test(text.trim())) throw invalid('a key file holds 64 hexadecimal digits, as "openssl rand -hex 32" makes them');
  return Buffer.from(text.trim(), 'hex');
}

/** Key of a slot: what becomes of the secret; 32 bytes. Slow for passphrases. Throws ARGUMENT_INVALID. */
async function slotKey(key: RepositoryKey, salt: Buffer, cost: KeySlot['scrypt']): Promise<Buffer> {
  const secret = secretBytes(key);
  if (key.kind === 'slot-key') return secret;
  if (key.kind !== 'passphrase' || !cost) return deriveKey(secret, salt, 'tidemark key slot');
  const { N, r, p } = cost;
  return new Promise((resolve, reject) =>
    scrypt(secret, salt, KEY_BYTES, { N, r, p, maxmem: 256 * N * r }, (error, made) => (error ? reject(error) : resolve(made))),
  );
}

/** A new slot without a master key yet, and its slot key. `cost` is for tests. */
export async function makeSlot(
  key: RepositoryKey & { readonly kind: SlotKind },
  slotId: string,
  now: Date,
  cost: typeof scryptCost = scryptCost,
): Promise<{ slot: Omit<KeySlot, 'wrappedMasterKey'>; slotKey: Buffer }> {
  const salt = randomBytes(16);
  const isPassphrase = key.kind === 'passphrase';
  const made = await slotKey(key, salt, isPassphrase ? cost : undefined);
  return {
    slot: {
      slotId,
      kind: key.kind,
      createdAt: now.toISOString(),
      salt: salt.toString('base64'),
      ...(isPassphrase ? { scrypt: cost } : {}),
      publicKey: publicBytes(privateKeyOf(made)).toString('base64'),
    },
    slotKey: made,
  };
}

/** The slot that a key belongs to and its slot key; undefined when there is none. Throws ARGUMENT_INVALID. */
export async function findSlot(slots: readonly KeySlot[], key: RepositoryKey): Promise<{ slot: KeySlot; slotKey: Buffer } | undefined> {
  for (const slot of slots) {
    if (key.kind !== 'slot-key' && key.kind !== slot.kind) continue;
    const made = await slotKey(key, Buffer.from(slot.salt, 'base64'), slot.scrypt);
    if (publicBytes(privateKeyOf(made)).toString('base64') === slot.publicKey) return { slot, slotKey: made };
  }
  return undefined;
}

/** The master key for a slot: public half of a fresh key pair ‖ nonce ‖ ciphertext ‖ tag. */
export function wrapForSlot(slot: Pick<KeySlot, 'slotId' | 'publicKey'>, repositoryId: string, masterKey: Buffer): string {
  const fresh = generateKeyPairSync('x25519');
  const slotPublic = Buffer.from(slot.publicKey, 'base64');
  const freshPublic = publicBytes(fresh.publicKey);
  const shared = sharedSecret(fresh.privateKey, slotPublic);
  if (!shared) throw new RangeError('the public key of a slot is none');
  const key = deriveKey(shared, Buffer.concat([freshPublic, slotPublic]), 'tidemark master key');
  return Buffer.concat([freshPublic, sealBytes(key, slotPurpose(repositoryId, slot.slotId), masterKey)]).toString('base64');
}

/** The master key; undefined when the slot was changed. */
export function unwrapFromSlot(slot: KeySlot, repositoryId: string, slotKeyBytes: Buffer): Buffer | undefined {
  const wrapped = Buffer.from(slot.wrappedMasterKey, 'base64');
  const freshPublic = wrapped.subarray(0, KEY_BYTES);
  if (wrapped.length < KEY_BYTES) return undefined;
  const shared = sharedSecret(privateKeyOf(slotKeyBytes), freshPublic);
  const key = shared && deriveKey(shared, Buffer.concat([freshPublic, Buffer.from(slot.publicKey, 'base64')]), 'tidemark master key');
  return key && openBytes(key, slotPurpose(repositoryId, slot.slotId), wrapped.subarray(KEY_BYTES));
}

function slotPurpose(repositoryId: string, slotId: string): Buffer {
  return Buffer.from(`${repositoryId} slot ${slotId}`);
}
