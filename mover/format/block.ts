/** Blocks: digests and stored forms, as docs/formats/pack.md has them. Pure. */
import zlib from 'node:zlib';
import { blake3, Blake3Hasher } from '@napi-rs/blake-hash';
import { compressSync, uncompressSync } from 'lz4-napi';
import { BlockCodec, DIGEST_BYTES, PAYLOAD_CHECK_BYTES } from '../../proto/data-mover/frame-types';
import { BlockErrors } from '../errors/mover-errors';

export { BlockCodec, DIGEST_BYTES };

/** Digest of a block or page of zeroes; such are never stored. */
export const ZERO_DIGEST: Buffer = Buffer.alloc(DIGEST_BYTES);

/** 0 disk block, 1 index page. */
export const BlockKind = { data: 0, page: 1 } as const;
export type BlockKind = (typeof BlockKind)[keyof typeof BlockKind];

/** Digest of a raw block that is not all zero. */
export function blockDigest(digestKey: Buffer, raw: Uint8Array): Buffer {
  return Blake3Hasher.newKeyed(digestKey).update(raw).digestBuffer();
}

/** First 16 bytes of BLAKE3 over a stored form, as Put carries them. */
export function payloadCheck(stored: Uint8Array): Buffer {
  return blake3(stored).subarray(0, PAYLOAD_CHECK_BYTES);
}

/** True when every byte is zero. */
export function isZero(bytes: Buffer): boolean {
  if (bytes.length === 0) return true;
  // Equal to itself shifted by one byte, and the first one is zero: no second buffer is needed.
  return bytes[0] === 0 && bytes.compare(bytes, 1, bytes.length, 0, bytes.length - 1) === 0;
}

/** A compressed form must save 5 %. */
const worthCompressing = 0.95;

/** Stored form of a block: compressed when that saves 5 %. `level` is zstd's. */
export function storeForm(raw: Buffer, codec: BlockCodec, level: number): { codec: BlockCodec; payload: Buffer } {
  const payload = compressed(raw, codec, level);
  return payload && payload.length < raw.length * worthCompressing ? { codec, payload } : { codec: BlockCodec.none, payload: raw };
}

function compressed(raw: Buffer, codec: BlockCodec, level: number): Buffer | undefined {
  switch (codec) {
    case BlockCodec.zstd:
      return zlib.zstdCompressSync(raw, { chunkSize: raw.length + 4096, params: { [zlib.constants.ZSTD_c_compressionLevel]: level } });
    case BlockCodec.lz4:
      return compressSync(raw);
    default:
      return undefined;
  }
}

/** The raw block. Throws BLOCK_CORRUPT when it does not decompress to exactly `rawLength` bytes. The digest is not checked. */
export function rawForm(stored: Buffer, codec: number, rawLength: number, digest: Uint8Array): Buffer {
  const corrupt = (problem: string, cause?: unknown) => BlockErrors.BLOCK_CORRUPT({ digest: hexOf(digest), problem }, { cause });
  if (codec === BlockCodec.none) {
    if (stored.length === rawLength) return stored;
    throw corrupt(`its length is ${stored.length}, not ${rawLength}`);
  }
  if (codec !== BlockCodec.zstd && codec !== BlockCodec.lz4) throw corrupt(`unknown codec ${codec}`);
  // The decompressor makes as much room as the first four bytes claim.
  if (codec === BlockCodec.lz4 && (stored.length < 4 || stored.readUInt32LE(0) !== rawLength)) throw corrupt('its lengths differ');
  let raw: Buffer;
  try {
    raw =
      codec === BlockCodec.lz4
        ? uncompressSync(stored)
        : // chunkSize above the result: one buffer, and a fifth less time; maxOutputLength: what is stored may lie.
          zlib.zstdDecompressSync(stored, { chunkSize: rawLength + 4096, maxOutputLength: rawLength + 4096 });
  } catch (cause) {
    throw corrupt('it does not decompress', cause);
  }
  if (raw.length !== rawLength) throw corrupt(`it decompresses to ${raw.length} bytes`);
  return raw;
}

/** As `rawForm`, and the digest is checked. */
export function verifiedRawForm(digestKey: Buffer, stored: Buffer, codec: number, rawLength: number, digest: Uint8Array): Buffer {
  const raw = rawForm(stored, codec, rawLength, digest);
  if (!blockDigest(digestKey, raw).equals(digest))
    throw BlockErrors.BLOCK_CORRUPT({ digest: hexOf(digest), problem: 'its content differs from its digest' });
  return raw;
}

export function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}
