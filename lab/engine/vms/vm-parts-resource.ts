import { randomUUID } from 'node:crypto';
import { idOf, objectOf, textOf, type ApiObject } from '../http/api-object';
import { badRequest, conflict, incomplete } from '../http/fault';
import { hrefOf, refOf } from '../http/href';
import { created, done, list, ok } from '../http/reply';
import { found, param, type RequestContext } from '../http/request-context';
import type { Routes } from '../http/route';
import { tagView } from '../inventory/tags';
import type { Core } from '../model/core';
import type { Cdrom, GraphicsConsole, Permission, Tag, Vm } from '../model/entities';

/** Smaller parts of a VM: tags, permissions, CD-ROMs and consoles. */
export function registerVmParts(routes: Routes, core: Core): void {
  registerVmTags(routes, core);
  registerVmPermissions(routes, core);
  registerDevices(routes, core);
}

const vmOf = (core: Core, context: RequestContext): Vm => found(core.db.vms.get(param(context, 'vmId')));

function registerVmTags(routes: Routes, core: Core): void {
  const { db } = core;
  const view = (vm: Vm, tag: Tag): ApiObject => ({ ...tagView(tag), href: hrefOf('vms', vm.id, 'tags', tag.id), vm: refOf('vms', vm.id) });
  routes.add('GET', '/vms/:vmId/tags', (context) => {
    const vm = vmOf(core, context);
    return list(
      'tag',
      vm.tagIds.flatMap((id) => db.tags.get(id) ?? []).map((tag) => view(vm, tag)),
    );
  });
  routes.add('GET', '/vms/:vmId/tags/:tagId', (context) => {
    const vm = vmOf(core, context);
    const id = found(vm.tagIds.find((tagId) => tagId === param(context, 'tagId')));
    return ok('tag', view(vm, found(db.tags.get(id))));
  });
  routes.add(
    'POST',
    '/vms/:vmId/tags',
    (context) => {
      context.permits('TAG_MANAGEMENT');
      const vm = vmOf(core, context);
      const id = textOf(context.body, 'id');
      const name = textOf(context.body, 'name');
      if (id === undefined && name === undefined) {
        throw incomplete('Tag', ['id|name'], 'add');
      }
      const tag = id === undefined ? db.tags.find((candidate) => candidate.name === name) : db.tags.get(id);
      if (!tag) {
        throw badRequest('TAGS_SPECIFIED_TAG_CANNOT_BE_FOUND', `Cannot attach Tag. The tag ${id ?? name ?? ''} does not exist.`);
      }
      db.vms.update(vm.id, { tagIds: [...new Set([...vm.tagIds, tag.id])] });
      return created('tag', view(vm, tag));
    },
    { body: 'tag' },
  );
  routes.add('DELETE', '/vms/:vmId/tags/:tagId', (context) => {
    context.permits('TAG_MANAGEMENT');
    const vm = vmOf(core, context);
    const id = found(vm.tagIds.find((tagId) => tagId === param(context, 'tagId')));
    db.vms.update(vm.id, { tagIds: vm.tagIds.filter((tagId) => tagId !== id) });
    return done();
  });
}

