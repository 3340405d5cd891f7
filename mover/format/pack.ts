/** Packs: header, entry list and footer, as docs/formats/pack.md has them. Pure: it reads and writes bytes, never files. */
import { blake3 } from '@napi-rs/blake-hash';
import { RepositoryErrors } from '../errors/mover-errors';
import { DIGEST_BYTES } from './block';

export const PACK_HEADER_BYTES = 64;
export const PACK_ENTRY_BYTES = 48;
export const PACK_FOOTER_BYTES = 96;
/** A pack is sealed when it has this many bytes; one more block and the trailer keep it below 80 MiB. */
export const PACK_TARGET_BYTES = 64 * 1024 * 1024;
const version = 1;
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
export function packHeader(packId: Buffer, repositoryId: Buffer): Buffer {
  const header = Buffer.alloc(PACK_HEADER_BYTES);
  header.write('TDMKPACK', 0, 'latin1');
  header.writeUInt16BE(version, 8);
  packId.copy(header, 16);
  repositoryId.copy(header, 32);
  return header;
}

/** Everything after the last block: entry list and footer; `entryListOffset` is where it begins in the file. */
export function packTrailer(packId: Buffer, entries: readonly PackEntry[], entryListOffset: number): Buffer {
  const listLength = entries.length * PACK_ENTRY_BYTES;
  const trailer = Buffer.alloc(listLength + PACK_FOOTER_BYTES);
  entries.forEach((entry, i) => {
    const at = i * PACK_ENTRY_BYTES;
    entry.digest.copy(trailer, at);
    trailer.writeUInt32BE(entry.offset, at + 32);
    trailer.writeUInt32BE(entry.storedLength, at + 36);
    trailer.writeUInt32BE(entry.rawLength, at + 40);
    trailer[at + 44] = entry.codec;
    trailer[at + 45] = entry.kind;
  });
  trailer.write('TDMKTAIL', listLength, 'latin1');
  trailer.writeUInt16BE(version, listLength + 8);
  trailer.writeUInt32BE(entries.length, listLength + 12);
  trailer.writeBigUInt64BE(BigInt(entryListOffset), listLength + 16);
  packId.copy(trailer, listLength + 24);
  blake3(trailer.subarray(0, listLength + 64)).copy(trailer, listLength + 64);
  return trailer;
}

/** What a footer says about the entry list. */
export interface PackFooter {
  readonly entryCount: number;
  readonly entryListOffset: number;
}

/** Reads the last 96 bytes of a pack of `fileLength` bytes. Throws PACK_DAMAGED or REPOSITORY_FORMAT_UNKNOWN. */
export function readPackFooter(footer: Buffer, fileLength: number, packId: Buffer, name: string): PackFooter {
  if (footer.length !== PACK_FOOTER_BYTES || footer.toString('latin1', 0, 8) !== 'TDMKTAIL') throw damaged(name, 'it has no footer');
  const found = footer.readUInt16BE(8);
  if (found !== version) throw RepositoryErrors.REPOSITORY_FORMAT_UNKNOWN({ object: name, version: found });
  const entryCount = footer.readUInt32BE(12);
  const entryListOffset = Number(footer.readBigUInt64BE(16));
  if (entryListOffset < PACK_HEADER_BYTES || entryListOffset + entryCount * PACK_ENTRY_BYTES + PACK_FOOTER_BYTES !== fileLength)
    throw damaged(name, 'its footer does not fit its length');
  if (!footer.subarray(24, 40).equals(packId)) throw damaged(name, 'it is another pack');
  return { entryCount, entryListOffset };
}

/** Entries of a trailer (entry list and footer together). Every entry lies within the pack. Throws PACK_DAMAGED. */
export function readPackEntries(trailer: Buffer, footer: PackFooter, name: string): PackEntry[] {
  const listLength = footer.entryCount * PACK_ENTRY_BYTES;
  if (!blake3(trailer.subarray(0, listLength + 64)).equals(trailer.subarray(listLength + 64, listLength + 96)))
    throw damaged(name, 'the checksum of its entry list differs');
  const entries: PackEntry[] = [];
  for (let at = 0; at < listLength; at += PACK_ENTRY_BYTES) {
    const entry: PackEntry = {
      digest: trailer.subarray(at, at + DIGEST_BYTES),
      offset: trailer.readUInt32BE(at + 32),
      storedLength: trailer.readUInt32BE(at + 36),
      rawLength: trailer.readUInt32BE(at + 40),
      codec: trailer[at + 44] as number,
      kind: trailer[at + 45] as number,
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
