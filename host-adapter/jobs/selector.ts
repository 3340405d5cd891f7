import { HostErrors } from '../errors/host-errors';

/** What a selector looks at. */
export interface SelectableVm {
  readonly platformId: string;
  readonly vmId: string;
  readonly name: string;
  readonly status: string;
  readonly clusterId: string;
  readonly clusterName: string;
  readonly tags: readonly string[];
}

type Predicate = (vm: SelectableVm) => boolean;

const fields: Readonly<Record<string, (vm: SelectableVm) => readonly string[]>> = {
  name: (vm) => [vm.name],
  id: (vm) => [vm.vmId],
  tag: (vm) => vm.tags,
  cluster: (vm) => [vm.clusterName, vm.clusterId],
  platform: (vm) => [vm.platformId],
  status: (vm) => [vm.status],
};

/**
 * Reads an expression: terms `field:pattern` joined by ` and `, each perhaps negated by `not `; `*` and `?` are wild, case does not matter; a
 * bare word is a name or an id. `platformIds` turns names of platforms into ids. Throws SELECTOR_INVALID.
 */
export function parseExpression(expression: string, platformIds: ReadonlyMap<string, string> = new Map()): Predicate {
  const terms = expression
    .trim()
    .split(/\s+and\s+/i)
    .map((term) => parseTerm(term.trim(), expression, platformIds));
  return (vm) => terms.every((term) => term(vm));
}

function parseTerm(term: string, expression: string, platformIds: ReadonlyMap<string, string>): Predicate {
  const negated = /^not\s+(.*)$/is.exec(term);
  if (negated) {
    const inner = parseTerm(negated[1] ?? '', expression, platformIds);
    return (vm) => !inner(vm);
  }
  if (term === '') throw HostErrors.SELECTOR_INVALID({ field: 'selector', expression, problem: 'a term is empty' });
  const [, field, pattern] = /^([a-z]+):(.*)$/is.exec(term) ?? [];
  if (field === undefined || pattern === undefined) {
    if (/\s|^(and|not)$/i.test(term))
      throw HostErrors.SELECTOR_INVALID({ field: 'selector', expression, problem: `"${term}" is no name; join terms by "and"` });
    const matches = glob(term);
    return (vm) => matches(vm.name) || matches(vm.vmId);
  }
  const values = fields[field.toLowerCase()];
  if (!values) {
    throw HostErrors.SELECTOR_INVALID({
      field: 'selector',
      expression,
      problem: `"${field}" is none of ${Object.keys(fields).join(', ')}`,
    });
  }
  if (pattern.trim() === '')
    throw HostErrors.SELECTOR_INVALID({ field: 'selector', expression, problem: `nothing stands behind "${field}:"` });
  const matches = glob(field.toLowerCase() === 'platform' ? (platformIds.get(pattern.trim()) ?? pattern.trim()) : pattern.trim());
  return (vm) => values(vm).some(matches);
}

/** `*`: anything, `?`: one character. Not by a regular expression: one of many `*` can take for ever to say no. */
function glob(pattern: string): (text: string) => boolean {
  const wanted = pattern.toLowerCase();
  return (text) => globMatches(wanted, text.toLowerCase());
}

/** At most length of the pattern times length of the text: a later `*` never makes an earlier one be tried again. */
function globMatches(wanted: string, text: string): boolean {
  let [at, from] = [0, 0];
  /** Behind the last `*`, and what it has swallowed up to. */
  let star: { at: number; from: number } | undefined;
  while (from < text.length) {
    if (wanted[at] === '*') {
      at += 1;
      star = { at, from };
    } else if (wanted[at] === '?' || wanted[at] === text[from]) {
      at += 1;
      from += 1;
    } else if (star) {
      star.from += 1;
      at = star.at;
      from = star.from;
    } else return false;
  }
  while (wanted[at] === '*') at += 1;
  return at === wanted.length;
}

/** VMs that one include matches and no exclude; each once, in the order given. */
export function selectVms<V extends SelectableVm>(
  vms: readonly V[],
  selector: { readonly include: readonly string[]; readonly exclude: readonly string[] },
  platformIds: ReadonlyMap<string, string> = new Map(),
): V[] {
  const include = selector.include.map((expression) => parseExpression(expression, platformIds));
  const exclude = selector.exclude.map((expression) => parseExpression(expression, platformIds));
  return vms.filter((vm) => include.some((matches) => matches(vm)) && !exclude.some((matches) => matches(vm)));
}
