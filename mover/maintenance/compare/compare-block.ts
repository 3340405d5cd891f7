/** What one block of a pack is compared with: what its pack's list says of it. The same on every thread. Pure. */
import { hasCode } from '../../../common/errors/tidemark-error';
import { Decompressors } from '../../../common/codec/block-codec';
import { BlockCodec, blockDigest, verifiedRawForm } from '../../format/block';
import type { PackEntry } from '../../format/pack';
import type { PackCipher } from '../../format/pack-cipher';

/** Meta of the error of the same code, but for the digest. */
export interface BlockProblem {
  readonly code: 'BLOCK_MISSING' | 'BLOCK_CORRUPT';
  readonly problem: string;
}

/** Compares blocks one after the other, in memory and a decompression context that it keeps: half of a verification's work is theirs. */
export class BlockComparer {
  private readonly decompressors = new Decompressors();
  private raw = Buffer.alloc(0);

  constructor(private readonly digestKey: Buffer) {}

  /**
   * What is wrong with a block; undefined when it is what its digest says. `found`: what was read from `start` of its pack on, cut short where the pack ends;
   * an encrypted block is decrypted in its memory.
   */
  problemOf(entry: PackEntry, found: Buffer, start: number, cipher: PackCipher | undefined): BlockProblem | undefined {
    const { storedLength, offset } = entry;
    const stored = found.subarray(offset - start, offset - start + storedLength);
    if (stored.length < storedLength) return { code: 'BLOCK_MISSING', problem: 'its pack is cut short' };
    try {
      const clear = cipher ? cipher.openBlock(entry, offset, stored) : stored;
      // Whatever is not good at the first try, the way that restores go says what it is.
      if (!this.isGood(entry, clear)) verifiedRawForm(this.digestKey, clear, entry.codec, entry.rawLength, entry.digest);
      return undefined;
    } catch (error) {
      if (!hasCode(error, 'BLOCK_CORRUPT')) throw error;
      return { code: 'BLOCK_CORRUPT', problem: String(error.meta['problem']) };
    }
  }

  private isGood({ codec, rawLength, digest }: PackEntry, stored: Buffer): boolean {
    if (this.raw.length < rawLength) this.raw = Buffer.allocUnsafeSlow(rawLength);
    const raw = codec === BlockCodec.none && stored.length === rawLength ? stored : this.raw.subarray(0, rawLength);
    return (raw === stored || this.decompressors.decompress(codec, stored, raw)) && blockDigest(this.digestKey, raw).equals(digest);
  }
}
