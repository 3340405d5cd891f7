/** What one block of a pack is compared with: what its pack's list says of it. The same on every thread. Pure. */
import { hasCode } from '../../../common/errors/tidemark-error';
import { verifiedRawForm } from '../../format/block';
import type { PackEntry } from '../../format/pack';
import type { PackCipher } from '../../format/pack-cipher';

/** Meta of the error of the same code, but for the digest. */
export interface BlockProblem {
  readonly code: 'BLOCK_MISSING' | 'BLOCK_CORRUPT';
  readonly problem: string;
}

/**
 * Problems of blocks that lie one behind the other, undefined for those that are what their digests say. `found`: what was read from `start` of the pack on,
 * cut short where the pack ends; encrypted blocks are decrypted in its memory.
 */
export function compareBlock(
  digestKey: Buffer,
  entry: PackEntry,
  found: Buffer,
  start: number,
  cipher: PackCipher | undefined,
): BlockProblem | undefined {
  const { digest, codec, rawLength, storedLength, offset } = entry;
  const stored = found.subarray(offset - start, offset - start + storedLength);
  if (stored.length < storedLength) return { code: 'BLOCK_MISSING', problem: 'its pack is cut short' };
  try {
    verifiedRawForm(digestKey, cipher ? cipher.openBlock(entry, offset, stored) : stored, codec, rawLength, digest);
    return undefined;
  } catch (error) {
    if (!hasCode(error, 'BLOCK_CORRUPT')) throw error;
    return { code: 'BLOCK_CORRUPT', problem: String(error.meta['problem']) };
  }
}
