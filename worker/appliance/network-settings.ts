/** From the seed, or the engine's network data, and the NICs that are there, to what each NIC should be. Pure. */
import net from 'node:net';
import type { ApplianceSeed, SeedInterface } from '../../common/appliance/seed';

/** A NIC of this VM. */
export interface Nic {
  readonly device: string;
  readonly macAddress: string;
}

export interface NicSettings extends Omit<SeedInterface, 'macAddress'> {
  readonly device: string;
}

export interface NetworkSettings {
  /** In order: where several know a way out, the first is taken. */
  readonly nics: readonly NicSettings[];
  readonly dnsServers: readonly string[];
  readonly dnsSearch: readonly string[];
  /** What cannot be done, for the console. */
  readonly problems: readonly string[];
}

const automatic = { method: 'automatic' } as const;
const none = { method: 'none' } as const;

/** The seed rules; without NICs in it the engine's network data; without those every NIC is automatic. */
export function networkSettings(seed: ApplianceSeed, networkData: string | undefined, nics: readonly Nic[]): NetworkSettings {
  const { dnsServers, dnsSearch } = seed;
  if (seed.interfaces.length > 0) return { ...fromSeed(seed.interfaces, nics), dnsServers, dnsSearch };
  const engine = networkData === undefined ? undefined : fromNetworkData(networkData, nics);
  if (engine && engine.nics.length > 0) {
    return {
      ...engine,
      dnsServers: dnsServers.length > 0 ? dnsServers : engine.dnsServers,
      dnsSearch: dnsSearch.length > 0 ? dnsSearch : engine.dnsSearch,
    };
  }
  const all = nics.map(({ device }) => ({ device, ipv4: automatic, ipv6: automatic, routes: [] }));
  return { nics: all, dnsServers, dnsSearch, problems: engine?.problems ?? [] };
}

function fromSeed(interfaces: readonly SeedInterface[], nics: readonly Nic[]): Pick<NetworkSettings, 'nics' | 'problems'> {
  const settings: NicSettings[] = [];
  const problems: string[] = [];
  for (const { macAddress, ...rest } of interfaces) {
    const nic = nics.find((one) => one.macAddress === macAddress);
    if (nic) settings.push({ device: nic.device, ...rest });
    else problems.push(`no NIC of this VM has the MAC address ${macAddress}`);
  }
  const unused = nics.filter(({ device }) => !settings.some((one) => one.device === device));
  for (const { device, macAddress } of unused) problems.push(`${device} (${macAddress}) has no settings and stays down`);
  return { nics: settings, problems };
}

interface EngineNetwork {
  readonly link?: unknown;
  readonly type?: unknown;
  readonly ip_address?: unknown;
  readonly netmask?: unknown;
  readonly gateway?: unknown;
  readonly dns_nameservers?: unknown;
  readonly dns_search?: unknown;
}

/** OpenStack's network_data.json as the engine writes it: links by name only, no MAC addresses. Unknown names go by their order. */
function fromNetworkData(text: string, nics: readonly Nic[]): NetworkSettings {
  let data: { links?: { id?: unknown; name?: unknown }[]; networks?: EngineNetwork[]; services?: { type?: unknown; address?: unknown }[] };
  try {
    data = JSON.parse(text) as typeof data;
  } catch {
    return { nics: [], dnsServers: [], dnsSearch: [], problems: ['network_data.json of the config drive is not JSON'] };
  }
  const networks = data.networks ?? [];
  const links = (data.links ?? []).filter(({ id }) => networks.some(({ link }) => link === id));
  const settings: NicSettings[] = [];
  const problems: string[] = [];
  for (const [index, link] of links.entries()) {
    const nic = nics.find(({ device }) => device === link.name) ?? nics[index];
    if (!nic) {
      problems.push(`the engine has settings for ${String(link.name)}, which this VM does not have`);
      continue;
    }
    const mine = networks.filter((one) => one.link === link.id);
    settings.push({
      device: nic.device,
      ipv4: familyOf(mine, 'ipv4', problems),
      ipv6: familyOf(mine, 'ipv6', problems),
      routes: [],
    });
  }
  const services = (data.services ?? []).filter(({ type }) => type === 'dns').map(({ address }) => address);
  const dnsServers = texts([...services, ...networks.flatMap((network) => listOf(network.dns_nameservers))]);
  const dnsSearch = texts(networks.flatMap((network) => listOf(network.dns_search)));
  return { nics: settings, dnsServers: dnsServers.filter((one) => net.isIP(one) !== 0), dnsSearch, problems };
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? (value as unknown[]) : [];
}

function texts(values: readonly unknown[]): string[] {
  return [...new Set(values.filter((value) => typeof value === 'string'))];
}

function familyOf(networks: readonly EngineNetwork[], family: 'ipv4' | 'ipv6', problems: string[]): SeedInterface['ipv4'] {
  if (networks.some(({ type }) => type === `${family}_dhcp`)) return automatic;
  const network = networks.find(({ type }) => type === family);
  if (!network) return none;
  const address = String(network.ip_address);
  const length = prefixLength(String(network.netmask));
  if (net.isIP(address) !== (family === 'ipv4' ? 4 : 6) || length === undefined) {
    problems.push(`the engine's settings have the address ${address} with the netmask ${String(network.netmask)}, which is none`);
    return none;
  }
  const gateway = typeof network.gateway === 'string' && net.isIP(network.gateway) !== 0 ? { gateway: network.gateway } : {};
  return { method: 'static', address: `${address}/${length}`, ...gateway };
}

/** Of `255.255.255.0`, or of a length as text. */
function prefixLength(netmask: string): number | undefined {
  if (/^\d{1,3}$/.test(netmask)) return Number(netmask);
  if (net.isIPv4(netmask)) {
    const bits = netmask
      .split('.')
      .map((part) => Number(part).toString(2).padStart(8, '0'))
      .join('');
    return /^1*0*$/.test(bits) ? bits.lastIndexOf('1') + 1 : undefined;
  }
  return undefined;
}
