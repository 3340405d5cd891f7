import type { ActionGroup, User } from '../model/entities';
import type { ApiObject } from './api-object';
import { forbidden, notFound } from './fault';
import type { QueryParameters } from './query-parameters';

/** What a handler gets to know about one request. The body has been checked against the schema type of the route. */
export interface RequestContext {
  readonly method: string;
  /** Path below the API root, without matrix parameters: `/vms/ID/backups`. */
  readonly path: string;
  readonly params: Readonly<Record<string, string>>;
  readonly query: QueryParameters;
  /** Empty object when the request has no body. */
  readonly body: ApiObject;
  readonly user: User;
  readonly userId: string;
  readonly correlationId: string;
  /** `All-Content: true` (header or parameter). */
  readonly allContent: boolean;
  /** `filter=true`, or implied because the account has no administrator role. */
  readonly filtered: boolean;
  /** Throws the 403 fault unless the account has the permission group. */
  permits(group: ActionGroup): void;
}

/** A path variable; a route without it is a bug of the simulator. */
export function param(context: RequestContext, name: string): string {
  const value = context.params[name];
  if (value === undefined) {
    throw new Error(`route has no parameter ${name}`);
  }
  return value;
}

/** The entity of a path variable or the 404 with an empty body. */
export function found<E>(entity: E | undefined): E {
  if (entity === undefined) {
    throw notFound();
  }
  return entity;
}

export function permitCheck(user: User, granted: ReadonlySet<ActionGroup>): (group: ActionGroup) => void {
  return (group) => {
    if (!granted.has(group) || user.revokedPermits.includes(group)) {
      throw forbidden();
    }
  };
}
