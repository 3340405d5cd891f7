import type { ApiObject } from '../http/api-object';
import { conflict } from '../http/fault';
import { hrefOf, refOf } from '../http/href';
import { serveReadable } from '../http/readable-resource';
import { done } from '../http/reply';
import { found, param } from '../http/request-context';
import type { Routes } from '../http/route';
import type { Core } from '../model/core';
import type { Host } from '../model/entities';
import { schedulableBytes } from '../power/host-choice';
import { unfinishedTransfers } from './usage';

/** Hosts: list, maintenance and back. At start every real host's imageio is brought up and its address learned. */
export function registerHosts(routes: Routes, core: Core): void {
  const { db } = core;
  core.onStart(async () => {
    await Promise.all(db.hosts.list((host) => !host.pretended && host.status !== 'maintenance').map((host) => connectHost(core, host.id)));
  });
  serveReadable(routes, {
    path: '/hosts',
    type: 'host',
    all: () => db.hosts.list(),
    one: (id) => db.hosts.get(id),
    view: (host, context) => hostView(core, host, context.allContent),
    search: {
      name: (host) => host.name,
      id: (host) => host.id,
      status: (host) => host.status.replaceAll('_', ''),
      address: (host) => host.address,
      cluster: (host) => db.clusters.get(host.clusterId)?.name,
      datacenter: (host) => db.dataCenters.get(db.clusters.get(host.clusterId)?.dataCenterId ?? '')?.name,
    },
  });
  routes.add(
    'POST',
    '/hosts/:id/deactivate',
    (context) => {
      const host = found(db.hosts.get(param(context, 'id')));
      if (unfinishedTransfers(core).some((transfer) => transfer.hostId === host.id)) {
        throw conflict(
          'HOST_HAS_ACTIVE_TRANSFERS',
          `Cannot switch Host ${host.name} to maintenance: image transfers are in progress on it.`,
        );
      }
      if (db.vms.find((vm) => vm.hostId === host.id)) {
        throw conflict('HOST_HAS_RUNNING_VMS', `Cannot switch Host ${host.name} to maintenance: VMs run on it and cannot be migrated.`);
      }
      db.hosts.update(host.id, { status: 'maintenance' });
      core.events.log(15, 'normal', `Host ${host.name} was switched to Maintenance mode.`, { hostId: host.id }, context.correlationId);
      return done();
    },
    { body: 'action', oldAction: true },
  );
  routes.add(
    'POST',
    '/hosts/:id/activate',
    async (context) => {
      const host = found(db.hosts.get(param(context, 'id')));
      await connectHost(core, host.id);
      return done();
    },
    { body: 'action', oldAction: true },
  );
}

/** Brings the host's daemon up and marks the host; a failure makes it non_responsive, never throws. */
export async function connectHost(core: Core, hostId: string): Promise<void> {
  const host = core.db.hosts.require(hostId);
  if (host.pretended) {
    core.db.hosts.update(hostId, { status: 'up' });
    return;
  }
  try {
    const { baseUrl } = await core.fleet.startHost(hostId);
    core.db.hosts.update(hostId, { status: 'up', imageioBaseUrl: baseUrl, address: new URL(baseUrl).hostname.replace(/^\[|\]$/g, '') });
    if (host.status !== 'up') {
      core.events.log(13, 'normal', `Status of host ${host.name} was set to Up.`, { hostId, clusterId: host.clusterId });
    }
  } catch (error) {
    core.log.error(`host ${host.name} does not come up`, error);
    core.db.hosts.update(hostId, { status: 'non_responsive' });
    core.events.log(12, 'error', `Host ${host.name} is non responsive.`, { hostId, clusterId: host.clusterId });
  }
}

function hostView(core: Core, host: Host, allContent: boolean): ApiObject {
  const active = core.db.vms.list((vm) => vm.hostId === host.id);
  return {
    href: hrefOf('hosts', host.id),
    id: host.id,
    name: host.name,
    description: host.description,
    comment: host.comment,
    address: host.address,
    port: 54321,
    status: host.status,
    external_status: 'ok',
    type: 'rhel',
    cluster: refOf('clusters', host.clusterId),
    spm: { priority: 5, status: host.spm ? 'spm' : 'none' },
    version: { major: 4, minor: 50, build: 5, revision: 1, full_version: 'vdsm-4.50.5.1-1.el9' },
    libvirt_version: { major: 10, minor: 0, build: 0, revision: 0, full_version: 'libvirt-10.0.0-6.el9' },
    os: { type: 'RHEL', version: { major: 9, minor: 4, full_version: '9 - 4.el9' } },
    memory: host.memoryBytes,
    max_scheduling_memory: schedulableBytes(core, host),
    cpu: { name: 'QEMU TCG CPU', speed: 2400, topology: { sockets: 1, cores: host.cpuCores, threads: 1 } },
    summary: { active: active.length, migrating: active.filter((vm) => vm.status === 'migrating').length, total: active.length },
    ...(allContent
      ? { hosted_engine: { configured: false, active: false, global_maintenance: false, local_maintenance: false, score: 0 } }
      : {}),
  };
}
