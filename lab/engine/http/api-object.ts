/**
 * Values in the API's own names (snake_case) and natural types: numbers are numbers, booleans are booleans, dates are epoch
 * milliseconds, lists are plain arrays. Views are built in this shape and request bodies arrive in it; the renderers turn it into
 * JSON or XML with the help of the schema (`http/schema.ts`).
 */
export type ApiValue = string | number | boolean | ApiObject | readonly ApiValue[];

export interface ApiObject {
  readonly [field: string]: ApiValue | undefined;
}

export const isApiObject = (value: ApiValue | undefined): value is ApiObject => typeof value === 'object' && !Array.isArray(value);

/** Typed reading of a validated body: the schema has already checked the kinds, so a mismatch reads as absent. */
export function textOf(body: ApiObject | undefined, field: string): string | undefined {
  const value = body?.[field];
  return typeof value === 'string' ? value : undefined;
}

export function numberOf(body: ApiObject | undefined, field: string): number | undefined {
  const value = body?.[field];
  return typeof value === 'number' ? value : undefined;
}

export function flagOf(body: ApiObject | undefined, field: string): boolean | undefined {
  const value = body?.[field];
  return typeof value === 'boolean' ? value : undefined;
}

export function objectOf(body: ApiObject | undefined, field: string): ApiObject | undefined {
  const value = body?.[field];
  return isApiObject(value) ? value : undefined;
}

/** Objects of a list field; undefined when the client did not send the list at all. */
export function objectsOf(body: ApiObject | undefined, field: string): ApiObject[] | undefined {
  const value = body?.[field];
  return Array.isArray(value) ? (value as ApiValue[]).filter(isApiObject) : undefined;
}

/** `id` of a reference field: `{"cluster": {"id": "…"}}`. */
export const idOf = (body: ApiObject | undefined, field: string): string | undefined => textOf(objectOf(body, field), 'id');

/** Text of a value that the schema says is a scalar. */
export const scalarText = (value: ApiValue | undefined): string => (typeof value === 'object' ? JSON.stringify(value) : String(value));

/** Copies the object without its undefined fields, so that spreads of optional values stay tidy. */
export function compact(object: ApiObject): ApiObject {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));
}
