/** A reduced `npm run scale`: what the index of many blocks takes in memory, and that it answers rightly. docs/scale.md has the large one. */
import { temporaryFolder } from '../test-mover';
import { makeLarge, measureIndex } from './measure-index';
import { measureMark, writeTrees } from './measure-mark';

const blocks = 200_000;
/**
 * 64 bytes for each of up to 32 768 entries that there is room for in memory, 11 bits in filters and tables for all, 400 bytes for each of 1563 packs: 3 MB.
 * All entries in memory would take 15 MB.
 */
const boundBytes = 8 * 1024 * 1024;

test('the index of 200 000 blocks takes memory for its newest entries, not for all', async () => {
  using scratch = temporaryFolder();
  await makeLarge(scratch.folder, blocks);
  const limits = { memoryEntries: 16_384, maxRuns: 4 };
  const rebuilt = await measureIndex(scratch.folder, blocks, 20_000, limits);
  expect(rebuilt.entries).toBe(blocks);
  expect(rebuilt.heldBytes).toBeLessThan(boundBytes);
  const reopened = await measureIndex(scratch.folder, blocks, 20_000, limits);
  expect(reopened.heldBytes).toBeLessThan(boundBytes);
  expect(reopened.packs).toBe(rebuilt.packs);
  // All entries on the disk: 48 bytes each and the tables.
  expect(reopened.cacheBytes).toBeLessThan(blocks * 52 + 100_000);
  await writeTrees(scratch.folder, blocks);
  const mark = await measureMark(scratch.folder);
  expect(mark.packs).toBeGreaterThan(reopened.packs);
  // A filter of 128 bytes and its object for each pack, and the places of 800 pages; all digests would take 6.4 MB.
  expect(mark.heldBytes).toBeLessThan(3 * 1024 * 1024);
}, 600_000);
