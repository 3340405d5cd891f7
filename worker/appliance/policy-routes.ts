/**
 * Routing by source: answers leave by the NIC whose address they carry. Each NIC has a routing table of its own, a copy of what the main table
 * knows of that NIC, and each of its addresses a rule that points there. Made from what the kernel has at the moment, so that it does not matter
 * whether an address is static, of DHCP or of a router's advertisement. Pure.
 */

/** As `ip -json address show` tells it; only what is used. */
export interface KernelLink {
  readonly ifname: string;
  readonly addr_info: readonly {
    readonly local?: string;
    readonly scope?: string;
    readonly family?: string;
    readonly tentative?: boolean;
  }[];
}

/** As `ip -json route show table main` tells it. */
export interface KernelRoute {
  readonly dst: string;
  readonly dev?: string;
  readonly gateway?: string;
  readonly type?: string;
  readonly scope?: string;
  readonly prefsrc?: string;
  readonly flags?: readonly string[];
}

export interface PolicyRoutes {
  /** Arguments of `ip`, in order. */
  readonly remove: readonly (readonly string[])[];
  readonly add: readonly (readonly string[])[];
}

const firstTable = 101;
/** Above `main` (32766) and below `local` (0). */
const firstPreference = 1000;
const addressesPerNic = 64;

/** What `add` wants is stable: equal states give equal commands. `remove` undoes what an `add` of any earlier state did. */
export function policyRoutes(
  devices: readonly string[],
  links: readonly KernelLink[],
  routes: { readonly ipv4: readonly KernelRoute[]; readonly ipv6: readonly KernelRoute[] },
  before: PolicyRoutes | undefined,
): PolicyRoutes {
  const add: string[][] = [];
  for (const [index, device] of devices.entries()) {
    const table = String(firstTable + index);
    for (const [family, known] of [
      ['-4', routes.ipv4],
      ['-6', routes.ipv6],
    ] as const) {
      const mine = addressesOf(links, device, family);
      if (mine.length === 0) continue;
      for (const route of known)
        if (route.dev === device && isWay(route)) add.push([family, 'route', 'replace', ...copyOf(route, device), 'table', table]);
      for (const [number, address] of mine.entries()) {
        const preference = String(firstPreference + index * addressesPerNic + number);
        add.push([family, 'rule', 'add', 'pref', preference, 'from', address, 'lookup', table]);
      }
    }
  }
  return { remove: removalOf(before), add };
}

/** Addresses that others can answer to: no link-local ones. */
export function addressesOf(links: readonly KernelLink[], device: string, family?: '-4' | '-6'): string[] {
  const infos = links.filter(({ ifname }) => ifname === device).flatMap((link) => link.addr_info);
  return infos
    .filter(
      (info) =>
        info.scope === 'global' && info.tentative !== true && (family === undefined || (info.family === 'inet') === (family === '-4')),
    )
    .flatMap(({ local }) => local ?? [])
    .slice(0, addressesPerNic);
}

/** Not multicast, blackholes and the link-local prefix, which each NIC has anyway. */
function isWay({ type = 'unicast', dst }: KernelRoute): boolean {
  return type === 'unicast' && !dst.startsWith('fe80:') && !dst.startsWith('ff00:');
}

function copyOf({ dst, gateway, prefsrc, flags = [] }: KernelRoute, device: string): string[] {
  return [
    dst,
    ...(gateway === undefined ? [] : ['via', gateway]),
    ...['dev', device],
    ...(flags.includes('onlink') ? ['onlink'] : []),
    ...(prefsrc === undefined ? [] : ['src', prefsrc]),
  ];
}

function removalOf(before: PolicyRoutes | undefined): string[][] {
  const undo = (before?.add ?? []).map((command) => {
    const [family = '-4', object, ...rest] = command;
    return object === 'rule'
      ? [family, 'rule', 'del', 'pref', rest[rest.indexOf('pref') + 1] ?? '']
      : [family, 'route', 'flush', 'table', rest[rest.indexOf('table') + 1] ?? ''];
  });
  const seen = new Set<string>();
  return undo.filter((command) => !seen.has(command.join(' ')) && seen.add(command.join(' ')));
}
