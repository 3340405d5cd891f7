import { createCipheriv } from 'node:crypto';

/**
 * Incompressible bytes that depend on seed and position only, so that a test can compute what a disk must hold: the key stream of
 * AES-128-CTR with the seed as key, from byte `offsetBytes` on.
 */
export function seededBytes(seed: number, offsetBytes: number, lengthBytes: number): Buffer {
  const key = Buffer.alloc(16);
  key.writeDoubleBE(seed, 0);
  const counter = Buffer.alloc(16);
  counter.writeBigUInt64BE(BigInt(Math.floor(offsetBytes / 16)), 8);
  const skip = offsetBytes % 16;
  return createCipheriv('aes-128-ctr', key, counter)
    .update(Buffer.alloc(skip + lengthBytes))
    .subarray(skip);
}
