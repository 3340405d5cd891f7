import { Blake3Hasher, blake3 } from '@napi-rs/blake-hash';
import { DIGEST_BYTES, PAYLOAD_CHECK_BYTES } from '../../proto/data-mover/frame-types';

/** Digest of a block of zeroes. */
export const ZERO_DIGEST: Buffer = Buffer.alloc(DIGEST_BYTES);

/** BLAKE3 keyed with the repository's key over a raw block that is not all zero. */
export function blockDigest(digestKey: Buffer, raw: Buffer): Buffer {
  return Blake3Hasher.newKeyed(digestKey).update(raw).digestBuffer();
}

/** First 16 bytes of BLAKE3 over a stored form. */
export function payloadCheck(stored: Buffer): Buffer {
  return blake3(stored).subarray(0, PAYLOAD_CHECK_BYTES);
}

/** True when every byte is zero: the first is, and the rest equals itself shifted by one. Free on ordinary data. */
export function isZero(bytes: Buffer): boolean {
  if (bytes.length === 0) return true;
  return bytes[0] === 0 && bytes.compare(bytes, 1, bytes.length, 0, bytes.length - 1) === 0;
}
