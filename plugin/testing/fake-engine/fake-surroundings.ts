import type { FakeWorld } from './fake-world';

/** One data centre with one cluster and one host; storage domains, profiles and tags as the test says. */
export function fakeSurroundings(world: FakeWorld) {
  return {
    tags: {
      list: world.call('tags.list', () => [...world.tagNames].map((name) => ({ id: name, name }))),
      assign: world.call(
        'tags.assign',
        (vmId: string, name: string) => void (world.vm(vmId).tags.includes(name) || world.vm(vmId).tags.push(name)),
      ),
    },
    clusters: {
      find: world.call('clusters.find', (id: string) => (id === 'cluster1' ? cluster(world) : undefined)),
      list: world.call('clusters.list', () => [cluster(world)]),
    },
    dataCenters: { list: world.call('dataCenters.list', () => [{ id: 'dc1', name: 'Default', status: 'up' }]) },
    hosts: {
      list: world.call('hosts.list', () => world.hostRows.map((host) => ({ ...host }))),
    },
    storageDomains: {
      find: world.call('storageDomains.find', (id: string) => domain(world, id)),
      listOfDataCenter: world.call('storageDomains.listOfDataCenter', () => [...world.domains.keys()].map((id) => domain(world, id)!)),
    },
    networks: {
      vnicProfiles: world.call('networks.vnicProfiles', () =>
        [...world.profiles].map(([id, name]) => ({ id, name, networkId: 'n1', passThrough: false })),
      ),
    },
    events: { failureText: world.call('events.failureText', () => world.lastFailure || undefined) },
  };
}

function cluster(world: FakeWorld) {
  return { id: 'cluster1', name: 'Default', dataCenterId: 'dc1', version: world.level, architecture: 'x86_64', biosType: undefined };
}

function domain(world: FakeWorld, id: string) {
  const known = world.domains.get(id);
  return (
    known && {
      id,
      name: id,
      type: 'data',
      availableBytes: 10 ** 13,
      usedBytes: 0,
      criticalFreeBytes: 0,
      backup: false,
      dataCenterIds: ['dc1'],
      ...known,
    }
  );
}
