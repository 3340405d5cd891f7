import { badRequest } from './fault';

/**
 * The engine's search language, the part a client uses: `field op value`, joined by `and` (binds tighter) and `or`, then
 * `sortby field asc|desc` and `page N`. A bare word matches any field. Text with blanks stands in double quotes.
 * A leading object prefix (`VMs: …`, `Vms : …`) is allowed and ignored: the collection implies it.
 * Source: reference §1.3.
 */
export interface Condition {
  /** Absent: any field. */
  readonly field?: string;
  readonly operator: '=' | '!=' | '<' | '>' | '<=' | '>=';
  readonly value: string;
}

export interface SearchQuery {
  /** Disjunction of conjunctions. */
  readonly anyOf: readonly (readonly Condition[])[];
  readonly sortBy?: string;
  readonly descending: boolean;
  readonly page: number;
}

interface Token {
  readonly text: string;
  readonly quoted: boolean;
}

const OPERATORS = new Set(['=', '!=', '<', '>', '<=', '>=']);

export function parseSearch(text: string): SearchQuery {
  const tokens = tokenise(text.replace(/^\s*[A-Za-z]+\s*:\s*/, ''));
  let position = 0;
  const peekWord = (): string | undefined => (tokens[position]?.quoted === false ? tokens[position]?.text.toLowerCase() : undefined);
  const take = (what: string): Token => {
    const token = tokens[position];
    if (!token) {
      throw invalid(text, `${what} is missing at the end`);
    }
    position += 1;
    return token;
  };

  const anyOf: Condition[][] = [[]];
  let expectCondition = tokens.length > 0 && !['sortby', 'page'].includes(peekWord() ?? '');
  while (expectCondition) {
    anyOf.at(-1)?.push(condition(take, peek));
    const word = peekWord();
    expectCondition = word === 'and' || word === 'or';
    if (expectCondition) {
      position += 1;
      if (word === 'or') {
        anyOf.push([]);
      }
    }
  }
  function peek(): string | undefined {
    return tokens[position]?.quoted === false ? tokens[position]?.text : undefined;
  }

  let sortBy: string | undefined;
  let descending = false;
  let page = 1;
  if (peekWord() === 'sortby') {
    position += 1;
    sortBy = take('field to sort by').text;
    if (peekWord() === 'asc' || peekWord() === 'desc') {
      descending = take('order').text.toLowerCase() === 'desc';
    }
  }
  if (peekWord() === 'page') {
    position += 1;
    const number = take('page number').text;
    if (!/^[1-9]\d*$/.test(number)) {
      throw invalid(text, `page ${number}`);
    }
    page = Number(number);
  }
  if (position < tokens.length) {
    throw invalid(text, `unexpected "${tokens[position]?.text ?? ''}"`);
  }
  return { anyOf, descending, page, ...(sortBy === undefined ? {} : { sortBy }) };
}

function condition(take: (what: string) => Token, peek: () => string | undefined): Condition {
  const left = take('condition');
  const operator = peek();
  if (operator === undefined || !OPERATORS.has(operator)) {
    return { operator: '=', value: left.text };
  }
  take('operator');
  return { field: left.text, operator: operator as Condition['operator'], value: take('value').text };
}

function tokenise(text: string): Token[] {
  const tokens: Token[] = [];
  const pattern = /\s*(?:"([^"]*)"|(!=|<=|>=|=|<|>)|([^\s"=<>!]+))/y;
  const end = text.trimEnd().length;
  while (pattern.lastIndex < end) {
    const match = pattern.exec(text);
    if (!match) {
      throw invalid(text, 'unreadable text');
    }
    const [, quoted, operator, word] = match;
    tokens.push({ text: quoted ?? operator ?? word ?? '', quoted: quoted !== undefined });
  }
  return tokens;
}

const invalid = (text: string, why: string): Error => badRequest('SEARCH_INVALID', `The search "${text}" is not valid: ${why}.`);
