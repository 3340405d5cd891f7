/** Copies of the configuration are sealed for a public key, as docs/formats/configuration.md has it. Pure but for fresh keys. */
import { createCipheriv, createDecipheriv, generateKeyPairSync, hkdfSync, randomBytes } from 'node:crypto';
import zlib from 'node:zlib';
import { z } from 'zod';
import { CommonErrors } from '../../common/errors/common-errors';
import type { Secret } from '../../common/log/redact';
import { parseRecoveryKey } from '../../common/secrets/recovery-key';
import { privateKeyOf, publicBytes, sharedSecret } from '../../common/secrets/x25519';
import { ConfigurationErrors } from '../errors/configuration-errors';
import { fingerprintOfKey, type Recipient } from './configuration-key';

const magic = Buffer.from('TDMKCONF', 'latin1');
const version = 1;
const fixedBytes = magic.length + 2 + 4;
const keyBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;
const maxHeaderBytes = 64 * 1024;
const maxContentBytes = 256 * 1024 * 1024;

const headerSchema = z.object({
  createdAt: z.iso.datetime(),
  /** Whose configuration it is. */
  installationId: z.string(),
  productVersion: z.string(),
  keyFingerprint: z.string(),
  keyCreatedAt: z.string(),
});

/** Not secret, but authentic once the envelope is opened. */
export type EnvelopeHeader = z.infer<typeof headerSchema>;

export function sealEnvelope(
  head: Pick<EnvelopeHeader, 'createdAt' | 'installationId' | 'productVersion'>,
  content: Buffer,
  recipient: Recipient,
): Buffer {
  const header: EnvelopeHeader = { ...head, keyFingerprint: fingerprintOfKey(recipient.publicKey), keyCreatedAt: recipient.createdAt };
  const text = Buffer.from(JSON.stringify(header));
  const start = Buffer.alloc(fixedBytes);
  magic.copy(start);
  start.writeUInt16BE(version, magic.length);
  start.writeUInt32BE(text.length, magic.length + 2);
  const fresh = generateKeyPairSync('x25519');
  const before = Buffer.concat([start, text, publicBytes(fresh.publicKey)]);
  const shared = sharedSecret(fresh.privateKey, recipient.publicKey);
  if (!shared) throw new RangeError('the public key of the configuration is none');
  const nonce = randomBytes(nonceBytes);
  const cipher = createCipheriv('aes-256-gcm', derive(shared, publicBytes(fresh.publicKey), recipient.publicKey), nonce);
  cipher.setAAD(before);
  const body = Buffer.concat([cipher.update(zlib.zstdCompressSync(content)), cipher.final()]);
  return Buffer.concat([before, nonce, body, cipher.getAuthTag()]);
}

/** What can be read without a key. Throws CONFIGURATION_COPY_DAMAGED, CONFIGURATION_COPY_UNKNOWN. */
export function readEnvelopeHeader(bytes: Buffer, name: string): EnvelopeHeader {
  return split(bytes, name).header;
}

/**
 * Header and content. Throws ARGUMENT_INVALID (which names a mistyped group, never the key), CONFIGURATION_KEY_WRONG, CONFIGURATION_COPY_DAMAGED,
 * CONFIGURATION_COPY_UNKNOWN.
 */
export function openEnvelope(bytes: Buffer, name: string, recoveryKey: Secret): { header: EnvelopeHeader; content: Buffer } {
  const { header, associated, freshPublic, sealed } = split(bytes, name);
  const parsed = parseRecoveryKey(recoveryKey.reveal());
  if ('problem' in parsed)
    throw CommonErrors.ARGUMENT_INVALID({ field: 'configuration key', problem: `it is not a recovery key: ${parsed.problem}` });
  const privateKey = privateKeyOf(parsed.key);
  const own = publicBytes(privateKey);
  if (fingerprintOfKey(own) !== header.keyFingerprint)
    throw ConfigurationErrors.CONFIGURATION_KEY_WRONG({ name, made: header.keyCreatedAt });
  const shared = sharedSecret(privateKey, freshPublic);
  const content = shared && decrypt(derive(shared, freshPublic, own), associated, sealed);
  if (!content) throw damaged(name, 'it was changed after it was sealed');
  try {
    return { header, content: zlib.zstdDecompressSync(content, { maxOutputLength: maxContentBytes }) };
  } catch (cause) {
    throw ConfigurationErrors.CONFIGURATION_COPY_DAMAGED({ name, problem: 'it does not decompress' }, { cause });
  }
}

function split(bytes: Buffer, name: string): { header: EnvelopeHeader; associated: Buffer; freshPublic: Buffer; sealed: Buffer } {
  if (bytes.length < fixedBytes || !bytes.subarray(0, magic.length).equals(magic)) throw damaged(name, 'it is not such a file');
  const found = bytes.readUInt16BE(magic.length);
  if (found !== version) throw ConfigurationErrors.CONFIGURATION_COPY_UNKNOWN({ name, version: found });
  const headerEnd = fixedBytes + bytes.readUInt32BE(magic.length + 2);
  if (headerEnd > fixedBytes + maxHeaderBytes || bytes.length < headerEnd + keyBytes + nonceBytes + tagBytes)
    throw damaged(name, 'it is cut short');
  try {
    return {
      header: headerSchema.parse(JSON.parse(bytes.toString('utf8', fixedBytes, headerEnd))),
      associated: bytes.subarray(0, headerEnd + keyBytes),
      freshPublic: bytes.subarray(headerEnd, headerEnd + keyBytes),
      sealed: bytes.subarray(headerEnd + keyBytes),
    };
  } catch (cause) {
    throw ConfigurationErrors.CONFIGURATION_COPY_DAMAGED({ name, problem: 'its header cannot be read' }, { cause });
  }
}

function derive(shared: Buffer, freshPublic: Buffer, recipient: Buffer): Buffer {
  return Buffer.from(hkdfSync('sha256', shared, Buffer.concat([freshPublic, recipient]), 'tidemark configuration', keyBytes));
}

function decrypt(key: Buffer, associated: Buffer, sealed: Buffer): Buffer | undefined {
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, nonceBytes), { authTagLength: tagBytes });
  decipher.setAAD(associated);
  decipher.setAuthTag(sealed.subarray(sealed.length - tagBytes));
  const content = decipher.update(sealed.subarray(nonceBytes, sealed.length - tagBytes));
  try {
    return Buffer.concat([content, decipher.final()]);
  } catch {
    return undefined;
  }
}

function damaged(name: string, problem: string) {
  return ConfigurationErrors.CONFIGURATION_COPY_DAMAGED({ name, problem });
}
