import fs from 'node:fs';
import { randomFrom } from '../testing/test-disk';
import { temporaryFolder } from '../testing/test-mover';
import { OverlayPages, PageBudget } from './overlay-pages';

const digest = (n: number) => {
  const bytes = Buffer.alloc(32);
  bytes.writeUInt32BE(n + 1, 28);
  return bytes;
};

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
