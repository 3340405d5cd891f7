/** Name and time servers that the network told us, and the resolver's file. Pure but for the reading of a folder. */
import fs from 'node:fs';
import path from 'node:path';

export interface LearnedServers {
  readonly dnsServers: readonly string[];
  readonly dnsSearch: readonly string[];
  readonly ntpServers: readonly string[];
}

/**
 * From the variables that the DHCP client gave its hook, `name=value` per line: dhcpcd names them `new_domain_name_servers`,
 * `new_dhcp6_name_servers`, `nd1_rdnss1_servers` and so on (dhcpcd-run-hooks(8)).
 */
export function learnedServers(files: readonly string[]): LearnedServers {
  const variables = files
    .flatMap((text) => text.split('\n'))
    .flatMap((line) => {
      const at = line.indexOf('=');
      return at < 0
        ? []
        : [
            {
              name: line.slice(0, at),
              words: line
                .slice(at + 1)
                .split(/\s+/)
                .filter((word) => word !== ''),
            },
          ];
    });
  const all = (pattern: RegExp) => [...new Set(variables.filter(({ name }) => pattern.test(name)).flatMap(({ words }) => words))];
  return {
    dnsServers: all(/^(new_domain_name_servers|new_dhcp6_name_servers|nd\d+_rdnss\d*_servers)$/),
    dnsSearch: all(/^(new_domain_search|new_domain_name|new_dhcp6_domain_search|nd\d+_dnssl\d*_search)$/),
    ntpServers: all(/^(new_ntp_servers|new_dhcp6_(ntp_server_addr|ntp_server_fqdn|sntp_servers))$/),
  };
}

/** What the hook has left so far. */
export function readLearned(folder: string): LearnedServers {
  let names: string[] = [];
  try {
    names = fs.readdirSync(folder).sort();
  } catch {
    // Nothing was learned yet.
  }
  return learnedServers(names.filter((name) => !name.startsWith('.')).map((name) => fs.readFileSync(path.join(folder, name), 'utf8')));
}

/** resolv.conf(5). The C library looks at three servers; what was told beats what was learned. */
export function resolverFile(told: Pick<LearnedServers, 'dnsServers' | 'dnsSearch'>, learned: LearnedServers): string {
  const servers = told.dnsServers.length > 0 ? told.dnsServers : learned.dnsServers;
  const search = told.dnsSearch.length > 0 ? told.dnsSearch : learned.dnsSearch;
  const lines = [
    ...(search.length === 0 ? [] : [`search ${search.join(' ')}`]),
    ...servers.slice(0, 3).map((server) => `nameserver ${server}`),
    'options timeout:2 attempts:2',
  ];
  return `${lines.join('\n')}\n`;
}
