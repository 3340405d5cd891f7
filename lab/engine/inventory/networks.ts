import type { ApiObject } from '../http/api-object';
import { hrefOf, refOf } from '../http/href';
import { serveReadable } from '../http/readable-resource';
import { found, param } from '../http/request-context';
import type { Routes } from '../http/route';
import type { Core } from '../model/core';
import type { MacPool, Network, VnicProfile } from '../model/entities';

/** Networks, vNIC profiles and MAC pools. */
export function registerNetworks(routes: Routes, core: Core): void {
  const { db } = core;
  const networkSearch = {
    name: (network: Network) => network.name,
    id: (network: Network) => network.id,
    description: (network: Network) => network.description,
  };
  serveReadable(routes, {
    path: '/networks',
    type: 'network',
    all: () => db.networks.list(),
    one: (id) => db.networks.get(id),
    view: networkView,
    search: networkSearch,
  });
  const inDataCenter = (id: string): Network[] => db.networks.list((network) => network.dataCenterId === found(db.dataCenters.get(id)).id);
  serveReadable(routes, {
    path: '/datacenters/:ownerId/networks',
    type: 'network',
    all: (context) => inDataCenter(param(context, 'ownerId')),
    one: (id, context) => inDataCenter(param(context, 'ownerId')).find((network) => network.id === id),
    view: networkView,
  });
  const inCluster = (id: string): Network[] => db.networks.list((network) => network.clusterIds.includes(found(db.clusters.get(id)).id));
  serveReadable(routes, {
    path: '/clusters/:ownerId/networks',
    type: 'network',
    all: (context) => inCluster(param(context, 'ownerId')),
    one: (id, context) => inCluster(param(context, 'ownerId')).find((network) => network.id === id),
    view: networkView,
  });
  serveReadable(routes, {
    path: '/vnicprofiles',
    type: 'vnic_profile',
    all: () => db.vnicProfiles.list(),
    one: (id) => db.vnicProfiles.get(id),
    view: vnicProfileView,
  });
  const ofNetwork = (id: string): VnicProfile[] => db.vnicProfiles.list((profile) => profile.networkId === found(db.networks.get(id)).id);
  serveReadable(routes, {
    path: '/networks/:ownerId/vnicprofiles',
    type: 'vnic_profile',
    all: (context) => ofNetwork(param(context, 'ownerId')),
    one: (id, context) => ofNetwork(param(context, 'ownerId')).find((profile) => profile.id === id),
    view: vnicProfileView,
  });
  serveReadable(routes, {
    path: '/macpools',
    type: 'mac_pool',
    all: () => db.macPools.list(),
    one: (id) => db.macPools.get(id),
    view: macPoolView,
  });
}

function networkView(network: Network): ApiObject {
  return {
    href: hrefOf('networks', network.id),
    id: network.id,
    name: network.name,
    description: network.description,
    comment: network.comment,
    mtu: network.mtu,
    stp: false,
    usages: ['vm'],
    vlan: network.vlanId === undefined ? undefined : { id: String(network.vlanId) },
    data_center: refOf('datacenters', network.dataCenterId),
  };
}

function vnicProfileView(profile: VnicProfile): ApiObject {
  return {
    href: hrefOf('vnicprofiles', profile.id),
    id: profile.id,
    name: profile.name,
    description: profile.description,
    comment: profile.comment,
    pass_through: { mode: profile.passThrough ? 'enabled' : 'disabled' },
    port_mirroring: profile.portMirroring,
    network: refOf('networks', profile.networkId),
  };
}

function macPoolView(pool: MacPool): ApiObject {
  return {
    href: hrefOf('macpools', pool.id),
    id: pool.id,
    name: pool.name,
    description: pool.description,
    allow_duplicates: pool.allowDuplicates,
    default_pool: pool.defaultPool,
    ranges: pool.ranges.map((range) => ({ ...range })),
  };
}
