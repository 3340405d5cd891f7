import type { ApiObject } from './api-object';
import { list, ok } from './reply';
import { found, param, type RequestContext } from './request-context';
import type { Routes } from './route';
import type { TypeName } from './schema';
import { applySearch, type SearchFields } from './search';

/** A collection that is listed, searched and read one by one. */
export interface ReadableResource<E> {
  /** `/clusters`, or `/datacenters/:dataCenterId/clusters`. */
  readonly path: string;
  readonly type: TypeName;
  /** Throws the 404 when the collection's owner does not exist. */
  readonly all: (context: RequestContext) => readonly E[];
  readonly one: (id: string, context: RequestContext) => E | undefined;
  readonly view: (entity: E, context: RequestContext) => ApiObject | Promise<ApiObject>;
  /** Absent: `search` is ignored, as on collections without a search link. */
  readonly search?: SearchFields<E>;
}

/** Registers `GET path` and `GET path/:id`. */
export function serveReadable<E>(routes: Routes, resource: ReadableResource<E>): void {
  routes.add('GET', resource.path, async (context) => {
    const all = resource.all(context);
    const chosen = resource.search ? applySearch(context, all, resource.search) : all;
    const views: ApiObject[] = [];
    for (const entity of chosen) {
      views.push(await resource.view(entity, context));
    }
    return list(resource.type, views);
  });
  routes.add('GET', `${resource.path}/:id`, async (context) =>
    ok(resource.type, await resource.view(found(resource.one(param(context, 'id'), context)), context)),
  );
}
