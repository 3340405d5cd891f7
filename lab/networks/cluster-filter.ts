import { nft, type Namespace } from './commands';
import { station, type AddressPlan, type PlannedCluster } from './network-plan';

/** A port that guests of a cluster cannot reach. */
export interface PortBlock {
  readonly port: number;
  /** On the server side, or on the hosts of the cluster. */
  readonly at: 'server' | 'hosts';
  /** `drop`: the client waits; `reject`: it is refused at once. */
  readonly how: 'drop' | 'reject';
  /** Default tcp. */
  readonly protocol?: 'tcp' | 'udp';
}

export interface ClusterFilterOptions {
  readonly namespace: Namespace;
  readonly bridge: string;
  readonly uplink: string;
  readonly cluster: PlannedCluster;
  readonly addresses: AddressPlan;
}

/** The firewall and the address translation of a cluster's namespace, as one table that is replaced as a whole. */
export class ClusterFilter {
  #blocks: readonly PortBlock[] = [];
  #enginePorts: readonly number[] = [];

  constructor(readonly options: ClusterFilterOptions) {}

  get blocks(): readonly PortBlock[] {
    return this.#blocks;
  }

  /** Engine and proxy stand on the clusters' side of a NAT: they are found at their own address. */
  async openEngine(ports: readonly number[]): Promise<void> {
    this.#enginePorts = ports;
    await this.set(this.#blocks);
  }

  async set(blocks: readonly PortBlock[]): Promise<void> {
    // The first line makes the second one succeed where there is no table yet.
    await nft(this.options.namespace, `table inet lab {}\ndelete table inet lab\n${this.rules(blocks)}`);
    this.#blocks = blocks;
  }

  rules(blocks: readonly PortBlock[]): string {
    const { bridge, cluster } = this.options;
    const ruleOf = ({ port, how, protocol = 'tcp' }: PortBlock): string => {
      const refusal = protocol === 'tcp' ? 'reject with tcp reset' : 'reject';
      return `    iifname "${bridge}" ${protocol} dport ${port} ${how === 'drop' ? 'drop' : refusal}`;
    };
    const at = (where: PortBlock['at']): string[] => blocks.filter((block) => block.at === where).map(ruleOf);
    return [
      'table inet lab {',
      '  chain guests_to_server {',
      '    type filter hook forward priority filter; policy accept;',
      ...at('server'),
      ...this.#enginePorts.map((port) => `    iifname "${bridge}" tcp dport ${port} accept`),
      `    iifname "${bridge}" udp dport 123 accept`,
      // The rest of the server side is known by its forward address only.
      ...(cluster.nat ? [`    iifname "${bridge}" ct status & dnat == 0 drop`] : []),
      '  }',
      '  chain guests_to_hosts {',
      '    type filter hook input priority filter; policy accept;',
      ...at('hosts'),
      '  }',
      ...(cluster.nat ? this.#translation() : []),
      '}',
      '',
    ].join('\n');
  }

  #translation(): string[] {
    const { addresses, cluster, uplink } = this.options;
    const forward = `ip daddr ${addresses.server(cluster)} dnat ip to ${addresses.ipv4(0, station.router)}`;
    return [
      '  chain to_server {',
      '    type nat hook prerouting priority dstnat; policy accept;',
      `    ${forward}`,
      '  }',
      '  chain from_here {',
      '    type nat hook output priority -100; policy accept;',
      `    ${forward}`,
      '  }',
      '  chain hide {',
      '    type nat hook postrouting priority srcnat; policy accept;',
      `    oifname "${uplink}" masquerade`,
      '  }',
    ];
  }
}
