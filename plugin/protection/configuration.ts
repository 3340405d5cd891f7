/**
 * The document that a restore point keeps of a VM: JSON, versioned. Written at backup, read at restore, also years later and by newer
 * plug-ins. Secret: the OVF and the attributes may hold cloud-init data. Masked passwords ("******") are never stored.
 */
import { z } from 'zod';
import { ProtectionErrors } from './protection-errors';

const disk = z.object({
  diskId: z.string(),
  name: z.string(),
  description: z.string().default(''),
  sizeBytes: z.number(),
  format: z.string(),
  sparse: z.boolean(),
  storageDomainId: z.string().default(''),
  interface: z.string(),
  bootable: z.boolean(),
  active: z.boolean(),
  readOnly: z.boolean().default(false),
  passDiscard: z.boolean().default(false),
  wipeAfterDelete: z.boolean().default(false),
  incrementalBackup: z.boolean().default(false),
  /** Reason code when its data is not in the point. */
  leftOut: z.string().default(''),
});

const nic = z.object({
  name: z.string(),
  interface: z.string(),
  macAddress: z.string().default(''),
  vnicProfileId: z.string().default(''),
  vnicProfileName: z.string().default(''),
  plugged: z.boolean(),
  linked: z.boolean(),
});

const document = z.object({
  format: z.literal('tidemark-ovirt-vm'),
  version: z.literal(1),
  /** UTC, ISO 8601. */
  takenAt: z.string(),
  vm: z.object({ id: z.string(), name: z.string(), clusterId: z.string(), clusterName: z.string(), status: z.string() }),
  /** The engine's own JSON of the VM, references and secrets taken out. */
  attributes: z.record(z.string(), z.unknown()),
  /** Absent when the engine gave none. */
  ovf: z.string().optional(),
  disks: z.array(disk),
  nics: z.array(nic),
  tags: z.array(z.string()),
  affinityGroups: z.array(z.object({ id: z.string(), name: z.string() })),
});

export type VmConfiguration = z.infer<typeof document>;
export type StoredNic = z.infer<typeof nic>;

export function writeConfiguration(configuration: VmConfiguration): string {
  return JSON.stringify(configuration);
}

/** Throws CONFIGURATION_UNREADABLE. */
export function readConfiguration(text: string): VmConfiguration {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw ProtectionErrors.CONFIGURATION_UNREADABLE({ problem: 'it is not JSON' }, { cause });
  }
  const result = document.safeParse(parsed);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw ProtectionErrors.CONFIGURATION_UNREADABLE({ problem: `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'invalid'}` });
}

/**
 * Attributes that a new VM may be created with (engine REST API §8.2): hardware and behaviour, no ids of other objects, no state.
 */
const creatable = [
  'bios',
  'comment',
  'console',
  'cpu',
  'cpu_shares',
  'custom_compatibility_version',
  'custom_cpu_model',
  'custom_emulated_machine',
  'custom_properties',
  'display',
  'high_availability',
  'initialization',
  'io',
  'memory',
  'memory_policy',
  'migration',
  'migration_downtime',
  'multi_queues_enabled',
  'os',
  'placement_policy',
  'rng_device',
  'serial_number',
  'soundcard_enabled',
  'start_paused',
  'stateless',
  'storage_error_resume_behaviour',
  'time_zone',
  'tpm_enabled',
  'tunnel_migration',
  'type',
  'usb',
  'virtio_scsi',
  'virtio_scsi_multi_queues',
  'virtio_scsi_multi_queues_enabled',
] as const;

/** What of the engine's JSON of a VM is kept: the creatable part and what tells a reader more. */
export function keptAttributes(raw: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const kept: Record<string, unknown> = {};
  for (const key of [
    ...creatable,
    'origin',
    'creation_time',
    'guest_operating_system',
    'lease',
    'delete_protected',
    'description',
  ] as const) {
    if (raw[key] !== undefined) kept[key] = raw[key];
  }
  const initialization = withoutMasked(raw['initialization']);
  if (initialization) kept['initialization'] = initialization;
  else delete kept['initialization'];
  return kept;
}

/** The body of `POST /vms` for a stored VM, without name, cluster and template. */
export function creatableAttributes(attributes: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const body: Record<string, unknown> = {};
  for (const key of creatable) {
    if (attributes[key] !== undefined) body[key] = withoutReferences(attributes[key]);
  }
  const display = body['display'];
  // Where the running original was reachable, which a new VM is not told.
  if (isObject(display))
    body['display'] = pick(display, ['type', 'monitors', 'copy_paste_enabled', 'file_transfer_enabled', 'keyboard_layout']);
  const placement = body['placement_policy'];
  // Hosts are pinned by id; the restored VM may run anywhere.
  if (isObject(placement)) body['placement_policy'] = pick(placement, ['affinity']);
  const cpu = body['cpu'];
  if (isObject(cpu)) body['cpu'] = pick(cpu, ['topology', 'mode', 'cpu_tune']);
  return body;
}

/** Initialization without the OVF (kept apart) and without values that the engine masks when it is read. */
function withoutMasked(value: unknown): Record<string, unknown> | undefined {
  if (!isObject(value)) return undefined;
  const entries = Object.entries(value).filter(
    ([key, item]) => key !== 'configuration' && !/^\*+$/.test(typeof item === 'string' ? item : ''),
  );
  return entries.length === 0 ? undefined : Object.fromEntries(entries);
}

/** Links of the engine's own JSON are refused when they are sent back. */
function withoutReferences(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutReferences);
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => key !== 'href' && key !== 'link' && key !== 'actions')
      .map(([key, item]) => [key, withoutReferences(item)]),
  );
}

function pick(value: Record<string, unknown>, keys: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(Object.entries(value).filter(([key]) => keys.includes(key)));
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
