/**
 * Numbers and words that the engine's OVF uses for values the API spells differently.
 * Source: oVirt engine, `core/utils/ovf` (OvfWriter, OvfOvirtWriter, OvfReader).
 */

/** Engine number of the chipset minus one. */
export const BIOS_TYPES = ['i440fx_sea_bios', 'q35_sea_bios', 'q35_ovmf', 'q35_secure_boot'] as const;

export const VM_TYPES = ['desktop', 'server', 'high_performance'] as const;

/** `rasd:ResourceSubType` of a nic. */
export const NIC_INTERFACES = ['rtl8139_virtio', 'rtl8139', 'e1000', 'virtio', 'spapr_vlan', 'pci_passthrough', 'e1000e'] as const;

export const DISK_INTERFACES = {
  ide: 'IDE',
  virtio: 'VirtIO',
  virtio_scsi: 'VirtIO_SCSI',
  sata: 'SATA',
  spapr_vscsi: 'SPAPR_VSCSI',
} as const;

/** `Origin`: 3 is oVirt. */
export const ORIGINS: Readonly<Record<string, number>> = {
  rhev: 0,
  ovirt: 3,
  external: 4,
  hosted_engine: 5,
  managed_hosted_engine: 6,
  kubevirt: 10,
};

export const RESOURCE = { cpu: 3, memory: 4, nic: 10, cdrom: 15, disk: 17, monitor: 20, usb: 23, graphics: 26, other: 0 } as const;

/** Well-known numbers of operating systems; others are written by name alone. */
export const OS_NUMBERS: Readonly<Record<string, number>> = {
  other: 0,
  other_linux: 5,
  windows_10x64: 27,
  rhel_7x64: 24,
  rhel_8x64: 30,
  rhel_9x64: 36,
  debian_7: 1300,
};
