/** Payloads with a structure of their own: offers, answers to them, lists of missing blocks, ranges of mapped ones. Big endian, as the frames. */
import { FrameViolation } from './frame-codec';
import { DIGEST_BYTES } from './frame-types';

/** Block index (u64) and digest. */
export const OFFER_ENTRY_BYTES = 8 + DIGEST_BYTES;

/** Writes entry `position` of an offer. The digest of a block of zeroes is all zero. */
export function writeOfferEntry(payload: Buffer, position: number, block: number, digest: Uint8Array): void {
  const at = position * OFFER_ENTRY_BYTES;
  writeUint64(payload, at, block);
  payload.set(digest, at + 8);
}

/** Number of entries. Throws FrameViolation when the payload is not a whole number of them. */
export function offerEntryCount(payload: Buffer): number {
  if (payload.length % OFFER_ENTRY_BYTES !== 0) throw new FrameViolation(`offer of ${payload.length} bytes`);
  return payload.length / OFFER_ENTRY_BYTES;
}

/** Block index of an entry; beyond 2^53 it is not exact but still out of every disk's range. */
export function offerBlock(payload: Buffer, position: number): number {
  return readUint64(payload, position * OFFER_ENTRY_BYTES);
}

/** Digest of an entry, as a view. */
export function offerDigest(payload: Buffer, position: number): Buffer {
  const at = position * OFFER_ENTRY_BYTES + 8;
  return payload.subarray(at, at + DIGEST_BYTES);
}

/** An empty answer for `count` entries: nothing is to be put. */
export function newPutBitmap(count: number): Buffer {
  return Buffer.alloc((count + 7) >> 3);
}

/** Marks entry `position`: put this block. */
export function setPutBit(bitmap: Buffer, position: number): void {
  bitmap[position >> 3] = (bitmap[position >> 3] as number) | (1 << (position & 7));
}

/** True when entry `position` is to be put. */
export function hasPutBit(bitmap: Uint8Array, position: number): boolean {
  return (((bitmap[position >> 3] ?? 0) >> (position & 7)) & 1) === 1;
}

/** Block indexes as DiskCommitted carries them. */
export function encodeBlockList(blocks: readonly number[]): Buffer {
  const payload = Buffer.allocUnsafe(blocks.length * 8);
  blocks.forEach((block, position) => writeUint64(payload, position * 8, block));
  return payload;
}

/** Reads what `encodeBlockList` wrote. Throws FrameViolation when the payload is not a whole number of indexes. */
export function decodeBlockList(payload: Buffer): number[] {
  if (payload.length % 8 !== 0) throw new FrameViolation(`block list of ${payload.length} bytes`);
  return Array.from({ length: payload.length / 8 }, (_, position) => readUint64(payload, position * 8));
}

/** Blocks that follow each other. */
export interface BlockRange {
  readonly firstBlock: number;
  readonly blockCount: number;
}

/** Ranges as Mapped carries them. */
export function encodeBlockRanges(ranges: readonly BlockRange[]): Buffer {
  return encodeBlockList(ranges.flatMap(({ firstBlock, blockCount }) => [firstBlock, blockCount]));
}

/** Reads what `encodeBlockRanges` wrote. Throws FrameViolation when the payload is not a whole number of ranges. */
export function decodeBlockRanges(payload: Buffer): BlockRange[] {
  if (payload.length % 16 !== 0) throw new FrameViolation(`block ranges of ${payload.length} bytes`);
  const numbers = decodeBlockList(payload);
  return Array.from({ length: numbers.length / 2 }, (_, i) => ({
    firstBlock: numbers[2 * i] as number,
    blockCount: numbers[2 * i + 1] as number,
  }));
}

function writeUint64(target: Buffer, at: number, value: number): void {
  target.writeUInt32BE(Math.floor(value / 0x1_0000_0000), at);
  target.writeUInt32BE(value >>> 0, at + 4);
}

function readUint64(source: Buffer, at: number): number {
  return source.readUInt32BE(at) * 0x1_0000_0000 + source.readUInt32BE(at + 4);
}
