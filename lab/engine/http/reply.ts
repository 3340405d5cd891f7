import { API_ROOT } from './href';
import type { ApiObject } from './api-object';
import type { TypeName } from './schema';

/**
 * What a handler answers. Entities are views (`ApiObject` with `id` and `href`); the renderer adds `link` and `actions` of the type,
 * applies `follow`, `max` and `search` paging for collections, and turns everything into JSON or XML.
 */
export type Reply =
  | { readonly kind: 'entity'; readonly status: number; readonly type: TypeName; readonly entity: ApiObject; readonly location?: string }
  | { readonly kind: 'collection'; readonly status: number; readonly type: TypeName; readonly entities: readonly ApiObject[] }
  | { readonly kind: 'action'; readonly status: number; readonly action: ApiObject };

/** 200 with an entity: GET, PUT. */
export const ok = (type: TypeName, entity: ApiObject): Reply => ({ kind: 'entity', status: 200, type, entity });

/** 201 with `Location`: a create that is complete when it answers. */
export const created = (type: TypeName, entity: ApiObject): Reply => ({ kind: 'entity', status: 201, type, entity, ...locationOf(entity) });

/** 202: a create whose storage tasks still run; the entity exists, locked. */
export const accepted = (type: TypeName, entity: ApiObject): Reply => ({
  kind: 'entity',
  status: 202,
  type,
  entity: { ...entity, creation_status: 'pending' },
  ...locationOf(entity),
});

/** 200 with a collection; the empty one is `{}`. */
export const list = (type: TypeName, entities: readonly ApiObject[]): Reply => ({ kind: 'collection', status: 200, type, entities });

/** 200 of an action or of a DELETE: `{"status": "complete", "job": {…}}`. */
export const done = (jobId?: string): Reply => ({
  kind: 'action',
  status: 200,
  action: { status: 'complete', ...(jobId === undefined ? {} : { job: { id: jobId, href: `${API_ROOT}/jobs/${jobId}` } }) },
});

/** 202 of an action or DELETE that goes on after the answer. */
export const inProgress = (jobId?: string): Reply => ({
  kind: 'action',
  status: 202,
  action: { async: true, status: 'in_progress', ...(jobId === undefined ? {} : { job: { id: jobId, href: `${API_ROOT}/jobs/${jobId}` } }) },
});

function locationOf(entity: ApiObject): { location?: string } {
  const href = entity['href'];
  return typeof href === 'string' ? { location: href } : {};
}
