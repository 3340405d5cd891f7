/**
 * Copying a disk: a new floating disk with its own id, which the answer does not tell; a client finds it by its name. The source is held
 * by a lock meanwhile, so that a second copy of it is refused. Source: reference "oVirt engine REST API" sections 10.4, 14.6.
 */
import { randomUUID } from 'node:crypto';
import { objectOf, textOf, type ApiObject } from '../http/api-object';
import { incomplete } from '../http/fault';
import { takeLocks } from '../locks/take-locks';
import type { Core } from '../model/core';
import type { Disk, StorageDomain } from '../model/entities';
import { refuse } from '../states/refusals';
import { type DiskService, optional, type Requester } from './disk-service';
import { attachmentsOfDisk, chainOf, measureDisk, requireSpace, volumeIdOf } from './images';

const GIB = 1024 ** 3;

export class DiskCopy {
  constructor(
    private readonly core: Core,
    private readonly disks: DiskService,
  ) {}

  /** Answers while the copy is still made; gives the id of the job. */
  async start(source: Disk, body: ApiObject, requester: Requester): Promise<string> {
    const { core } = this;
    const { db } = core;
    const domain = this.targetDomain(body);
    const holder = `copy-${source.id}-${randomUUID()}`;
    takeLocks(core.locks, { holder, message: 'DISK_IS_LOCKED', exclusive: [`disk:${source.id}`] }, source.name);
    try {
      if (source.status === 'locked') throw refuse('VM_TEMPLATE_IMAGE_IS_LOCKED', source.name);
      if (source.status === 'illegal') throw refuse('DISKS_ILLEGAL', source.name);
      if (source.storageType !== 'image') throw refuse('TRANSFER_NOT_SUPPORTED', source.name);
      const running = attachmentsOfDisk(db, source.id).filter(({ vmId, active }) => active && db.vms.get(vmId)?.status !== 'down');
      if (running.length > 0) throw refuse('DISK_PLUGGED_TO_NON_DOWN_VMS', source.name);
      const sourceDomain = db.storageDomains.get(source.storageDomainId ?? '');
      if (sourceDomain?.status !== 'active') throw refuse('STORAGE_DOMAIN_NOT_ACTIVE', sourceDomain?.name);
      await requireSpace(core, domain);
      const copy = this.put(source, domain, body);
      const job = core.jobs.start(`Copying Disk ${source.name}`, requester);
      core.events.log(
        2011,
        'normal',
        `Disk ${source.name} is being copied to ${domain.name}.`,
        { diskId: source.id, userId: requester.userId },
        requester.correlationId,
      );
      core.background(() => this.finish(source, copy, holder, job.id, requester));
      return job.id;
    } catch (error) {
      core.locks.release(holder);
      throw error;
    }
  }

  private async finish(source: Disk, copy: Disk, holder: string, jobId: string, requester: Requester): Promise<void> {
    const { core } = this;
    const { db } = core;
    const refs = { diskId: copy.id, userId: requester.userId };
    try {
      await core.step('disk.copy', source.id);
      const volume = db.volumes.require(copy.activeVolumeId ?? '');
      if (!copy.pretended) {
        await core.fleet.copyVolume(chainOf(db, source), {
          ...volumeIdOf(volume),
          format: volume.format,
          virtualSizeBytes: volume.virtualSizeBytes,
          sparse: volume.sparse,
        });
      }
      await core.clock.sleep((core.settings.copyMsPerGib * copy.provisionedSizeBytes) / GIB);
      db.disks.update(copy.id, { pending: undefined });
      this.disks.setStatus(copy.id, 'ok');
      await measureDisk(core, copy.id);
      core.events.log(2012, 'normal', `Disk ${copy.name} was copied.`, refs, requester.correlationId);
      core.jobs.end(jobId, true);
    } catch (error) {
      core.log.error(`copy of disk ${source.id} failed`, error);
      await this.disks.finishRemove(copy.id);
      core.events.log(2013, 'error', `Disk ${source.name} could not be copied.`, refs, requester.correlationId);
    } finally {
      core.jobs.end(jobId, false);
      core.locks.release(holder);
    }
  }

  private put(source: Disk, domain: StorageDomain, body: ApiObject): Disk {
    const { db, clock } = this.core;
    const volumeId = randomUUID();
    const asked = objectOf(body, 'disk');
    const { quotaId, ...inherited } = source;
    void quotaId;
    const copy: Disk = {
      ...inherited,
      id: randomUUID(),
      name: textOf(asked, 'name') ?? textOf(asked, 'alias') ?? source.name,
      status: 'locked',
      storageDomainId: domain.id,
      ...optional('diskProfileId', db.diskProfiles.find((profile) => profile.storageDomainId === domain.id)?.id),
      activeVolumeId: volumeId,
      actualSizeBytes: 0,
      totalSizeBytes: 0,
      createdAt: clock.now(),
      pending: 'copy',
    };
    db.transaction(() => {
      db.disks.put(copy);
      db.volumes.put({
        id: volumeId,
        diskId: copy.id,
        domainId: domain.id,
        format: source.format,
        sparse: source.sparse,
        virtualSizeBytes: source.provisionedSizeBytes,
        actualSizeBytes: 0,
        status: 'locked',
        createdAt: clock.now(),
      });
    });
    return copy;
  }

  private targetDomain(body: ApiObject): StorageDomain {
    const { db } = this.core;
    const wanted = objectOf(body, 'storage_domain');
    const [id, name] = [textOf(wanted, 'id'), textOf(wanted, 'name')];
    if (id === undefined && name === undefined) throw incomplete('Action', ['storageDomain.id|name'], 'copy');
    const domain = id === undefined ? db.storageDomains.find((candidate) => candidate.name === name) : db.storageDomains.get(id);
    if (domain === undefined) throw refuse('STORAGE_DOMAIN_NOT_EXIST', id ?? name);
    if (domain.status !== 'active') throw refuse('STORAGE_DOMAIN_NOT_ACTIVE', domain.name);
    return domain;
  }
}
