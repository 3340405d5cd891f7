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
