/**
 * What the engine refuses. `name` is the engine's message name; `text` is what a client reads inside the brackets of `detail`.
 * Statuses follow the engine's error classes (reference §1.5); texts are ours.
 */

/** `fault`: bare `{reason, detail}`. `action`: older actions wrap it into `{status: failed, fault}`. `empty`: no body at all. */
export type FaultShape = 'fault' | 'action' | 'empty';

export interface FaultOptions {
  readonly reason?: string;
  readonly shape?: FaultShape;
}

export class EngineFault extends Error {
  readonly reason: string;
  readonly shape: FaultShape;

  /** @param details message texts; the answer renders them as `[a, b]`, or as `[]` when there are none. */
  constructor(
    readonly status: number,
    readonly code: string,
    readonly details: readonly string[],
    options: FaultOptions = {},
  ) {
    super(`${code}: ${details.join(', ')}`);
    this.name = 'EngineFault';
    this.reason = options.reason ?? 'Operation Failed';
    this.shape = options.shape ?? 'fault';
  }

  /** The same fault in the shape of the older actions. */
  asAction(): EngineFault {
    return new EngineFault(this.status, this.code, this.details, { reason: this.reason, shape: 'action' });
  }

  get detail(): string {
    return `[${this.details.join(', ')}]`;
  }
}

/** 409: something is locked, busy, in the wrong state, or the name is taken. */
export const conflict = (code: string, text: string): EngineFault => new EngineFault(409, code, [text]);

/** 400: validation of values (BAD_PARAMETERS, NOT_SUPPORTED, CONSTRAINT). */
export const badRequest = (code: string, text: string): EngineFault => new EngineFault(400, code, [text]);

/** 400 with `[]`: the command was accepted and its execution failed without a message. */
export const executionFailed = (code = 'EXECUTION_FAILED'): EngineFault => new EngineFault(400, code, []);

/** 404 with an empty body: GET of one missing entity, malformed ids in the path. */
export const notFound = (): EngineFault => new EngineFault(404, 'NOT_FOUND', [], { shape: 'empty' });

/** 400 `Vm [name] required for add`. */
export const incomplete = (type: string, fields: readonly string[], method: string): EngineFault =>
  new EngineFault(400, 'INCOMPLETE_PARAMETERS', [`${type} [${fields.join(', ')}] required for ${method}`], {
    reason: 'Incomplete parameters',
  });

/** 400: wrong enum, number or id inside a body. */
export const invalidValue = (text: string): EngineFault => new EngineFault(400, 'INVALID_VALUE', [text], { reason: 'Invalid value' });

/** 400: unknown property, malformed document. */
export const badSyntax = (text: string): EngineFault =>
  new EngineFault(400, 'BAD_SYNTAX', [text], { reason: 'Request syntactically incorrect.' });

export const forbidden = (code = 'USER_NOT_AUTHORIZED_TO_PERFORM_ACTION'): EngineFault =>
  new EngineFault(403, code, ['User is not authorized to perform this action.']);
