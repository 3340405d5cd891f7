import fs from 'node:fs';
import { runWorld, worldFolder } from '../../testing/soak';

/** `npm run soak` goes on with other seeds for as long as one likes. */
const seeds = Array.from({ length: 24 }, (_, i) => 1 + i);
const steps = 90;
const total = new Map<string, number>();

afterAll(() => expect(total.get('objects of maintenance repaired')).toBeGreaterThan(0));

test.each(seeds)(
  'whatever two movers do side by side, and wherever they die, no point is lost and space is given back (seed %i)',
  async (seed) => {
    const folder = worldFolder();
    try {
      const counts = await runWorld(seed, steps, folder);
      // A world in which nothing is deleted and nobody dies would prove nothing.
      expect(counts.get('condemned packs')).toBeGreaterThan(0);
      expect(counts.get('movers killed')).toBeGreaterThan(0);
      for (const [what, count] of counts) total.set(what, (total.get(what) ?? 0) + count);
    } finally {
      fs.rmSync(folder, { recursive: true, force: true });
    }
  },
  300_000,
);
