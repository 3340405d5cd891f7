/**
 * Disks on machines: attaching, plugging, unplugging, detaching, and attaching a snapshot of another machine's disk (hot-add).
 *
 * A plugged snapshot is served through a throw-away overlay, so that writes of the proxy machine never reach the real disk.
 * Source: reference "oVirt engine REST API" sections 4.8, 7 and 8.2.
 */
import { randomUUID } from 'node:crypto';
import type { VmDisk } from '../../hosts/driver';
import { flagOf, idOf, numberOf, objectOf, textOf, type ApiObject } from '../http/api-object';
import { EngineFault, incomplete, notFound } from '../http/fault';
import { underLocks } from '../locks/take-locks';
import type { Core } from '../model/core';
import { attachmentId, type Disk, type DiskAttachment, type Snapshot, type Vm } from '../model/entities';
import { refuse } from '../states/refusals';
import { captureAttached } from './captured-disk';
import { type DiskService, optional, type Requester } from './disk-service';
import { activeSnapshot, attachmentsOfDisk, chainOf, dataCenterOfVm, isLive, requireUsable, vmDisk, volumeIdOf } from './images';

export class AttachmentService {
  constructor(
    private readonly core: Core,
    private readonly disks: DiskService,
  ) {}

  /** POST. Attaches what exists, or creates the disk first when the body describes a new one. `active` defaults to unplugged. */
  async attach(vm: Vm, body: ApiObject, requester: Requester): Promise<DiskAttachment> {
    const { db } = this.core;
    const interfaceName = textOf(body, 'interface') as DiskAttachment['interface'] | undefined;
    const bootable = flagOf(body, 'bootable');
    if (interfaceName === undefined || bootable === undefined) {
      const missing = [...(bootable === undefined ? ['bootable'] : []), ...(interfaceName === undefined ? ['interface'] : [])];
      throw incomplete('DiskAttachment', missing, 'add');
    }
    const diskBody = objectOf(body, 'disk') ?? {};
    const id = textOf(diskBody, 'id');
    const isNew = id === undefined || (numberOf(diskBody, 'provisioned_size') !== undefined && !db.disks.has(id));
    this.requireVm(vm, interfaceName, bootable);
    const settings = {
      interface: interfaceName,
      bootable,
      readOnly: flagOf(body, 'read_only') ?? false,
      passDiscard: flagOf(body, 'pass_discard') ?? false,
      usesScsiReservation: flagOf(body, 'uses_scsi_reservation') ?? false,
    };
    const plug = flagOf(body, 'active') ?? false;
    if (isNew) return this.attachNew(vm, diskBody, settings, plug, requester);
    const disk = db.disks.get(id);
    if (disk === undefined) throw notFound();
    const request = {
      holder: `attach-${vm.id}-${disk.id}`,
      message: 'DISK_IS_LOCKED',
      exclusive: [`disk:${disk.id}`],
      shared: [`vm:${vm.id}`],
    } as const;
    return underLocks(this.core.locks, request, disk.name, async () => {
      const snapshot = this.requireAttachable(vm, disk, idOf(diskBody, 'snapshot'));
      const row = this.put({ vmId: vm.id, diskId: disk.id, active: false, ...settings, ...optional('snapshotId', snapshot?.id) });
      if (snapshot === undefined) this.joinActiveSnapshot(vm.id, disk.id);
      this.core.events.log(
        2016,
        'normal',
        `Disk ${disk.name} was attached to VM ${vm.name}.`,
        this.refs(vm, disk, requester),
        requester.correlationId,
      );
      if (plug) await this.plug(row, requester);
      return db.attachments.require(row.id);
    });
  }

