/**
 * The envelope of header, manifests and session records: magic, version, sections with their own checks.
 * Written in docs/formats/repository.md. Pure: bytes in, bytes out.
 */
import zlib from 'node:zlib';
import { blake3 } from '@napi-rs/blake-hash';
import { RepositoryErrors } from '../errors/mover-errors';
import { SEALED_SECTION_EXTRA_BYTES, type DocumentCipher } from './document-cipher';

export type SealedCodec = 'none' | 'zstd';

/** Content and codec of one section. */
export interface SealedSection {
  readonly codec: SealedCodec;
  readonly content: Buffer;
}

/** What kind of document, for magic, version check and messages. */
export interface SealedKind {
  /** 8 ASCII characters. */
  readonly magic: string;
  readonly version: number;
  /** Version of the same document in an encrypted repository; absent: it is never encrypted. */
  readonly encryptedVersion?: number;
}

const fixedBytes = 12;
const perSectionBytes = 12;
const checkBytes = 32;
const maxSections = 4;
const maxSectionBytes = 64 * 1024 * 1024;

/** Bytes of a document; with a cipher its sections are encrypted after they are compressed. */
export function sealDocument(kind: SealedKind, sections: readonly SealedSection[], cipher?: DocumentCipher): Buffer {
  const compressed = sections.map((s) => (s.codec === 'zstd' ? zlib.zstdCompressSync(s.content) : s.content));
  const extra = cipher ? SEALED_SECTION_EXTRA_BYTES : 0;
  const preamble = Buffer.alloc(fixedBytes + perSectionBytes * sections.length);
  preamble.write(kind.magic, 0, 'latin1');
  preamble.writeUInt16BE(versionOf(kind, cipher), 8);
  preamble[10] = sections.length;
  sections.forEach((section, i) => {
    const at = fixedBytes + perSectionBytes * i;
    preamble.writeUInt32BE(section.codec === 'zstd' ? 1 : 0, at);
    preamble.writeUInt32BE((compressed[i] as Buffer).length + extra, at + 4);
    preamble.writeUInt32BE(section.content.length, at + 8);
  });
  const parts: Buffer[] = [preamble];
  compressed.forEach((bytes, i) => {
    const stored = cipher ? cipher.seal(associatedWith(preamble, i), bytes) : bytes;
    parts.push(stored, sectionCheck(preamble, i, stored));
  });
  return Buffer.concat(parts);
}

function versionOf(kind: SealedKind, cipher: DocumentCipher | undefined): number {
  if (!cipher) return kind.version;
  if (kind.encryptedVersion === undefined) throw new TypeError(`${kind.magic} is never encrypted`);
  return kind.encryptedVersion;
}

/** Preamble and number: a section cannot be moved, nor its lengths or codec changed. */
function associatedWith(preamble: Buffer, number: number): Buffer {
  return Buffer.concat([preamble, Buffer.from([number])]);
}

function sectionCheck(preamble: Buffer, number: number, stored: Buffer): Buffer {
  return blake3(Buffer.concat([preamble, Buffer.from([number]), stored]));
}

/** Where the first `sections` sections end, from the document's first bytes; for reading no more than is needed. Its version is left to `openDocument`. */
export function sealedLength(kind: SealedKind, start: Buffer, sections: number, object: string): number {
  const table = readPreamble(kind, start, object);
  return table.slice(0, sections).reduce((end, s) => end + s.storedLength + checkBytes, fixedBytes + perSectionBytes * table.length);
}

/**
 * Contents of the first `sections` sections, or of all. With all, the length of the document is checked too. With a cipher the document has to
 * be encrypted, without one it must not be. Throws OBJECT_DAMAGED, or REPOSITORY_FORMAT_UNKNOWN for a newer version that is whole; `object` names the
 * document in messages.
 */
