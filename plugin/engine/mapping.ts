/**
 * The engine's JSON has integers and booleans as strings, dates as numbers, empty lists as absent keys and nested lists wrapped twice
 * (engine REST API §1.4). These readers turn that into typed values; what is absent or unreadable is undefined, never a guess.
 */
export type Wire = Readonly<Record<string, unknown>>;

export function isWire(value: unknown): value is Wire {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function textOf(wire: Wire, field: string): string | undefined {
  const value = wire[field];
  if (typeof value === 'string') return value;
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : undefined;
}

/** Safe integers only; anything else reads as absent. */
export function integerOf(wire: Wire, field: string): number | undefined {
  const value = wire[field];
  if (typeof value === 'string' && !/^-?\d+$/.test(value)) return undefined;
  if (typeof value !== 'string' && typeof value !== 'number') return undefined;
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : undefined;
}

/** Absent reads as false: the engine leaves out what is not set. */
export function flagOf(wire: Wire, field: string): boolean {
  const value = wire[field];
  return value === true || value === 'true';
}

export function dateOf(wire: Wire, field: string): Date | undefined {
  const ms = integerOf(wire, field);
  if (ms !== undefined) return new Date(ms);
  const text = textOf(wire, field);
  const parsed = text === undefined ? Number.NaN : Date.parse(text);
  return Number.isNaN(parsed) ? undefined : new Date(parsed);
}

export function objectOf(wire: Wire, field: string): Wire | undefined {
  const value = wire[field];
  return isWire(value) ? value : undefined;
}

/** `id` of a reference: `{"cluster":{"id":"…"}}`. */
export function idOf(wire: Wire, field: string): string | undefined {
  const reference = objectOf(wire, field);
  return reference && textOf(reference, 'id');
}

/** A collection answer: `{"vm":[…]}`, or `{}` when there is nothing. */
export function elementsOf(wire: Wire, element: string): readonly Wire[] {
  const value = wire[element];
  return Array.isArray(value) ? value.filter(isWire) : [];
}

/** A list inside an entity: `"disks":{"disk":[…]}`. */
export function nestedOf(wire: Wire, field: string, element: string): readonly Wire[] {
  const inner = objectOf(wire, field);
  return inner ? elementsOf(inner, element) : [];
}

/** `{"major":"4","minor":"7"}`, or the text itself. */
export interface Version {
  readonly major: number;
  readonly minor: number;
}

export function versionOf(wire: Wire, field: string): Version | undefined {
  const version = objectOf(wire, field);
  const major = version && integerOf(version, 'major');
  const minor = version && integerOf(version, 'minor');
  return major === undefined || minor === undefined ? undefined : { major, minor };
}

export function versionText(version: Version | undefined): string {
  return version ? `${version.major}.${version.minor}` : '';
}

/** Negative when `a` is older than `b`. */
export function compareVersions(a: Version, b: Version): number {
  return a.major - b.major || a.minor - b.minor;
}

/** Copies without undefined fields, so that bodies hold only what is meant. */
export function compact(body: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined));
}
