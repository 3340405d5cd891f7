import { parseSearch } from './search-query';
import { applySearch, type SearchFields } from './search';
import { QueryParameters } from './query-parameters';
import type { RequestContext } from './request-context';

interface Row {
  readonly name: string;
  readonly size: number;
  readonly tags: readonly string[];
}

const rows: readonly Row[] = [
  { name: 'web-1', size: 5, tags: ['gold'] },
  { name: 'web-2', size: 20, tags: ['gold', 'silver'] },
  { name: 'Web 3', size: 100, tags: [] },
  { name: 'db', size: 7, tags: ['silver'] },
];
const fields: SearchFields<Row> = { name: (row) => row.name, size: (row) => row.size, tag: (row) => row.tags };

function found(search: string, extra: Record<string, string> = {}): string[] {
  const query = new QueryParameters(Object.entries({ search, ...extra }));
  return applySearch({ query } as RequestContext, rows, fields).map((row) => row.name);
}

describe('the search language', () => {
  it.each([
    ['name=web-1', ['web-1']],
    ['name = web*', ['web-1', 'web-2']],
    ['name=*', ['web-1', 'web-2', 'Web 3', 'db']],
    ['name!=web*', ['Web 3', 'db']],
    ['name="Web 3"', ['Web 3']],
    ['tag=gold', ['web-1', 'web-2']],
    ['tag=silver and name=web*', ['web-2']],
    ['name=db or tag=gold and size>10', ['web-2', 'db']],
    ['size<10', ['web-1', 'db']],
    ['Vms : name=db', ['db']],
    ['db', ['db']],
    ['name=*e* sortby size desc', ['Web 3', 'web-2', 'web-1']],
    ['sortby size', ['web-1', 'db', 'web-2', 'Web 3']],
    ['', ['web-1', 'web-2', 'Web 3', 'db']],
  ])('finds by %s', (search, names) => {
    expect(found(search)).toEqual(names);
  });

  it('minds case unless told not to', () => {
    expect(found('name=WEB*')).toEqual([]);
    expect(found('name=WEB*', { case_sensitive: 'false' })).toEqual(['web-1', 'web-2', 'Web 3']);
  });

  it('pages by max, and has no second page without it', () => {
    expect(found('name=* page 2', { max: '3' })).toEqual(['db']);
    expect(found('name=* page 2')).toEqual([]);
    expect(found('name=* page 1')).toHaveLength(4);
    expect(found('name=*', { max: '-1' })).toHaveLength(4);
  });

  it.each(['name=', 'name=x and', 'name=x page', 'name=x page 0', 'name=x sortby', '= x', 'name=x y', 'name="x'])(
    'refuses "%s"',
    (search) => {
      expect(() => found(search)).toThrow(expect.objectContaining({ status: 400 }) as Error);
    },
  );

  it('refuses unknown fields', () => {
    expect(() => found('color=red')).toThrow('Invalid search field');
    expect(() => found('name=* sortby color')).toThrow('Invalid search field');
  });

  it('treats quoted words as text', () => {
    expect(parseSearch('name="and"').anyOf).toEqual([[{ field: 'name', operator: '=', value: 'and' }]]);
  });
});
