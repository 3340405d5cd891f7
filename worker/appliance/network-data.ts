/**
 * OpenStack's network_data.json, the engine's and any other: read as cloud-init reads it (`network-data.integ.test.ts` compares the two). The engine
 * writes links by name, without MAC addresses: a name that this VM does not have goes to the next NIC that nothing names. Pure.
 */
import net from 'node:net';
import type { SeedInterface } from '../../common/appliance/seed';
import { canonicalAddress, withPrefix } from './address';
import type { NetworkSettings, Nic, NicSettings } from './nics';

interface Link {
  readonly id?: unknown;
  readonly name?: unknown;
  readonly type?: unknown;
  readonly ethernet_mac_address?: unknown;
  readonly mtu?: unknown;
}

interface Network {
  readonly link?: unknown;
  readonly type?: unknown;
  readonly ip_address?: unknown;
  readonly netmask?: unknown;
  readonly gateway?: unknown;
  readonly routes?: unknown;
  readonly dns_nameservers?: unknown;
  readonly dns_search?: unknown;
}

const automatic = { method: 'automatic' } as const;
const none = { method: 'none' } as const;
const automaticTypes = {
  ipv4: ['ipv4_dhcp'],
  ipv6: ['ipv6_dhcp', 'ipv6_slaac', 'ipv6_dhcpv6-stateless', 'ipv6_dhcpv6-stateful'],
};
const fixedTypes = { ipv4: ['ipv4', 'static'], ipv6: ['ipv6', 'static6'] };

/** What it says of the NICs that it says anything of; what cannot be done is in `problems`. */
export function networkDataSettings(text: string, nics: readonly Nic[]): NetworkSettings {
  const problems: string[] = [];
  const data = objectOf(parsed(text, problems));
  const networks: readonly Network[] = recordsOf(data['networks']);
  const links = usableLinks(recordsOf(data['links']), networks, problems);
  const settings: NicSettings[] = [];
  for (const [link, nic] of linkedNics(links, nics)) {
    if (nic) {
      const mine = networks.filter((one) => one.link === link.id);
      settings.push(nicSettings(link, nic, mine, problems));
    } else problems.push(`the engine has settings for ${nameOf(link)}, which this VM does not have`);
  }
  const services = recordsOf(data['services']).map(({ address }) => address);
  const dnsServers = texts([...services, ...networks.flatMap((network) => wordsOf(network.dns_nameservers))]);
  const dnsSearch = texts(networks.flatMap((network) => wordsOf(network.dns_search)));
  return { nics: settings, dnsServers: dnsServers.filter((one) => net.isIP(one) !== 0), dnsSearch, problems };
}

function parsed(text: string, problems: string[]): unknown {
  try {
    return JSON.parse(text);
  } catch {
    problems.push('network_data.json of the config drive is not JSON');
    return undefined;
  }
}

/** With networks on them. A bond and a VLAN are NICs that would have to be made; the engine makes them at the host. */
function usableLinks(links: readonly Link[], networks: readonly Network[], problems: string[]): Link[] {
  return links.filter((link) => {
    const isMade = link.type === 'bond' || link.type === 'vlan';
    if (isMade) problems.push(`${nameOf(link)} is a ${link.type}, which a worker VM does not make; it stays unused`);
    return !isMade && networks.some((network) => network.link === link.id);
  });
}

/** By MAC address, else by name, else in order. A MAC address that is not there is nobody's. */
function linkedNics(links: readonly Link[], nics: readonly Nic[]): [Link, Nic | undefined][] {
  const named = new Map(links.map((link) => [link, nics.find((nic) => isNamed(link, nic))]));
  const free = nics.filter((nic) => ![...named.values()].includes(nic));
  return links.map((link) => [link, named.get(link) ?? (hasMac(link) ? undefined : free.shift())]);
}

function isNamed(link: Link, nic: Nic): boolean {
  return hasMac(link) ? link.ethernet_mac_address.toLowerCase() === nic.macAddress : link.name === nic.device;
}

function hasMac(link: Link): link is Link & { readonly ethernet_mac_address: string } {
  return typeof link.ethernet_mac_address === 'string' && link.ethernet_mac_address !== '';
}

function nameOf({ name, id }: Link): string {
  return String(name ?? id);
}

function nicSettings(link: Link, { device }: Nic, networks: readonly Network[], problems: string[]): NicSettings {
  const mtu = Number(link.mtu);
  return {
    device,
    ...(Number.isInteger(mtu) && mtu > 0 ? { mtu } : {}),
    ipv4: familyOf(networks, 'ipv4', device, problems),
    ipv6: familyOf(networks, 'ipv6', device, problems),
    routes: networks.flatMap((network) => recordsOf(network.routes)).flatMap((route) => routeOf(route, problems)),
  };
}

function familyOf(networks: readonly Network[], family: 'ipv4' | 'ipv6', device: string, problems: string[]): SeedInterface['ipv4'] {
  const of = (types: readonly string[]) => networks.filter(({ type }) => typeof type === 'string' && types.includes(type));
  const [asked, fixed] = [of(automaticTypes[family]), of(fixedTypes[family])];
  if (asked.length + fixed.length > 1) problems.push(`${device} is to have several ${family} settings; one of them is used`);
  if (asked.length > 0) return automatic;
  const [network] = fixed;
  if (!network) return none;
  const address = withPrefix(network.ip_address, network.netmask, family);
  if (address === undefined) {
    problems.push(
      `the engine's settings have the address ${String(network.ip_address)} with the netmask ${String(network.netmask)}, which is none`,
    );
    return none;
  }
  const gateway = canonicalAddress(network.gateway);
  return { method: 'static', address, ...(gateway === undefined ? {} : { gateway }) };
}

function routeOf(route: Readonly<Record<string, unknown>>, problems: string[]): NicSettings['routes'] {
  const destination = withPrefix(route['network'] ?? route['destination'], route['netmask'] ?? route['prefix']);
  const via = canonicalAddress(route['gateway']);
  if (destination !== undefined && via !== undefined) return [{ destination, via }];
  problems.push(`the engine's settings have a route to ${String(route['network'])} by ${String(route['gateway'])}, which is none`);
  return [];
}

function objectOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}

function recordsOf(value: unknown): Readonly<Record<string, unknown>>[] {
  return Array.isArray(value) ? (value as unknown[]).map(objectOf) : [];
}

/** A list, or words with blanks between. */
function wordsOf(value: unknown): unknown[] {
  if (typeof value === 'string') return value.split(/\s+/).filter((word) => word !== '');
  return Array.isArray(value) ? (value as unknown[]) : [];
}

function texts(values: readonly unknown[]): string[] {
  return [...new Set(values.filter((value) => typeof value === 'string'))];
}
