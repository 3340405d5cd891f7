import { badRequest } from './fault';
import type { RequestContext } from './request-context';
import { parseSearch, type Condition, type SearchQuery } from './search-query';

/** What a field of the search language reads from an entity; several values match when one of them does. */
export type SearchFields<E> = Readonly<Record<string, (entity: E) => SearchValue | readonly SearchValue[] | undefined>>;

export type SearchValue = string | number | boolean;

/**
 * Applies `search`, `case_sensitive` and the paging of the request to a collection: `page N` of a search has `max` rows and is empty
 * without `max` (except page 1). Throws the engine's 400 for syntax errors and unknown fields.
 */
export function applySearch<E>(context: RequestContext, entities: readonly E[], fields: SearchFields<E>): E[] {
  const text = context.query.text('search');
  const max = maxRows(context);
  if (text === undefined || text.trim() === '') {
    return entities.slice(0, max);
  }
  const query = parseSearch(text);
  for (const name of fieldNames(query)) {
    // Also when there is nothing to search: the engine checks the text, not the rows.
    reader(fields, name);
  }
  const caseSensitive = context.query.flag('case_sensitive') ?? true;
  const matching = entities.filter((entity) => matches(entity, query, fields, caseSensitive));
  if (query.sortBy !== undefined) {
    const read = reader(fields, query.sortBy);
    const sign = query.descending ? -1 : 1;
    matching.sort((a, b) => sign * compare(first(read(a)), first(read(b))));
  }
  if (query.page > 1) {
    return max === undefined ? [] : matching.slice((query.page - 1) * max, query.page * max);
  }
  return matching.slice(0, max);
}

const fieldNames = (query: SearchQuery): string[] =>
  [...query.anyOf.flat().map(({ field }) => field), query.sortBy].filter((name) => name !== undefined);

/** `max` of the request; zero and negative numbers mean no limit. */
export function maxRows(context: RequestContext): number | undefined {
  const max = context.query.integer('max');
  return max !== undefined && max > 0 ? max : undefined;
}

function matches<E>(entity: E, query: SearchQuery, fields: SearchFields<E>, caseSensitive: boolean): boolean {
  return query.anyOf.some((all) => all.every((condition) => holds(entity, condition, fields, caseSensitive)));
}

function holds<E>(entity: E, condition: Condition, fields: SearchFields<E>, caseSensitive: boolean): boolean {
  const read = condition.field === undefined ? Object.values(fields) : [reader(fields, condition.field)];
  const values = read.flatMap((one) => many(one(entity)));
  switch (condition.operator) {
    case '=':
      return values.some((value) => equal(value, condition.value, caseSensitive));
    case '!=':
      return !values.some((value) => equal(value, condition.value, caseSensitive));
    case '<':
      return values.some((value) => compare(value, condition.value) < 0);
    case '>':
      return values.some((value) => compare(value, condition.value) > 0);
    case '<=':
      return values.some((value) => compare(value, condition.value) <= 0);
    case '>=':
      return values.some((value) => compare(value, condition.value) >= 0);
  }
}

function reader<E>(fields: SearchFields<E>, name: string): SearchFields<E>[string] {
  const read = fields[name.toLowerCase()];
  if (!read) {
    throw badRequest('SEARCH_INVALID', `Invalid search field: ${name}`);
  }
  return read;
}

function equal(value: SearchValue, pattern: string, caseSensitive: boolean): boolean {
  // Enumerations and identifiers are compared without regard to case, names as the request says.
  const text = caseSensitive ? String(value) : String(value).toLowerCase();
  const wanted = caseSensitive ? pattern : pattern.toLowerCase();
  if (!wanted.includes('*')) {
    return text === wanted;
  }
  const expression = wanted
    .split('*')
    .map((part) => part.replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&'))
    .join('.*');
  return new RegExp(`^${expression}$`, 's').test(text);
}

function compare(a: SearchValue | undefined, b: SearchValue | undefined): number {
  const numberA = Number(a);
  const numberB = Number(b);
  if (a !== '' && b !== '' && !Number.isNaN(numberA) && !Number.isNaN(numberB)) {
    return numberA - numberB;
  }
  return String(a ?? '') < String(b ?? '') ? -1 : String(a ?? '') > String(b ?? '') ? 1 : 0;
}

const many = (value: SearchValue | readonly SearchValue[] | undefined): readonly SearchValue[] =>
  value === undefined ? [] : Array.isArray(value) ? (value as readonly SearchValue[]) : [value as SearchValue];

const first = (value: SearchValue | readonly SearchValue[] | undefined): SearchValue | undefined => many(value)[0];
