import type { FleetPolicy as WirePolicy } from '../../proto/gen/tidemark/plugin/v1/FleetPolicy';
import type { FleetPolicy__Output } from '../../proto/gen/tidemark/plugin/v1/FleetPolicy';
import type { AddressMethod } from '../../proto/gen/tidemark/plugin/v1/AddressMethod';
import type { WorkerAddress as WireAddress, WorkerAddress__Output } from '../../proto/gen/tidemark/plugin/v1/WorkerAddress';
import type { WorkerSettings as WireSettings, WorkerSettings__Output } from '../../proto/gen/tidemark/plugin/v1/WorkerSettings';

/** How a NIC gets its address of one family. */
export interface WorkerAddress {
  readonly method: 'automatic' | 'static' | 'none';
  /** Static: with prefix length. */
  readonly address: string | null;
  readonly gateway: string | null;
}

export interface WorkerNic {
  readonly vnicProfileId: string;
  readonly ipv4: WorkerAddress;
  readonly ipv6: WorkerAddress;
  readonly routes: readonly { readonly destination: string; /** null: on link. */ readonly via: string | null }[];
  /** null: the network's. */
  readonly mtu: number | null;
}

/** What an administrator may choose for a worker VM; null and empty lists leave it to the plug-in. */
export interface WorkerSettings {
  readonly name: string | null;
  readonly description: string | null;
  readonly storageDomainId: string | null;
  readonly taskSlots: number | null;
  readonly cpuCount: number | null;
  readonly memoryBytes: number | null;
  readonly nics: readonly WorkerNic[];
  readonly dnsServers: readonly string[];
  readonly dnsSearch: readonly string[];
  readonly ntpServers: readonly string[];
  readonly hostIds: readonly string[];
  readonly avoidedHostTags: readonly string[];
}

export const noSettings: WorkerSettings = {
  name: null,
  description: null,
  storageDomainId: null,
  taskSlots: null,
  cpuCount: null,
  memoryBytes: null,
  nics: [],
  dnsServers: [],
  dnsSearch: [],
  ntpServers: [],
  hostIds: [],
  avoidedHostTags: [],
};

/** Rules of a platform's fleet. */
export interface FleetPolicy {
  readonly deployAutomatically: boolean;
  readonly allowOtherClusters: boolean;
  readonly allowBesideServer: boolean;
  readonly stopIdleAfterMs: number;
  readonly warmWorkers: number;
  readonly maxWorkers: number;
  readonly tasksPerHost: number;
  readonly tasksPerStorageDomain: number;
  readonly tasksPerPlatform: number;
  /** host:port; null: what the plug-in announces. */
  readonly workerEndpoint: string | null;
  readonly workerEnrolmentEndpoint: string | null;
  readonly namePrefix: string;
  readonly automaticSettings: WorkerSettings;
}

const methods: Readonly<Record<WorkerAddress['method'], AddressMethod>> = {
  automatic: 'ADDRESS_METHOD_AUTOMATIC',
  static: 'ADDRESS_METHOD_STATIC',
  none: 'ADDRESS_METHOD_NONE',
};

function addressToWire({ method, address, gateway }: WorkerAddress): WireAddress {
  return { method: methods[method], address: address ?? '', gateway: gateway ?? '' };
}

function addressOf(wire: WorkerAddress__Output | null | undefined): WorkerAddress {
  const method = (['static', 'none'] as const).find((name) => methods[name] === wire?.method) ?? 'automatic';
  return { method, address: orNull(wire?.address), gateway: orNull(wire?.gateway) };
}

export function settingsToWire(settings: WorkerSettings): WireSettings {
  return {
    name: settings.name ?? '',
    description: settings.description ?? '',
    storageDomainId: settings.storageDomainId ?? '',
    taskSlots: settings.taskSlots ?? 0,
    cpuCount: settings.cpuCount ?? 0,
    memoryBytes: String(settings.memoryBytes ?? 0),
    nics: settings.nics.map(({ vnicProfileId, ipv4, ipv6, routes, mtu }) => ({
      vnicProfileId,
      ipv4: addressToWire(ipv4),
      ipv6: addressToWire(ipv6),
      routes: routes.map(({ destination, via }) => ({ destination, via: via ?? '' })),
      mtu: mtu ?? 0,
    })),
    dnsServers: [...settings.dnsServers],
    dnsSearch: [...settings.dnsSearch],
    ntpServers: [...settings.ntpServers],
    hostIds: [...settings.hostIds],
    avoidedHostTags: [...settings.avoidedHostTags],
  };
}

export function settingsOf(wire: WorkerSettings__Output | null | undefined): WorkerSettings {
  if (!wire) return noSettings;
  return {
    name: orNull(wire.name),
    description: orNull(wire.description),
    storageDomainId: orNull(wire.storageDomainId),
    taskSlots: wire.taskSlots || null,
    cpuCount: wire.cpuCount || null,
    memoryBytes: Number(wire.memoryBytes) || null,
    nics: wire.nics.map(({ vnicProfileId, ipv4, ipv6, routes, mtu }) => ({
      vnicProfileId,
      ipv4: addressOf(ipv4),
      ipv6: addressOf(ipv6),
      routes: routes.map(({ destination, via }) => ({ destination, via: orNull(via) })),
      mtu: mtu || null,
    })),
    dnsServers: wire.dnsServers,
    dnsSearch: wire.dnsSearch,
    ntpServers: wire.ntpServers,
    hostIds: wire.hostIds,
    avoidedHostTags: wire.avoidedHostTags,
  };
}

export function policyToWire(platformId: string, policy: FleetPolicy): WirePolicy {
  const { stopIdleAfterMs, workerEndpoint, workerEnrolmentEndpoint, automaticSettings, ...rest } = policy;
  return {
    ...rest,
    platformId,
    stopIdleAfter: { seconds: String(Math.floor(stopIdleAfterMs / 1000)), nanos: (stopIdleAfterMs % 1000) * 1_000_000 },
    workerEndpoint: workerEndpoint ?? '',
    workerEnrolmentEndpoint: workerEnrolmentEndpoint ?? '',
    automaticSettings: settingsToWire(automaticSettings),
  };
}

export function policyOf(wire: FleetPolicy__Output): FleetPolicy {
  return {
    deployAutomatically: wire.deployAutomatically,
    allowOtherClusters: wire.allowOtherClusters,
    allowBesideServer: wire.allowBesideServer,
    stopIdleAfterMs: Number(wire.stopIdleAfter?.seconds ?? 0) * 1000 + Math.round((wire.stopIdleAfter?.nanos ?? 0) / 1_000_000),
    warmWorkers: wire.warmWorkers,
    maxWorkers: wire.maxWorkers,
    tasksPerHost: wire.tasksPerHost,
    tasksPerStorageDomain: wire.tasksPerStorageDomain,
    tasksPerPlatform: wire.tasksPerPlatform,
    workerEndpoint: orNull(wire.workerEndpoint),
    workerEnrolmentEndpoint: orNull(wire.workerEnrolmentEndpoint),
    namePrefix: wire.namePrefix,
    automaticSettings: settingsOf(wire.automaticSettings),
  };
}

function orNull(text: string | undefined): string | null {
  return text === undefined || text === '' ? null : text;
}
