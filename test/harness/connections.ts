import fs from 'node:fs';

/** Addresses and ports of both ends in hexadecimal, as the kernel prints them. */
export type Connection = string;

/**
 * TCP connections over IPv4 that are established now and were accepted by somebody who listens on one of these addresses: each is named by its two
 * ends, so that one that is made anew is another one.
 * @param exceptPort of no interest
 */
export function acceptedConnections(addresses: readonly string[], exceptPort = 0): Set<Connection> {
  const wanted = new Set(addresses.map(inKernelOrder));
  const rows = fs
    .readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([, local]) => wanted.has(local?.split(':')[0] ?? ''));
  const listening = new Set(rows.filter(([, , , state]) => state === '0A').map(([, local]) => local));
  const port = `:${exceptPort.toString(16).padStart(4, '0').toUpperCase()}`;
  const open = rows.filter(([, local, , state]) => state === '01' && listening.has(local) && !local?.endsWith(port));
  return new Set(open.map(([, local, remote]) => `${local} ${remote}`));
}

function inKernelOrder(address: string): string {
  const bytes = address.split('.').map((part) => Number(part).toString(16).padStart(2, '0'));
  return bytes.reverse().join('').toUpperCase();
}
