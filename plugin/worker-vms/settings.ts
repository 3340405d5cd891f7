/** What an administrator may choose for a worker VM: checks and defaults. Words of tidemark.plugin.v1.WorkerSettings. */
import net from 'node:net';
import { z } from 'zod';
import { WorkerVmErrors } from './worker-vm-errors';

const mebibyte = 1024 ** 2;
const gibibyte = 1024 ** 3;
const defaultTaskSlots = 4;

const ip = z.string().refine((text) => net.isIP(text) !== 0, 'is not an IP address');
const hostName = /^(?=.{1,253}$)[0-9A-Za-z]([0-9A-Za-z-]*[0-9A-Za-z])?(\.[0-9A-Za-z]([0-9A-Za-z-]*[0-9A-Za-z])?)*\.?$/;
const nameOrAddress = z.string().refine((text) => net.isIP(text) !== 0 || hostName.test(text), 'is neither a name nor an address');

/** Family of an address with prefix length; 0 when it is none. */
function familyOfPrefixed(text: string): number {
  const [address = '', length = '', ...rest] = text.split('/');
  const family = net.isIP(address);
  if (rest.length > 0 || !/^\d{1,3}$/.test(length)) return 0;
  return Number(length) <= (family === 4 ? 32 : 128) ? family : 0;
}

const addressOf = (family: 4 | 6) =>
  z
    .strictObject({ method: z.enum(['none', 'automatic', 'static']), address: z.string(), gateway: z.string() })
    .superRefine((one, context) => {
      const refuse = (field: string, message: string) => context.addIssue({ code: 'custom', path: [field], message });
      if (one.method !== 'static') {
        if (one.address !== '' || one.gateway !== '') refuse('method', 'must be static when an address is given');
        return;
      }
      if (familyOfPrefixed(one.address) !== family) refuse('address', `must be an IPv${family} address with prefix length`);
      if (one.gateway !== '' && net.isIP(one.gateway) !== family) refuse('gateway', `is not an IPv${family} address`);
    });

const nic = z
  .strictObject({
    vnicProfileId: z.string(),
    ipv4: addressOf(4),
    ipv6: addressOf(6),
    routes: z
      .array(
        z
          .strictObject({ destination: z.string(), via: z.string() })
          .refine((route) => familyOfPrefixed(route.destination) !== 0, {
            path: ['destination'],
            message: 'is not a network such as 10.1.0.0/16',
          })
          .refine((route) => route.via === '' || net.isIP(route.via) === familyOfPrefixed(route.destination), {
            path: ['via'],
            message: 'is not an address of the same family',
          }),
      )
      .max(64, 'holds too many routes'),
    mtu: z.int().refine((mtu) => mtu === 0 || (mtu >= 576 && mtu <= 9216), 'must be 576 to 9216'),
  })
  .refine((one) => one.ipv4.method !== 'none' || one.ipv6.method !== 'none', { path: ['ipv4'], message: 'and ipv6 cannot both be none' });

export const workerSettingsSchema = z.strictObject({
  name: z.string().regex(/^[0-9A-Za-z-]{0,40}$/, 'must be at most 40 of a-z A-Z 0-9 -'),
  description: z.string().max(1024, 'is longer than 1024 characters'),
  storageDomainId: z.string(),
  taskSlots: z.int().min(0, 'must not be negative').max(16, 'must be at most 16'),
  cpuCount: z.int().min(0, 'must not be negative').max(64, 'must be at most 64'),
  memoryBytes: z
    .int()
    .refine((bytes) => bytes === 0 || (bytes >= gibibyte && bytes <= 256 * gibibyte), 'must be 1 GiB to 256 GiB')
    .refine((bytes) => bytes % mebibyte === 0, 'must be whole MiB'),
  nics: z.array(nic).max(8, 'holds more than 8 NICs'),
  dnsServers: z.array(ip).max(8, 'holds more than 8 servers'),
  dnsSearch: z.array(z.string().regex(hostName, 'is not a domain')).max(8, 'holds more than 8 domains'),
  ntpServers: z.array(nameOrAddress).max(8, 'holds more than 8 servers'),
  hostIds: z.array(z.string().min(1, 'is empty')),
  avoidedHostTags: z.array(z.string().min(1, 'is empty')),
});

export type WorkerSettings = Readonly<z.infer<typeof workerSettingsSchema>>;
export type WorkerNic = WorkerSettings['nics'][number];

export const defaultSettings: WorkerSettings = {
  name: '',
  description: '',
  storageDomainId: '',
  taskSlots: 0,
  cpuCount: 0,
  memoryBytes: 0,
  nics: [],
  dnsServers: [],
  dnsSearch: [],
  ntpServers: [],
  hostIds: [],
  avoidedHostTags: [],
};

/** The NIC of a worker for which none was chosen. */
export const defaultNic: WorkerNic = {
  vnicProfileId: '',
  ipv4: { method: 'automatic', address: '', gateway: '' },
  ipv6: { method: 'automatic', address: '', gateway: '' },
  routes: [],
  mtu: 0,
};

/** Throws WORKER_SETTINGS_INVALID; `field` in the contract's words, below `prefix`. */
export function checkSettings(settings: unknown, prefix = 'settings'): WorkerSettings {
  const checked = workerSettingsSchema.safeParse(settings);
  if (checked.success) return checked.data;
  const issue = checked.error.issues[0];
  throw WorkerVmErrors.WORKER_SETTINGS_INVALID({
    field: [prefix, ...(issue?.path ?? []).map(snakeCase)].join('.'),
    problem: issue?.message ?? 'are malformed',
  });
}

export interface WorkerSize {
  readonly taskSlots: number;
  readonly cpuCount: number;
  readonly memoryBytes: number;
}

/** vCPUs = max(2, tasks / 2 rounded up), memory = 1 GiB + 256 MiB per task, unless chosen (product defaults §1). */
export function sizeOf(settings: Pick<WorkerSettings, 'taskSlots' | 'cpuCount' | 'memoryBytes'>): WorkerSize {
  const taskSlots = settings.taskSlots === 0 ? defaultTaskSlots : settings.taskSlots;
  return {
    taskSlots,
    cpuCount: settings.cpuCount === 0 ? Math.max(2, Math.ceil(taskSlots / 2)) : settings.cpuCount,
    memoryBytes: settings.memoryBytes === 0 ? gibibyte + taskSlots * 256 * mebibyte : settings.memoryBytes,
  };
}

function snakeCase(part: PropertyKey): string {
  return String(part).replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
