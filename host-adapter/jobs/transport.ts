import type { DataTransport } from '../../proto/gen/tidemark/plugin/v1/DataTransport';

/** How a worker gets at disks; `auto` leaves it to the plug-in: image transfer, disk attachment where no image daemon can be reached. */
export type Transport = 'auto' | 'image-transfer' | 'attachment';

const wireNames: Readonly<Record<Transport, DataTransport>> = {
  auto: 'DATA_TRANSPORT_UNSPECIFIED',
  'image-transfer': 'DATA_TRANSPORT_IMAGE_TRANSFER',
  attachment: 'DATA_TRANSPORT_DISK_ATTACHMENT',
};

export function transportToWire(transport: Transport | undefined): DataTransport {
  return wireNames[transport ?? 'auto'];
}

/** What a disk came by; null while that is not known. */
export function transportOf(wire: string): Exclude<Transport, 'auto'> | null {
  if (wire === wireNames['image-transfer']) return 'image-transfer';
  return wire === wireNames.attachment ? 'attachment' : null;
}
