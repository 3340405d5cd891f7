import type { Entity } from '../model/entities';
import type { Collection } from '../model/store';

export interface ControlRoute {
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** `:name` segments are handed over in order. */
  readonly pattern: string;
  /** One line for the list of routes. */
  readonly does: string;
  readonly handle: (params: readonly string[], body: Record<string, unknown>) => unknown;
}

export class ControlError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
    this.name = 'ControlError';
  }
}

/** Typed reading of a control body; a wrong kind is the caller's mistake. */
export function wantText(body: Record<string, unknown>, field: string): string {
  const value = body[field];
  if (typeof value !== 'string') {
    throw new ControlError(400, `"${field}" must be a text`);
  }
  return value;
}

export function wantNumber(body: Record<string, unknown>, field: string, otherwise?: number): number {
  const value = body[field] ?? otherwise;
  if (typeof value !== 'number') {
    throw new ControlError(400, `"${field}" must be a number`);
  }
  return value;
}

/** The entity by its id or its name. */
export function named<E extends Entity>(collection: Collection<E>, idOrName: string, what: string): E {
  const found = collection.get(idOrName) ?? collection.find((entity) => (entity as { name?: string }).name === idOrName);
  if (!found) {
    throw new ControlError(404, `no ${what} ${idOrName}`);
  }
  return found;
}
