/** Virtual NICs of a VM. Engine REST API §2, §8.2. */
import type { EngineClient } from './engine-client';
import type { RequestOptions } from './engine-session';
import { compact, flagOf, idOf, objectOf, textOf } from './mapping';
import type { Wire } from './mapping';

export interface Nic {
  readonly id: string;
  readonly name: string;
  readonly interface: string;
  readonly macAddress: string | undefined;
  /** Absent: an empty profile. */
  readonly vnicProfileId: string | undefined;
  readonly plugged: boolean;
  readonly linked: boolean;
}

export interface NewNic {
  readonly name: string;
  readonly interface: string;
  /** Absent: the engine draws one from its pool. */
  readonly macAddress?: string;
  readonly vnicProfileId?: string;
  readonly plugged: boolean;
  readonly linked: boolean;
}

export class Nics {
  constructor(private readonly client: EngineClient) {}

  async list(vmId: string, options: RequestOptions = {}): Promise<readonly Nic[]> {
    return (await this.client.list(`/vms/${vmId}/nics`, 'nic', options)).map(nicOf);
  }

  /** Throws MAC_IN_USE's cause as ENGINE_REFUSED (409) when the address is taken: see {@link isMacInUse}. */
  async add(vmId: string, nic: NewNic, options: RequestOptions = {}): Promise<Nic> {
    const body = compact({
      name: nic.name,
      interface: nic.interface,
      plugged: nic.plugged,
      linked: nic.linked,
      mac: nic.macAddress === undefined ? undefined : { address: nic.macAddress },
      vnic_profile: nic.vnicProfileId === undefined ? undefined : { id: nic.vnicProfileId },
    });
    const find = async () => (await this.client.list(`/vms/${vmId}/nics`, 'nic', options)).find((row) => textOf(row, 'name') === nic.name);
    return nicOf(await this.client.create(`/vms/${vmId}/nics`, body, { ...options, find }));
  }

  async update(vmId: string, nicId: string, attributes: Wire, options: RequestOptions = {}): Promise<Nic> {
    return nicOf(await this.client.update(`/vms/${vmId}/nics/${nicId}`, attributes, options));
  }

  remove(vmId: string, nicId: string, options: RequestOptions = {}): Promise<boolean> {
    return this.client.remove(`/vms/${vmId}/nics/${nicId}`, options);
  }
}

export function nicOf(wire: Wire): Nic {
  const mac = objectOf(wire, 'mac');
  return {
    id: textOf(wire, 'id') ?? '',
    name: textOf(wire, 'name') ?? '',
    interface: textOf(wire, 'interface') ?? '',
    macAddress: mac && textOf(mac, 'address'),
    vnicProfileId: idOf(wire, 'vnic_profile'),
    plugged: flagOf(wire, 'plugged'),
    linked: flagOf(wire, 'linked'),
  };
}
