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

const registry = new Map<string, ErrorTraits>();

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
    registry.set(code, traits);
    factories[code] = (meta: ErrorMeta, context: ErrorContext = {}) =>
      new TidemarkError(traits, definition.message(meta), { meta, cause: context.cause, retryDelayMs: context.retryDelayMs });
  }
  return factories as { readonly [K in keyof T]: Factory<T[K]> };
}

/** Traits of every code declared so far in this program, by code. */
export function declaredErrors(): ReadonlyMap<string, ErrorTraits> {
  return registry;
}
