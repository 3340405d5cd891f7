import { zstdDecompressSync } from 'node:zlib';
import { blockDigest } from '../format/block';
import type { TestLane } from './test-lane';

/** Repeatable pseudo-random numbers (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** A block of half compressible, repeatable bytes. */
export function sampleBlock(seed: number, length: number): Buffer {
  const random = randomFrom(seed);
  const block = Buffer.alloc(length, seed & 0xff);
  for (let at = 0; at + 4 <= length; at += 8) block.writeUInt32LE(Math.floor(random() * 4294967296), at);
  block.writeUInt32LE(seed >>> 0, 0);
  block[4] = 1;
  return block;
}

/** Reads a whole disk of a point through the data port, checking each digest. */
export async function readDisk(lane: TestLane, pointId: string, diskId = 'disk'): Promise<Buffer> {
  const { handle, sizeBytes, allocatedBlocks } = await lane.openImage(pointId, diskId);
  const { blockSizeBytes, digestKey } = lane.welcome;
  const image = Buffer.alloc(sizeBytes);
  const count = Math.ceil(sizeBytes / blockSizeBytes);
  let found = 0;
  for (let block = 0; block < count;) {
    const { blocks, next } = await lane.read(handle, block, 16);
    for (const { header, payload } of blocks) {
      const raw = header.codec === 1 ? zstdDecompressSync(payload) : payload;
      if (!blockDigest(digestKey, raw).equals(header.digest)) throw new Error(`digest of block ${header.block} differs`);
      raw.copy(image, header.block * blockSizeBytes);
      found++;
    }
    block = Math.max(block + 16, next);
  }
  if (found !== allocatedBlocks) throw new Error(`${found} blocks, not ${allocatedBlocks}`);
  return image;
}
