import type { ApiObject } from '../http/api-object';
import { hrefOf, refOf } from '../http/href';
import { serveReadable } from '../http/readable-resource';
import type { Routes } from '../http/route';
import type { Core } from '../model/core';
import type { Template } from '../model/entities';

/** Templates; the lab has diskless ones only, first of all Blank. */
export function registerTemplates(routes: Routes, core: Core): void {
  const { db } = core;
  serveReadable(routes, {
    path: '/templates',
    type: 'template',
    all: () => db.templates.list(),
    one: (id) => db.templates.get(id),
    view: templateView,
    search: { name: (template) => template.name, id: (template) => template.id, status: (template) => template.status },
  });
}

function templateView(template: Template): ApiObject {
  return {
    href: hrefOf('templates', template.id),
    id: template.id,
    name: template.name,
    description: template.description,
    comment: template.comment,
    status: template.status,
    creation_time: template.creationTime,
    version: { version_number: 1, base_template: refOf('templates', template.id) },
    cluster: refOf('clusters', template.clusterId),
    ...template.attributes,
  };
}
