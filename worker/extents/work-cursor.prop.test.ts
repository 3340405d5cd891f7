import fc from 'fast-check';
import { WorkCursor } from './work-cursor';

describe('work cursor', () => {
  it('hands out every block exactly once, whoever claims and whatever is skipped', () => {
    const steps = fc.array(fc.oneof(fc.constant<'claim'>('claim'), fc.nat(2_000)), { maxLength: 60 });
    fc.assert(
      fc.property(fc.nat(2_000), steps, (blockCount, taken) => {
        const shared = new SharedArrayBuffer(4);
        const lanes = [new WorkCursor(shared, blockCount), new WorkCursor(shared, blockCount)];
        const seen = new Uint8Array(blockCount);
        const note = (range: { first: number; end: number } | undefined) => {
          for (let block = range?.first ?? 0; block < (range?.end ?? 0); block += 1) seen[block] = (seen[block] as number) + 1;
        };
        taken.forEach((step, index) => {
          const lane = lanes[index % 2] as WorkCursor;
          note(step === 'claim' ? lane.claim() : lane.skipTo(step));
        });
        for (let range = lanes[0]?.claim(); range; range = lanes[0]?.claim()) note(range);
        return seen.every((times) => times === 1);
      }),
    );
  });

  it('gives nothing for a skip to where others are already', () => {
    const cursor = WorkCursor.create(1_000);
    cursor.claim();
    expect(cursor.skipTo(10)).toBeUndefined();
    expect(cursor.skipTo(500)).toEqual({ first: 64, end: 500 });
    expect(cursor.claim()).toEqual({ first: 500, end: 564 });
  });
});
