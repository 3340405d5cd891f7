import { XMLParser, XMLValidator } from 'fast-xml-parser';
import type { ApiObject } from '../http/api-object';
import { compact } from '../http/api-object';
import { badRequest } from '../http/fault';
import { decode } from '../http/xml-format';
import type { Nic, Version, Vm } from '../model/entities';
import { BIOS_TYPES, NIC_INTERFACES, ORIGINS, RESOURCE, VM_TYPES } from './ovf-codes';

/** What a VM is made from when a client sends an OVF. Disks and nics carry names, not ids of this engine. */
export interface OvfVm {
  readonly id: string;
  readonly name: string;
  readonly description: string;
  readonly comment: string;
  readonly memoryBytes: number;
  readonly deleteProtected: boolean;
  readonly stateless: boolean;
  readonly origin: Vm['origin'];
  readonly level: Version | undefined;
  readonly attributes: ApiObject;
  readonly externalData: string | undefined;
  readonly nics: readonly OvfNic[];
  /** One per disk: the last volume of its chain. */
  readonly disks: readonly OvfDisk[];
}

export interface OvfNic {
  readonly name: string;
  readonly interface: Nic['interface'];
  readonly macAddress: string | undefined;
  readonly profile: string;
  readonly network: string;
  readonly linked: boolean;
  readonly plugged: boolean;
}

export interface OvfDisk {
  readonly diskId: string;
  readonly interface: 'ide' | 'sata' | 'virtio' | 'virtio_scsi' | 'spapr_vscsi';
  readonly bootable: boolean;
  readonly readOnly: boolean;
  readonly active: boolean;
}

type Node = Readonly<Record<string, unknown>>;

const MEBIBYTE = 1024 ** 2;
const REPEATED = new Set(['File', 'Network', 'Section', 'Disk', 'Item', 'Snapshot']);

const parser = new XMLParser({
  ignoreAttributes: false,
  attributeNamePrefix: '@',
  removeNSPrefix: true,
  parseTagValue: false,
  parseAttributeValue: false,
  isArray: (name) => REPEATED.has(name),
  trimValues: false,
  // Decoded here: the parser's own decoding stops after a number of entities that snapshots in an OVF exceed.
  processEntities: false,
});

/** Throws the 400 fault for documents that are no OVF of a VM. */
export function readOvf(document: string): OvfVm {
  if (XMLValidator.validate(document) !== true) {
    throw badRequest('OVF_CONFIGURATION_INVALID', 'Cannot import VM. The OVF configuration could not be parsed.');
  }
  const envelope = child(parser.parse(document) as Node, 'Envelope');
  const system = child(envelope, 'Content');
  const sections = [...many(system, 'Section'), ...many(envelope, 'Section')];
  const section = (type: string): Node | undefined =>
    sections.find((node) => attribute(node, 'type')?.endsWith(`${type}_Type`) === true) ?? child(system, type);
  const os = section('OperatingSystemSection');
  const hardware = section('VirtualHardwareSection');
  const name = textOf(system, 'Name');
  const id = attribute(os, 'id');
  if (!system || !hardware || name === undefined || id === undefined) {
    throw badRequest('OVF_CONFIGURATION_INVALID', 'Cannot import VM. The OVF configuration lacks the description of the VM.');
  }
  const items = many(hardware, 'Item');
  const external = section('VmExternalDataSection');
  const level = /^(\d+)\.(\d+)/.exec(textOf(system, 'ClusterCompatibilityVersion') ?? '');
  return {
    id,
    name,
    description: textOf(system, 'Description') ?? '',
    comment: textOf(system, 'Comment') ?? '',
    memoryBytes: numberOf(ofType(items, RESOURCE.memory)[0], 'VirtualQuantity', 1024) * MEBIBYTE,
    deleteProtected: textOf(system, 'DeleteProtected') === 'true',
    stateless: textOf(system, 'IsStateless') === 'true',
    origin: (Object.entries(ORIGINS).find(([, number]) => String(number) === textOf(system, 'Origin'))?.[0] ?? 'ovirt') as Vm['origin'],
    level: level ? { major: Number(level[1]), minor: Number(level[2]) } : undefined,
    attributes: attributesOf(system, os, items),
    externalData: external ? /<Section[^>]*VmExternalDataSection_Type[^>]*>.*?<\/Section>/s.exec(document)?.[0] : undefined,
    nics: ofType(items, RESOURCE.nic).map(nicOf),
    disks: disksOf(many(section('DiskSection'), 'Disk'), items),
  };
}

