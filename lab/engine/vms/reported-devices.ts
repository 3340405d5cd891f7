import { isIPv6 } from 'node:net';
import type { ApiObject } from '../http/api-object';
import { hrefOf, refOf } from '../http/href';
import type { Core } from '../model/core';
import type { Nic, Vm } from '../model/entities';

/** What the guest agent of a running VM reports of its plugged nics; nothing without an agent. Nics without a device in the guest are left out. */
export async function reportedDevices(core: Core, vm: Vm): Promise<{ readonly nic: Nic; readonly view: ApiObject }[]> {
  if (vm.status !== 'up') {
    return [];
  }
  const nics = core.db.nics.list((nic) => nic.vmId === vm.id && nic.plugged);
  if (vm.guestOfRun === undefined) {
    return vm.guest === 'linux'
      ? nics.map((nic, index) => ({ nic, view: deviceView(vm, nic, `eth${String(index)}`, [linkLocal(nic.macAddress)]) }))
      : [];
  }
  const interfaces = await core.fleet.guestInterfaces(vm.id);
  return nics.flatMap((nic) => {
    const found = interfaces?.find(({ macAddress }) => macAddress === nic.macAddress);
    return found === undefined ? [] : [{ nic, view: deviceView(vm, nic, found.name, found.addresses) }];
  });
}

function deviceView(vm: Vm, nic: Nic, name: string, addresses: readonly string[]): ApiObject {
  return {
    href: hrefOf('vms', vm.id, 'reporteddevices', nic.id),
    id: nic.id,
    name,
    description: 'guest reported data',
    type: 'network',
    mac: { address: nic.macAddress },
    ips: addresses.map((address) => ({ address, version: isIPv6(address) ? 'v6' : 'v4' })),
    vm: refOf('vms', vm.id),
  };
}

/** The small guest has no address but the one every Linux makes from its MAC. */
function linkLocal(mac: string): string {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = mac.split(':').map((part) => Number.parseInt(part, 16));
  const group = (high: number, low: number): string => ((high << 8) | low).toString(16);
  return `fe80::${group(a ^ 2, b)}:${group(c, 0xff)}:${group(0xfe, d)}:${group(e, f)}`;
}
