import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { GuestInterface } from '../hosts/driver';
import type { GuestNetworks, ProcessPort, TapPort } from '../hosts/guest-networks';
import { AddressService } from './address-service';
import { type BackgroundService, signalServices } from './background-service';
import { TimeService } from './time-service';
import { ClusterFilter, type PortBlock } from './cluster-filter';
import { enterNamespace, ip, NetworkError, requireTools, runCommand, sysctl, type Namespace } from './commands';
import { abandonedNumbers, claimNumber, releaseNumber } from './lab-number';
import { NetworkNames } from './names';
import { AddressPlan, plannedClusters, station, type NetworksPlan, type PlannedCluster, type Subnet } from './network-plan';

/**
 * The networks of one lab on this machine: bridges, namespaces, addresses, address services, and the ports of VMs on them. Everything is
 * made so that it may exist already: a lab that was killed finds its networks, with its guests on them, at its next start. What a lab that
 * will not come back left is taken down by the next one that starts.
 */
export interface LabHost {
  readonly id: string;
  readonly name: string;
  readonly cluster: string;
}

/** How the networks are seen from outside, for the lab's ready file. */
export interface NetworkAccess {
  /** Where workers of clusters without a network of their own, and those without NAT, find what listens on the server side. */
  readonly serverAddress: string;
  readonly serverAddressIpv6: string;
  readonly clusters: Readonly<
    Record<string, { readonly namespace: string; readonly subnets: readonly string[]; readonly serverAddress: string }>
  >;
}

/** Where a VM's ports lie. */
interface Place {
  readonly subnet: Subnet;
  readonly namespace: Namespace;
  readonly bridge: string;
}

const clusterBridge = 'br0';
const clusterUplink = 'up0';

export class LabNetworks implements GuestNetworks {
  readonly #services: BackgroundService[] = [];
  readonly #filters = new Map<string, ClusterFilter>();
  readonly #ports = new Map<string, { readonly namespace: Namespace; readonly links: readonly string[]; readonly cut: boolean }>();
  readonly #processStations = new Map<string, number>();
  readonly #backbone: Subnet = { index: 0, ipv4: true, ipv6: true };

  private constructor(
    readonly labNumber: number,
    readonly clusters: readonly PlannedCluster[],
    readonly hosts: readonly LabHost[],
    readonly folder: string,
    readonly names: NetworkNames,
    readonly addresses: AddressPlan,
  ) {}

  static async open(dataDir: string, plan: NetworksPlan, clusters: readonly string[], hosts: readonly LabHost[]): Promise<LabNetworks> {
    await requireTools();
    for (const { number, dataDir: abandoned } of abandonedNumbers()) {
      signalServices(join(abandoned, 'networks/'), 'SIGKILL');
      await takeDown(new NetworkNames(number), true);
      releaseNumber(number);
    }
    const planned = plannedClusters(plan, clusters);
    const number = claimNumber(dataDir);
    const folder = join(dataDir, 'networks');
    mkdirSync(folder, { recursive: true });
    const networks = new LabNetworks(number, planned, hosts, folder, new NetworkNames(number), new AddressPlan(number));
    try {
      await networks.#up();
      return networks;
    } catch (error) {
      await networks.close();
      throw error;
    }
  }

