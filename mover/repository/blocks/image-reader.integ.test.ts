/** Reading ahead: several parts at the same time, in order, with the pool's buffers and no more. */
import { setTimeout as sleep } from 'node:timers/promises';
import { sampleBlock } from '../../testing/test-disk';
import { temporaryFolder } from '../../testing/test-mover';
import { TestRepository } from '../../testing/test-repository';
import { RepositoryErrors } from '../../errors/mover-errors';
import { BufferPool } from './buffer-pool';
import { ImageReader } from './image-reader';

const blockBytes = 65_536;
const blocks = 24;

describe('an image', () => {
  let scratch: ReturnType<typeof temporaryFolder>;
  let opened: TestRepository;
  let image: ImageReader;
  /** Reads under way at the same time, at most. */
  let most = 0;
  let failAt = -1;
  let seen = 0;
  let reason = 'ETIMEDOUT';
  beforeAll(async () => {
    scratch = temporaryFolder();
    opened = await TestRepository.open(scratch.folder);
    // Backwards, so that no two of them lie one behind the other.
    const content = Array.from({ length: blocks }, (_, i) => [blocks - 1 - i, sampleBlock(blocks - i, blockBytes)] as const);
    const point = await opened.backup(blocks * blockBytes, new Map(content));
    image = await ImageReader.open(opened.repository, point, 'disk');
    await image.nextAllocated(0);
    const { store } = opened.repository;
    const read = store.read.bind(store);
    let running = 0;
    jest.spyOn(store, 'read').mockImplementation(async (name, offset, target) => {
      most = Math.max(most, ++running);
      try {
        if (seen++ === failAt) throw RepositoryErrors.REPOSITORY_IO({ what: name, reason });
        await sleep(5);
        return await read(name, offset, target);
      } finally {
        running--;
      }
    });
  });
  afterAll(async () => {
    jest.restoreAllMocks();
    await opened.close();
    scratch[Symbol.dispose]();
  });
  beforeEach(() => {
    most = 0;
    failAt = -1;
  });

  /** Reads everything; buffers are given back a moment after they were sent, as a socket does it. */
  const readAll = async (pool: BufferPool, turn?: Promise<void>) => {
    const order: number[] = [];
    await image.read(
      0,
      blocks,
      pool,
      async (group, buffer) => {
        for (const { block } of group) order.push(block);
        void sleep(1).then(() => pool.release(buffer));
      },
      turn,
    );
    return order;
  };
  const ascending = Array.from({ length: blocks }, (_, i) => i);
  const assertAllBack = async (pool: BufferPool, count: number) => {
    for (let i = 0; i < count; i++) await pool.acquire();
  };

  test('is read in several places at the same time, and sent in order', async () => {
    const pool = new BufferPool(blockBytes * 2, 16);
    expect(await readAll(pool)).toEqual(ascending);
    expect(most).toBe(4);
    await assertAllBack(pool, 16);
  });

  test('takes no more ahead than the pool can spare', async () => {
    for (const limit of [1, 2, 3]) {
      most = 0;
      const pool = new BufferPool(blockBytes * 2, limit);
      expect(await readAll(pool)).toEqual(ascending);
      expect(most).toBeLessThanOrEqual(2);
      await assertAllBack(pool, limit);
    }
  });

  test('many at once share a small pool, each to its end', async () => {
    const pool = new BufferPool(blockBytes * 2, 4);
    expect(await Promise.all(Array.from({ length: 6 }, () => readAll(pool)))).toEqual(Array.from({ length: 6 }, () => ascending));
    await assertAllBack(pool, 4);
  });

  test('is read before its turn, and sent in it', async () => {
    const pool = new BufferPool(blockBytes * 2, 16);
    let begin: () => void = () => undefined;
    const turn = new Promise<void>((resolve) => (begin = resolve));
    let sent = false;
    const reading = readAll(pool, turn).then((order) => {
      sent = true;
      return order;
    });
    while (most < 4) await sleep(5);
    expect(sent).toBe(false);
    begin();
    expect(await reading).toEqual(ascending);
  });

  test.each([0, 1, 7, blocks - 1])('gives all buffers back when read %i fails', async (nth) => {
    failAt = seen + nth;
    const pool = new BufferPool(blockBytes * 2, 16);
    await expect(readAll(pool)).rejects.toMatchObject({ code: 'REPOSITORY_IO' });
    await assertAllBack(pool, 16);
  });

  test('asks again for what could not be read, in its place, also with one buffer', async () => {
    reason = 'EIO';
    for (const limit of [1, 16]) {
      failAt = seen + 5;
      const pool = new BufferPool(blockBytes * 2, limit);
      expect(await readAll(pool)).toEqual(ascending);
      await assertAllBack(pool, limit);
    }
  });
});
