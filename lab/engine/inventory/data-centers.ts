import type { ApiObject } from '../http/api-object';
import { hrefOf, refOf } from '../http/href';
import { serveReadable } from '../http/readable-resource';
import { found, param } from '../http/request-context';
import type { Routes } from '../http/route';
import type { SearchFields } from '../http/search';
import type { Core } from '../model/core';
import type { Cluster, DataCenter } from '../model/entities';

/** Data centers and clusters: `/datacenters`, `/clusters`, `/datacenters/:id/clusters`. */
export function registerDataCenters(routes: Routes, core: Core): void {
  const { db } = core;
  serveReadable(routes, {
    path: '/datacenters',
    type: 'data_center',
    all: () => db.dataCenters.list(),
    one: (id) => db.dataCenters.get(id),
    view: dataCenterView,
    search: { name: (dc) => dc.name, id: (dc) => dc.id, status: (dc) => dc.status, description: (dc) => dc.description },
  });
  serveReadable(routes, {
    path: '/clusters',
    type: 'cluster',
    all: () => db.clusters.list(),
    one: (id) => db.clusters.get(id),
    view: clusterView,
    search: clusterSearch(core),
  });
  serveReadable(routes, {
    path: '/datacenters/:dataCenterId/clusters',
    type: 'cluster',
    all: (context) => {
      const dataCenter = found(db.dataCenters.get(param(context, 'dataCenterId')));
      return db.clusters.list((cluster) => cluster.dataCenterId === dataCenter.id);
    },
    one: (id, context) =>
      db.clusters.list((cluster) => cluster.dataCenterId === param(context, 'dataCenterId')).find((cluster) => cluster.id === id),
    view: clusterView,
  });
}

function dataCenterView(dataCenter: DataCenter): ApiObject {
  return {
    href: hrefOf('datacenters', dataCenter.id),
    id: dataCenter.id,
    name: dataCenter.name,
    description: dataCenter.description,
    comment: dataCenter.comment,
    local: dataCenter.local,
    status: dataCenter.status,
    storage_format: dataCenter.storageFormat,
    version: { ...dataCenter.version },
    supported_versions: [{ ...dataCenter.version }],
    quota_mode: dataCenter.quotaMode,
    mac_pool: refOf('macpools', dataCenter.macPoolId),
  };
}

export function clusterView(cluster: Cluster): ApiObject {
  return {
    href: hrefOf('clusters', cluster.id),
    id: cluster.id,
    name: cluster.name,
    description: cluster.description,
    comment: cluster.comment,
    version: { ...cluster.version },
    cpu: { architecture: cluster.architecture, type: cluster.cpuType },
    bios_type: cluster.biosType,
    ballooning_enabled: true,
    switch_type: 'legacy',
    virt_service: true,
    gluster_service: false,
    data_center: refOf('datacenters', cluster.dataCenterId),
    mac_pool: refOf('macpools', cluster.macPoolId),
  };
}

const clusterSearch = (core: Core): SearchFields<Cluster> => ({
  name: (cluster) => cluster.name,
  id: (cluster) => cluster.id,
  description: (cluster) => cluster.description,
  datacenter: (cluster) => core.db.dataCenters.get(cluster.dataCenterId)?.name,
});
