import type { ApiObject } from '../http/api-object';
import { hrefOf, refOf } from '../http/href';
import { serveReadable } from '../http/readable-resource';
import { found, param } from '../http/request-context';
import type { Routes } from '../http/route';
import type { Core } from '../model/core';
import type { CpuProfile, DiskProfile } from '../model/entities';

/** Disk profiles of storage domains and CPU profiles of clusters. */
export function registerProfiles(routes: Routes, core: Core): void {
  const { db } = core;
  serveReadable(routes, {
    path: '/diskprofiles',
    type: 'disk_profile',
    all: () => db.diskProfiles.list(),
    one: (id) => db.diskProfiles.get(id),
    view: diskProfileView,
  });
  const ofDomain = (id: string): DiskProfile[] =>
    db.diskProfiles.list((profile) => profile.storageDomainId === found(db.storageDomains.get(id)).id);
  serveReadable(routes, {
    path: '/storagedomains/:ownerId/diskprofiles',
    type: 'disk_profile',
    all: (context) => ofDomain(param(context, 'ownerId')),
    one: (id, context) => ofDomain(param(context, 'ownerId')).find((profile) => profile.id === id),
    view: diskProfileView,
  });
  serveReadable(routes, {
    path: '/cpuprofiles',
    type: 'cpu_profile',
    all: () => db.cpuProfiles.list(),
    one: (id) => db.cpuProfiles.get(id),
    view: cpuProfileView,
  });
  const ofCluster = (id: string): CpuProfile[] => db.cpuProfiles.list((profile) => profile.clusterId === found(db.clusters.get(id)).id);
  serveReadable(routes, {
    path: '/clusters/:ownerId/cpuprofiles',
    type: 'cpu_profile',
    all: (context) => ofCluster(param(context, 'ownerId')),
    one: (id, context) => ofCluster(param(context, 'ownerId')).find((profile) => profile.id === id),
    view: cpuProfileView,
  });
}

const diskProfileView = (profile: DiskProfile): ApiObject => ({
  href: hrefOf('diskprofiles', profile.id),
  id: profile.id,
  name: profile.name,
  storage_domain: refOf('storagedomains', profile.storageDomainId),
});

const cpuProfileView = (profile: CpuProfile): ApiObject => ({
  href: hrefOf('cpuprofiles', profile.id),
  id: profile.id,
  name: profile.name,
  cluster: refOf('clusters', profile.clusterId),
});
