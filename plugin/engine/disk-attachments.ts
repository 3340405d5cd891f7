/** How disks hang on a VM. Engine REST API §2, §7.1, §7.3. */
import { diskOf } from './disks';
import type { Disk } from './disks';
import type { EngineClient } from './engine-client';
import type { RequestOptions } from './engine-session';
import { compact, flagOf, idOf, objectOf, textOf } from './mapping';
import type { Wire } from './mapping';

export interface DiskAttachment {
  /** Same as the disk's id. */
  readonly diskId: string;
  readonly vmId: string | undefined;
  readonly active: boolean;
  readonly bootable: boolean;
  readonly readOnly: boolean;
  readonly passDiscard: boolean;
  /** ide, sata, virtio, virtio_scsi, spapr_vscsi. */
  readonly interface: string;
  readonly logicalName: string | undefined;
  /** Set when it is the disk as it was in a snapshot, of another VM mostly. */
  readonly snapshotId: string | undefined;
  /** The disk itself, when it was read along. */
  readonly disk: Disk | undefined;
}

export interface NewAttachment {
  readonly diskId: string;
  readonly interface: string;
  readonly bootable: boolean;
  readonly active: boolean;
  readonly readOnly?: boolean;
  readonly passDiscard?: boolean;
  /** VM snapshot, to attach the disk as it was then. */
  readonly snapshotId?: string;
}

export class DiskAttachments {
  constructor(private readonly client: EngineClient) {}

  /** With their disks, in one request. */
  async list(vmId: string, options: RequestOptions = {}): Promise<readonly DiskAttachment[]> {
    const rows = await this.client.list(`/vms/${vmId}/diskattachments`, 'disk_attachment', { ...options, query: { follow: 'disk' } });
    return rows.map(diskAttachmentOf);
  }

  /** Undefined when it does not hang there, or there is no such VM. */
  async find(vmId: string, diskId: string, options: RequestOptions = {}): Promise<DiskAttachment | undefined> {
    const wire = await this.client.find(`/vms/${vmId}/diskattachments/${diskId}`, options);
    return wire && diskAttachmentOf(wire);
  }

  /** Throws ENGINE_CONFLICT while the disk is locked: shortly after an upload that is normal. */
  async add(vmId: string, attachment: NewAttachment, options: RequestOptions = {}): Promise<DiskAttachment> {
    const body = compact({
      disk: compact({
        id: attachment.diskId,
        snapshot: attachment.snapshotId === undefined ? undefined : { id: attachment.snapshotId },
      }),
      interface: attachment.interface,
      bootable: attachment.bootable,
      active: attachment.active,
      read_only: attachment.readOnly,
      pass_discard: attachment.passDiscard,
    });
    return diskAttachmentOf(
      await this.client.create(`/vms/${vmId}/diskattachments`, body, {
        ...options,
        find: () => this.client.find(`/vms/${vmId}/diskattachments/${attachment.diskId}`, options),
      }),
    );
  }

  /** Hot unplug, on a VM that is up. The guest must have let go of it. Throws ENGINE_CONFLICT while the host cannot. */
  async unplug(vmId: string, diskId: string, options: RequestOptions = {}): Promise<void> {
    await this.update(vmId, diskId, { active: false }, options);
  }

  async plug(vmId: string, diskId: string, options: RequestOptions = {}): Promise<void> {
    await this.update(vmId, diskId, { active: true }, options);
  }

  /** In the engine's names. */
  async update(vmId: string, diskId: string, attributes: Wire, options: RequestOptions = {}): Promise<DiskAttachment> {
    return diskAttachmentOf(await this.client.update(`/vms/${vmId}/diskattachments/${diskId}`, attributes, options));
  }

  /**
   * Unplugs and detaches; the disk stays. False when it was not attached. Engines after 4.5.7 drop all bitmaps and checkpoints of the disk,
   * also when it hung there as it was in a snapshot (engine REST API §4.8).
   */
  detach(vmId: string, diskId: string, options: RequestOptions = {}): Promise<boolean> {
    return this.client.remove(`/vms/${vmId}/diskattachments/${diskId}`, { ...options, query: { detach_only: true } });
  }
}

export function diskAttachmentOf(wire: Wire): DiskAttachment {
  const disk = objectOf(wire, 'disk');
  return {
    diskId: (disk && textOf(disk, 'id')) ?? textOf(wire, 'id') ?? '',
    vmId: idOf(wire, 'vm'),
    active: flagOf(wire, 'active'),
    bootable: flagOf(wire, 'bootable'),
    readOnly: flagOf(wire, 'read_only'),
    passDiscard: flagOf(wire, 'pass_discard'),
    interface: textOf(wire, 'interface') ?? '',
    logicalName: textOf(wire, 'logical_name'),
    snapshotId: disk && idOf(disk, 'snapshot'),
    // Without `follow` only the reference comes: id and href.
    disk: disk && textOf(disk, 'provisioned_size') !== undefined ? diskOf(disk) : undefined,
  };
}