  /** The whole of it goes, whatever is still on it. */
  async close(): Promise<void> {
    for (const service of this.#services.splice(0)) await service.stop();
    await takeDown(this.names);
    releaseNumber(this.labNumber);
  }

  get access(): NetworkAccess {
    const { addresses } = this;
    return {
      serverAddress: addresses.ipv4(0, station.router),
      serverAddressIpv6: addresses.ipv6(0, station.router),
      clusters: Object.fromEntries(
        this.clusters.map((cluster) => [
          cluster.name,
          {
            namespace: this.names.clusterNamespace(cluster.index),
            subnets: [
              ...(cluster.ipv4 ? [addresses.ipv4Net(cluster.index)] : []),
              ...(cluster.ipv6 ? [addresses.ipv6Net(cluster.index)] : []),
            ],
            serverAddress: addresses.server(cluster),
          },
        ]),
      ),
    };
  }

  /** What the server side answers at, from anywhere. */
  serverAddresses(): string[] {
    return [
      ...new Set([this.access.serverAddress, this.access.serverAddressIpv6, ...this.clusters.map((one) => this.addresses.server(one))]),
    ];
  }

  /** The one that a client is told: of the clusters, where all agree. */
  engineAddress(): string {
    const seen = new Set(this.clusters.map((cluster) => this.addresses.server(cluster)));
    const inOneNetwork = this.hosts.every(({ cluster }) => this.clusters.some(({ name }) => name === cluster));
    const [only] = seen;
    // Only the IPv6 address is the server's own; a forward address means nothing on the server side.
    return inOneNetwork && seen.size === 1 && only?.includes(':') === true ? only : this.access.serverAddress;
  }

  hostAddress(hostId: string): string {
    const position = this.hosts.findIndex(({ id }) => id === hostId);
    const { subnet } = this.#placeOf(hostId);
    return subnet.ipv4
      ? this.addresses.ipv4(subnet.index, station.host(position))
      : this.addresses.ipv6(subnet.index, station.host(position));
  }

  enter(hostId: string): readonly string[] {
    return hostId === 'proxy' ? [] : enterNamespace(this.#placeOf(hostId).namespace);
  }

  async connectGuest(hostId: string, vmId: string, macAddresses: readonly string[]): Promise<readonly TapPort[]> {
    const { namespace, bridge } = this.#placeOf(hostId);
    const ports = macAddresses.map((macAddress, index) => ({ macAddress, tap: this.names.port(vmId, index) }));
    for (const { tap } of ports) {
      await ip(namespace, 'tuntap', 'add', 'dev', tap, 'mode', 'tap').catch((error: unknown) => {
        if (!/busy/i.test(String(error))) throw error; // it is there
      });
      await ip(namespace, 'link', 'set', tap, 'master', bridge, 'up');
    }
    this.#ports.set(vmId, { namespace, links: ports.map(({ tap }) => tap), cut: false });
    return ports;
  }

  async connectProcess(hostId: string, vmId: string, macAddresses: readonly string[]): Promise<ProcessPort> {
    const place = this.#placeOf(hostId);
    const own = this.names.processNamespace(vmId);
    await ip(undefined, 'netns', 'add', own);
    await ip(own, 'link', 'set', 'lo', 'up');
    const interfaces: GuestInterface[] = [];
    for (const [index, macAddress] of macAddresses.entries()) {
      const port = this.names.port(vmId, index);
      const name = `eth${index}`;
      const isThere = (await ip(own, '-br', 'link', 'show', name)).trim() !== '';
      if (!isThere) {
        await ip(place.namespace, 'link', 'add', port, 'type', 'veth', 'peer', 'name', name, 'address', macAddress, 'netns', own);
        await ip(place.namespace, 'link', 'set', port, 'master', place.bridge, 'up');
        await ip(own, 'link', 'set', name, 'up');
      }
      const addresses = this.addresses.both(place.subnet, this.#processStation(`${vmId}/${index}`));
      for (const address of addresses) await ip(own, 'addr', 'add', address, 'dev', name, ...(address.includes(':') ? ['nodad'] : []));
      interfaces.push({ name, macAddress, addresses: addresses.map((address) => address.split('/')[0]!) });
    }
    if (place.namespace !== undefined) {
      const { subnet } = place;
      if (subnet.ipv4) await ip(own, 'route', 'add', 'default', 'via', this.addresses.ipv4(subnet.index, station.router));
      if (subnet.ipv6) await ip(own, '-6', 'route', 'add', 'default', 'via', this.addresses.ipv6(subnet.index, station.router));
    }
    this.#ports.set(vmId, { namespace: place.namespace, links: macAddresses.map((_, index) => this.names.port(vmId, index)), cut: false });
    return { enter: enterNamespace(own), interfaces };
  }

  async disconnect(vmId: string): Promise<void> {
    const ports = this.#ports.get(vmId);
    this.#ports.delete(vmId);
    for (const link of ports?.links ?? []) await ip(ports?.namespace, 'link', 'del', link);
    await ip(undefined, 'netns', 'del', this.names.processNamespace(vmId));
    for (const key of [...this.#processStations.keys()]) if (key.startsWith(`${vmId}/`)) this.#processStations.delete(key);
  }

  /** Pulls the cables of a VM, or plugs them in again. */
  async cutOffVm(vmId: string, cut: boolean): Promise<void> {
    const ports = this.#ports.get(vmId);
    if (ports === undefined || ports.links.length === 0) throw new NetworkError(`VM ${vmId} has no port on a network.`);
    for (const link of ports.links) await ip(ports.namespace, 'link', 'set', link, cut ? 'down' : 'up');
    this.#ports.set(vmId, { ...ports, cut });
  }

  /** Pulls the cable between a cluster and the server side; inside the cluster all goes on. */
  async cutOffCluster(name: string, cut: boolean): Promise<void> {
    const { index } = this.#cluster(name);
    await ip(undefined, 'link', 'set', this.names.uplink(index), cut ? 'down' : 'up');
    // The way back into the cluster goes with the carrier of the bridge, not of its port, so nothing else needs to be made again.
  }

  blocks(name: string): readonly PortBlock[] {
    return this.#filter(name).blocks;
  }

  /** What guests of the cluster can no longer reach. An empty list opens all. */
  async block(name: string, blocks: readonly PortBlock[]): Promise<void> {
    await this.#filter(name).set(blocks);
  }

  /** Known once they listen. */
  async openEngine(ports: readonly number[]): Promise<void> {
    for (const { name } of this.clusters) await this.#filter(name).openEngine(ports);
  }

  async #up(): Promise<void> {
    const { names, addresses } = this;
    await ip(undefined, 'link', 'add', names.backbone, 'type', 'bridge');
    for (const address of addresses.both(this.#backbone, station.router)) await addAddress(undefined, names.backbone, address);
    await ip(undefined, 'link', 'set', names.backbone, 'up');
    for (const cluster of this.clusters) await this.#upCluster(cluster);
    for (const [position, host] of this.hosts.entries()) {
      const { namespace, bridge, subnet } = this.#placeOf(host.id);
      for (const address of addresses.both(subnet, station.host(position))) await addAddress(namespace, bridge, address);
    }
    for (const subnet of [undefined, ...this.clusters]) await this.#serveAddresses(subnet);
    const time = new TimeService([this.access.serverAddress, this.access.serverAddressIpv6], this.folder);
    this.#services.push(time);
    await time.start();
  }

  async #upCluster(cluster: PlannedCluster): Promise<void> {
    const { names, addresses } = this;
    const namespace = names.clusterNamespace(cluster.index);
    const port = names.uplink(cluster.index);
    await ip(undefined, 'netns', 'add', namespace);
    await ip(namespace, 'link', 'set', 'lo', 'up');
    await sysctl(namespace, {
      'ipv4/ip_forward': cluster.ipv4 ? '1' : '0',
      'ipv6/conf/all/forwarding': cluster.ipv6 ? '1' : '0',
      'ipv6/conf/all/keep_addr_on_down': '1',
      'ipv6/conf/default/keep_addr_on_down': '1',
    });
    if ((await ip(namespace, '-br', 'link', 'show', clusterUplink)).trim() === '') {
      await ip(undefined, 'link', 'del', port);
      await ip(undefined, 'link', 'add', port, 'type', 'veth', 'peer', 'name', clusterUplink, 'netns', namespace);
    }
    await ip(undefined, 'link', 'set', port, 'master', names.backbone, 'up');
    await ip(namespace, 'link', 'set', clusterUplink, 'up');
    for (const address of addresses.both({ ...cluster, index: 0 }, station.uplink(cluster.index)))
      await addAddress(namespace, clusterUplink, address);
    await ip(namespace, 'link', 'add', clusterBridge, 'type', 'bridge');
    for (const address of addresses.both(cluster, station.router)) await addAddress(namespace, clusterBridge, address);
    await ip(namespace, 'link', 'set', clusterBridge, 'up');
    // Also into a cluster behind NAT: engine and proxy must reach its hosts. It is the guests' way out that is translated.
    const via = station.uplink(cluster.index);
    if (cluster.ipv4) await ip(undefined, 'route', 'replace', addresses.ipv4Net(cluster.index), 'via', addresses.ipv4(0, via));
    if (cluster.ipv6) await ip(undefined, '-6', 'route', 'replace', addresses.ipv6Net(cluster.index), 'via', addresses.ipv6(0, via));
    await this.#filter(cluster.name).set([]);
  }

  async #serveAddresses(cluster: PlannedCluster | undefined): Promise<void> {
    if (cluster?.automaticAddresses === false) return;
    const place = cluster === undefined ? this.#backbonePlace : this.#placeOfCluster(cluster);
    const hosts = this.hosts.filter(
      ({ id }) => this.#placeOf(id).bridge === place.bridge && this.#placeOf(id).namespace === place.namespace,
    );
    const service = new AddressService({
      namespace: place.namespace,
      bridge: place.bridge,
      subnet: place.subnet,
      addresses: this.addresses,
      routes: cluster !== undefined,
      names: {
        'engine.lab': this.addresses.server(cluster),
        ...Object.fromEntries(hosts.map(({ id, name }) => [`${name}.lab`, this.hostAddress(id)])),
      },
      folder: this.folder,
    });
    this.#services.push(service);
    await service.start();
  }

  get #backbonePlace(): Place {
    return { subnet: this.#backbone, namespace: undefined, bridge: this.names.backbone };
  }

  #placeOf(hostId: string): Place {
    const host = this.hosts.find(({ id }) => id === hostId);
    const cluster = this.clusters.find(({ name }) => name === host?.cluster);
    return cluster === undefined ? this.#backbonePlace : this.#placeOfCluster(cluster);
  }

  #placeOfCluster(cluster: PlannedCluster): Place {
    return { subnet: cluster, namespace: this.names.clusterNamespace(cluster.index), bridge: clusterBridge };
  }

  #cluster(name: string): PlannedCluster {
    const cluster = this.clusters.find((candidate) => candidate.name === name);
    if (cluster === undefined) throw new NetworkError(`Cluster ${name} has no network of its own.`);
    return cluster;
  }

  #filter(name: string): ClusterFilter {
    const cluster = this.#cluster(name);
    let filter = this.#filters.get(name);
    if (filter === undefined) {
      const namespace = this.names.clusterNamespace(cluster.index);
      filter = new ClusterFilter({ namespace, bridge: clusterBridge, uplink: clusterUplink, cluster, addresses: this.addresses });
      this.#filters.set(name, filter);
    }
    return filter;
  }

