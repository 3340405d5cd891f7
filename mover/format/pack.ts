/** Packs: header, entry list and footer, as docs/formats/pack.md has them. Pure: it reads and writes bytes, never files. */
import { blake3 } from '@napi-rs/blake-hash';
import { RepositoryErrors } from '../errors/mover-errors';
import { DIGEST_BYTES } from './block';
import { keyIdText, TAG_BYTES } from './encryption';
import type { PackCipher } from './pack-cipher';

export const PACK_HEADER_BYTES = 64;
export const PACK_ENTRY_BYTES = 48;
export const PACK_FOOTER_BYTES = 96;
/** A pack is sealed when it has this many bytes; one more block and the trailer keep it below 80 MiB. */
export const PACK_TARGET_BYTES = 64 * 1024 * 1024;
const version = 1;
/** Of a pack whose blocks and entry list are encrypted. */
const encryptedVersion = 2;
const footerStartBytes = 64;
const maxRawBytes = 4 * 1024 * 1024;

/** Where a block lies in its pack. */
export interface PackEntry {
  readonly digest: Buffer;
  readonly offset: number;
  readonly storedLength: number;
  readonly rawLength: number;
  readonly codec: number;
  readonly kind: number;
}

/** First 64 bytes of a pack. Ids are 16 bytes. */
export function packHeader(packId: Buffer, repositoryId: Buffer, cipher?: PackCipher): Buffer {
  const header = Buffer.alloc(PACK_HEADER_BYTES);
  header.write('TDMKPACK', 0, 'latin1');
  header.writeUInt16BE(cipher ? encryptedVersion : version, 8);
  packId.copy(header, 16);
  repositoryId.copy(header, 32);
  cipher?.keyIdBytes.copy(header, 48);
  return header;
}

/** Id of the data key of an encrypted pack, from its first 64 bytes. Throws PACK_DAMAGED. */
export function packKeyId(header: Buffer, name: string): string {
  if (header.length !== PACK_HEADER_BYTES || header.toString('latin1', 0, 8) !== 'TDMKPACK' || header.readUInt16BE(8) !== encryptedVersion)
    throw damaged(name, 'its header is not that of an encrypted pack');
  return keyIdText(header.subarray(48, 64));
}

/** Everything after the last block: entry list and footer; `entryListOffset` is where it begins in the file. */
export function packTrailer(packId: Buffer, entries: readonly PackEntry[], entryListOffset: number, cipher?: PackCipher): Buffer {
  const list = encodeEntries(entries);
  const start = Buffer.alloc(footerStartBytes);
  start.write('TDMKTAIL', 0, 'latin1');
  start.writeUInt16BE(cipher ? encryptedVersion : version, 8);
  start.writeUInt32BE(entries.length, 12);
  start.writeBigUInt64BE(BigInt(entryListOffset), 16);
  packId.copy(start, 24);
  cipher?.keyIdBytes.copy(start, 40);
  const checked = Buffer.concat([cipher ? cipher.sealList(start, entryListOffset, list) : list, start]);
  return Buffer.concat([checked, blake3(checked)]);
}

function encodeEntries(entries: readonly PackEntry[]): Buffer {
  const list = Buffer.alloc(entries.length * PACK_ENTRY_BYTES);
  entries.forEach((entry, i) => {
    const at = i * PACK_ENTRY_BYTES;
    entry.digest.copy(list, at);
    list.writeUInt32BE(entry.offset, at + 32);
    list.writeUInt32BE(entry.storedLength, at + 36);
    list.writeUInt32BE(entry.rawLength, at + 40);
    list[at + 44] = entry.codec;
    list[at + 45] = entry.kind;
  });
  return list;
}

/** What a footer says about the entry list. */
export interface PackFooter {
  readonly entryCount: number;
  readonly entryListOffset: number;
  /** Bytes of the list as it lies there. */
  readonly listLength: number;
  /** Data key of an encrypted pack. */
  readonly keyId: string | undefined;
}

/** Reads the last 96 bytes of a pack of `fileLength` bytes. Throws PACK_DAMAGED or REPOSITORY_FORMAT_UNKNOWN. */
export function readPackFooter(footer: Buffer, fileLength: number, packId: Buffer, name: string): PackFooter {
  if (footer.length !== PACK_FOOTER_BYTES || footer.toString('latin1', 0, 8) !== 'TDMKTAIL') throw damaged(name, 'it has no footer');
  const found = footer.readUInt16BE(8);
  if (found !== version && found !== encryptedVersion) throw RepositoryErrors.REPOSITORY_FORMAT_UNKNOWN({ object: name, version: found });
  const isEncrypted = found === encryptedVersion;
  const entryCount = footer.readUInt32BE(12);
  const entryListOffset = Number(footer.readBigUInt64BE(16));
  const listLength = entryCount * PACK_ENTRY_BYTES + (isEncrypted ? TAG_BYTES : 0);
  if (entryListOffset < PACK_HEADER_BYTES || entryListOffset + listLength + PACK_FOOTER_BYTES !== fileLength)
    throw damaged(name, 'its footer does not fit its length');
  if (!footer.subarray(24, 40).equals(packId)) throw damaged(name, 'it is another pack');
  return { entryCount, entryListOffset, listLength, keyId: isEncrypted ? keyIdText(footer.subarray(40, 56)) : undefined };
}

/** Entries of a trailer (entry list and footer together). Every entry lies within the pack. Throws PACK_DAMAGED. */
export function readPackEntries(trailer: Buffer, footer: PackFooter, name: string, cipher?: PackCipher): PackEntry[] {
  const { listLength } = footer;
  const start = trailer.subarray(listLength, listLength + footerStartBytes);
  if (!blake3(trailer.subarray(0, listLength + footerStartBytes)).equals(trailer.subarray(listLength + footerStartBytes, listLength + 96)))
    throw damaged(name, 'the checksum of its entry list differs');
  const stored = trailer.subarray(0, listLength);
  const list = cipher ? cipher.openList(start, footer.entryListOffset, stored) : stored;
  if (!list) throw damaged(name, 'its entry list was changed after it was encrypted');
  const entries: PackEntry[] = [];
  for (let at = 0; at < list.length; at += PACK_ENTRY_BYTES) {
    const entry: PackEntry = {
      digest: list.subarray(at, at + DIGEST_BYTES),
      offset: list.readUInt32BE(at + 32),
      storedLength: list.readUInt32BE(at + 36),
      rawLength: list.readUInt32BE(at + 40),
      codec: list[at + 44] as number,
      kind: list[at + 45] as number,
    };
    if (entry.offset < PACK_HEADER_BYTES || entry.offset + entry.storedLength > footer.entryListOffset || entry.rawLength > maxRawBytes)
      throw damaged(name, 'an entry points outside');
    entries.push(entry);
  }
  return entries;
}

function damaged(pack: string, problem: string) {
  return RepositoryErrors.PACK_DAMAGED({ pack, problem });
}
