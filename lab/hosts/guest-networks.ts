/**
 * What the fleet asks of the network that its hosts and guests stand in. A lab without one has everything on loopback, and its guests have
 * no interface. Commands are started with {@link enter} in front; it execs them, so that the process id is the command's own.
 */
import type { GuestInterface } from './driver';

export interface TapPort {
  readonly macAddress: string;
  /** Name of the tap inside the host's network namespace. */
  readonly tap: string;
}

export interface ProcessPort {
  readonly enter: readonly string[];
  /** As a guest agent would report them. */
  readonly interfaces: readonly GuestInterface[];
}

export interface GuestNetworks {
  /** What a command of this host is prefixed with: empty when the host stands in the namespace of the lab itself. */
  enter(hostId: string): readonly string[];
  /** Taps for a VM's interfaces on the network of its host; idempotent. */
  connectGuest(hostId: string, vmId: string, macAddresses: readonly string[]): Promise<readonly TapPort[]>;
  /** A namespace of its own for a process that stands for a VM; idempotent. */
  connectProcess(hostId: string, vmId: string, macAddresses: readonly string[]): Promise<ProcessPort>;
  /** Unknown is fine. */
  disconnect(vmId: string): Promise<void>;
}