  /** PUT: plugging, boot flag, interface, and the disk itself. */
  async update(vm: Vm, attachment: DiskAttachment, body: ApiObject, requester: Requester): Promise<DiskAttachment> {
    const { db, locks } = this.core;
    const disk = db.disks.require(attachment.diskId);
    const active = flagOf(body, 'active');
    if (active !== undefined && active !== attachment.active) {
      const request = {
        holder: `plug-${attachment.id}`,
        message: 'DISK_IS_LOCKED',
        exclusive: [`disk:${disk.id}`],
        shared: [`vm:${vm.id}`],
      } as const;
      await underLocks(locks, request, disk.name, async () => {
        requireUsable([disk]);
        await (active ? this.plug(attachment, requester) : this.unplug(attachment, requester));
      });
    }
    const bootable = flagOf(body, 'bootable');
    if (bootable === true && !attachment.bootable) this.requireNoOtherBootDisk(vm.id, disk.id);
    db.attachments.update(attachment.id, {
      ...optional('bootable', bootable),
      ...optional('interface', textOf(body, 'interface') as DiskAttachment['interface'] | undefined),
      ...optional('readOnly', flagOf(body, 'read_only')),
      ...optional('passDiscard', flagOf(body, 'pass_discard')),
      ...optional('usesScsiReservation', flagOf(body, 'uses_scsi_reservation')),
    });
    const diskBody = objectOf(body, 'disk');
    if (diskBody !== undefined) await this.disks.update(disk.id, diskBody);
    return db.attachments.require(attachment.id);
  }

  /** DELETE with `detach_only` (the default). Unplugs first when needed. */
  async detach(vm: Vm, attachment: DiskAttachment, requester: Requester): Promise<void> {
    const { db, locks } = this.core;
    const disk = db.disks.require(attachment.diskId);
    if (!['up', 'down', 'paused'].includes(vm.status)) throw refuse('CANNOT_PLUG_VM_STATUS', vm.name);
    const request = {
      holder: `detach-${attachment.id}`,
      message: 'DISK_IS_LOCKED',
      exclusive: [`disk:${disk.id}`],
      shared: [`vm:${vm.id}`],
    } as const;
    await underLocks(locks, request, disk.name, async () => {
      if (attachment.snapshotId === undefined) {
        requireUsable([disk]);
        if (db.volumes.list((volume) => volume.diskId === disk.id).length > 1) throw refuse('CANNOT_DETACH_DISK_WITH_SNAPSHOT', disk.name);
      }
      if (attachment.active) await this.unplug(attachment, requester);
      db.attachments.delete(attachment.id);
      if (attachment.snapshotId === undefined && disk.activeVolumeId !== undefined && attachmentsOfDisk(db, disk.id).length === 0) {
        db.volumes.update(disk.activeVolumeId, { snapshotId: undefined });
      }
      if (this.core.settings.version.detachWipesCheckpoints && disk.storageType === 'image' && !disk.pretended) {
        await this.core.fleet.clearBitmaps(chainOf(db, disk));
        this.disks.leaveCheckpoints(disk.id);
      }
      this.core.events.log(
        2018,
        'normal',
        `Disk ${disk.name} was detached from VM ${vm.name}.`,
        this.refs(vm, disk, requester),
        requester.correlationId,
      );
    });
  }

  /** What a machine's process opens at its start: own disks and plugged snapshots of others, each with a fresh overlay. */
  async disksForStart(vm: Vm): Promise<VmDisk[]> {
    const { db } = this.core;
    const result: VmDisk[] = [];
    for (const attachment of db.attachments.list((candidate) => candidate.vmId === vm.id && candidate.active)) {
      const disk = db.disks.get(attachment.diskId);
      if (disk === undefined || disk.storageType !== 'image') continue;
      result.push(attachment.snapshotId === undefined ? vmDisk(db, { disk, attachment }) : await this.overlay(attachment, disk));
    }
    return result;
  }

  /** Overlays die with the machine's process. */
  async dropOverlays(vmId: string): Promise<void> {
    const { db } = this.core;
    for (const attachment of db.attachments.list((candidate) => candidate.vmId === vmId && candidate.overlayVolumeId !== undefined)) {
      await this.dropOverlay(attachment);
    }
  }

  private async attachNew(
    vm: Vm,
    diskBody: ApiObject,
    settings: Pick<DiskAttachment, 'interface' | 'bootable' | 'readOnly' | 'passDiscard' | 'usesScsiReservation'>,
    plug: boolean,
    requester: Requester,
  ): Promise<DiskAttachment> {
    await this.disks.requireSpaceFor(diskBody);
    const body: ApiObject = { name: `${vm.name}_Disk${String(attachmentsOfVmCount(this.core, vm.id) + 1)}`, ...diskBody };
    const disk = this.disks.create(body, requester, vm.id);
    const row = this.put({ vmId: vm.id, diskId: disk.id, active: plug && vm.status === 'down', ...settings });
    if (plug && vm.status === 'up') this.core.background(() => this.plugWhenCreated(row, requester));
    return row;
  }

