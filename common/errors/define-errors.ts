import { TidemarkError } from './tidemark-error';
import type { ErrorKind, ErrorMeta, ErrorTraits, RetryAdvice, StatusName } from './tidemark-error';

/** How one code is declared: its traits and the sentence for the administrator, made from the meta. */
export interface ErrorDefinition<M extends ErrorMeta> {
  readonly kind: ErrorKind;
  readonly retry: RetryAdvice;
  readonly status: StatusName;
  message(meta: M): string;
}

/** What a factory takes beside the meta. */
export interface ErrorContext {
  readonly cause?: unknown;
  readonly retryDelayMs?: number;
}

type Factory<D> = D extends ErrorDefinition<infer M> ? (meta: M, context?: ErrorContext) => TidemarkError : never;

/** What is known of a code without an instance: its traits, and its message with the meta's names in place of values. */
export interface DeclaredError extends ErrorTraits {
  readonly sample: string;
}

const registry = new Map<string, DeclaredError>();

/** Stands for any meta: each field reads as its own name. */
const sampleMeta: ErrorMeta = new Proxy({}, { get: (_target, field) => `<${String(field)}>` });

/**
 * Declares a namespace of errors and returns one factory per code:
 * `const Errors = defineErrors({ POINT_NOT_FOUND: { kind: 'failure', …, message: (m: { pointId: string }) => `…` } });`
 * `throw Errors.POINT_NOT_FOUND({ pointId });`
 * A code may be declared once in a program; docs/errors.md lists every one and a test compares them.
 */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- the meta type differs per code and is inferred back by Factory
export function defineErrors<T extends Record<string, ErrorDefinition<any>>>(definitions: T): { readonly [K in keyof T]: Factory<T[K]> } {
  const factories: Record<string, unknown> = {};
  for (const [code, definition] of Object.entries(definitions)) {
    if (!/^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$/.test(code)) throw new TypeError(`error code ${code} is not upper snake case`);
    if (registry.has(code)) throw new TypeError(`error code ${code} is declared twice`);
    const traits: ErrorTraits = { code, kind: definition.kind, retry: definition.retry, status: definition.status };
    registry.set(code, { ...traits, sample: (definition as ErrorDefinition<ErrorMeta>).message(sampleMeta) });
    factories[code] = (meta: ErrorMeta, context: ErrorContext = {}) =>
      new TidemarkError(traits, definition.message(meta), { meta, cause: context.cause, retryDelayMs: context.retryDelayMs });
  }
  return factories as { readonly [K in keyof T]: Factory<T[K]> };
}

/** Every code declared so far in this program. */
export function declaredErrors(): ReadonlyMap<string, DeclaredError> {
  return registry;
}
