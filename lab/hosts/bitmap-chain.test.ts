import { type LayerBitmap, bitmapHealth, requireBitmap, summarizeBitmaps } from './bitmap-chain';
import { carriedNames, mergePlan } from './volumes';

const good = (name: string): LayerBitmap => ({ name, recording: true, consistent: true });
const stopped = (name: string): LayerBitmap => ({ name, recording: false, consistent: true });
const broken = (name: string): LayerBitmap => ({ name, recording: true, consistent: false });

describe('bitmaps over layers', () => {
  test.each([
    ['in no layer', [[], []], 'missing', 0],
    ['in the leaf alone', [[], [good('x')]], 'good', 1],
    ['in all layers', [[good('x')], [good('x')]], 'good', 2],
    ['below the leaf only', [[good('x')], []], 'broken', 0],
    ['with a gap', [[good('x')], [], [good('x')]], 'broken', 1],
    ['inconsistent below', [[broken('x')], [good('x')]], 'broken', 2],
    ['not recording in the leaf', [[good('x')], [stopped('x')]], 'broken', 2],
  ] as const)('%s', (_what, layers, health, depth) => {
    expect(bitmapHealth(layers, 'x')).toEqual({ health, depth });
  });

  test('an incremental is refused by kind', () => {
    expect(requireBitmap({ diskId: 'd' }, [[good('x')], [good('x')]], 'x')).toBe(2);
    expect(() => requireBitmap({ diskId: 'd' }, [[good('x')]], 'y')).toThrow(expect.objectContaining({ code: 'BITMAP_MISSING' }));
    expect(() => requireBitmap({ diskId: 'd' }, [[broken('x')]], 'x')).toThrow(expect.objectContaining({ code: 'BITMAP_INCONSISTENT' }));
  });

  test('a summary is sound only when every layer is', () => {
    expect(
      summarizeBitmaps([
        [good('a'), good('b'), broken('c')],
        [good('a'), stopped('b'), good('c'), good('d')],
      ]),
    ).toEqual([
      { name: 'a', consistent: true, recording: true },
      { name: 'b', consistent: true, recording: false },
      { name: 'c', consistent: false, recording: true },
      { name: 'd', consistent: true, recording: true },
    ]);
    expect(summarizeBitmaps([[good('a')], []])).toEqual([{ name: 'a', consistent: false, recording: true }]);
  });

  test('a new layer takes over sound names only', () => {
    expect(
      carriedNames(
        [
          [good('a'), broken('b')],
          [good('a'), good('b'), good('c')],
        ],
        'new',
      ),
    ).toEqual(['a', 'c', 'new']);
    expect(carriedNames([[good('a')]], 'a')).toEqual(['a']);
  });

  test('a merge never leaves a bitmap in the base that misses the changes of the top', () => {
    const plan = mergePlan(
      [good('both'), good('top'), broken('brokenTop'), good('brokenBase')],
      [good('both'), good('base'), good('brokenTop'), broken('brokenBase')],
    );
    expect(plan).toEqual({ merge: ['both', 'top'], missing: new Set(['top']), drop: ['base', 'brokenTop', 'brokenBase'] });
  });
});
