/**
 * Disks as objects of their own: creating, changing and removing them.
 *
 * Owns rows of disks and volumes and the files behind them; it must not know of backups or transfers, which it meets only as
 * locks. States: see disk-states.ts. Source: reference "oVirt engine REST API" sections 4.9, 6.6, 14.6 and 15.
 */
import { randomUUID } from 'node:crypto';
import { HostError } from '../../hosts/driver';
import type { ApiObject } from '../http/api-object';
import { flagOf, idOf, numberOf, objectsOf, textOf } from '../http/api-object';
import { executionFailed, incomplete, invalidValue } from '../http/fault';
import { underLocks } from '../locks/take-locks';
import type { Core } from '../model/core';
import type { Disk, DiskAttachment, StorageDomain, Volume } from '../model/entities';
import { follow } from '../states/transitions';
import { refuse } from '../states/refusals';
import { DISK_TRANSITIONS } from './disk-states';
import {
  activeSnapshot,
  attachmentsOfDisk,
  isLive,
  measureDisk,
  requireSpace,
  requireUsable,
  setImageStatus,
  vmsOfDisk,
  volumeIdOf,
} from './images';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export interface Requester {
  readonly correlationId: string;
  readonly userId: string;
}

export class DiskService {
  constructor(private readonly core: Core) {}

  /** Answers at once with a locked disk; the files follow. `vmId` makes it part of that machine's active state. */
  create(body: ApiObject, requester: Requester, vmId?: string): Disk {
    const { core } = this;
    const format = textOf(body, 'format') as Disk['format'] | undefined;
    const size = numberOf(body, 'provisioned_size');
    const missing = [...(size === undefined ? ['provisionedSize'] : []), ...(format === undefined ? ['format'] : [])];
    if (format === undefined || size === undefined) throw incomplete('Disk', missing, 'add');
    if (size <= 0) throw invalidValue('Disk provisioned_size must be positive');
    const domain = this.targetDomain(body);
    const { id, volumeId } = this.freshIds(body);
    const sparse = flagOf(body, 'sparse') ?? format === 'cow';
    const backup = (textOf(body, 'backup') as Disk['backup'] | undefined) ?? 'none';
    requireConfiguration(domain, format, sparse, backup);
    const snapshotId = vmId === undefined ? undefined : activeSnapshot(core.db, vmId)?.id;
    const now = core.clock.now();
    const disk: Disk = {
      id,
      name: textOf(body, 'name') ?? textOf(body, 'alias') ?? `disk-${id.slice(0, 8)}`,
      description: textOf(body, 'description') ?? '',
      status: 'locked',
      storageType: 'image',
      contentType: (textOf(body, 'content_type') as Disk['contentType'] | undefined) ?? 'data',
      format,
      sparse,
      provisionedSizeBytes: size,
      ...optional('initialSizeBytes', numberOf(body, 'initial_size')),
      backup,
      shareable: flagOf(body, 'shareable') ?? false,
      wipeAfterDelete: flagOf(body, 'wipe_after_delete') ?? domain.wipeAfterDelete,
      propagateErrors: flagOf(body, 'propagate_errors') ?? false,
      storageDomainId: domain.id,
      ...optional('diskProfileId', idOf(body, 'disk_profile') ?? core.db.diskProfiles.find((p) => p.storageDomainId === domain.id)?.id),
      ...optional('quotaId', idOf(body, 'quota')),
      activeVolumeId: volumeId,
      actualSizeBytes: 0,
      totalSizeBytes: 0,
      createdAt: now,
      pending: 'create',
      pretended: domain.pretended !== undefined,
    };
    const volume: Volume = {
      id: volumeId,
      diskId: id,
      domainId: domain.id,
      format,
      sparse,
      virtualSizeBytes: size,
      actualSizeBytes: 0,
      ...optional('snapshotId', snapshotId),
      status: 'locked',
      createdAt: now,
    };
    core.db.transaction(() => {
      core.db.disks.put(disk);
      core.db.volumes.put(volume);
    });
    const job = core.jobs.start(`Adding Disk ${disk.name}`, requester);
    core.background(() => this.finishCreate(id, requester, job.id));
    return disk;
  }

