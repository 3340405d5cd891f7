import type { RequestContext } from './request-context';
import type { Reply } from './reply';
import type { TypeName } from './schema';

export type Method = 'GET' | 'POST' | 'PUT' | 'DELETE';

export type Handler = (context: RequestContext) => Reply | Promise<Reply>;

export interface RouteOptions {
  /** Schema type of the body: `backup` for `POST /vms/:vmId/backups`, `action` for actions. A body on a route without it is ignored. */
  readonly body?: TypeName;
  /** Faults of this route come wrapped in an action object (older actions: start, stop, move …). */
  readonly oldAction?: boolean;
}

export interface Route extends RouteOptions {
  readonly method: Method;
  /** `/vms/:vmId/backups`; also the name by which faults are injected: `POST /vms/:vmId/backups`. */
  readonly pattern: string;
  readonly handler: Handler;
}

export interface RouteMatch {
  readonly route: Route;
  readonly params: Readonly<Record<string, string>>;
}

/** Where the resources of the API register themselves. Literal segments win over variables. */
export class Routes {
  private readonly bySegmentCount = new Map<number, { readonly segments: readonly string[]; readonly route: Route }[]>();

  add(method: Method, pattern: string, handler: Handler, options: RouteOptions = {}): void {
    const segments = split(pattern);
    const candidates = this.bySegmentCount.get(segments.length) ?? [];
    this.bySegmentCount.set(segments.length, candidates);
    if (candidates.some(({ route }) => route.method === method && route.pattern === pattern)) {
      throw new Error(`route registered twice: ${method} ${pattern}`);
    }
    candidates.push({ segments, route: { method, pattern, handler, ...options } });
    candidates.sort((a, b) => variableCount(a.segments) - variableCount(b.segments));
  }

  /** `path` is relative to the API root; undefined when no pattern has its shape for this method. */
  match(method: string, path: string): RouteMatch | undefined {
    return this.candidates(path).find(({ route }) => route.method === method);
  }

  /** Methods that the path answers to, for 405. */
  methods(path: string): string[] {
    return this.candidates(path).map(({ route }) => route.method);
  }

  private candidates(path: string): RouteMatch[] {
    const segments = split(path);
    const matches: RouteMatch[] = [];
    for (const candidate of this.bySegmentCount.get(segments.length) ?? []) {
      const params = matchSegments(candidate.segments, segments);
      if (params) {
        matches.push({ route: candidate.route, params });
      }
    }
    return matches;
  }
}

function matchSegments(pattern: readonly string[], segments: readonly string[]): Record<string, string> | undefined {
  const params: Record<string, string> = {};
  for (const [index, expected] of pattern.entries()) {
    const actual = segments[index] ?? '';
    if (expected.startsWith(':')) {
      params[expected.slice(1)] = actual;
    } else if (expected !== actual) {
      return undefined;
    }
  }
  return params;
}

const split = (path: string): string[] => path.split('/').filter((segment) => segment !== '');

const variableCount = (segments: readonly string[]): number => segments.filter((segment) => segment.startsWith(':')).length;
