import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { enterNamespace, NetworkError, type Namespace } from './commands';
import { type AddressPlan, station, type Subnet } from './network-plan';

/**
 * Automatic addresses and names on one network: dnsmasq gives IPv4 addresses by DHCP, router advertisements for IPv6, and answers for the
 * names of engine and hosts. It outlives a lab that is killed, as the guests do; it is known by its file of configuration.
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

export class AddressService {
  constructor(readonly options: AddressServiceOptions) {}

  /** One that an earlier lab left is replaced. */
  async start(): Promise<void> {
    await this.stop();
    writeFileSync(this.#file('conf'), this.#configuration());
    const log = openSync(this.#file('log'), 'w');
    const [file = '', ...args] = [
      ...enterNamespace(this.options.namespace),
      'dnsmasq',
      '--keep-in-foreground',
      `--conf-file=${this.#file('conf')}`,
    ];
    const child = spawn(file, args, { stdio: ['ignore', log, log] });
    closeSync(log);
    child.unref();
    let ended = false;
    child.once('exit', () => (ended = true));
    child.once('error', () => (ended = true));
    const deadline = Date.now() + startTimeoutMs;
    while (!existsSync(this.#file('pid'))) {
      if (ended || Date.now() > deadline)
        throw new NetworkError(`dnsmasq did not start: ${readFileSync(this.#file('log'), 'utf8').trim() || 'it says nothing'}`);
      await delay(20);
    }
  }

  async stop(): Promise<void> {
    stopServiceOf(this.#file('conf'), 'SIGTERM');
    while (isServing(this.#file('conf'))) await delay(20);
    rmSync(this.#file('pid'), { force: true });
  }

  #file(kind: 'conf' | 'log' | 'pid'): string {
    return join(this.options.folder, `dnsmasq-${this.options.subnet.index}.${kind}`);
  }

  #configuration(): string {
    const { bridge, subnet, addresses, routes, names, folder } = this.options;
    const lines = [
      'user=root',
      `pid-file=${this.#file('pid')}`,
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

const startTimeoutMs = 10_000;

/** Signals the services whose command line has `part` of their file of configuration. */
export function stopServiceOf(part: string, signal: NodeJS.Signals): void {
  for (const pid of serving(part)) {
    try {
      process.kill(pid, signal);
    } catch {
      // Gone by itself.
    }
  }
}

const isServing = (part: string): boolean => serving(part).length > 0;

function serving(part: string): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => {
      if (!Number.isInteger(pid)) return false;
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
        return command.startsWith('dnsmasq\0') && command.includes(`--conf-file=${part}`);
      } catch {
        return false; // ended while we looked
      }
    });
}