  /** Also after a restart in the middle of it. */
  async finishCreate(diskId: string, requester: Requester, jobId?: string): Promise<void> {
    const { db, fleet, clock, events } = this.core;
    const disk = db.disks.require(diskId);
    const volume = db.volumes.require(disk.activeVolumeId ?? '');
    const end = (succeeded: boolean): void => {
      if (jobId !== undefined) this.core.jobs.end(jobId, succeeded);
    };
    try {
      await this.core.step('disk.create', diskId);
      if (!disk.pretended) {
        await fleet.createVolume({
          ...volumeIdOf(volume),
          format: volume.format,
          virtualSizeBytes: volume.virtualSizeBytes,
          sparse: volume.sparse,
        });
      }
      await clock.sleep(this.core.settings.diskCreateMs);
    } catch (error) {
      this.core.log.error(`creation of disk ${diskId} failed`, error);
      this.forget(diskId);
      events.log(2022, 'error', `The disk ${disk.name} was not created.`, { diskId, userId: requester.userId }, requester.correlationId);
      end(false);
      return;
    }
    db.disks.update(diskId, { pending: undefined });
    this.setStatus(diskId, 'ok');
    await measureDisk(this.core, diskId).catch((error: unknown) => {
      this.core.log.error(`measuring disk ${diskId} failed`, error);
    });
    events.log(2021, 'normal', `The disk ${disk.name} was created.`, { diskId, userId: requester.userId }, requester.correlationId);
    end(true);
  }

  /** PUT: name, description, backup flag, growing. */
  async update(diskId: string, body: ApiObject): Promise<Disk> {
    const { db } = this.core;
    const disk = db.disks.require(diskId);
    const backup = textOf(body, 'backup') as Disk['backup'] | undefined;
    if (backup === 'incremental' && disk.format === 'raw') throw refuse('INCREMENTAL_BACKUP_NOT_SUPPORTED_FOR_RAW_DISK', disk.name);
    const size = numberOf(body, 'provisioned_size');
    if (size !== undefined && size < disk.provisionedSizeBytes) throw refuse('DISK_SHRINK_NOT_SUPPORTED', disk.name);
    if (size !== undefined && size > disk.provisionedSizeBytes) await this.grow(disk, size);
    db.disks.update(diskId, {
      ...optional('name', textOf(body, 'name') ?? textOf(body, 'alias')),
      ...optional('description', textOf(body, 'description')),
      ...optional('backup', backup),
      ...optional('shareable', flagOf(body, 'shareable')),
      ...optional('wipeAfterDelete', flagOf(body, 'wipe_after_delete')),
      ...optional('propagateErrors', flagOf(body, 'propagate_errors')),
      ...optional('quotaId', idOf(body, 'quota')),
      ...optional('diskProfileId', idOf(body, 'disk_profile')),
    });
    return db.disks.require(diskId);
  }

  /** DELETE: refused while locked or attached to a machine that is not down. The answer comes before the files are gone. */
  remove(diskId: string, requester: Requester): string {
    const { core } = this;
    const disk = core.db.disks.require(diskId);
    const holder = `remove-${diskId}`;
    const blocked = core.locks.tryAcquire({ holder, message: 'DISK_IS_LOCKED', exclusive: [`disk:${diskId}`] });
    if (blocked !== undefined) throw refuse(blocked, disk.name);
    try {
      if (disk.status === 'locked') throw refuse('DISKS_LOCKED', disk.name);
      if (this.foreignAttachments(diskId).length > 0) throw refuse('VM_DISK_SNAPSHOT_IS_ATTACHED_TO_ANOTHER_VM', disk.name);
      const running = attachmentsOfDisk(core.db, diskId).filter(({ vmId, active }) => active && core.db.vms.get(vmId)?.status !== 'down');
      if (running.length > 0) throw refuse('DISK_PLUGGED_TO_NON_DOWN_VMS', disk.name);
    } catch (error) {
      core.locks.release(holder);
      throw error;
    }
    core.db.disks.update(diskId, { pending: 'remove' });
    this.setStatus(diskId, 'locked');
    const job = core.jobs.start(`Removing Disk ${disk.name}`, requester);
    core.background(async () => {
      try {
        await this.finishRemove(diskId);
        core.jobs.end(job.id, true);
        core.events.log(2014, 'normal', `Disk ${disk.name} was removed.`, { userId: requester.userId }, requester.correlationId);
      } finally {
        core.jobs.end(job.id, false);
        core.locks.release(holder);
      }
    });
    return job.id;
  }

