import { compact, flagOf, numberOf, objectOf, textOf, type ApiObject } from '../http/api-object';
import { badRequest } from '../http/fault';
import type { Core } from '../model/core';
import type { Version, Vm } from '../model/entities';
import { initializationProblem } from '../power/config-drive';

/** What of a VM's body is configuration, which of it takes effect at once, and which combinations the engine refuses. */

const DEFAULT_MEMORY_BYTES = 1024 ** 3;
const LONGEST_NAME = 64;

/** Fields that are kept as they are given; a change to a running VM waits for its next start, except {@link AT_ONCE}. */
const STORED = [
  'bios',
  'console',
  'cpu',
  'cpu_pinning_policy',
  'cpu_profile',
  'cpu_shares',
  'custom_cpu_model',
  'custom_emulated_machine',
  'custom_properties',
  'display',
  'high_availability',
  'initialization',
  'io',
  'lease',
  'memory_policy',
  'migration',
  'migration_downtime',
  'multi_queues_enabled',
  'numa_tune_mode',
  'os',
  'placement_policy',
  'quota',
  'rng_device',
  'serial_number',
  'soundcard_enabled',
  'sso',
  'start_paused',
  'storage_error_resume_behaviour',
  'time_zone',
  'tpm_enabled',
  'type',
  'usb',
  'virtio_scsi',
  'virtio_scsi_multi_queues',
  'virtio_scsi_multi_queues_enabled',
] as const;
const AT_ONCE = new Set<string>(['high_availability', 'initialization', 'lease', 'quota', 'cpu_profile', 'storage_error_resume_behaviour']);

export const defaultAttributes: ApiObject = {
  cpu: { topology: { sockets: 1, cores: 1, threads: 1 } },
  os: { type: 'other', boot: { devices: ['hd'] } },
  type: 'server',
  display: { type: 'vnc', monitors: 1 },
  high_availability: { enabled: false, priority: 1 },
  placement_policy: { affinity: 'migratable' },
  time_zone: { name: 'Etc/GMT' },
  virtio_scsi: { enabled: true },
  multi_queues_enabled: true,
  start_paused: false,
  usb: { enabled: false },
  soundcard_enabled: false,
  tpm_enabled: false,
};

/** The stored fields of a body; the configuration part of `initialization` (an OVF) is not one of them. */
export function storedFields(body: ApiObject): ApiObject {
  const fields = Object.fromEntries(
    STORED.flatMap((name): [string, ApiObject[string]][] => (body[name] === undefined ? [] : [[name, body[name]]])),
  );
  const initialization = objectOf(body, 'initialization');
  if (initialization === undefined) {
    return fields;
  }
  const { configuration, regenerate_ids, ...rest } = initialization;
  void configuration;
  void regenerate_ids;
  return Object.keys(rest).length === 0 ? compact({ ...fields, initialization: undefined }) : { ...fields, initialization: rest };
}

/** Splits a change of a running VM into what applies now and what waits. Memory is the caller's: it is not an attribute. */
export function splitByTime(fields: ApiObject): { now: ApiObject; later: ApiObject } {
  const entries = Object.entries(fields);
  return {
    now: Object.fromEntries(entries.filter(([name]) => AT_ONCE.has(name))),
    later: Object.fromEntries(entries.filter(([name]) => !AT_ONCE.has(name))),
  };
}

/** Objects are merged one level deep, as the engine's mapper does: `{cpu: {topology}}` keeps the architecture. */
export function mergeFields(current: ApiObject, change: ApiObject): ApiObject {
  const merged: Record<string, ApiObject[string]> = { ...current };
  for (const [name, value] of Object.entries(change)) {
    const before = objectOf(current, name);
    const after = objectOf(change, name);
    merged[name] = before && after ? { ...before, ...after } : value;
  }
  return merged;
}

export const memoryOf = (body: ApiObject): number => numberOf(body, 'memory') ?? DEFAULT_MEMORY_BYTES;

export function requireName(name: string): void {
  if (name.length > LONGEST_NAME) {
    throw badRequest('VM_NAME_TOO_LONG', `The VM name must not be longer than ${String(LONGEST_NAME)} characters.`);
  }
  if (!/^[\p{L}\p{N}._-]+$/u.test(name)) {
    throw badRequest('VM_NAME_INVALID', 'The VM name may hold letters, digits, ".", "_" and "-" only.');
  }
}

/** Refuses impossible values, whoever sends them. */
export function requireConsistent(core: Core, memoryBytes: number, attributes: ApiObject): void {
  const policy = objectOf(attributes, 'memory_policy');
  const guaranteed = numberOf(policy, 'guaranteed');
  const max = numberOf(policy, 'max');
  if (memoryBytes <= 0) {
    throw badRequest('VM_MEMORY_INVALID', 'The memory size must be positive.');
  }
  if (guaranteed !== undefined && guaranteed > memoryBytes) {
    throw badRequest('MIN_MEMORY_CANNOT_EXCEED_MEMORY_SIZE', 'The guaranteed memory must not exceed the memory size.');
  }
  if (max !== undefined && max < memoryBytes) {
    throw badRequest('MAX_MEMORY_CANNOT_BE_SMALLER_THAN_MEMORY_SIZE', 'The maximum memory must not be smaller than the memory size.');
  }
  const problem = initializationProblem(objectOf(attributes, 'initialization') ?? {});
  if (problem !== undefined) {
    throw badRequest('VM_INIT_INVALID', problem);
  }
  const leaseDomain = textOf(objectOf(objectOf(attributes, 'lease'), 'storage_domain'), 'id');
  if (leaseDomain !== undefined && core.db.storageDomains.get(leaseDomain)?.status !== 'active') {
    throw badRequest('CANNOT_ADD_LEASE', `Cannot add a VM lease. The storage domain ${leaseDomain} is not active.`);
  }
  if (
    flagOf(attributes, 'tpm_enabled') === true &&
    ['i440fx_sea_bios', 'q35_sea_bios'].includes(textOf(objectOf(attributes, 'bios'), 'type') ?? '')
  ) {
    throw badRequest('TPM_DEVICE_REQUIRES_UEFI', 'A TPM device needs UEFI firmware.');
  }
}

export function versionOf(object: ApiObject | undefined): Version | undefined {
  const major = numberOf(object, 'major');
  const minor = numberOf(object, 'minor');
  return major === undefined || minor === undefined ? undefined : { major, minor };
}

/** The lab's own custom property: `lab_guest` = `linux` boots the small guest in the VM. */
export function guestOf(attributes: ApiObject): Vm['guest'] {
  const properties = Array.isArray(attributes['custom_properties']) ? (attributes['custom_properties'] as ApiObject[]) : [];
  return properties.some((property) => textOf(property, 'name') === 'lab_guest' && textOf(property, 'value') === 'linux')
    ? 'linux'
    : 'none';
}
