import { objectOf } from '../http/api-object';
import { created, done, list, ok } from '../http/reply';
import { found, param, type RequestContext } from '../http/request-context';
import type { Routes } from '../http/route';
import { applySearch, type SearchFields } from '../http/search';
import type { Core } from '../model/core';
import type { Vm } from '../model/entities';
import { registerNics } from './nics-resource';
import { registerVmParts } from './vm-parts-resource';
import { removeVm, requireRemovable, type RemoveDisk } from './vm-removal';
import { VmService } from './vm-service';
import { vmView, type VmViewOptions } from './vm-view';

/**
 * `/vms`: configuration of VMs and what belongs to it. Actions that run a VM, its disks, snapshots, backups and checkpoints are
 * registered by their own folders. Source: reference §3, §8.
 */
export function registerVms(routes: Routes, core: Core, removeDisk: RemoveDisk): void {
  const { db } = core;
  const service = new VmService(core);
  const visible = (context: RequestContext): Vm[] =>
    context.filtered
      ? db.vms.list(
          (vm) => mayAdminister(context) || db.permissions.find((p) => p.vmId === vm.id && p.userId === context.userId) !== undefined,
        )
      : db.vms.list();
  const mayAdminister = (context: RequestContext): boolean => context.user.roleIds.some((id) => db.roles.get(id)?.administrative === true);
  const one = (context: RequestContext): Vm => {
    const vm = found(db.vms.get(param(context, 'vmId')));
    return found(visible(context).find(({ id }) => id === vm.id));
  };
  const viewOptions = (context: RequestContext): VmViewOptions => ({
    ovf: context.allContent,
    filtered: context.filtered,
    nextRun: context.query.flag('next_run') ?? false,
  });

  routes.add('GET', '/vms', (context) =>
    list(
      'vm',
      applySearch(context, visible(context), searchFields(core)).map((vm) => vmView(core, vm, viewOptions(context))),
    ),
  );
  routes.add('GET', '/vms/:vmId', (context) => ok('vm', vmView(core, one(context), viewOptions(context))));
  routes.add(
    'POST',
    '/vms',
    (context) => {
      const fromOvf = objectOf(objectOf(context.body, 'initialization'), 'configuration') !== undefined;
      context.permits(fromOvf ? 'IMPORT_EXPORT_VM' : 'CREATE_VM');
      const vm = fromOvf ? service.createFromOvf(context.body, context) : service.createFromAttributes(context.body, context);
      return created('vm', vmView(core, vm, { ovf: true, filtered: context.filtered }));
    },
    { body: 'vm' },
  );
  routes.add(
    'PUT',
    '/vms/:vmId',
    (context) => {
      context.permits('EDIT_VM_PROPERTIES');
      const vm = service.update(one(context), context.body, context);
      return ok('vm', vmView(core, vm, { ovf: true, filtered: context.filtered, nextRun: context.query.flag('next_run') ?? false }));
    },
    { body: 'vm' },
  );
  routes.add('DELETE', '/vms/:vmId', async (context) => {
    context.permits('DELETE_VM');
    const vm = one(context);
    const options = { detachOnly: context.query.flag('detach_only') ?? false, force: context.query.flag('force') ?? false };
    requireRemovable(core, vm, options);
    const job = core.jobs.start(`Removing VM ${vm.name}`, context);
    try {
      await core.step('vm.remove', vm.id);
      await removeVm(core, vm, options, removeDisk);
      core.jobs.end(job.id, true);
    } finally {
      core.jobs.end(job.id, false);
    }
    core.events.log(113, 'normal', `VM ${vm.name} was successfully removed.`, service.refs(vm, context), context.correlationId);
    return done(job.id);
  });
  routes.add(
    'POST',
    '/vms/:vmId/reordermacaddresses',
    (context) => {
      context.permits('CONFIGURE_VM_NETWORK');
      const nics = db.nics.list((nic) => nic.vmId === one(context).id);
      const sorted = nics.map((nic) => nic.macAddress).sort();
      db.transaction(() => {
        for (const [index, nic] of nics.sort((a, b) => a.name.localeCompare(b.name)).entries()) {
          db.nics.update(nic.id, { macAddress: sorted[index] ?? nic.macAddress });
        }
      });
      return done();
    },
    { body: 'action', oldAction: true },
  );
  registerNics(routes, core);
  registerVmParts(routes, core);
}

const searchFields = (core: Core): SearchFields<Vm> => {
  const { db } = core;
  return {
    name: (vm) => vm.name,
    id: (vm) => vm.id,
    // The search language spells states without underscores.
    status: (vm) => [vm.status, vm.status.replaceAll('_', '')],
    cluster: (vm) => db.clusters.get(vm.clusterId)?.name,
    datacenter: (vm) => db.dataCenters.get(db.clusters.get(vm.clusterId)?.dataCenterId ?? '')?.name,
    on_host: (vm) => db.hosts.get(vm.hostId ?? '')?.name,
    host: (vm) => db.hosts.get(vm.hostId ?? '')?.name,
    'host.name': (vm) => db.hosts.get(vm.hostId ?? '')?.name,
    tag: (vm) => vm.tagIds.flatMap((id) => db.tags.get(id)?.name ?? []),
    description: (vm) => vm.description,
    comment: (vm) => vm.comment,
    next_run_config_exists: (vm) => vm.nextRun !== undefined,
    'template.name': (vm) => db.templates.get(vm.templateId)?.name,
    'storage.name': (vm) =>
      db.attachments
        .list(({ vmId }) => vmId === vm.id)
        .flatMap(({ diskId }) => db.storageDomains.get(db.disks.get(diskId)?.storageDomainId ?? '')?.name ?? []),
    'disk.alias': (vm) => db.attachments.list(({ vmId }) => vmId === vm.id).flatMap(({ diskId }) => db.disks.get(diskId)?.name ?? []),
    compatibility_level: (vm) => {
      const level = vm.customCompatibilityVersion ?? db.clusters.get(vm.clusterId)?.version;
      return level && `${String(level.major)}.${String(level.minor)}`;
    },
  };
};
