/**
 * What a worker VM learns at its start: the file `/etc/tidemark/worker.json` among the `write_files` of the config drive's user data. Written by
 * the plug-in, read by the appliance; described for people in docs/formats/worker-seed.md. It carries one secret, the one-time token, which is
 * valid for minutes and works once.
 */
import net from 'node:net';
import { z } from 'zod';

/** Path of the seed among the files of the user data. */
export const seedPath = '/etc/tidemark/worker.json';

const endpoint = z.string().regex(/^(\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5}$/, 'must be host:port, IPv6 in brackets');
const address = z.string().refine((text) => net.isIP(text) !== 0, 'must be an IP address');
const prefixed = z.string().refine((text) => {
  const [host = '', length = '', ...rest] = text.split('/');
  const family = net.isIP(host);
  return rest.length === 0 && family !== 0 && /^\d{1,3}$/.test(length) && Number(length) <= (family === 4 ? 32 : 128);
}, 'must be an IP address with a prefix length');

const family = z
  .strictObject({
    /** `automatic`: DHCP for IPv4; router advertisements, then DHCPv6 where they ask for it, for IPv6. */
    method: z.enum(['none', 'automatic', 'static']),
    /** Static: with prefix length. */
    address: prefixed.optional(),
    /** Static: the way out, if there is one. */
    gateway: address.optional(),
  })
  .refine((one) => one.method !== 'static' || one.address !== undefined, { path: ['address'], message: 'is needed for method static' });

const networkInterface = z.strictObject({
  /** The NIC is found by this; names of devices differ from machine type to machine type. */
  macAddress: z.string().regex(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/, 'must be a lower-case MAC address'),
  mtu: z.int().min(576).max(9216).optional(),
  ipv4: family,
  ipv6: family,
  /** Beside those that addresses bring; each NIC also has a routing table of its own, so that answers leave where questions came in. */
  routes: z.array(z.strictObject({ destination: prefixed, via: address.optional() })).default([]),
});

export const applianceSeedSchema = z.strictObject({
  version: z.literal(1),
  workerId: z.uuid(),
  hostName: z.string().regex(/^[0-9A-Za-z-]{1,63}$/, 'must be a host name'),
  platformId: z.string().min(1),
  clusterId: z.string().min(1),
  taskSlots: z.int().min(1).max(16),
  plugin: z.strictObject({
    endpoint,
    enrolmentEndpoint: endpoint,
    /** One-time; pins the CA by its fingerprint. */
    enrolmentToken: z.string().min(1),
  }),
  /** In the order of the VM's NICs. Empty: all NICs automatic. */
  interfaces: z.array(networkInterface).default([]),
  dnsServers: z.array(address).default([]),
  dnsSearch: z.array(z.string().min(1)).default([]),
  /** Names or addresses. */
  ntpServers: z.array(z.string().min(1)).default([]),
});

export type ApplianceSeed = Readonly<z.infer<typeof applianceSeedSchema>>;
export type SeedInterface = ApplianceSeed['interfaces'][number];
