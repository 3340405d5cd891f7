import { compact, dateOf, elementsOf, flagOf, idOf, integerOf, nestedOf, textOf, versionOf } from './mapping';

describe('mapping of the engine’s JSON', () => {
  it('reads numbers and booleans that come as texts, and as themselves', () => {
    const wire = { size: '1073741824', plain: 5, huge: '9223372036854775807', word: 'x1', on: 'true', off: 'false', real: true };
    expect(integerOf(wire, 'size')).toBe(1_073_741_824);
    expect(integerOf(wire, 'plain')).toBe(5);
    expect(integerOf(wire, 'huge')).toBeUndefined();
    expect(integerOf(wire, 'word')).toBeUndefined();
    expect([flagOf(wire, 'on'), flagOf(wire, 'off'), flagOf(wire, 'real'), flagOf(wire, 'absent')]).toEqual([true, false, true, false]);
    expect(textOf(wire, 'plain')).toBe('5');
  });

  it('reads dates as milliseconds and as ISO texts', () => {
    expect(dateOf({ at: 1735689600000 }, 'at')?.toISOString()).toBe('2025-01-01T00:00:00.000Z');
    expect(dateOf({ at: '2025-01-01T00:00:00Z' }, 'at')?.getTime()).toBe(1735689600000);
    expect(dateOf({ at: 'soon' }, 'at')).toBeUndefined();
  });

  it('reads lists that are wrapped, and absent ones as empty', () => {
    expect(elementsOf({}, 'vm')).toEqual([]);
    expect(nestedOf({ disks: { disk: [{ id: 'a' }, 'noise'] } }, 'disks', 'disk')).toEqual([{ id: 'a' }]);
    expect(nestedOf({ disks: {} }, 'disks', 'disk')).toEqual([]);
  });

  it('reads references and versions', () => {
    expect(idOf({ cluster: { id: 'C', href: '/x' } }, 'cluster')).toBe('C');
    expect(idOf({}, 'cluster')).toBeUndefined();
    expect(versionOf({ version: { major: '4', minor: '7' } }, 'version')).toEqual({ major: 4, minor: 7 });
    expect(versionOf({ version: { major: '4' } }, 'version')).toBeUndefined();
  });

  it('leaves undefined fields out of bodies', () => {
    expect(compact({ a: 1, b: undefined, c: false })).toEqual({ a: 1, c: false });
  });
});
