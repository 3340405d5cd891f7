/** AES-256-GCM and the derivation of keys, as docs/formats/encryption.md has them. Pure. */
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';

/** The one cipher that there is, as the header names it. */
export const CIPHER_NAME = 'aes-256-gcm';
export const KEY_BYTES = 32;
export const NONCE_BYTES = 12;
export const TAG_BYTES = 16;

/** HKDF-SHA256 to a key of 32 bytes. */
export function deriveKey(secret: Uint8Array, salt: Uint8Array, purpose: string): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, salt, purpose, KEY_BYTES));
}

/** Ciphertext (as long as the content) and tag. The caller guarantees that the nonce is new for the key. */
export function encrypt(key: Buffer, nonce: Buffer, associated: Buffer, content: Uint8Array): { body: Buffer; tag: Buffer } {
  const cipher = createCipheriv(CIPHER_NAME, key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(associated);
  const body = cipher.update(content);
  cipher.final();
  return { body, tag: cipher.getAuthTag() };
}

/** The content of ciphertext ‖ tag; undefined when key, nonce, associated data, ciphertext and tag do not belong together. */
export function decrypt(key: Buffer, nonce: Buffer, associated: Buffer, sealed: Buffer): Buffer | undefined {
  if (sealed.length < TAG_BYTES) return undefined;
  const decipher = createDecipheriv(CIPHER_NAME, key, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(associated);
  decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
  const content = decipher.update(sealed.subarray(0, sealed.length - TAG_BYTES));
  try {
    decipher.final();
  } catch {
    return undefined;
  }
  return content;
}

/** Random nonce ‖ ciphertext ‖ tag. */
export function sealBytes(key: Buffer, associated: Buffer, content: Uint8Array): Buffer {
  const nonce = randomBytes(NONCE_BYTES);
  const { body, tag } = encrypt(key, nonce, associated, content);
  return Buffer.concat([nonce, body, tag]);
}

/** Content of what `sealBytes` made; undefined when it is not that. */
export function openBytes(key: Buffer, associated: Buffer, sealed: Buffer): Buffer | undefined {
  return decrypt(key, sealed.subarray(0, NONCE_BYTES), associated, sealed.subarray(NONCE_BYTES));
}

/** 16 bytes of a key's id, which is a UUID. */
export function keyIdBytes(keyId: string): Buffer {
  return Buffer.from(keyId.replaceAll('-', ''), 'hex');
}

/** UUID of 16 bytes. */
export function keyIdText(bytes: Buffer): string {
  const hex = bytes.toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`;
}
