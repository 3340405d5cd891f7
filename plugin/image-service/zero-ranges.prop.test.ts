import fc from 'fast-check';
import { ZeroRanges } from './zero-ranges';

const kib = 1024;

/** Extents in a row, of a disk that begins at 0. */
const extents = fc
  .array(fc.record({ length: fc.integer({ min: 1, max: 12 }).map((n) => n * 16 * kib), zero: fc.boolean() }), { maxLength: 60 })
  .map((list) => {
    let start = 0;
    return list.map((one) => {
      const extent = { start, ...one };
      start += one.length;
      return extent;
    });
  });

function collected(list: readonly { start: number; length: number; zero: boolean }[], most?: number) {
  const ranges = new ZeroRanges(most);
  for (const { start, length, zero } of list) ranges.add(start, length, zero);
  return ranges.finish();
}

/** Neighbours in one, short ones left out. */
function zeroRuns(list: readonly { start: number; length: number; zero: boolean }[]) {
  const runs: { start: number; length: number }[] = [];
  for (const { start, length, zero } of list) {
    const last = runs.at(-1);
    if (!zero) continue;
    if (last && last.start + last.length === start) last.length += length;
    else runs.push({ start, length });
  }
  return runs.filter(({ length }) => length >= 64 * kib);
}

it('are the runs of zero extents that are worth leaving out', () => {
  fc.assert(fc.property(extents, (list) => expect(collected(list)).toEqual(zeroRuns(list))));
});

it('are the longest ones in their order when there are too many, however many come', () => {
  fc.assert(
    fc.property(extents, fc.integer({ min: 1, max: 6 }), (list, most) => {
      const all = zeroRuns(list);
      const kept = collected(list, most);
      expect(kept).toHaveLength(Math.min(most, all.length));
      expect(all).toEqual(expect.arrayContaining([...kept]));
      expect([...kept].sort((a, b) => a.start - b.start)).toEqual(kept);
      const lengths = (ranges: readonly { length: number }[]) => ranges.map(({ length }) => length).sort((a, b) => b - a);
      expect(lengths(kept)).toEqual(lengths(all).slice(0, most));
    }),
  );
});

it('stay few for a disk of millions of holes', () => {
  const ranges = new ZeroRanges();
  for (let at = 0; at < 1_000_000; at += 1) ranges.add(at * 128 * kib, 64 * kib, true);
  expect(ranges.finish()).toHaveLength(16_384);
});
