/** From the seed, or the engine's network data, and the NICs that are there, to what each NIC should be. Pure. */
import type { ApplianceSeed, SeedInterface } from '../../common/appliance/seed';
import { networkDataSettings } from './network-data';
import type { NetworkSettings, Nic, NicSettings } from './nics';

const automatic = { method: 'automatic' } as const;

/** The seed rules; without NICs in it the engine's network data; without those every NIC is automatic. */
export function networkSettings(seed: ApplianceSeed, networkData: string | undefined, nics: readonly Nic[]): NetworkSettings {
  const { dnsServers, dnsSearch } = seed;
  if (seed.interfaces.length > 0) return { ...fromSeed(seed.interfaces, nics), dnsServers, dnsSearch };
  const engine = networkData === undefined ? undefined : networkDataSettings(networkData, nics);
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
