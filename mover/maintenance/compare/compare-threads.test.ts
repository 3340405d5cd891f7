/** Threads find what the main thread finds, block by block, and memory comes back. */
import { randomUUID } from 'node:crypto';
import { BlockCodec, blockDigest, storeForm } from '../../format/block';
import type { PackEntry } from '../../format/pack';
import { PackCipher } from '../../format/pack-cipher';
import { uuidBytes } from '../../repository/blocks/pack-table';
import { sampleBlock } from '../../testing/test-disk';
import { comparerFor } from './choose-comparer';
import { CompareThreads } from './compare-threads';
import type { Comparer, Piece } from './comparer';

const digestKey = Buffer.alloc(32, 7);
const dataKey = { keyId: randomUUID(), key: Buffer.alloc(32, 9) };
const keys = { find: (keyId: string) => (keyId === dataKey.keyId ? dataKey.key : undefined) };
const start = 5000;
const codecs = [BlockCodec.zstd, BlockCodec.lz4, BlockCodec.none] as const;

/** Nine blocks; the fifth is damaged, the last one cut off. */
function damagedPiece(packId: string, cipher: PackCipher | undefined): Piece {
  const entries: PackEntry[] = [];
  const stored: Buffer[] = [];
  let offset = start;
  for (let number = 0; number < 9; number++) {
    const raw = sampleBlock(number + 1, 65_536);
    const { codec, payload } = storeForm(raw, codecs[number % 3] as BlockCodec, 1);
    const traits = { digest: blockDigest(digestKey, raw), codec, kind: 0, rawLength: raw.length };
    const sealed = cipher?.sealBlock(traits, offset, payload);
    const bytes = sealed ? Buffer.concat([sealed.body, sealed.tag]) : Buffer.from(payload);
    if (number === 4) bytes.fill(0x55, 200, 300);
    entries.push({ ...traits, offset, storedLength: bytes.length });
    stored.push(bytes);
    offset += bytes.length;
  }
  const memory = Buffer.allocUnsafeSlow(1024 * 1024);
  return { packId, cipher, entries, start, memory, length: Buffer.concat(stored).copy(memory) - 1 };
}

describe.each([['in the clear'], ['encrypted']])('pieces of a pack, %s', (name) => {
  const piece = () => {
    const packId = randomUUID();
    return damagedPiece(packId, name === 'encrypted' ? new PackCipher(dataKey.key, dataKey.keyId, uuidBytes(packId)) : undefined);
  };
  const compareAll = async (comparer: Comparer) => {
    try {
      return await Promise.all(Array.from({ length: 5 }, () => comparer.compare(piece())));
    } finally {
      await comparer.close();
    }
  };

  test('are compared by threads as by the main thread', async () => {
    const repository = { digestKey, keys: name === 'encrypted' ? keys : undefined };
    const byThreads = await compareAll(comparerFor(repository, 0, 2));
    const byMain = await compareAll(comparerFor(repository, 0));
    const found = byThreads.map(({ problems }) => problems);
    expect(found).toEqual(byMain.map(({ problems }) => problems));
    const expected = Array.from({ length: 9 }, (_, number) =>
      number === 4 ? 'BLOCK_CORRUPT' : number === 8 ? 'BLOCK_MISSING' : undefined,
    );
    for (const problems of found) expect(problems.map((problem) => problem?.code)).toEqual(expected);
    for (const { memory } of byThreads) expect(memory.length).toBe(1024 * 1024);
  });
});

test('what a thread cannot do fails, what comes next is done, and what runs when all is closed fails', async () => {
  const comparer = new CompareThreads(digestKey, undefined, 1);
  try {
    // More than there is memory.
    await expect(comparer.compare({ ...damagedPiece(randomUUID(), undefined), length: 2 ** 40 })).rejects.toMatchObject({
      code: 'VERIFICATION_CRASHED',
    });
    expect((await comparer.compare(damagedPiece(randomUUID(), undefined))).problems[4]?.code).toBe('BLOCK_CORRUPT');
    // Enough to be under way still when all is closed.
    const piece = damagedPiece(randomUUID(), undefined);
    const running = comparer.compare({ ...piece, entries: Array.from({ length: 2000 }, () => piece.entries).flat() });
    const closed = expect(running).rejects.toMatchObject({ code: 'VERIFICATION_CRASHED' });
    await comparer.close();
    await closed;
  } finally {
    await comparer.close();
  }
});
