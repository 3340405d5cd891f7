import { copyFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { HostError, type VmSpec } from './driver';
import type { TapPort } from './guest-networks';

/**
 * The arguments of qemu for a VM that boots from its own disk: firmware, chipset, clock, network and serial console as the engine's machine
 * types have them, under TCG. Memory and processors are cut down to what a test machine can give.
 */
const mib = 1024 * 1024;
const mostMemoryMib = 768;
/** Packages ovmf. */
const ovmf = { code: '/usr/share/OVMF/OVMF_CODE_4M.fd', variables: '/usr/share/OVMF/OVMF_VARS_4M.fd' };

export interface DiskGuestOptions {
  readonly spec: VmSpec;
  readonly directory: string;
  readonly consoleFile: string;
  readonly agentSocket: string;
  readonly taps: readonly TapPort[];
}

export function diskGuestArguments({ spec, directory, consoleFile, agentSocket, taps }: DiskGuestOptions): string[] {
  const { chipset, firmware } = spec.machine ?? { chipset: 'q35', firmware: 'bios' };
  const type = chipset === 'q35' ? 'q35' : 'pc';
  const memory = Math.min(mostMemoryMib, Math.max(128, Math.trunc(spec.memoryBytes / mib)));
  const devices: Record<string, unknown>[] = [
    ...taps.map(({ macAddress }, index) => ({ driver: 'virtio-net-pci', id: `nic${index}`, netdev: `net${index}`, mac: macAddress })),
    { driver: 'virtio-serial-pci', id: 'serial0' },
    { driver: 'virtserialport', bus: 'serial0.0', chardev: 'agent', name: 'org.qemu.guest_agent.0' },
    { driver: 'virtio-rng-pci', rng: 'rng0' },
  ];
  return [
    ...(firmware === 'uefi' ? uefi(type, directory) : ['-machine', type]),
    ...['-accel', 'tcg,thread=multi,tb-size=256', '-cpu', 'max', '-smp', '2', '-m', String(memory)],
    ...['-rtc', `base=${clockBase(spec.clockOffsetSeconds ?? 0)}`],
    ...['-serial', `file:${consoleFile}`, '-chardev', `socket,id=agent,path=${agentSocket},server=on,wait=off`],
    ...['-object', 'rng-random,id=rng0,filename=/dev/urandom'],
    ...taps.flatMap(({ tap }, index) => ['-netdev', `tap,id=net${index},ifname=${tap},script=no,downscript=no`]),
    ...devices.flatMap((options) => ['-device', JSON.stringify(options)]),
  ];
}

/** The CD hangs on SATA on q35 and on IDE on i440fx, as in oVirt: an image that lacks the driver does not see it. */
export function configDriveArguments(isoFile: string, chipset: 'i440fx' | 'q35'): string[] {
  const node = {
    driver: 'raw',
    'node-name': 'config-drive',
    'read-only': true,
    file: { driver: 'file', filename: isoFile, 'read-only': true },
  };
  const device = { driver: 'ide-cd', bus: chipset === 'q35' ? 'ide.2' : 'ide.1', drive: 'config-drive', id: 'ua-config-drive' };
  return ['-blockdev', JSON.stringify(node), '-device', JSON.stringify(device)];
}

/** The guest's variables are forgotten with each start: the image boots by the fallback path. */
function uefi(type: string, directory: string): string[] {
  if (!existsSync(ovmf.code)) throw new HostError('QEMU_REFUSED', `${ovmf.code} is missing: install the package ovmf.`);
  const variables = join(directory, 'uefi-variables.fd');
  copyFileSync(ovmf.variables, variables);
  const flash = (name: string, filename: string, readOnly: boolean): string[] => [
    '-blockdev',
    JSON.stringify({ driver: 'raw', 'node-name': name, 'read-only': readOnly, file: { driver: 'file', filename, 'read-only': readOnly } }),
  ];
  return [
    ...flash('uefi-code', ovmf.code, true),
    ...flash('uefi-variables', variables, false),
    '-machine',
    `${type},pflash0=uefi-code,pflash1=uefi-variables`,
  ];
}

const clockBase = (offsetSeconds: number): string =>
  offsetSeconds === 0 ? 'utc' : new Date(Date.now() + offsetSeconds * 1000).toISOString().slice(0, 19);