function attributesOf(system: Node, os: Node | undefined, items: readonly Node[]): ApiObject {
  const cpu = ofType(items, RESOURCE.cpu)[0];
  const devices = new Set(items.map((item) => textOf(item, 'Device')));
  const leaseDomain = textOf(system, 'LeaseDomainId');
  const properties = (textOf(system, 'UserDefinedProperties') ?? '').split(';').filter((text) => text.includes('='));
  return compact({
    memory_policy: {
      guaranteed: numberOf(system, 'MinAllocatedMem', 1024) * MEBIBYTE,
      max: numberOf(system, 'MaxMemorySizeMb', 4096) * MEBIBYTE,
    },
    cpu: {
      topology: {
        sockets: numberOf(cpu, 'num_of_sockets', 1),
        cores: numberOf(cpu, 'cpu_per_socket', 1),
        threads: numberOf(cpu, 'threads_per_cpu', 1),
      },
    },
    bios: { type: BIOS_TYPES[numberOf(system, 'BiosType', 1)] ?? 'q35_sea_bios' },
    os: { type: textOf(os, 'Description') ?? 'other', boot: { devices: ['hd'] } },
    type: VM_TYPES[numberOf(system, 'VmType', 1)] ?? 'server',
    high_availability: { enabled: textOf(system, 'AutoStartup') === 'true', priority: numberOf(system, 'Priority', 1) },
    time_zone: { name: textOf(system, 'TimeZone') ?? 'Etc/GMT' },
    start_paused: textOf(system, 'IsRunAndPause') === 'true',
    multi_queues_enabled: textOf(system, 'MultiQueuesEnabled') !== 'false',
    virtio_scsi: { enabled: devices.has('virtio-scsi') },
    tpm_enabled: devices.has('tpm'),
    soundcard_enabled: devices.has('ich9'),
    placement_policy: {
      affinity: (['migratable', 'user_migratable', 'pinned'] as const)[numberOf(system, 'MigrationSupport', 0)] ?? 'migratable',
    },
    custom_properties: properties.length === 0 ? undefined : properties.map(propertyOf),
    // A lease is made again only for a VM that is highly available.
    lease: leaseDomain !== undefined && textOf(system, 'AutoStartup') === 'true' ? { storage_domain: { id: leaseDomain } } : undefined,
    initialization: initializationOf(child(system, 'VmInit')),
  });
}

const propertyOf = (text: string): ApiObject => ({ name: text.slice(0, text.indexOf('=')), value: text.slice(text.indexOf('=') + 1) });

function initializationOf(node: Node | undefined): ApiObject | undefined {
  const read = {
    host_name: attribute(node, 'hostname'),
    user_name: attribute(node, 'user'),
    authorized_ssh_keys: attribute(node, 'authorizedKeys'),
    custom_script: attribute(node, 'customScript'),
    timezone: attribute(node, 'timeZone'),
  };
  return node === undefined ? undefined : compact(read);
}

function nicOf(item: Node): OvfNic {
  return {
    name: textOf(item, 'Name') ?? textOf(item, 'ElementName') ?? 'nic1',
    interface: NIC_INTERFACES[numberOf(item, 'ResourceSubType', 3)] ?? 'virtio',
    macAddress: textOf(item, 'MACAddress'),
    profile: textOf(item, 'OtherResourceType') ?? '',
    network: textOf(item, 'Connection') ?? '',
    linked: textOf(item, 'Linked') !== 'false',
    plugged: textOf(item, 'IsPlugged') !== 'false',
  };
}

function disksOf(volumes: readonly Node[], items: readonly Node[]): OvfDisk[] {
  const byDisk = new Map<string, OvfDisk>();
  for (const volume of volumes) {
    const [diskId = ''] = (attribute(volume, 'fileRef') ?? '').split('/');
    const item = items.find((candidate) => textOf(candidate, 'HostResource') === attribute(volume, 'fileRef'));
    byDisk.set(diskId, {
      diskId,
      interface: (attribute(volume, 'disk-interface') ?? 'VirtIO_SCSI').toLowerCase() as OvfDisk['interface'],
      bootable: attribute(volume, 'boot') === 'true',
      readOnly: attribute(volume, 'read-only') === 'true',
      active: textOf(item, 'IsPlugged') !== 'false',
    });
  }
  byDisk.delete('');
  return [...byDisk.values()];
}

const ofType = (items: readonly Node[], type: number): Node[] => items.filter((item) => textOf(item, 'ResourceType') === String(type));

function child(node: Node | undefined, name: string): Node | undefined {
  const value = node?.[name];
  const one: unknown = Array.isArray(value) ? value[0] : value;
  return typeof one === 'object' && one !== null ? (one as Node) : undefined;
}

function many(node: Node | undefined, name: string): Node[] {
  const value = node?.[name];
  const all: unknown[] = Array.isArray(value) ? (value as unknown[]) : value === undefined ? [] : [value];
  return all.filter((one): one is Node => typeof one === 'object' && one !== null);
}

function textOf(node: Node | undefined, name: string): string | undefined {
  const value = node?.[name];
  const text = typeof value === 'object' && value !== null ? (value as Node)['#text'] : value;
  return typeof text === 'string' && text !== '' ? decode(text) : undefined;
}

function attribute(node: Node | undefined, name: string): string | undefined {
  const value = node?.[`@${name}`];
  return typeof value === 'string' ? decode(value) : undefined;
}

function numberOf(node: Node | undefined, name: string, otherwise: number): number {
  const value = Number(textOf(node, name) ?? Number.NaN);
  return Number.isFinite(value) ? value : otherwise;
}
