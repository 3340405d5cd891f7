import type { ApiObject } from './api-object';

export const API_ROOT = '/ovirt-engine/api';

/** `/ovirt-engine/api/vms/ID/backups/B` from `hrefOf('vms', id, 'backups', b)`. */
export const hrefOf = (...segments: string[]): string => `${API_ROOT}/${segments.join('/')}`;

/** A reference `{"href", "id"}`; undefined stays undefined so that views can use it for optional links. */
export function refOf(collection: string, id: string): ApiObject;
export function refOf(collection: string, id: string | undefined): ApiObject | undefined;
export function refOf(collection: string, id: string | undefined): ApiObject | undefined {
  return id === undefined ? undefined : { href: hrefOf(collection, id), id };
}