  /** Removes the files and all rows of a disk, whatever its state. Also what a failed upload and a restart call. */
  async finishRemove(diskId: string): Promise<void> {
    const { db, fleet } = this.core;
    const disk = db.disks.get(diskId);
    if (disk === undefined) return;
    for (const volume of db.volumes.list((candidate) => candidate.diskId === diskId)) {
      if (disk.pretended || disk.contentType === 'backup_scratch') continue;
      await fleet.deleteVolume(volumeIdOf(volume)).catch((error: unknown) => {
        // A file that was never made or is already gone is what we want.
        if (!(error instanceof HostError && error.code === 'NOT_FOUND')) throw error;
      });
    }
    this.forget(diskId);
  }

  /** Rows only. */
  forget(diskId: string): void {
    const { db } = this.core;
    db.transaction(() => {
      for (const volume of db.volumes.list((candidate) => candidate.diskId === diskId)) db.volumes.delete(volume.id);
      for (const attachment of db.attachments.list((candidate) => candidate.diskId === diskId)) db.attachments.delete(attachment.id);
      this.leaveCheckpoints(diskId);
      db.disks.delete(diskId);
    });
  }

  /** Takes the disk out of all checkpoints; those left without disks go away. */
  leaveCheckpoints(diskId: string): void {
    const { db } = this.core;
    for (const checkpoint of db.checkpoints.list((candidate) => candidate.diskIds.includes(diskId))) {
      const diskIds = checkpoint.diskIds.filter((id) => id !== diskId);
      if (diskIds.length > 0) db.checkpoints.update(checkpoint.id, { diskIds });
      else {
        for (const child of db.checkpoints.list((other) => other.parentId === checkpoint.id)) {
          db.checkpoints.update(child.id, { parentId: checkpoint.parentId });
        }
        db.checkpoints.delete(checkpoint.id);
      }
    }
  }

  setStatus(diskId: string, status: Disk['status']): void {
    const disk = this.core.db.disks.get(diskId);
    if (disk === undefined || disk.status === status) return;
    follow('disk', DISK_TRANSITIONS, disk.status, status);
    setImageStatus(this.core.db, diskId, status);
  }

  /** Attachments of this disk's snapshots to other machines. */
  foreignAttachments(diskId: string): DiskAttachment[] {
    return this.core.db.attachments.list((attachment) => attachment.diskId === diskId && attachment.snapshotId !== undefined);
  }

  /** After a restart: finish what was under way. */
  async recover(): Promise<void> {
    const requester = { correlationId: '', userId: '' };
    for (const disk of this.core.db.disks.list((candidate) => candidate.pending !== undefined)) {
      // A copy that was cut off is not gone on with.
      if (disk.pending === 'remove' || disk.pending === 'copy') {
        this.core.background(() => this.finishRemove(disk.id));
        continue;
      }
      const volume = this.core.db.volumes.require(disk.activeVolumeId ?? '');
      const exists =
        disk.pretended ||
        (await this.core.fleet.volumeActualBytes(volumeIdOf(volume)).then(
          () => true,
          // Not made yet: make it now.
          () => false,
        ));
      if (exists) {
        this.core.db.disks.update(disk.id, { pending: undefined });
        this.setStatus(disk.id, 'ok');
      } else this.core.background(() => this.finishCreate(disk.id, requester));
    }
  }

