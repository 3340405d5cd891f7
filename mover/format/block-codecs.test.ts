import fs from 'node:fs';
import path from 'node:path';
import { protoRoot } from '../../proto/loader';
import { BlockCodec, rawForm, storeForm, ZERO_DIGEST } from './block';

const text = Buffer.from('some words that come again and again, in a block that is worth it. '.repeat(1000));

/** https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md, read by hand: what is stored can be read without our library. */
function readLz4Block(block: Buffer): Buffer {
  const out: number[] = [];
  let at = 0;
  const length = (nibble: number) => {
    let sum = nibble;
    for (let byte = nibble === 15 ? 255 : 0; byte === 255; sum += byte) byte = block[at++] as number;
    return sum;
  };
  while (at < block.length) {
    const token = block[at++] as number;
    for (let left = length(token >> 4); left > 0; left--) out.push(block[at++] as number);
    if (at >= block.length) break;
    const distance = block.readUInt16LE(at);
    at += 2;
    for (let left = length(token & 15) + 4; left > 0; left--) out.push(out[out.length - distance] as number);
  }
  return Buffer.from(out);
}

test('lz4 is stored as its raw length and one block of the documented format', () => {
  const { codec, payload } = storeForm(text, BlockCodec.lz4, 1);
  expect(codec).toBe(BlockCodec.lz4);
  expect(payload.readUInt32LE(0)).toBe(text.length);
  expect(readLz4Block(payload.subarray(4)).equals(text)).toBe(true);
  expect(rawForm(payload, codec, text.length, ZERO_DIGEST).equals(text)).toBe(true);
});

test('golden bytes of lz4 (read only: the compressed bytes are the compressor’s business)', () => {
  const golden = fs.readFileSync(path.join(protoRoot, '..', 'mover', 'format', 'golden', 'block-2.lz4'));
  expect(rawForm(golden, BlockCodec.lz4, text.length, ZERO_DIGEST).equals(text)).toBe(true);
});

test.each([BlockCodec.zstd, BlockCodec.lz4])('codec %i refuses what is damaged, and claims of other lengths', (wanted) => {
  const { codec, payload } = storeForm(text, wanted, 1);
  const boasting = Buffer.from(payload);
  boasting.writeUInt32LE(0xffffffff, 0);
  for (const bad of [payload.subarray(0, payload.length - 9), payload.subarray(0, 3), boasting])
    expect(() => rawForm(bad, codec, text.length, ZERO_DIGEST)).toThrow(expect.objectContaining({ code: 'BLOCK_CORRUPT' }));
  expect(() => rawForm(payload, codec, text.length - 1, ZERO_DIGEST)).toThrow(expect.objectContaining({ code: 'BLOCK_CORRUPT' }));
  expect(() => rawForm(payload, 7, text.length, ZERO_DIGEST)).toThrow('unknown codec 7');
});

test('what does not get smaller is stored as it is', () => {
  for (const wanted of [BlockCodec.zstd, BlockCodec.lz4, BlockCodec.none])
    expect(storeForm(Buffer.from([1, 2, 3]), wanted, 1)).toEqual({ codec: BlockCodec.none, payload: Buffer.from([1, 2, 3]) });
});
