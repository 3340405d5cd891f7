import fs from 'node:fs';
import os from 'node:os';
import type { Hello } from '../../proto/gen/tidemark/worker/v1/Hello';
import type { WorkerConfig } from '../config';

/** Addresses of this machine that others may see: neither loopback nor link-local, IPv4 first. */
export function ownAddresses(interfaces = os.networkInterfaces()): string[] {
  const seen = Object.values(interfaces).flatMap((list) => list ?? []);
  const usable = seen.filter(({ internal, address }) => !internal && !/^(169\.254\.|fe[89ab])/i.test(address));
  const byFamily = [...usable.filter((one) => one.family === 'IPv4'), ...usable.filter((one) => one.family === 'IPv6')];
  return [...new Set(byFamily.map((one) => one.address))];
}

/** What Hello says of the machine, read anew for each: addresses may have come since. */
export function describeMachine(config: WorkerConfig): Pick<Hello, 'addresses' | 'cpuCount' | 'memoryBytes'> {
  return {
    addresses: config.addresses.length > 0 ? [...config.addresses] : ownAddresses(),
    cpuCount: os.availableParallelism(),
    memoryBytes: String(os.totalmem()),
  };
}

/** Disks can be plugged into it: it is a deployed VM and sees the kernel's list of block devices. */
export function takesAttachedDisks(config: WorkerConfig): boolean {
  return config.clusterId !== '' && fs.existsSync(`${config.devices.sysFolder}/block`);
}