function registerVmPermissions(routes: Routes, core: Core): void {
  const { db } = core;
  const view = (permission: Permission): ApiObject => ({
    href: hrefOf('vms', permission.vmId, 'permissions', permission.id),
    id: permission.id,
    role: refOf('roles', permission.roleId),
    user: refOf('users', permission.userId),
    vm: refOf('vms', permission.vmId),
  });
  const ofVm = (context: RequestContext): Permission[] => {
    const vm = vmOf(core, context);
    return db.permissions.list((permission) => permission.vmId === vm.id);
  };
  routes.add('GET', '/vms/:vmId/permissions', (context) => list('permission', ofVm(context).map(view)));
  routes.add('GET', '/vms/:vmId/permissions/:id', (context) =>
    ok('permission', view(found(ofVm(context).find(({ id }) => id === param(context, 'id'))))),
  );
  routes.add(
    'POST',
    '/vms/:vmId/permissions',
    (context) => {
      context.permits('MANIPULATE_PERMISSIONS');
      const vm = vmOf(core, context);
      const userId = idOf(context.body, 'user');
      const roleId =
        idOf(context.body, 'role') ?? db.roles.find((role) => role.name === textOf(objectOf(context.body, 'role'), 'name'))?.id;
      if (userId === undefined || roleId === undefined) {
        throw incomplete('Permission', ['user|group.id', 'role.id'], 'add');
      }
      if (!db.users.has(userId) || !db.roles.has(roleId)) {
        throw badRequest('PERMISSION_ADD_FAILED', 'Cannot add Permission. The user or the role does not exist.');
      }
      return created('permission', view(db.permissions.put({ id: randomUUID(), vmId: vm.id, userId, roleId })));
    },
    { body: 'permission' },
  );
  routes.add('DELETE', '/vms/:vmId/permissions/:id', (context) => {
    context.permits('MANIPULATE_PERMISSIONS');
    db.permissions.delete(found(ofVm(context).find(({ id }) => id === param(context, 'id'))).id);
    return done();
  });
}

function registerDevices(routes: Routes, core: Core): void {
  const { db } = core;
  const cdromView = (cdrom: Cdrom): ApiObject => ({
    href: hrefOf('vms', cdrom.vmId, 'cdroms', cdrom.id),
    id: cdrom.id,
    ...(cdrom.fileId === undefined ? {} : { file: { id: cdrom.fileId } }),
    vm: refOf('vms', cdrom.vmId),
  });
  const cdromOf = (context: RequestContext): Cdrom => {
    const vm = vmOf(core, context);
    return found(db.cdroms.find((cdrom) => cdrom.vmId === vm.id && cdrom.id === param(context, 'id')));
  };
  routes.add('GET', '/vms/:vmId/cdroms', (context) => {
    const vm = vmOf(core, context);
    return list('cdrom', db.cdroms.list((cdrom) => cdrom.vmId === vm.id).map(cdromView));
  });
  routes.add('GET', '/vms/:vmId/cdroms/:id', (context) => ok('cdrom', cdromView(cdromOf(context))));
  routes.add(
    'PUT',
    '/vms/:vmId/cdroms/:id',
    (context) => {
      const cdrom = cdromOf(context);
      const fileId = textOf(objectOf(context.body, 'file'), 'id') ?? '';
      if (fileId !== '' && db.disks.get(fileId)?.contentType !== 'iso') {
        throw badRequest('ISO_FILE_NOT_FOUND', `Cannot edit CD-ROM. The ISO ${fileId} does not exist.`);
      }
      return ok('cdrom', cdromView(db.cdroms.put({ id: cdrom.id, vmId: cdrom.vmId, ...(fileId === '' ? {} : { fileId }) })));
    },
    { body: 'cdrom' },
  );
  const consoleView = (console: GraphicsConsole): ApiObject => ({
    href: hrefOf('vms', console.vmId, 'graphicsconsoles', console.id),
    id: console.id,
    protocol: console.protocol,
    vm: refOf('vms', console.vmId),
  });
  routes.add('GET', '/vms/:vmId/graphicsconsoles', (context) => {
    const vm = vmOf(core, context);
    return list('graphics_console', db.graphicsConsoles.list((console) => console.vmId === vm.id).map(consoleView));
  });
  routes.add('DELETE', '/vms/:vmId/graphicsconsoles/:id', (context) => {
    const vm = vmOf(core, context);
    const console = found(db.graphicsConsoles.find((candidate) => candidate.vmId === vm.id && candidate.id === param(context, 'id')));
    if (vm.status !== 'down') {
      throw conflict('VM_STATUS_IS_NOT_DOWN', `Cannot remove the console. VM ${vm.name} is not down.`);
    }
    db.graphicsConsoles.delete(console.id);
    return done();
  });
}
