import { randomUUID } from 'node:crypto';
import type { ApiObject } from '../http/api-object';
import { idOf, textOf } from '../http/api-object';
import { badRequest, conflict, incomplete } from '../http/fault';
import { hrefOf, refOf } from '../http/href';
import { serveReadable } from '../http/readable-resource';
import { created, done, ok } from '../http/reply';
import { found, param } from '../http/request-context';
import type { Routes } from '../http/route';
import type { Core } from '../model/core';
import type { Tag } from '../model/entities';
import { ROOT_TAG_ID } from './ids';

/** The tag tree. Which VM carries a tag is the VM's (`/vms/:vmId/tags`). */
export function registerTags(routes: Routes, core: Core): void {
  const { db } = core;
  serveReadable(routes, { path: '/tags', type: 'tag', all: () => db.tags.list(), one: (id) => db.tags.get(id), view: tagView });
  routes.add(
    'POST',
    '/tags',
    (context) => {
      context.permits('TAG_MANAGEMENT');
      const name = requiredName(textOf(context.body, 'name'), 'add');
      refuseTakenName(core, name);
      const parentId = idOf(context.body, 'parent') ?? ROOT_TAG_ID;
      if (!db.tags.has(parentId)) {
        throw badRequest('TAGS_SPECIFIED_TAG_CANNOT_BE_FOUND', `Cannot add Tag. The parent tag ${parentId} does not exist.`);
      }
      const tag = db.tags.put({ id: randomUUID(), name, description: textOf(context.body, 'description') ?? '', parentId });
      return created('tag', tagView(tag));
    },
    { body: 'tag' },
  );
  routes.add(
    'PUT',
    '/tags/:id',
    (context) => {
      context.permits('TAG_MANAGEMENT');
      const tag = found(db.tags.get(param(context, 'id')));
      const name = textOf(context.body, 'name') ?? tag.name;
      if (name !== tag.name) {
        refuseTakenName(core, name);
      }
      const updated = db.tags.put({ ...tag, name, description: textOf(context.body, 'description') ?? tag.description });
      return ok('tag', tagView(updated));
    },
    { body: 'tag' },
  );
  routes.add('DELETE', '/tags/:id', (context) => {
    context.permits('TAG_MANAGEMENT');
    const tag = found(db.tags.get(param(context, 'id')));
    if (tag.id === ROOT_TAG_ID) {
      throw badRequest('TAGS_CANNOT_REMOVE_ROOT_TAG', 'Cannot remove Tag. It is the root.');
    }
    db.transaction(() => {
      for (const vm of db.vms.list(({ tagIds }) => tagIds.includes(tag.id))) {
        db.vms.update(vm.id, { tagIds: vm.tagIds.filter((id) => id !== tag.id) });
      }
      db.tags.delete(tag.id);
    });
    return done();
  });
}

export const tagView = (tag: Tag): ApiObject => ({
  href: hrefOf('tags', tag.id),
  id: tag.id,
  name: tag.name,
  description: tag.description,
  parent: refOf('tags', tag.parentId),
});

function requiredName(name: string | undefined, method: string): string {
  if (name === undefined || name === '') {
    throw incomplete('Tag', ['name'], method);
  }
  return name;
}

function refuseTakenName(core: Core, name: string): void {
  if (core.db.tags.find((tag) => tag.name === name)) {
    throw conflict('TAGS_SPECIFIED_TAG_ALREADY_EXISTS', `Cannot add Tag. A tag named ${name} already exists.`);
  }
}
