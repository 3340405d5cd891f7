const TRUE_WORDS = new Set(['true', 't', 'yes', 'y', '1', '']);
const FALSE_WORDS = new Set(['false', 'f', 'no', 'n', '0']);

/**
 * Request parameters: the query first, then the matrix parameters of the last path segment. Names are matched without regard to
 * `-` and `_`. A bare `?x` or `;x` counts as true, except where the engine wants a value (see {@link valuedFlag}).
 */
export class QueryParameters {
  private readonly values: ReadonlyMap<string, string>;

  constructor(entries: readonly (readonly [name: string, value: string])[]) {
    const values = new Map<string, string>();
    for (const [name, value] of entries) {
      const key = normalise(name);
      if (!values.has(key)) {
        values.set(key, value);
      }
    }
    this.values = values;
  }

  text(name: string): string | undefined {
    return this.values.get(normalise(name));
  }

  /** Text that is neither true nor false is ignored. */
  flag(name: string): boolean | undefined {
    const value = this.text(name)?.toLowerCase();
    if (value === undefined) {
      return undefined;
    }
    return TRUE_WORDS.has(value) ? true : FALSE_WORDS.has(value) ? false : undefined;
  }

  /** Like {@link flag}, but a bare name does not count (`legacy` of a backup start). */
  valuedFlag(name: string): boolean | undefined {
    return this.text(name) === '' ? undefined : this.flag(name);
  }

  /** Text that is no number is ignored. */
  integer(name: string): number | undefined {
    const value = this.text(name);
    return value !== undefined && /^-?\d+$/.test(value) ? Number(value) : undefined;
  }
}

const normalise = (name: string): string => name.toLowerCase().replaceAll(/[-_]/g, '');
