/** How blocks are compressed on their way to the mover and back: the codecs of docs/formats/pack.md. */
import { compressSync, uncompressSync } from 'lz4-napi';
import { BlockCodec } from '../../proto/data-mover/frame-types';
import { createCompressor, createDecompressor, decompressOnce } from './zstd-stream';
import type { BlockCompressor, BlockDecompressor } from './zstd-stream';

/** A compressor and the number of what it makes. */
export interface CodecCompressor extends BlockCompressor {
  readonly codec: BlockCodec;
}

/** What the mover asks for in its terms; undefined for a codec that is unknown here: blocks go as they are then. `level` is zstd's. */
export function compressorFor(codec: number, level: number): CodecCompressor | undefined {
  if (codec === BlockCodec.zstd) return { codec, ...createCompressor(level) };
  if (codec === BlockCodec.lz4) return { codec, compress: (raw, target, offset) => compressSync(raw).copy(target, offset) };
  return undefined;
}

const copy: BlockDecompressor = {
  decompress: (stored, target) => stored.length === target.length && stored.copy(target) === target.length,
};

const lz4: BlockDecompressor = {
  decompress: (stored, target) => {
    // The decompressor makes as much room as the first four bytes claim.
    if (stored.length < 4 || stored.readUInt32LE(0) !== target.length) return false;
    try {
      return uncompressSync(stored).copy(target) === target.length;
    } catch {
      return false; // the caller names the block and what is wrong with it
    }
  },
};

/** Decompressors by codec, with a kept context of zstd. */
export class Decompressors {
  private readonly zstd = createDecompressor();

  /** Fills `target` exactly. False when `stored` is not the form of that many bytes in this codec, or the codec is unknown. */
  decompress(codec: number, stored: Buffer, target: Buffer): boolean {
    return decompressorOf(codec, this.zstd)?.decompress(stored, target) ?? false;
  }

  /** The same in a context of its own, which nothing before can have left in disorder. */
  static once(codec: number, stored: Buffer, target: Buffer): boolean {
    return decompressorOf(codec, decompressOnce)?.decompress(stored, target) ?? false;
  }
}

function decompressorOf(codec: number, zstd: BlockDecompressor): BlockDecompressor | undefined {
  switch (codec) {
    case BlockCodec.none:
      return copy;
    case BlockCodec.zstd:
      return zstd;
    case BlockCodec.lz4:
      return lz4;
    default:
      return undefined;
  }
}
