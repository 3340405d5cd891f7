import { badRequest, conflict } from '../http/fault';
import type { Core } from '../model/core';
import type { MacPool } from '../model/entities';

const MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/;
const toNumber = (mac: string): number => Number.parseInt(mac.replaceAll(':', ''), 16);
const toMac = (value: number): string => (value.toString(16).padStart(12, '0').match(/../g) ?? []).join(':');

/** The rules by which nics get MAC addresses from the pool of their VM's cluster. */
export class MacAddresses {
  constructor(private readonly core: Core) {}

  /** An address that the client asked for, in lower case. Addresses outside the pool's ranges are fine. `nicId`: the nic that may keep it. */
  claim(clusterId: string, wanted: string, nicId?: string): string {
    const mac = wanted.toLowerCase();
    if (!MAC.test(mac) || mac === '00:00:00:00:00:00') {
      throw badRequest('NETWORK_INVALID_MAC_ADDRESS', `The MAC address ${wanted} is not valid.`);
    }
    if ((Number.parseInt(mac.slice(0, 2), 16) & 1) === 1) {
      throw badRequest('NETWORK_MULTICAST_MAC_ADDRESS', `The MAC address ${wanted} is a multicast address.`);
    }
    if (!this.poolOf(clusterId).allowDuplicates && this.inUse(mac, nicId)) {
      throw conflict('NETWORK_MAC_ADDRESS_IN_USE', `The MAC address ${mac} is in use.`);
    }
    return mac;
  }

  /** The next free address of the pool. */
  draw(clusterId: string): string {
    const used = new Set(this.core.db.nics.list().map((nic) => nic.macAddress));
    for (const range of this.poolOf(clusterId).ranges) {
      const last = toNumber(range.to);
      for (let value = toNumber(range.from); value <= last; value += 1) {
        const mac = toMac(value);
        if (!used.has(mac)) {
          return mac;
        }
      }
    }
    throw conflict('MAC_POOL_NOT_ENOUGH_MAC_ADDRESSES', 'Not enough MAC addresses left in the MAC address pool.');
  }

  inUse(mac: string, exceptNicId?: string): boolean {
    return this.core.db.nics.find((nic) => nic.macAddress === mac.toLowerCase() && nic.id !== exceptNicId) !== undefined;
  }

  allowsDuplicates(clusterId: string): boolean {
    return this.poolOf(clusterId).allowDuplicates;
  }

  private poolOf(clusterId: string): MacPool {
    return this.core.db.macPools.require(this.core.db.clusters.require(clusterId).macPoolId);
  }
}
