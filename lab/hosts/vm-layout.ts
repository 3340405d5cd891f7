import type { VmDisk, VmSpec, VolumeFormat, VolumeId } from './driver';
import { shortHash } from './paths';

/**
 * How a VM of the lab looks to qemu: names of nodes and devices, and the arguments that make them. Pure. As libvirt does, each layer is
 * a storage node (`<name>-s`) below a format node, so that a layer can be re-opened and deleted by name.
 *
 * Node names hold at most 31 characters: `<target>-<12 digits of the volume's ids>`.
 */
export interface LayerState {
  readonly volume: VolumeId;
  readonly format: VolumeFormat;
  readonly node: string;
  readonly file: string;
}

export interface DiskState {
  readonly diskId: string;
  /** vda, vdb …; also the name of the disk's NBD export. */
  readonly target: string;
  readonly deviceId: string;
  /** What HMP `qemu-io -d` takes: the device that owns the block backend. */
  readonly backendPath: string;
  readonly readOnly: boolean;
  /** The firmware boots from it. */
  readonly bootable?: boolean;
  /** Base first. */
  readonly layers: readonly LayerState[];
}

export const storageNode = (node: string): string => `${node}-s`;

export function targetName(index: number): string {
  const letters = 'abcdefghijklmnopqrstuvwxyz';
  return index < 26 ? `vd${letters[index]!}` : `vd${letters[Math.floor(index / 26) - 1]!}${letters[index % 26]!}`;
}

export function layerState(target: string, volume: VolumeId, format: VolumeFormat, file: string): LayerState {
  const { domainId, diskId, volumeId } = volume;
  return { volume: { domainId, diskId, volumeId }, format, file, node: `${target}-${shortHash(`${domainId}/${diskId}/${volumeId}`)}` };
}

/** A guest sees virtio disks as virtio; all else is a scsi disk, because the lab's kernel has no other driver. */
export function diskState(disk: VmDisk, target: string, guest: VmSpec['guest'], fileOf: (volume: VolumeId) => string): DiskState {
  const deviceId = `ua-${disk.diskId}`;
  // Without a guest only scsi disks can be unplugged: for PCI devices qemu would wait for the guest's consent.
  const virtio = guest === 'linux' && disk.interface === 'virtio';
  return {
    diskId: disk.diskId,
    target,
    deviceId,
    backendPath: virtio ? `/machine/peripheral/${deviceId}/virtio-backend` : deviceId,
    readOnly: disk.readOnly,
    bootable: disk.bootable,
    layers: disk.chain.map((layer) => layerState(target, layer, layer.format, fileOf(layer))),
  };
}

export function leafOf(disk: DiskState): LayerState {
  return disk.layers.at(-1)!;
}

export function storageOptions(layer: LayerState): Record<string, unknown> {
  // auto-read-only: qemu opens the file for writing only while the format node above writes.
  return { driver: 'file', 'node-name': storageNode(layer.node), filename: layer.file, 'auto-read-only': true, discard: 'unmap' };
}

export function formatOptions(layer: LayerState, readOnly: boolean, backing: string | null): Record<string, unknown> {
  const common = { 'node-name': layer.node, file: storageNode(layer.node), 'read-only': readOnly, discard: 'unmap' };
  return layer.format === 'raw' ? { driver: 'raw', ...common } : { driver: 'qcow2', ...common, backing };
}

/** blockdev options of all layers in the order in which they must be added. */
export function diskNodes(disk: DiskState): Record<string, unknown>[] {
  return disk.layers.flatMap((layer, index) => {
    const isLeaf = index === disk.layers.length - 1;
    return [storageOptions(layer), formatOptions(layer, !isLeaf || disk.readOnly, disk.layers[index - 1]?.node ?? null)];
  });
}

export function diskDevice(disk: DiskState): Record<string, unknown> {
  const common = { id: disk.deviceId, drive: leafOf(disk).node, ...(disk.bootable === true ? { bootindex: 1 } : {}) };
  // As libvirt writes it: the whole id is the serial number (VPD page 0x80), the device id (0x83) and virtio's serial hold 20 characters.
  const short = disk.diskId.slice(0, 20);
  return disk.backendPath === disk.deviceId
    ? { driver: 'scsi-hd', bus: 'scsi0.0', serial: disk.diskId, device_id: short, ...common }
    : { driver: 'virtio-blk-pci', serial: short, ...common };
}

export interface GuestBoot {
  readonly kernel: string;
  readonly initramfs: string;
}

export interface VmSockets {
  readonly monitor: string;
  readonly agent: string;
}

const mib = 1024 * 1024;

export interface VmHardware {
  /** `linux`: kernel and initramfs, and where the serial console goes. */
  readonly linux?: { readonly boot: GuestBoot; readonly consoleFile: string };
  /** `disk`: everything but disks, by {@link diskGuestArguments}. */
  readonly disk?: readonly string[];
  /** Arguments for the CD. */
  readonly configDrive?: readonly string[];
}

export function qemuArguments(spec: VmSpec, disks: readonly DiskState[], sockets: VmSockets, hardware: VmHardware): string[] {
  const devices: Record<string, unknown>[] = [{ driver: 'virtio-scsi-pci', id: 'scsi0' }, ...disks.map(diskDevice)];
  return [
    'qemu-system-x86_64',
    '-name',
    `guest=${spec.name.replaceAll(',', ',,')}`,
    '-nodefaults',
    '-no-user-config',
    '-display',
    'none',
    '-qmp',
    `unix:${sockets.monitor},server=on,wait=off`,
    ...(hardware.disk ??
      (hardware.linux ? linuxGuest(spec, sockets, hardware.linux) : ['-machine', 'pc', '-accel', 'tcg', '-m', '32', '-S'])),
    ...disks.flatMap(diskNodes).flatMap((options) => ['-blockdev', JSON.stringify(options)]),
    ...devices.flatMap((options) => ['-device', JSON.stringify(options)]),
    ...(hardware.configDrive ?? []),
  ];
}

function linuxGuest(spec: VmSpec, sockets: VmSockets, guest: NonNullable<VmHardware['linux']>): string[] {
  // The small guest panics below 96 MiB and gains nothing above 192.
  const memoryMiB = Math.min(192, Math.max(112, Math.trunc(spec.memoryBytes / mib)));
  const devices: Record<string, unknown>[] = [
    ...spec.macAddresses.map((mac) => ({ driver: 'virtio-net-pci', mac })),
    { driver: 'virtio-serial-pci', id: 'serial0' },
    { driver: 'virtserialport', bus: 'serial0.0', chardev: 'agent', name: 'org.qemu.guest_agent.0' },
  ];
  return [
    ...['-machine', 'pc', '-accel', 'tcg,thread=multi,tb-size=32', '-m', String(memoryMiB), '-no-reboot'],
    ...['-kernel', guest.boot.kernel, '-initrd', guest.boot.initramfs],
    ...['-append', `console=ttyS0 quiet panic=-1 lab.pause_ms=${spec.guestWritePauseMs ?? 1000}`],
    ...['-serial', `file:${guest.consoleFile}`],
    ...['-chardev', `socket,id=agent,path=${sockets.agent},server=on,wait=off`],
    ...devices.flatMap((options) => ['-device', JSON.stringify(options)]),
  ];
}
