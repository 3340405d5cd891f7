import { randomBytes } from 'node:crypto';
import zlib from 'node:zlib';
import { compressBound, createCompressor, createDecompressor, decompressOnce } from './zstd-stream';

const samples = {
  text: Buffer.from('some words that come again and again. '.repeat(3_000)),
  noise: randomBytes(200_000),
  zeroes: Buffer.alloc(100_000),
  byte: Buffer.from([7]),
};

describe('zstd of blocks', () => {
  it.each(Object.entries(samples))('compresses %s to what any zstd reads, again and again', (_name, raw) => {
    const compressor = createCompressor(1);
    const target = Buffer.alloc(compressBound(raw.length) + 128);
    for (let time = 0; time < 3; time += 1) {
      const length = compressor.compress(raw, target, 128);
      expect(zlib.zstdDecompressSync(target.subarray(128, 128 + length)).equals(raw)).toBe(true);
    }
  });

  it.each(Object.entries(samples))('decompresses %s exactly, by both ways', (_name, raw) => {
    const stored = zlib.zstdCompressSync(raw);
    for (const decompressor of [createDecompressor(), decompressOnce]) {
      const target = Buffer.alloc(raw.length);
      expect(decompressor.decompress(stored, target)).toBe(true);
      expect(target.equals(raw)).toBe(true);
    }
  });

  it('refuses what is damaged, cut, or of another length, and goes on afterwards', () => {
    const decompressor = createDecompressor();
    const good = zlib.zstdCompressSync(samples.text);
    const damaged = Buffer.from(good);
    damaged[2] = (damaged[2] as number) ^ 0xff;
    const target = Buffer.alloc(samples.text.length);
    for (const bad of [
      damaged,
      good.subarray(0, good.length - 9),
      Buffer.from('nonsense'),
      zlib.zstdCompressSync(samples.text.subarray(1)),
    ]) {
      expect(decompressor.decompress(bad, target)).toBe(false);
      expect(decompressor.decompress(good, target)).toBe(true);
      expect(target.equals(samples.text)).toBe(true);
    }
  });
});