  private async plugWhenCreated(row: DiskAttachment, requester: Requester): Promise<void> {
    const { db, clock } = this.core;
    while (db.disks.get(row.diskId)?.status === 'locked') await clock.sleep(200);
    if (db.disks.get(row.diskId)?.status === 'ok' && db.attachments.has(row.id)) await this.plug(row, requester);
  }

  private async plug(attachment: DiskAttachment, requester: Requester): Promise<void> {
    const { db, fleet, events } = this.core;
    const vm = db.vms.require(attachment.vmId);
    const disk = db.disks.require(attachment.diskId);
    if (vm.status === 'up' && !vm.pretended && disk.storageType === 'image') {
      try {
        await this.core.step('disk.hotplug', disk.id);
        await captureAttached(this.core, attachment, disk);
        const device = attachment.snapshotId === undefined ? vmDisk(db, { disk, attachment }) : await this.overlay(attachment, disk);
        await fleet.hotplugDisk(vm.id, device);
      } catch (error) {
        this.core.log.error(`hot plug of ${disk.id} failed`, error);
        await this.dropOverlay(db.attachments.require(attachment.id));
        events.log(
          2001,
          'error',
          `Failed to plug disk ${disk.name} to VM ${vm.name}.`,
          this.refs(vm, disk, requester),
          requester.correlationId,
        );
        throw new EngineFault(400, 'FAILED_HOT_PLUG', ['Failed to hot-plug disk']);
      }
      events.log(2000, 'normal', `VM ${vm.name} disk ${disk.name} was plugged.`, this.refs(vm, disk, requester), requester.correlationId);
    } else if (vm.status !== 'down' && vm.status !== 'up' && !vm.pretended) {
      throw refuse('CANNOT_PLUG_VM_STATUS', vm.name);
    }
    db.attachments.update(attachment.id, { active: true });
  }

  private async unplug(attachment: DiskAttachment, requester: Requester): Promise<void> {
    const { db, fleet, events } = this.core;
    const vm = db.vms.require(attachment.vmId);
    const disk = db.disks.require(attachment.diskId);
    if (isLive(vm) && !vm.pretended && disk.storageType === 'image') {
      if (vm.status !== 'up') throw refuse('CANNOT_PLUG_VM_STATUS', vm.name);
      try {
        await this.core.step('disk.hotunplug', disk.id);
        await fleet.hotunplugDisk(vm.id, disk.id);
      } catch (error) {
        this.core.log.error(`hot unplug of ${disk.id} failed`, error);
        events.log(
          2003,
          'error',
          `Failed to unplug disk ${disk.name} from VM ${vm.name}.`,
          this.refs(vm, disk, requester),
          requester.correlationId,
        );
        throw new EngineFault(400, 'FAILED_HOT_UNPLUG', ['Failed to hot-unplug disk']);
      }
      events.log(2002, 'normal', `VM ${vm.name} disk ${disk.name} was unplugged.`, this.refs(vm, disk, requester), requester.correlationId);
    }
    db.attachments.update(attachment.id, { active: false });
    await this.dropOverlay(db.attachments.require(attachment.id));
  }

  private async overlay(attachment: DiskAttachment, disk: Disk): Promise<VmDisk> {
    const { db, fleet } = this.core;
    await this.dropOverlay(attachment);
    const frozen = db.volumes.find((volume) => volume.diskId === disk.id && volume.snapshotId === attachment.snapshotId);
    if (frozen === undefined) throw refuse('VM_SNAPSHOT_DOES_NOT_EXIST', disk.name);
    const volumeId = randomUUID();
    const target = { domainId: frozen.domainId, diskId: disk.id, volumeId };
    await fleet.createVolume({
      ...target,
      format: 'cow',
      virtualSizeBytes: frozen.virtualSizeBytes,
      sparse: true,
      parent: volumeIdOf(frozen),
    });
    const updated = db.attachments.update(attachment.id, { overlayVolumeId: volumeId }) ?? attachment;
    const below = chainOf(db, disk, frozen.id);
    return {
      ...below,
      chain: [...below.chain, { ...target, format: 'cow' }],
      interface: updated.interface === 'spapr_vscsi' ? 'virtio_scsi' : updated.interface,
      bootable: updated.bootable,
      readOnly: updated.readOnly,
    };
  }

