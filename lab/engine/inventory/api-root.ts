import { randomUUID } from 'node:crypto';
import { API_ROOT, refOf } from '../http/href';
import { ok } from '../http/reply';
import type { Routes } from '../http/route';
import type { Core } from '../model/core';
import type { Entity } from '../model/entities';
import { BLANK_TEMPLATE_ID, ROOT_TAG_ID } from './ids';

interface Installation extends Entity {
  readonly instanceId: string;
}

/** `GET /ovirt-engine/api`: product, summary, links. */
export function registerApiRoot(routes: Routes, core: Core): void {
  const { db, settings } = core;
  const installation = db.store.collection<Installation>('installation');
  const { instanceId } = installation.get('this') ?? installation.put({ id: 'this', instanceId: randomUUID() });
  routes.add('GET', '/', (context) => {
    const { major, minor, build } = settings.version;
    const user = refOf('users', context.userId);
    const vms = db.vms.list();
    const hosts = db.hosts.list();
    const domains = db.storageDomains.list();
    return ok('api', {
      href: API_ROOT,
      product_info: {
        name: 'oVirt Engine',
        vendor: 'ovirt.org',
        instance_id: instanceId,
        version: { major, minor, build, revision: 0, full_version: `${String(major)}.${String(minor)}.${String(build)}-1.el9` },
      },
      special_objects: { blank_template: refOf('templates', BLANK_TEMPLATE_ID), root_tag: refOf('tags', ROOT_TAG_ID) },
      ...(context.filtered
        ? {}
        : {
            summary: {
              vms: { total: vms.length, active: vms.filter((vm) => vm.hostId !== undefined).length },
              hosts: { total: hosts.length, active: hosts.filter((host) => host.status === 'up').length },
              users: { total: db.users.size, active: db.users.size },
              storage_domains: { total: domains.length, active: domains.filter((domain) => domain.status === 'active').length },
            },
          }),
      time: core.clock.now(),
      authenticated_user: user,
      effective_user: user,
    });
  });
}
