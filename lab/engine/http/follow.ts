import type { ApiObject } from './api-object';
import { isApiObject } from './api-object';
import { badRequest } from './fault';
import { API_ROOT } from './href';
import { subCollections } from './links';
import { apiType, type FieldType, type TypeName } from './schema';

/** What a GET of another path of the API gives, as the same user sees it. */
export type Fetch = (path: string) => Promise<{ type: TypeName; entity?: ApiObject; entities?: readonly ApiObject[] } | undefined>;

/**
 * `follow=disk_attachments.disk,nics`: replaces links by what they lead to. Underscores are ignored, dots lead deeper. What is
 * inlined gets a `link` field of its own, which tells the renderers to print it in full.
 */
export async function followLinks(type: FieldType, entity: ApiObject, follow: string, fetch: Fetch): Promise<ApiObject> {
  let result = entity;
  for (const [head, tails] of grouped(follow)) {
    result = await followOne(type, result, head, tails, fetch);
  }
  return result;
}

function grouped(follow: string): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const path of follow.split(',').map((text) => text.trim().replaceAll('_', '').toLowerCase())) {
    if (path !== '') {
      const [head = '', ...tail] = path.split('.');
      groups.set(head, [...(groups.get(head) ?? []), ...(tail.length > 0 ? [tail.join('.')] : [])]);
    }
  }
  return groups;
}

async function followOne(type: FieldType, entity: ApiObject, head: string, tails: readonly string[], fetch: Fetch): Promise<ApiObject> {
  const named = [...apiType(type).fields].find(([name]) => name.replaceAll('_', '') === head);
  if (!named) {
    throw badRequest('FOLLOW_INVALID', `${type} has no link "${head}" to follow.`);
  }
  const [name, field] = named;
  const present = entity[name];
  const deeper = (innerType: FieldType, inner: ApiObject): Promise<ApiObject> => followLinks(innerType, inner, tails.join(','), fetch);
  if (field.kind === 'object') {
    if (!isApiObject(present) || typeof present['href'] !== 'string') {
      return entity;
    }
    const target = await fetch(relative(present['href']));
    return target?.entity
      ? // What only the referring entity knows stays: the snapshot of a hot-added disk.
        { ...entity, [name]: { ...present, ...told(await deeper(target.type, target.entity)), link: target.entity['link'] ?? [] } }
      : entity;
  }
  if (field.kind !== 'list') {
    throw badRequest('FOLLOW_INVALID', `"${head}" of ${type} is not a link.`);
  }
  const href = entity['href'];
  if (typeof href === 'string' && subCollections(type).includes(head)) {
    const target = await fetch(`${relative(href)}/${head}`);
    const inlined: ApiObject[] = [];
    for (const one of target?.entities ?? []) {
      inlined.push({ ...(await deeper(target?.type ?? 'ref', one)), link: one['link'] ?? [] });
    }
    return { ...entity, [name]: inlined };
  }
  const items: ApiObject[] = [];
  for (const item of Array.isArray(present) ? (present as readonly ApiObject[]) : []) {
    const target = typeof item['href'] === 'string' ? await fetch(relative(item['href'])) : undefined;
    items.push(target?.entity ? { ...(await deeper(target.type, target.entity)), link: target.entity['link'] ?? [] } : item);
  }
  return { ...entity, [name]: items };
}

const relative = (href: string): string => href.slice(API_ROOT.length);

/** Without the fields that have no value. */
function told(entity: ApiObject): ApiObject {
  return Object.fromEntries(Object.entries(entity).filter(([, value]) => value !== undefined));
}
