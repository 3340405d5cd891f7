import type { ApiObject } from './api-object';
import { isApiObject } from './api-object';
import { invalidValue } from './fault';
import { apiType, type FieldType } from './schema';

/** Types whose ids the engine keeps as UUIDs; a malformed one inside a body is a 400. LUNs, files and options have other ids. */
const UUID_TYPES = new Set<FieldType>([
  'affinity_group',
  'backup',
  'checkpoint',
  'cluster',
  'cpu_profile',
  'data_center',
  'disk',
  'disk_profile',
  'disk_snapshot',
  'host',
  'image_transfer',
  'job',
  'mac_pool',
  'network',
  'nic',
  'permission',
  'quota',
  'role',
  'snapshot',
  'storage_domain',
  'tag',
  'template',
  'user',
  'vm',
  'vnic_profile',
]);
const UUID_FIELDS = new Set(['from_checkpoint_id', 'to_checkpoint_id', 'image_id']);
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

export const isUuid = (text: string): boolean => UUID.test(text);

/** Throws the 400 fault for the first malformed id in a validated body. */
export function checkIds(typeName: FieldType, body: ApiObject): void {
  const type = apiType(typeName);
  for (const [name, value] of Object.entries(body)) {
    if (((name === 'id' && UUID_TYPES.has(typeName)) || UUID_FIELDS.has(name)) && typeof value === 'string' && !isUuid(value)) {
      throw invalidValue(`${typeName}.${name}: "${value}" is not a valid identifier.`);
    }
    const field = type.fields.get(name);
    if (field?.kind === 'object' && isApiObject(value)) {
      checkIds(field.type, value);
    }
    if (field?.kind === 'list' && Array.isArray(value)) {
      for (const item of value as ApiObject[]) {
        checkIds(field.type, item);
      }
    }
  }
}
