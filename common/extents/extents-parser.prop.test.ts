import fc from 'fast-check';
import { hasCode } from '../errors/tidemark-error';
import { ExtentsParser } from './extents-parser';

function parse(text: string, cuts: readonly number[]): { extents: [number, number, boolean, boolean][]; end: number } {
  const extents: [number, number, boolean, boolean][] = [];
  const parser = new ExtentsParser((...extent) => extents.push(extent));
  const bytes = Buffer.from(text);
  let at = 0;
  for (const cut of [...cuts, bytes.length]) {
    const until = Math.min(bytes.length, Math.max(at, cut));
    parser.push(bytes.subarray(at, until));
    at = until;
  }
  parser.end();
  return { extents, end: parser.endBytes };
}

describe('extents parser', () => {
  const lists = fc.array(fc.record({ length: fc.integer({ min: 1, max: 2 ** 40 }), zero: fc.boolean(), dirty: fc.boolean() }), {
    minLength: 1,
    maxLength: 30,
  });

  it('reads what was written, wherever the text is cut', () => {
    fc.assert(
      fc.property(lists, fc.array(fc.nat(2000)), fc.constantFrom(0, 1, 2), (list, cuts, indent) => {
        let start = 0;
        const objects = list.map((item) => {
          const object = { start, hole: false, ...item };
          start += item.length;
          return object;
        });
        const { extents, end } = parse(
          JSON.stringify(objects, undefined, indent),
          [...cuts].sort((a, b) => a - b),
        );
        expect(extents).toEqual(objects.map((o) => [o.start, o.length, o.zero, o.dirty]));
        expect(end).toBe(start);
      }),
    );
  });

  it.each([
    ['a gap', '[{"start":0,"length":5,"zero":true},{"start":6,"length":5,"zero":true}]'],
    ['a cut list', '[{"start":0,"length":5,"zero":true}'],
    ['an empty extent', '[{"start":0,"length":0,"zero":true}]'],
    ['a negative length', '[{"start":0,"length":-5,"zero":true}]'],
    ['an object in an object', '[{"start":{"a":1},"length":5}]'],
    ['a text for a flag', '[{"start":0,"length":5,"zero":"true!"}]'],
    ['something else', 'Internal Server Error'],
    ['nothing', ''],
  ])('refuses %s', (_name, text) => {
    let thrown: unknown;
    try {
      parse(text, []);
    } catch (error) {
      thrown = error;
    }
    expect(hasCode(thrown, 'IMAGE_EXTENTS_INVALID')).toBe(true);
  });

  it('never throws anything but its own error', () => {
    fc.assert(
      fc.property(fc.string(), fc.constantFrom('', '[', '[{', '[{"start":0'), (noise, prefix) => {
        try {
          parse(prefix + noise, []);
          return true;
        } catch (error) {
          return hasCode(error, 'IMAGE_EXTENTS_INVALID');
        }
      }),
    );
  });
});
