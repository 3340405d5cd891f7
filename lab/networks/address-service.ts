import { join } from 'node:path';
import { BackgroundService } from './background-service';
import type { Namespace } from './commands';
import { type AddressPlan, station, type Subnet } from './network-plan';

/**
 * Automatic addresses and names on one network: dnsmasq gives IPv4 addresses by DHCP, router advertisements for IPv6, and answers for the
 * names of engine and hosts.
 */
export interface AddressServiceOptions {
  readonly namespace: Namespace;
  readonly bridge: string;
  readonly subnet: Subnet;
  readonly addresses: AddressPlan;
  /** The router is a way out; on the backbone it is not. */
  readonly routes: boolean;
  /** Address by name. */
  readonly names: Readonly<Record<string, string>>;
  /** For its files. */
  readonly folder: string;
}

export class AddressService extends BackgroundService {
  constructor(readonly options: AddressServiceOptions) {
    super({ program: 'dnsmasq', name: `dnsmasq-${options.subnet.index}`, folder: options.folder, namespace: options.namespace });
  }

  protected command(configurationFile: string): readonly string[] {
    return ['--keep-in-foreground', `--conf-file=${configurationFile}`];
  }

  protected configuration(pidFile: string): string {
    const { bridge, subnet, addresses, routes, names, folder } = this.options;
    const lines = [
      'user=root',
      `pid-file=${pidFile}`,
      'no-hosts',
      'no-resolv',
      `interface=${bridge}`,
      'except-interface=lo',
      'bind-interfaces',
      'dhcp-authoritative',
      `dhcp-leasefile=${join(folder, `leases-${subnet.index}`)}`,
      ...Object.entries(names).map(([name, address]) => `host-record=${name},${address}`),
    ];
    if (subnet.ipv4) {
      const at = (last: number): string => addresses.ipv4(subnet.index, last);
      lines.push(`dhcp-range=${at(station.firstGuest)},${at(station.lastGuest)},255.255.255.0,1h`);
      lines.push(routes ? `dhcp-option=option:router,${at(station.router)}` : 'dhcp-option=option:router');
      lines.push(`dhcp-option=option:dns-server,${at(station.router)}`);
    }
    if (subnet.ipv6) {
      lines.push('enable-ra', `dhcp-range=${addresses.ipv6(subnet.index, 0)},ra-stateless,64,1h`);
      lines.push(`dhcp-option=option6:dns-server,[${addresses.ipv6(subnet.index, station.router)}]`);
    }
    return `${lines.join('\n')}\n`;
  }
}
