import { diskView } from '../disks/disk-view';
import { freeBytesOf } from '../disks/images';
import type { ApiObject } from '../http/api-object';
import { conflict } from '../http/fault';
import { hrefOf, refOf } from '../http/href';
import { serveReadable } from '../http/readable-resource';
import { done, list } from '../http/reply';
import { found, param, type RequestContext } from '../http/request-context';
import type { Routes } from '../http/route';
import type { SearchFields } from '../http/search';
import type { Core } from '../model/core';
import type { StorageDomain } from '../model/entities';
import { unfinishedTransfers } from './usage';

/**
 * Storage domains. Their state is known only below a data center; `/storagedomains` shows nothing but `unattached`.
 */
export function registerStorageDomains(routes: Routes, core: Core): void {
  const { db } = core;
  serveReadable(routes, {
    path: '/storagedomains',
    type: 'storage_domain',
    all: () => db.storageDomains.list(),
    one: (id) => db.storageDomains.get(id),
    view: (domain) => storageDomainView(core, domain),
    search: searchFields(core),
  });
  const ofDataCenter = (context: RequestContext): StorageDomain[] => {
    const dataCenter = found(db.dataCenters.get(param(context, 'dataCenterId')));
    return db.storageDomains.list((domain) => domain.dataCenterId === dataCenter.id);
  };
  serveReadable(routes, {
    path: '/datacenters/:dataCenterId/storagedomains',
    type: 'storage_domain',
    all: ofDataCenter,
    one: (id, context) => ofDataCenter(context).find((domain) => domain.id === id),
    view: async (domain, context) => ({
      ...(await storageDomainView(core, domain)),
      href: hrefOf('datacenters', param(context, 'dataCenterId'), 'storagedomains', domain.id),
      status: domain.status,
      data_center: refOf('datacenters', param(context, 'dataCenterId')),
    }),
  });
  routes.add(
    'POST',
    '/datacenters/:dataCenterId/storagedomains/:id/deactivate',
    (context) => {
      context.permits('MANIPULATE_STORAGE_DOMAIN');
      const domain = found(ofDataCenter(context).find(({ id }) => id === param(context, 'id')));
      refuseWhileUsed(core, domain);
      db.storageDomains.update(domain.id, { status: 'preparing_for_maintenance' });
      core.clock.after(2_000, () => {
        db.storageDomains.update(domain.id, { status: 'maintenance' });
      });
      return done();
    },
    { body: 'action', oldAction: true },
  );
  routes.add(
    'POST',
    '/datacenters/:dataCenterId/storagedomains/:id/activate',
    (context) => {
      context.permits('MANIPULATE_STORAGE_DOMAIN');
      const domain = found(ofDataCenter(context).find(({ id }) => id === param(context, 'id')));
      if (!['maintenance', 'inactive'].includes(domain.status)) {
        throw conflict(
          'STORAGE_DOMAIN_STATUS_ILLEGAL',
          `Cannot activate Storage. The domain ${domain.name} is in status ${domain.status}.`,
        );
      }
      db.storageDomains.update(domain.id, { status: 'activating' });
      core.clock.after(2_000, () => {
        db.storageDomains.update(domain.id, { status: 'active' });
      });
      return done();
    },
    { body: 'action', oldAction: true },
  );
  routes.add('GET', '/storagedomains/:id/disks', (context) => {
    const domain = found(db.storageDomains.get(param(context, 'id')));
    // The lab's domains hold nothing that the engine has not registered.
    const disks = context.query.flag('unregistered') === true ? [] : db.disks.list((disk) => disk.storageDomainId === domain.id);
    return list(
      'disk',
      disks.map((disk) => diskView(core, disk, { allContent: context.allContent })),
    );
  });
  core.onStart(() => {
    // Changes of state that a restart cut off.
    for (const domain of db.storageDomains.list()) {
      if (domain.status === 'activating') {
        db.storageDomains.update(domain.id, { status: 'active' });
      }
      if (domain.status === 'preparing_for_maintenance') {
        db.storageDomains.update(domain.id, { status: 'maintenance' });
      }
    }
  });
}

function refuseWhileUsed(core: Core, domain: StorageDomain): void {
  const { db } = core;
  const diskIds = new Set(db.disks.list((disk) => disk.storageDomainId === domain.id).map((disk) => disk.id));
  if (
    db.attachments.find(
      (attachment) => attachment.active && diskIds.has(attachment.diskId) && db.vms.get(attachment.vmId)?.hostId !== undefined,
    )
  ) {
    throw conflict('STORAGE_DOMAIN_HAS_RUNNING_VMS', `Cannot deactivate Storage. Running VMs have disks on ${domain.name}.`);
  }
  if (unfinishedTransfers(core).some((transfer) => diskIds.has(transfer.diskId))) {
    throw conflict('STORAGE_DOMAIN_HAS_ACTIVE_TRANSFERS', `Cannot deactivate Storage. Image transfers use ${domain.name}.`);
  }
}

async function storageDomainView(core: Core, domain: StorageDomain): Promise<ApiObject> {
  return {
    href: hrefOf('storagedomains', domain.id),
    id: domain.id,
    name: domain.name,
    description: domain.description,
    comment: domain.comment,
    type: domain.type,
    master: domain.master,
    storage: {
      type: domain.storageType,
      address: domain.address,
      path: domain.path,
      nfs_version: domain.storageType === 'nfs' ? 'auto' : undefined,
    },
    storage_format: domain.storageFormat,
    external_status: 'ok',
    block_size: 512,
    backup: domain.backup,
    wipe_after_delete: domain.wipeAfterDelete,
    discard_after_delete: domain.discardAfterDelete,
    supports_discard: false,
    supports_discard_zeroes_data: false,
    warning_low_space_indicator: domain.warningLowSpacePercent,
    critical_space_action_blocker: domain.criticalSpaceGib,
    ...(domain.dataCenterId === undefined ? { status: 'unattached' } : { data_centers: [refOf('datacenters', domain.dataCenterId)] }),
    ...(domain.status === 'active' ? await space(core, domain) : {}),
  };
}

/** Absent while the domain is not active, as from the engine. */
async function space(core: Core, domain: StorageDomain): Promise<ApiObject> {
  const disks = core.db.disks.list((disk) => disk.storageDomainId === domain.id);
  const committed = disks.reduce((sum, disk) => sum + (disk.sparse ? 0 : disk.provisionedSizeBytes), 0);
  if (domain.pretended) {
    return { available: domain.pretended.availableBytes, used: domain.pretended.usedBytes, committed };
  }
  // The engine reports whole GiB.
  const gib = 1024 ** 3;
  const used = disks.reduce((sum, disk) => sum + disk.totalSizeBytes, 0);
  return { available: Math.floor((await freeBytesOf(core, domain)) / gib) * gib, used: Math.ceil(used / gib) * gib, committed };
}

const searchFields = (core: Core): SearchFields<StorageDomain> => ({
  name: (domain) => domain.name,
  id: (domain) => domain.id,
  status: (domain) => domain.status,
  type: (domain) => domain.type,
  datacenter: (domain) => core.db.dataCenters.get(domain.dataCenterId ?? '')?.name,
  free_size: (domain) => domain.pretended && Math.floor(domain.pretended.availableBytes / 1024 ** 3),
});
