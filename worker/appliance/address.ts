/** Addresses and netmasks as configuration data has them, in the one form that `ip` takes. Pure. */
import net from 'node:net';

/** Without prefix: where neither the address nor a netmask has one; what cloud-init takes then. */
const usualLength = { ipv4: 24, ipv6: 64 };

/** Undefined: no IP address. */
export function canonicalAddress(value: unknown): string | undefined {
  return typeof value === 'string' && net.isIP(value) !== 0 ? value : undefined;
}

/** `10.0.0.9/24` from it, or from `10.0.0.9` and `255.255.255.0` or `24`; the prefix that the address has counts. Undefined: none, or of another family. */
export function withPrefix(address: unknown, netmask: unknown, wanted?: 'ipv4' | 'ipv6'): string | undefined {
  if (typeof address !== 'string') return undefined;
  const [host = '', own] = address.split('/', 2);
  const version = net.isIP(host);
  const family = version === 6 ? 'ipv6' : 'ipv4';
  if (version === 0 || (wanted !== undefined && wanted !== family)) return undefined;
  const told = own ?? netmask ?? '';
  if (typeof told !== 'string' && typeof told !== 'number') return undefined;
  const length = told === '' ? usualLength[family] : prefixLength(String(told), family);
  return length === undefined ? undefined : `${host}/${length}`;
}

/** Of `255.255.255.0`, `ffff:ffff::`, or of a length as text. */
function prefixLength(netmask: string, family: 'ipv4' | 'ipv6'): number | undefined {
  const bits = family === 'ipv4' ? 32 : 128;
  if (/^\d{1,3}$/.test(netmask)) return Number(netmask) <= bits ? Number(netmask) : undefined;
  if (net.isIP(netmask) !== (family === 'ipv4' ? 4 : 6)) return undefined;
  const digits = family === 'ipv4' ? ipv4Bits(netmask) : ipv6Bits(netmask);
  return /^1*0*$/.test(digits) ? digits.lastIndexOf('1') + 1 : undefined;
}

function ipv4Bits(mask: string): string {
  return mask
    .split('.')
    .map((part) => Number(part).toString(2).padStart(8, '0'))
    .join('');
}

function ipv6Bits(mask: string): string {
  const [head = [], tail] = mask.split('::', 2).map((half) => half.split(':').filter((group) => group !== ''));
  const groups = tail === undefined ? [...head] : [...head, ...Array<string>(8 - head.length - tail.length).fill('0'), ...tail];
  return groups.map((group) => parseInt(group, 16).toString(2).padStart(16, '0')).join('');
}