  private async grow(disk: Disk, size: number): Promise<void> {
    const { db, locks, fleet } = this.core;
    const vms = vmsOfDisk(db, disk.id);
    if (vms.some((vm) => isLive(vm) && vm.status !== 'up')) throw refuse('VM_STATUS_ILLEGAL', vms.map((vm) => vm.name).join(', '));
    const request = { holder: `grow-${disk.id}`, message: 'DISK_IS_LOCKED', exclusive: [`disk:${disk.id}`] } as const;
    await underLocks(locks, request, disk.name, async () => {
      requireUsable([disk]);
      this.setStatus(disk.id, 'locked');
      const leaf = db.volumes.require(disk.activeVolumeId ?? '');
      try {
        if (!disk.pretended) await fleet.resizeVolume(volumeIdOf(leaf), size);
        db.volumes.update(leaf.id, { virtualSizeBytes: size });
        db.disks.update(disk.id, { provisionedSizeBytes: size });
      } catch (error) {
        this.core.log.error(`resizing disk ${disk.id} failed`, error);
        throw executionFailed();
      } finally {
        this.setStatus(disk.id, 'ok');
      }
    });
  }

  private targetDomain(body: ApiObject): StorageDomain {
    const { db } = this.core;
    const wanted = objectsOf(body, 'storage_domains')?.[0];
    if (wanted === undefined) throw incomplete('Disk', ['storageDomains.storageDomain[0].id|name'], 'add');
    const id = textOf(wanted, 'id');
    const name = textOf(wanted, 'name');
    const domain = id === undefined ? db.storageDomains.find((candidate) => candidate.name === name) : db.storageDomains.get(id);
    if (domain === undefined) throw refuse('STORAGE_DOMAIN_NOT_EXIST', id ?? name ?? '');
    if (domain.status !== 'active') throw refuse('STORAGE_DOMAIN_NOT_ACTIVE', domain.name);
    return domain;
  }

  private freshIds(body: ApiObject): { id: string; volumeId: string } {
    const { db } = this.core;
    const id = (textOf(body, 'id') ?? randomUUID()).toLowerCase();
    const volumeId = (textOf(body, 'image_id') ?? randomUUID()).toLowerCase();
    for (const value of [id, volumeId]) if (!UUID.test(value)) throw invalidValue(`Invalid UUID: ${value}`);
    if (db.disks.has(id)) throw refuse('DISK_ID_IN_USE', id);
    if (db.volumes.has(volumeId)) throw refuse('DISK_ID_IN_USE', volumeId);
    return { id, volumeId };
  }

  /** Refuses when the domain that a disk body names has less free space than its critical limit; asked before {@link create}. */
  async requireSpaceFor(body: ApiObject): Promise<void> {
    await requireSpace(this.core, this.targetDomain(body));
  }
}

const isBlock = (domain: StorageDomain): boolean => domain.storageType === 'iscsi' || domain.storageType === 'fcp';

function requireConfiguration(domain: StorageDomain, format: Disk['format'], sparse: boolean, backup: Disk['backup']): void {
  const describe = `${format}, ${sparse ? 'sparse' : 'preallocated'}, backup ${backup}`;
  const rawIncremental = format === 'raw' && backup === 'incremental';
  const preallocatedCow = format === 'cow' && !sparse && backup !== 'incremental';
  const sparseRawOnBlock = format === 'raw' && sparse && isBlock(domain);
  if (rawIncremental || preallocatedCow || sparseRawOnBlock) throw refuse('DISK_CONFIGURATION_NOT_SUPPORTED', describe);
}

/** `{[key]: value}`, or nothing when there is no value: for entities whose optional fields must be absent rather than undefined. */
export function optional<K extends string, V>(key: K, value: V | undefined): Partial<Record<K, V>> {
  return (value === undefined ? {} : { [key]: value }) as Partial<Record<K, V>>;
}