  #processStation(key: string): number {
    const known = this.#processStations.get(key);
    if (known !== undefined) return known;
    const taken = new Set(this.#processStations.values());
    for (let step = 0; step < station.mostProcesses; step += 1) {
      const candidate = station.firstProcess + ((hashOf(key) + step) % station.mostProcesses);
      if (taken.has(candidate)) continue;
      this.#processStations.set(key, candidate);
      return candidate;
    }
    throw new NetworkError('No address is free for another process.');
  }
}

async function addAddress(namespace: Namespace, device: string, address: string): Promise<void> {
  await ip(namespace, 'addr', 'add', address, 'dev', device, ...(address.includes(':') ? ['nodad'] : []));
}

/** The same name gives the same number, so that a process that outlived its lab keeps its address. */
function hashOf(text: string): number {
  let hash = 7;
  for (const character of text) hash = (hash * 31 + (character.codePointAt(0) ?? 0)) >>> 0;
  return hash;
}

/** Namespaces of the lab first: ports on the backbone go with them. `withProcesses`: of a lab that will not come back to end them itself. */
async function takeDown(names: NetworkNames, withProcesses = false): Promise<void> {
  const namespaces = (await runCommand(['ip', 'netns', 'list'])).split('\n').map((line) => line.split(' ')[0] ?? '');
  for (const namespace of namespaces.filter((name) => name.startsWith(`${names.backbone}-`))) {
    if (withProcesses) {
      const pids = (await ip(undefined, 'netns', 'pids', namespace)).split('\n').filter((pid) => pid !== '');
      if (pids.length > 0) await runCommand(['kill', '-KILL', ...pids], { accepts: /No such process/ });
    }
    await ip(undefined, 'netns', 'del', namespace);
  }
  const links = (await runCommand(['ip', '-br', 'link', 'show', 'master', names.backbone], { accepts: /does not exist|Cannot find/ }))
    .split('\n')
    .map((line) => line.split(/[\s@]/)[0] ?? '')
    .filter((name) => name !== '');
  for (const link of links) await ip(undefined, 'link', 'del', link);
  await ip(undefined, 'link', 'del', names.backbone);
}
