import fs from 'node:fs';
import { randomFrom } from '../testing/test-disk';
import { temporaryFolder } from '../testing/test-mover';
import { OverlayPages, PageBudget } from './overlay-pages';

const digest = (n: number) => {
  const bytes = Buffer.alloc(32);
  bytes.writeUInt32BE(n + 1, 28);
  return bytes;
};

test('a page that cannot be put into the scratch file is not lost, and memory stays bounded', () => {
  using scratch = temporaryFolder();
  const budget = new PageBudget(2);
  const overlay = new OverlayPages(20, scratch.folder, budget);
  // Each of the first three pages has been in the scratch file once, with something older on it.
  for (const n of [0, 1]) for (let page = 0; page < 3; page++) overlay.set(page * 256, digest(n));
  overlay.set(256, digest(7));
  overlay.set(512, digest(8));
  const full = jest.spyOn(fs, 'writeSync').mockImplementation(() => {
    throw Object.assign(new Error('full'), { code: 'ENOSPC' });
  });
  try {
    for (let page = 3; page < 20; page++)
      expect(() => overlay.set(page * 256, digest(9))).toThrow(expect.objectContaining({ code: 'REPOSITORY_IO' }) as Error);
    expect((overlay as unknown as { inMemory: Map<number, unknown> }).inMemory.size).toBe(2);
    expect((budget as unknown as { pages: Set<unknown> }).pages.size).toBe(2);
  } finally {
    full.mockRestore();
  }
  const at = (block: number) => {
    let found: Buffer | undefined;
    overlay.forEachSet(Math.floor(block / 256), (position, one) => {
      if (position === block % 256) found = Buffer.from(one);
    });
    return found;
  };
  expect([at(0), at(256), at(512), at(768)]).toEqual([digest(1), digest(7), digest(8), undefined]);
  overlay.set(768, digest(9));
  expect(at(768)).toEqual(digest(9));
  overlay.dispose();
});

test('pages come back from the scratch file as they were, whatever the budget', () => {
  using scratch = temporaryFolder();
  const budget = new PageBudget(2);
  const overlays = [new OverlayPages(20, scratch.folder, budget), new OverlayPages(20, scratch.folder, budget)];
  const models = [new Map<number, number>(), new Map<number, number>()];
  const random = randomFrom(7);
  for (let i = 0; i < 3000; i++) {
    const which = random() < 0.5 ? 0 : 1;
    const block = Math.floor(random() * 5120);
    if (random() < 0.02) {
      const count = Math.min(5120 - block, Math.floor(random() * 1500));
      overlays[which]?.zero(block, count);
      for (let b = block; b < block + count; b++) models[which]?.set(b, -1);
    } else {
      overlays[which]?.set(block, digest(i));
      models[which]?.set(block, i);
    }
  }
  for (const [which, overlay] of overlays.entries()) {
    const model = models[which] as Map<number, number>;
    for (let block = 0; block < 5120; block++) expect(overlay.isSet(block)).toBe(model.has(block));
    for (let page = 0; page < 20; page++) {
      const set = new Map<number, Buffer>();
      overlay.forEachSet(page, (position, found) => set.set(page * 256 + position, Buffer.from(found)));
      for (let block = page * 256; block < (page + 1) * 256; block++) {
        const expected = model.get(block);
        if (expected === undefined) expect(set.has(block)).toBe(false);
        else if (expected === -1) expect(set.get(block)?.equals(Buffer.alloc(32)) ?? overlay.isZeroed(page)).toBe(true);
        else expect(set.get(block)).toEqual(digest(expected));
      }
    }
    overlay.dispose();
  }
  // Scratch files have no name: nothing is left, however the process ends.
  expect(fs.readdirSync(scratch.folder)).toEqual([]);
});
