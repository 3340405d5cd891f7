/** Index pages: the tree that maps a disk's blocks to digests, as docs/formats/index.md has it. Pure. */
import { DIGEST_BYTES, isZero } from './block';

/** Digests in a page, pages under a page. */
export const PAGE_FAN_OUT = 256;
export const PAGE_BYTES = PAGE_FAN_OUT * DIGEST_BYTES;
/** 64 TiB at 1 MiB. */
export const MAX_DISK_BLOCKS = 2 ** 26;

/** Blocks of a disk; the last one may be short. */
export function blockCount(sizeBytes: number, blockSizeBytes: number): number {
  return Math.ceil(sizeBytes / blockSizeBytes);
}

/** Raw length of a block: the block size, or less for the last one. */
export function rawLengthOf(block: number, sizeBytes: number, blockSizeBytes: number): number {
  return Math.min(blockSizeBytes, sizeBytes - block * blockSizeBytes);
}

/** Levels of the tree: the least L >= 1 with 256^L >= blocks. Level 0 pages are leaves, level L-1 is the root. */
export function levelCount(blocks: number): number {
  let levels = 1;
  for (let reach = PAGE_FAN_OUT; reach < blocks; reach *= PAGE_FAN_OUT) levels++;
  return levels;
}

/** Blocks under one page of a level. */
export function blocksPerPage(level: number): number {
  return PAGE_FAN_OUT ** (level + 1);
}

/** Digest at a position of a page, as a view. */
export function pageDigest(page: Buffer, position: number): Buffer {
  return page.subarray(position * DIGEST_BYTES, (position + 1) * DIGEST_BYTES);
}

/** True when the position of a page holds the zero digest. */
export function isZeroAt(page: Buffer, position: number): boolean {
  return isZero(pageDigest(page, position));
}

/** Positions of a page that are not zero. */
export function countAllocated(page: Buffer): number {
  let count = 0;
  for (let position = 0; position < PAGE_FAN_OUT; position++) if (!isZeroAt(page, position)) count++;
  return count;
}
