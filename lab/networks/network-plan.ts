/**
 * The networks of a lab on paper: which clusters stand in a network namespace of their own, and every address in them. Pure.
 *
 * A backbone bridge in the namespace of the lab itself carries the "server" side: engine, proxy, and whatever a test starts there. Clusters
 * without an entry in the plan stand on the backbone too. A cluster with an entry has its own namespace that routes between its bridge and
 * the backbone; it knows no way to the other clusters.
 *
 * Numbers of one lab: IPv4 `10.B.C.0/24` where B and C come from the lab's number, IPv6 `fd5a:7d00:<number>:<index>::/64`; index 0 is the
 * backbone. Last part of an address: 1 router or server, 10 + index uplink of a cluster, 20 to 99 processes, 100 and on hosts, 150 to 250
 * guests by DHCP.
 */
export interface NetworksPlan {
  readonly clusters: Readonly<Record<string, ClusterNetworkPlan>>;
}

export interface ClusterNetworkPlan {
  /** Default ipv4. */
  readonly family?: 'ipv4' | 'ipv6' | 'dual';
  /** IPv4 only: the cluster's addresses are hidden behind its uplink's, and the server answers at a forward address only. */
  readonly nat?: boolean;
  /** Default true: DHCP, and router advertisements for IPv6. */
  readonly automaticAddresses?: boolean;
}

/** Labs beside each other on one machine have different numbers. */
export const mostLabs = 1024;
export const mostClusters = 15;

export interface Subnet {
  /** 0: the backbone. */
  readonly index: number;
  readonly ipv4: boolean;
  readonly ipv6: boolean;
}

export interface PlannedCluster extends Subnet {
  readonly name: string;
  readonly nat: boolean;
  readonly automaticAddresses: boolean;
}

export function plannedClusters(plan: NetworksPlan, clusters: readonly string[]): PlannedCluster[] {
  const names = Object.keys(plan.clusters);
  for (const name of names) {
    if (!clusters.includes(name)) throw new Error(`networks: there is no cluster ${name}`);
  }
  if (names.length > mostClusters) throw new Error(`networks: at most ${mostClusters} clusters`);
  return names.map((name, position) => {
    const { family = 'ipv4', nat = false, automaticAddresses = true } = plan.clusters[name]!;
    if (nat && family !== 'ipv4') throw new Error(`networks: cluster ${name} cannot have NAT with ${family}`);
    return { name, index: position + 1, ipv4: family !== 'ipv6', ipv6: family !== 'ipv4', nat, automaticAddresses };
  });
}

/** Last parts of addresses. */
export const station = {
  router: 1,
  uplink: (index: number): number => 10 + index,
  firstProcess: 20,
  mostProcesses: 80,
  host: (position: number): number => 100 + position,
  firstGuest: 150,
  lastGuest: 250,
} as const;

export class AddressPlan {
  constructor(readonly labNumber: number) {}

  ipv4(index: number, last: number): string {
    return `10.${128 + (this.labNumber >> 4)}.${((this.labNumber & 15) << 4) + index}.${last}`;
  }

  ipv4Net(index: number): string {
    return `${this.ipv4(index, 0)}/24`;
  }

  ipv6(index: number, last: number): string {
    // As the standard writes it (RFC 5952): a lone zero belongs to the gap.
    return `fd5a:7d00:${this.labNumber.toString(16)}${index === 0 ? '' : `:${index.toString(16)}`}::${last.toString(16)}`;
  }

  ipv6Net(index: number): string {
    return `fd5a:7d00:${this.labNumber.toString(16)}${index === 0 ? '' : `:${index.toString(16)}`}::/64`;
  }

  /** With prefix length, of the families that the subnet has. */
  both(subnet: Subnet, last: number): string[] {
    return [
      ...(subnet.ipv4 ? [`${this.ipv4(subnet.index, last)}/24`] : []),
      ...(subnet.ipv6 ? [`${this.ipv6(subnet.index, last)}/64`] : []),
    ];
  }

  /** Where a cluster finds the server. */
  server(cluster: PlannedCluster | undefined): string {
    if (cluster?.nat === true) return `198.18.${cluster.index}.1`;
    return cluster !== undefined && !cluster.ipv4 ? this.ipv6(0, station.router) : this.ipv4(0, station.router);
  }
}
