/** The object with the keys of an encrypted repository, as docs/formats/encryption.md has it. Pure. */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import { RepositoryErrors } from '../errors/mover-errors';
import { deriveKey, openBytes, sealBytes } from './encryption';
import { keySlotSchema } from './key-slot';
import { openDocument, sealDocument } from './sealed-document';

const kind = { magic: 'TDMKKEYS', version: 1 };
export const KEYS_PREFIX = 'keys/';
export const MAX_KEY_SLOTS = 16;

const schema = z.object({
  repositoryId: z.uuid(),
  slots: z.array(keySlotSchema).min(1).max(MAX_KEY_SLOTS),
  /** Data keys, encrypted with the master key. */
  ring: z
    .array(z.object({ keyId: z.uuid(), createdAt: z.iso.datetime(), wrapped: z.base64() }))
    .min(1)
    .max(10_000),
  currentKeyId: z.uuid(),
  wrappedDigestKey: z.base64(),
});

export type KeysDocument = z.infer<typeof schema>;

/** Object name of the keys, and of the copy for when they are damaged. */
export function keysName(repositoryId: string): string {
  return `${KEYS_PREFIX}${repositoryId}.keys`;
}

/** True for an object with keys, or their copy. */
export function isKeysName(name: string): boolean {
  return /^keys\/[0-9a-f-]{36}\.(keys|copy)$/.test(name);
}

export function keysCopyName(name: string): string {
  return name.replace(/\.keys$/, '.copy');
}

/** Its bytes: the JSON, and its HMAC by the master key, so that nobody without a key changes slots or ring. */
export function encodeKeys(document: KeysDocument, masterKey: Buffer): Buffer {
  const content = Buffer.from(JSON.stringify(document));
  return sealDocument(kind, [
    { codec: 'none', content },
    { codec: 'none', content: seal(content, masterKey) },
  ]);
}

/** What it says, not yet proven; `isGenuine` proves it. Throws OBJECT_DAMAGED, REPOSITORY_FORMAT_UNKNOWN. */
export function decodeKeys(bytes: Buffer, name: string): { document: KeysDocument; isGenuine: (masterKey: Buffer) => boolean } {
  const [content, mac] = openDocument(kind, bytes, name) as [Buffer, Buffer | undefined];
  let document: KeysDocument;
  try {
    document = schema.parse(JSON.parse(content.toString('utf8')));
  } catch (cause) {
    throw RepositoryErrors.OBJECT_DAMAGED({ object: name, problem: 'it does not hold keys' }, { cause });
  }
  return { document, isGenuine: (masterKey) => mac?.length === 32 && timingSafeEqual(mac, seal(content, masterKey)) };
}

/** A key encrypted with the master key; `purpose` says what it is for and binds it to the repository. */
export function wrapKey(masterKey: Buffer, repositoryId: string, purpose: string, key: Buffer): string {
  return sealBytes(masterKey, Buffer.from(`${repositoryId} ${purpose}`), key).toString('base64');
}

/** Undefined when it was changed or is of another repository or purpose. */
export function unwrapKey(masterKey: Buffer, repositoryId: string, purpose: string, wrapped: string): Buffer | undefined {
  return openBytes(masterKey, Buffer.from(`${repositoryId} ${purpose}`), Buffer.from(wrapped, 'base64'));
}

function seal(content: Buffer, masterKey: Buffer): Buffer {
  return createHmac('sha256', deriveKey(masterKey, Buffer.alloc(0), 'tidemark keys document'))
    .update(content)
    .digest();
}