  private async dropOverlay(attachment: DiskAttachment): Promise<void> {
    const { db, fleet } = this.core;
    if (attachment.overlayVolumeId === undefined) return;
    const disk = db.disks.require(attachment.diskId);
    await fleet.deleteVolume({ domainId: disk.storageDomainId ?? '', diskId: disk.id, volumeId: attachment.overlayVolumeId });
    db.attachments.update(attachment.id, { overlayVolumeId: undefined });
  }

  private put(row: Omit<DiskAttachment, 'id'>): DiskAttachment {
    return this.core.db.attachments.put({ id: attachmentId(row.vmId, row.diskId), ...row });
  }

  /** A disk that joins a machine belongs to its active state from now on. */
  private joinActiveSnapshot(vmId: string, diskId: string): void {
    const { db } = this.core;
    const leaf = db.disks.get(diskId)?.activeVolumeId;
    const active = activeSnapshot(db, vmId);
    if (leaf !== undefined && active !== undefined) db.volumes.update(leaf, { snapshotId: active.id });
  }

  private requireVm(vm: Vm, interfaceName: DiskAttachment['interface'], bootable: boolean): void {
    const { db } = this.core;
    if (vm.origin === 'hosted_engine' || vm.origin === 'managed_hosted_engine') throw refuse('HOSTED_ENGINE_DISK', vm.name);
    if (!['up', 'paused', 'down'].includes(vm.status)) throw refuse('CANNOT_PLUG_VM_STATUS', vm.name);
    if (db.snapshots.find((snapshot) => snapshot.vmId === vm.id && snapshot.status === 'in_preview'))
      throw refuse('VM_IN_PREVIEW', vm.name);
    if (interfaceName === 'virtio_scsi' && flagOf(objectOf(vm.attributes, 'virtio_scsi'), 'enabled') === false) {
      throw refuse('VIRTIO_SCSI_DISABLED', vm.name);
    }
    if (bootable) this.requireNoOtherBootDisk(vm.id, undefined);
  }

  private requireNoOtherBootDisk(vmId: string, diskId: string | undefined): void {
    const { db } = this.core;
    const other = db.attachments.find((attachment) => attachment.vmId === vmId && attachment.bootable && attachment.diskId !== diskId);
    if (other !== undefined) throw refuse('DISK_BOOT_IN_USE', db.disks.get(other.diskId)?.name);
  }

  /** The snapshot to attach, if one is asked for. */
  private requireAttachable(vm: Vm, disk: Disk, snapshotId: string | undefined): Snapshot | undefined {
    const { db } = this.core;
    if (db.attachments.has(attachmentId(vm.id, disk.id))) throw refuse('DISK_ALREADY_ATTACHED', disk.name);
    const domain = disk.storageDomainId === undefined ? undefined : db.storageDomains.get(disk.storageDomainId);
    if (domain?.dataCenterId !== undefined && domain.dataCenterId !== dataCenterOfVm(db, vm))
      throw refuse('STORAGE_POOL_NOT_MATCH', disk.name);
    if (domain !== undefined && domain.status !== 'active') throw refuse('STORAGE_DOMAIN_NOT_ACTIVE', domain.name);
    requireUsable([disk]);
    if (snapshotId === undefined) {
      if (!disk.shareable && attachmentsOfDisk(db, disk.id).length > 0) throw refuse('DISK_ALREADY_ATTACHED', disk.name);
      return undefined;
    }
    const snapshot = db.snapshots.get(snapshotId);
    if (snapshot === undefined) throw notFound();
    if (db.snapshots.find((other) => other.vmId === snapshot.vmId && other.status === 'in_preview'))
      throw refuse('VM_IN_PREVIEW', snapshot.description);
    if (snapshot.type !== 'regular' || snapshot.status !== 'ok') throw refuse('SNAPSHOT_NOT_USABLE', disk.name);
    if (!db.volumes.find((volume) => volume.diskId === disk.id && volume.snapshotId === snapshotId)) throw notFound();
    return snapshot;
  }

  private refs(vm: Vm, disk: Disk, requester: Requester): { vmId: string; diskId: string; userId: string } {
    return { vmId: vm.id, diskId: disk.id, userId: requester.userId };
  }
}

const attachmentsOfVmCount = (core: Core, vmId: string): number =>
  core.db.attachments.list((attachment) => attachment.vmId === vmId).length;
