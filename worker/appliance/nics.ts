/** What the network's parts tell each other of this VM's NICs. */
import type { SeedInterface } from '../../common/appliance/seed';

/** A NIC of this VM. */
export interface Nic {
  readonly device: string;
  readonly macAddress: string;
}

export interface NicSettings extends Omit<SeedInterface, 'macAddress'> {
  readonly device: string;
}

export interface NetworkSettings {
  /** In order: where several know a way out, the first is taken. */
  readonly nics: readonly NicSettings[];
  readonly dnsServers: readonly string[];
  readonly dnsSearch: readonly string[];
  /** What cannot be done, for the console. */
  readonly problems: readonly string[];
}
