/** What a worker VM is told at its start; format: docs/formats/worker-seed.md. */
import { applianceSeedSchema, seedPath } from '../../common/appliance/seed';
import type { ApplianceSeed, SeedInterface } from '../../common/appliance/seed';
import type { Wire } from '../engine/mapping';
import { placementOn } from './deployment-plan';
import type { WorkerNic, WorkerSettings } from './settings';
import { sizeOf } from './settings';

export interface SeedOrder {
  readonly workerId: string;
  readonly name: string;
  readonly platformId: string;
  readonly clusterId: string;
  readonly settings: WorkerSettings;
  /** MAC addresses in the order of the settings' NICs. */
  readonly macAddresses: readonly string[];
  readonly endpoint: string;
  readonly enrolmentEndpoint: string;
  /** Secret. */
  readonly enrolmentToken: string;
  /** Machine of the engine: the time server of those that chose none. */
  readonly engineHost: string;
}

export function applianceSeed(order: SeedOrder): ApplianceSeed {
  const { settings, macAddresses } = order;
  return applianceSeedSchema.parse({
    version: 1,
    workerId: order.workerId,
    hostName: order.name,
    platformId: order.platformId,
    clusterId: order.clusterId,
    taskSlots: sizeOf(settings).taskSlots,
    plugin: { endpoint: order.endpoint, enrolmentEndpoint: order.enrolmentEndpoint, enrolmentToken: order.enrolmentToken },
    interfaces: settings.nics.map((nic, index) => interfaceOf(nic, macAddresses[index] ?? '')),
    dnsServers: [...settings.dnsServers],
    dnsSearch: [...settings.dnsSearch],
    ntpServers: settings.ntpServers.length === 0 ? [order.engineHost] : [...settings.ntpServers],
  });
}

/** Attributes of the run in the engine's names: the config drive, and where the VM may run (`hostIds` empty: anywhere). Secret. */
export function runOnceAttributes(seed: ApplianceSeed, hostIds: readonly string[]): Wire {
  return {
    initialization: { host_name: seed.hostName, custom_script: cloudConfig(seed) },
    ...(hostIds.length === 0 ? {} : { placement_policy: placementOn(hostIds) }),
  };
}

/** Appended by the engine to the cloud-config that it writes itself, so without a head line. JSON stays on one line of the block. */
export function cloudConfig(seed: ApplianceSeed): string {
  return ['write_files:', `- path: ${seedPath}`, "  permissions: '0600'", '  content: |', `    ${JSON.stringify(seed)}`, ''].join('\n');
}

function interfaceOf(nic: WorkerNic, macAddress: string): SeedInterface {
  const family = ({ method, address, gateway }: WorkerNic['ipv4']) => ({
    method,
    ...(address === '' ? {} : { address }),
    ...(gateway === '' ? {} : { gateway }),
  });
  return {
    macAddress: macAddress.toLowerCase(),
    ...(nic.mtu === 0 ? {} : { mtu: nic.mtu }),
    ipv4: family(nic.ipv4),
    ipv6: family(nic.ipv6),
    routes: nic.routes.map(({ destination, via }) => ({ destination, ...(via === '' ? {} : { via }) })),
  };
}
