/** From settings to steps: which commands make the network what it should be. Pure; `network.ts` carries them out. */
import net from 'node:net';
import type { NicSettings } from './nics';

export type NetworkStep =
  | { readonly kind: 'ip'; readonly arguments: readonly string[] }
  /** A setting below /proc/sys/net. */
  | { readonly kind: 'kernel'; readonly name: string; readonly value: string };

/** A NIC that asks the network for its settings. */
export interface AutomaticNic {
  readonly device: string;
  /** Both: one client for both. */
  readonly family: 'ipv4' | 'ipv6' | 'both';
  readonly metric: number;
}

export interface NetworkPlan {
  readonly steps: readonly NetworkStep[];
  readonly automatic: readonly AutomaticNic[];
}

/** The smallest MTU that IPv6 works with: RFC 8200, 5. */
const smallestIpv6Mtu = 1280;

/** Steps in order; each stands for itself, so that one that fails does not stop the others. */
export function planNetwork(nics: readonly NicSettings[]): NetworkPlan {
  const steps: NetworkStep[] = [ip('link', 'set', 'dev', 'lo', 'up')];
  const automatic: AutomaticNic[] = [];
  for (const [index, nic] of nics.entries()) {
    const metric = metricOf(index);
    steps.push(...ipv6Ahead(nic), ...linkUp(nic));
    if (nic.ipv4.method === 'static') steps.push(...fixed('-4', nic.device, nic.ipv4, metric));
    if (nic.ipv6.method === 'static') steps.push(...fixed('-6', nic.device, nic.ipv6, metric));
    for (const { destination, via } of nic.routes) {
      const way = via === undefined ? [] : ['via', via, ...onLink(via)];
      steps.push(
        ip(
          net.isIPv6(destination.split('/')[0] ?? '') ? '-6' : '-4',
          'route',
          'replace',
          destination,
          ...way,
          'dev',
          nic.device,
          'metric',
          String(metric),
        ),
      );
    }
    const [asks4, asks6] = [nic.ipv4.method === 'automatic', nic.ipv6.method === 'automatic'];
    if (asks4 || asks6) automatic.push({ device: nic.device, family: asks4 && asks6 ? 'both' : asks4 ? 'ipv4' : 'ipv6', metric });
  }
  return { steps, automatic };
}

/** The first NIC's way out wins where there are several. */
export function metricOf(index: number): number {
  return 100 * (index + 1);
}

/** Before the link is up: the kernel makes addresses of its own the moment it is. */
function ipv6Ahead({ device, ipv6, mtu }: NicSettings): NetworkStep[] {
  const off = ipv6.method === 'none' || (mtu ?? smallestIpv6Mtu) < smallestIpv6Mtu;
  const name = (key: string) => `ipv6/conf/${device}/${key}`;
  if (off) return [{ kind: 'kernel', name: name('disable_ipv6'), value: '1' }];
  // Automatic: the DHCP client takes the router's advertisements, because the kernel would drop the name servers in them.
  return [
    { kind: 'kernel', name: name('disable_ipv6'), value: '0' },
    { kind: 'kernel', name: name('accept_ra'), value: '0' },
    { kind: 'kernel', name: name('autoconf'), value: '0' },
  ];
}

function linkUp({ device, mtu }: NicSettings): NetworkStep[] {
  return [
    // Loose: with several NICs an answer may be asked for on one and be expected on another.
    { kind: 'kernel', name: `ipv4/conf/${device}/rp_filter`, value: '2' },
    // A NIC answers for its own addresses only, also when two of them are on one network.
    { kind: 'kernel', name: `ipv4/conf/${device}/arp_ignore`, value: '1' },
    { kind: 'kernel', name: `ipv4/conf/${device}/arp_announce`, value: '2' },
    ip('link', 'set', 'dev', device, ...(mtu === undefined ? [] : ['mtu', String(mtu)]), 'up'),
  ];
}

function fixed(family: '-4' | '-6', device: string, settings: NicSettings['ipv4'], metric: number): NetworkStep[] {
  const { address = '', gateway } = settings;
  const steps = [ip(family, 'address', 'replace', address, 'dev', device)];
  if (gateway !== undefined)
    steps.push(ip(family, 'route', 'replace', 'default', 'via', gateway, ...onLink(gateway), 'dev', device, 'metric', String(metric)));
  return steps;
}

/** A gateway may lie outside of the prefix (a /32, a /128); the link-local one of IPv6 never needs the word. */
function onLink(gateway: string): string[] {
  return /^fe80:/i.test(gateway) ? [] : ['onlink'];
}

function ip(...args: readonly string[]): NetworkStep {
  return { kind: 'ip', arguments: args };
}
