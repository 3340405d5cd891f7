import { randomUUID } from 'node:crypto';
import type { ApiObject } from '../http/api-object';
import { flagOf, numberOf, objectOf, objectsOf, textOf } from '../http/api-object';
import { badRequest, conflict, incomplete } from '../http/fault';
import { hrefOf, refOf } from '../http/href';
import { refsOf } from '../http/links';
import { serveReadable } from '../http/readable-resource';
import { created, done, list } from '../http/reply';
import { found, param, type RequestContext } from '../http/request-context';
import type { Routes } from '../http/route';
import type { Core } from '../model/core';
import type { AffinityGroup } from '../model/entities';

type Rule = AffinityGroup['vmsRule'];

/** Affinity groups of a cluster and their VMs. */
export function registerAffinityGroups(routes: Routes, core: Core): void {
  const { db } = core;
  const base = '/clusters/:clusterId/affinitygroups';
  const ofCluster = (context: RequestContext): AffinityGroup[] => {
    const cluster = found(db.clusters.get(param(context, 'clusterId')));
    return db.affinityGroups.list((group) => group.clusterId === cluster.id);
  };
  const one = (context: RequestContext): AffinityGroup => found(ofCluster(context).find((group) => group.id === param(context, 'id')));
  serveReadable(routes, {
    path: base,
    type: 'affinity_group',
    all: ofCluster,
    one: (id, context) => ofCluster(context).find((group) => group.id === id),
    view: affinityGroupView,
  });
  routes.add(
    'POST',
    base,
    (context) => {
      context.permits('MANIPULATE_AFFINITY_GROUPS');
      const name = textOf(context.body, 'name');
      if (name === undefined) {
        throw incomplete('AffinityGroup', ['name'], 'add');
      }
      if (ofCluster(context).some((group) => group.name === name)) {
        throw conflict('AFFINITY_GROUP_NAME_EXISTS', `Cannot create Affinity Group. The name ${name} is in use in this cluster.`);
      }
      const group = db.affinityGroups.put({
        id: randomUUID(),
        name,
        description: textOf(context.body, 'description') ?? '',
        clusterId: param(context, 'clusterId'),
        priority: numberOf(context.body, 'priority') ?? 1,
        vmsRule: ruleOf(objectOf(context.body, 'vms_rule'), objectOf(context.body, 'vms_rule') !== undefined),
        hostsRule: ruleOf(objectOf(context.body, 'hosts_rule'), false),
        vmIds: idsOf(context.body, 'vms'),
        hostIds: idsOf(context.body, 'hosts'),
      });
      return created('affinity_group', affinityGroupView(group));
    },
    { body: 'affinity_group' },
  );
  routes.add('DELETE', `${base}/:id`, (context) => {
    context.permits('MANIPULATE_AFFINITY_GROUPS');
    db.affinityGroups.delete(one(context).id);
    return done();
  });
  routes.add('GET', `${base}/:id/vms`, (context) => list('vm', refsOf('vms', one(context).vmIds)));
  routes.add('GET', `${base}/:id/hosts`, (context) => list('host', refsOf('hosts', one(context).hostIds)));
  routes.add(
    'POST',
    `${base}/:id/vms`,
    (context) => {
      context.permits('MANIPULATE_AFFINITY_GROUPS');
      const group = one(context);
      const vmId = textOf(context.body, 'id') ?? db.vms.find((vm) => vm.name === textOf(context.body, 'name'))?.id;
      const vm = vmId === undefined ? undefined : db.vms.get(vmId);
      if (!vm) {
        throw badRequest('AFFINITY_GROUP_INVALID_ENTITY', 'Cannot edit Affinity Group. The VM does not exist.');
      }
      if (vm.clusterId !== group.clusterId) {
        throw badRequest('ENTITY_NOT_IN_CLUSTER', `Cannot edit Affinity Group. VM ${vm.name} is in another cluster.`);
      }
      db.affinityGroups.update(group.id, { vmIds: [...new Set([...group.vmIds, vm.id])] });
      return created('vm', { ...refOf('vms', vm.id), href: hrefOf('clusters', group.clusterId, 'affinitygroups', group.id, 'vms', vm.id) });
    },
    { body: 'vm' },
  );
  routes.add('DELETE', `${base}/:id/vms/:vmId`, (context) => {
    context.permits('MANIPULATE_AFFINITY_GROUPS');
    const group = one(context);
    found(group.vmIds.find((id) => id === param(context, 'vmId')));
    db.affinityGroups.update(group.id, { vmIds: group.vmIds.filter((id) => id !== param(context, 'vmId')) });
    return done();
  });
}

const idsOf = (body: ApiObject, field: string): string[] => (objectsOf(body, field) ?? []).flatMap((item) => textOf(item, 'id') ?? []);

const ruleOf = (rule: ApiObject | undefined, enabledByDefault: boolean): Rule => ({
  enabled: flagOf(rule, 'enabled') ?? enabledByDefault,
  positive: flagOf(rule, 'positive') ?? false,
  enforcing: flagOf(rule, 'enforcing') ?? false,
});

const affinityGroupView = (group: AffinityGroup): ApiObject => ({
  href: hrefOf('clusters', group.clusterId, 'affinitygroups', group.id),
  id: group.id,
  name: group.name,
  description: group.description,
  priority: group.priority,
  broken: false,
  enforcing: group.vmsRule.enforcing,
  positive: group.vmsRule.positive,
  vms_rule: { ...group.vmsRule },
  hosts_rule: { ...group.hostsRule },
  cluster: refOf('clusters', group.clusterId),
  vms: refsOf('vms', group.vmIds),
  hosts: refsOf('hosts', group.hostIds),
});
