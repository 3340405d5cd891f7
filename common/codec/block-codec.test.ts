import { randomBytes } from 'node:crypto';
import { BlockCodec } from '../../proto/data-mover/frame-types';
import { compressorFor, Decompressors } from './block-codec';
import type { CodecCompressor } from './block-codec';
import { compressBound } from './zstd-stream';

const samples = {
  text: Buffer.from('some words that come again and again. '.repeat(30_000)),
  noise: randomBytes(4 << 20),
  byte: Buffer.from([7]),
};
const compressed = (compressor: CodecCompressor, raw: Buffer) => {
  const target = Buffer.alloc(compressBound(raw.length) + 128);
  return Buffer.from(target.subarray(128, 128 + compressor.compress(raw, target, 128)));
};

describe.each([BlockCodec.zstd, BlockCodec.lz4])('codec %i', (codec) => {
  const compressor = compressorFor(codec, 1) as CodecCompressor;
  const decompressors = new Decompressors();

  it.each(Object.entries(samples))('gives %s back', (_name, raw) => {
    expect(compressor.codec).toBe(codec);
    const stored = compressed(compressor, raw);
    for (const decompress of [decompressors.decompress.bind(decompressors), Decompressors.once.bind(Decompressors)]) {
      const target = Buffer.alloc(raw.length);
      expect(decompress(codec, stored, target)).toBe(true);
      expect(target.equals(raw)).toBe(true);
    }
  });

  it('refuses what is cut, of another length or codec, or claims more than there is room for', () => {
    const { text } = samples;
    const stored = compressed(compressor, text);
    const target = Buffer.alloc(text.length);
    const boasting = Buffer.from(stored);
    boasting.writeUInt32LE(0xffffffff, 0);
    for (const bad of [stored.subarray(0, stored.length - 9), Buffer.alloc(3), boasting, compressed(compressor, text.subarray(1))])
      expect(decompressors.decompress(codec, bad, target)).toBe(false);
    expect(decompressors.decompress(codec === BlockCodec.lz4 ? BlockCodec.zstd : BlockCodec.lz4, stored, target)).toBe(false);
    expect(decompressors.decompress(9, stored, target)).toBe(false);
    expect(decompressors.decompress(codec, stored, target)).toBe(true);
  });
});

it('sends blocks as they are where the mover asks for no codec, or one that is unknown here', () => {
  expect(compressorFor(BlockCodec.none, 0)).toBeUndefined();
  expect(compressorFor(9, 1)).toBeUndefined();
  const target = Buffer.alloc(3);
  expect(new Decompressors().decompress(BlockCodec.none, Buffer.from('abc'), target)).toBe(true);
  expect(new Decompressors().decompress(BlockCodec.none, Buffer.from('abcd'), target)).toBe(false);
});