export function openDocument(kind: SealedKind, bytes: Buffer, object: string, sections?: number, cipher?: DocumentCipher): Buffer[] {
  const table = readPreamble(kind, bytes, object);
  assertKnownVersion(kind, bytes, table, object);
  if (table.some(({ codec }) => codec > 1)) throw damaged(object, 'its preamble is wrong');
  if ((bytes.readUInt16BE(8) === kind.encryptedVersion) !== (cipher !== undefined))
    throw damaged(object, cipher ? 'it is not encrypted, though the repository is' : 'it is encrypted, though the repository is not');
  const preamble = bytes.subarray(0, fixedBytes + perSectionBytes * table.length);
  let at = preamble.length;
  const contents: Buffer[] = [];
  for (const [i, section] of table.slice(0, sections).entries()) {
    const end = at + section.storedLength;
    if (bytes.length < end + checkBytes) throw damaged(object, 'it is cut short');
    const stored = bytes.subarray(at, end);
    if (!sectionCheck(preamble, i, stored).equals(bytes.subarray(end, end + checkBytes))) throw damaged(object, 'a checksum differs');
    const compressed = cipher ? cipher.open(associatedWith(preamble, i), stored) : stored;
    if (!compressed) throw damaged(object, 'it was changed after it was encrypted');
    contents.push(section.codec === 1 ? decompress(compressed, section.rawLength, object) : compressed);
    at = end + checkBytes;
  }
  if (sections === undefined && at !== bytes.length) throw damaged(object, 'it is longer than it says');
  return contents;
}

interface SectionLengths {
  readonly codec: number;
  readonly storedLength: number;
  readonly rawLength: number;
}

/** The same in every version: see `assertKnownVersion`. */
function readPreamble(kind: SealedKind, bytes: Buffer, object: string): SectionLengths[] {
  if (bytes.length < fixedBytes) throw damaged(object, 'it is cut short');
  if (bytes.toString('latin1', 0, 8) !== kind.magic) throw damaged(object, 'it is not such a file');
  const count = bytes[10] as number;
  if (count < 1 || count > maxSections || bytes[11] !== 0) throw damaged(object, 'its preamble is wrong');
  if (bytes.length < fixedBytes + perSectionBytes * count) throw damaged(object, 'it is cut short');
  return Array.from({ length: count }, (_, i) => {
    const at = fixedBytes + perSectionBytes * i;
    const section = { codec: bytes.readUInt32BE(at), storedLength: bytes.readUInt32BE(at + 4), rawLength: bytes.readUInt32BE(at + 8) };
    if (section.storedLength > maxSectionBytes || section.rawLength > maxSectionBytes) throw damaged(object, 'its preamble is wrong');
    return section;
  });
}

/**
 * Tells a newer version from a number that was damaged, because the first is nobody's to replace and the second has to be. What makes that safe is that
 * the envelope is the same in every version (docs/formats/repository.md): a newer document's own checks hold, with the number that it has.
 */
function assertKnownVersion(kind: SealedKind, bytes: Buffer, table: readonly SectionLengths[], object: string): void {
  const version = bytes.readUInt16BE(8);
  if (version === kind.version || version === kind.encryptedVersion) return;
  const preambleBytes = fixedBytes + perSectionBytes * table.length;
  const end = preambleBytes + (table[0] as SectionLengths).storedLength;
  if (bytes.length < end + checkBytes) throw damaged(object, 'it is cut short');
  const check = sectionCheck(bytes.subarray(0, preambleBytes), 0, bytes.subarray(preambleBytes, end));
  if (!check.equals(bytes.subarray(end, end + checkBytes)))
    throw damaged(object, `a checksum differs, and it says that it is of version ${version}`);
  throw RepositoryErrors.REPOSITORY_FORMAT_UNKNOWN({ object, version });
}

function decompress(stored: Buffer, rawLength: number, object: string): Buffer {
  try {
    const raw = zlib.zstdDecompressSync(stored, { maxOutputLength: Math.max(rawLength, 1) });
    if (raw.length === rawLength) return raw;
  } catch (cause) {
    throw RepositoryErrors.OBJECT_DAMAGED({ object, problem: 'a section does not decompress' }, { cause });
  }
  throw damaged(object, 'a section has another length');
}

function damaged(object: string, problem: string) {
  return RepositoryErrors.OBJECT_DAMAGED({ object, problem });
}
