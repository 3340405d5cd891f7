/**
 * The envelope of header, manifests and session records: magic, version, sections with their own checks.
 * Written in docs/formats/repository.md. Pure: bytes in, bytes out.
 */
import zlib from 'node:zlib';
import { blake3 } from '@napi-rs/blake-hash';
import { RepositoryErrors } from '../errors/mover-errors';

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
}

const fixedBytes = 12;
const perSectionBytes = 12;
const checkBytes = 32;
const maxSections = 4;
const maxSectionBytes = 64 * 1024 * 1024;

/** Bytes of a document. */
export function sealDocument(kind: SealedKind, sections: readonly SealedSection[]): Buffer {
  const stored = sections.map((s) => (s.codec === 'zstd' ? zlib.zstdCompressSync(s.content) : s.content));
  const preamble = Buffer.alloc(fixedBytes + perSectionBytes * sections.length);
  preamble.write(kind.magic, 0, 'latin1');
  preamble.writeUInt16BE(kind.version, 8);
  preamble[10] = sections.length;
  sections.forEach((section, i) => {
    const at = fixedBytes + perSectionBytes * i;
    preamble.writeUInt32BE(section.codec === 'zstd' ? 1 : 0, at);
    preamble.writeUInt32BE((stored[i] as Buffer).length, at + 4);
    preamble.writeUInt32BE(section.content.length, at + 8);
  });
  const parts: Buffer[] = [preamble];
  stored.forEach((bytes, i) => parts.push(bytes, sectionCheck(preamble, i, bytes)));
  return Buffer.concat(parts);
}

function sectionCheck(preamble: Buffer, number: number, stored: Buffer): Buffer {
  return blake3(Buffer.concat([preamble, Buffer.from([number]), stored]));
}

/** Where the first `sections` sections end, from the document's first bytes; for reading no more than is needed. */
export function sealedLength(kind: SealedKind, start: Buffer, sections: number, object: string): number {
  const table = readPreamble(kind, start, object);
  return table.slice(0, sections).reduce((end, s) => end + s.storedLength + checkBytes, fixedBytes + perSectionBytes * table.length);
}

/**
 * Contents of the first `sections` sections, or of all. With all, the length of the document is checked too. Throws OBJECT_DAMAGED, or
 * REPOSITORY_FORMAT_UNKNOWN for a newer version; `object` names the document in messages.
 */
export function openDocument(kind: SealedKind, bytes: Buffer, object: string, sections?: number): Buffer[] {
  const table = readPreamble(kind, bytes, object);
  const preamble = bytes.subarray(0, fixedBytes + perSectionBytes * table.length);
  let at = preamble.length;
  const contents: Buffer[] = [];
  for (const [i, section] of table.slice(0, sections).entries()) {
    const end = at + section.storedLength;
    if (bytes.length < end + checkBytes) throw damaged(object, 'it is cut short');
    const stored = bytes.subarray(at, end);
    if (!sectionCheck(preamble, i, stored).equals(bytes.subarray(end, end + checkBytes))) throw damaged(object, 'a checksum differs');
    contents.push(section.codec === 1 ? decompress(stored, section.rawLength, object) : stored);
    at = end + checkBytes;
  }
  if (sections === undefined && at !== bytes.length) throw damaged(object, 'it is longer than it says');
  return contents;
}

function readPreamble(kind: SealedKind, bytes: Buffer, object: string): { codec: number; storedLength: number; rawLength: number }[] {
  if (bytes.length < fixedBytes) throw damaged(object, 'it is cut short');
  if (bytes.toString('latin1', 0, 8) !== kind.magic) throw damaged(object, 'it is not such a file');
  const version = bytes.readUInt16BE(8);
  if (version !== kind.version) throw RepositoryErrors.REPOSITORY_FORMAT_UNKNOWN({ object, version });
  const count = bytes[10] as number;
  if (count < 1 || count > maxSections || bytes[11] !== 0) throw damaged(object, 'its preamble is wrong');
  if (bytes.length < fixedBytes + perSectionBytes * count) throw damaged(object, 'it is cut short');
  return Array.from({ length: count }, (_, i) => {
    const at = fixedBytes + perSectionBytes * i;
    const section = { codec: bytes.readUInt32BE(at), storedLength: bytes.readUInt32BE(at + 4), rawLength: bytes.readUInt32BE(at + 8) };
    if (section.codec > 1 || section.storedLength > maxSectionBytes || section.rawLength > maxSectionBytes)
      throw damaged(object, 'its preamble is wrong');
    return section;
  });
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
