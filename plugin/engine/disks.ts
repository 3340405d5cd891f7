/** Disks. Fields: engine REST API §2; create for upload: §6.6. */
import type { EngineClient } from './engine-client';
import type { RequestOptions } from './engine-session';
import { compact, flagOf, idOf, integerOf, nestedOf, objectOf, textOf } from './mapping';
import type { Wire } from './mapping';

export interface Disk {
  readonly id: string;
  readonly name: string;
  readonly description: string;
  /** Active volume; another one after each snapshot. */
  readonly imageId: string | undefined;
  readonly provisionedBytes: number;
  /** Of the active volume only. */
  readonly actualBytes: number;
  /** Of the whole chain. */
  readonly totalBytes: number;
  /** raw or cow; absent for LUNs. */
  readonly format: string | undefined;
  readonly sparse: boolean;
  /** ok, locked, illegal; absent for LUNs. */
  readonly status: string | undefined;
  /** image, lun, cinder, managed_block_storage. */
  readonly storageType: string;
  /** data, iso, backup_scratch … */
  readonly contentType: string;
  readonly incrementalBackup: boolean;
  /** Only among the disks of a backup: how the engine serves it. */
  readonly backupMode: 'full' | 'incremental' | undefined;
  readonly shareable: boolean;
  readonly wipeAfterDelete: boolean;
  readonly propagateErrors: boolean;
  readonly storageDomainId: string | undefined;
  readonly diskProfileId: string | undefined;
  readonly quotaId: string | undefined;
  /** Set on an attachment's disk when it is a disk of somebody's snapshot. */
  readonly snapshotId: string | undefined;
  /** Undefined unless read with all content. */
  readonly vmIds: readonly string[] | undefined;
}

export interface NewDisk {
  /** Chosen by us, so that a lost answer can be made good. */
  readonly id: string;
  readonly name: string;
  readonly description?: string;
  readonly storageDomainId: string;
  readonly provisionedBytes: number;
  readonly format: 'raw' | 'cow';
  readonly sparse: boolean;
  /** Needed for cow on block storage: bytes that the upload will allocate. */
  readonly initialBytes?: number;
  readonly incrementalBackup?: boolean;
  readonly shareable?: boolean;
  readonly wipeAfterDelete?: boolean;
  readonly diskProfileId?: string;
  readonly quotaId?: string;
}

export class Disks {
  constructor(private readonly client: EngineClient) {}

  async get(diskId: string, options: RequestOptions = {}): Promise<Disk> {
    return diskOf(await this.client.read(`/disks/${diskId}`, options));
  }

  async find(diskId: string, options: RequestOptions = {}): Promise<Disk | undefined> {
    const wire = await this.client.find(`/disks/${diskId}`, options);
    return wire && diskOf(wire);
  }

  /** All disks with the ids of their VMs, page by page. */
  async *pages(options: RequestOptions & { search?: string; pageSize?: number } = {}): AsyncGenerator<readonly Disk[], void, undefined> {
    const { search, pageSize, ...rest } = options;
    const paging = compact({ search, pageSize }) as { search?: string; pageSize?: number };
    for await (const rows of this.client.pages('/disks', 'disk', { ...rest, ...paging, allContent: true, sortBy: 'id' })) {
      yield rows.map(diskOf);
    }
  }

  /** Returns at once, locked: wait for status ok. */
  async create(disk: NewDisk, options: RequestOptions = {}): Promise<Disk> {
    const body = compact({
      id: disk.id,
      name: disk.name,
      description: disk.description,
      provisioned_size: disk.provisionedBytes,
      initial_size: disk.initialBytes,
      format: disk.format,
      sparse: disk.sparse,
      content_type: 'data',
      backup: disk.incrementalBackup === undefined ? undefined : disk.incrementalBackup ? 'incremental' : 'none',
      shareable: disk.shareable,
      wipe_after_delete: disk.wipeAfterDelete,
      storage_domains: { storage_domain: [{ id: disk.storageDomainId }] },
      disk_profile: disk.diskProfileId === undefined ? undefined : { id: disk.diskProfileId },
      quota: disk.quotaId === undefined ? undefined : { id: disk.quotaId },
    });
    return diskOf(
      await this.client.create('/disks', body, {
        timeoutMs: 120_000,
        ...options,
        find: () => this.client.find(`/disks/${disk.id}`, options),
      }),
    );
  }

  /** In the engine's names, e.g. `{ backup: 'incremental' }`. */
  async update(diskId: string, attributes: Wire, options: RequestOptions = {}): Promise<Disk> {
    return diskOf(await this.client.update(`/disks/${diskId}`, attributes, options));
  }

  /**
   * Copies a disk that hangs on no running VM. The answer does not tell the copy's id: find it by its name, and wait for status ok. The
   * copy inherits the description. Throws ENGINE_CONFLICT while another copy of it is made. Engine REST API §10.4.
   */
  async copy(
    diskId: string,
    target: { readonly name: string; readonly storageDomainId: string },
    options: RequestOptions = {},
  ): Promise<void> {
    const body = { storage_domain: { id: target.storageDomainId }, disk: { name: target.name } };
    await this.client.act(`/disks/${diskId}/copy`, body, { timeoutMs: 120_000, ...options });
  }

  /** False when it is gone already. Watch it go. */
  remove(diskId: string, options: RequestOptions = {}): Promise<boolean> {
    return this.client.remove(`/disks/${diskId}`, options);
  }

  /** The volumes of its chain; their ids name a volume in an image transfer. */
  async volumes(diskId: string, options: RequestOptions = {}): Promise<readonly DiskVolume[]> {
    const rows = await this.client.list(`/disks/${diskId}/disksnapshots`, 'disk_snapshot', { ...options, query: { include_active: true } });
    return rows.map((row) => ({
      id: textOf(row, 'id') ?? '',
      parentId: idOf(row, 'parent'),
      snapshotId: idOf(row, 'snapshot'),
      status: textOf(row, 'status'),
      format: textOf(row, 'format'),
      actualBytes: integerOf(row, 'actual_size') ?? 0,
    }));
  }
}

/** One volume of a disk's chain ("disk snapshot" in the API). */
export interface DiskVolume {
  readonly id: string;
  readonly parentId: string | undefined;
  readonly snapshotId: string | undefined;
  readonly status: string | undefined;
  readonly format: string | undefined;
  readonly actualBytes: number;
}

export function diskOf(wire: Wire): Disk {
  const mode = textOf(wire, 'backup_mode');
  return {
    id: textOf(wire, 'id') ?? '',
    name: textOf(wire, 'alias') ?? textOf(wire, 'name') ?? '',
    description: textOf(wire, 'description') ?? '',
    imageId: textOf(wire, 'image_id'),
    provisionedBytes: integerOf(wire, 'provisioned_size') ?? 0,
    actualBytes: integerOf(wire, 'actual_size') ?? 0,
    totalBytes: integerOf(wire, 'total_size') ?? integerOf(wire, 'actual_size') ?? 0,
    format: textOf(wire, 'format'),
    sparse: flagOf(wire, 'sparse'),
    status: textOf(wire, 'status'),
    storageType: textOf(wire, 'storage_type') ?? 'image',
    contentType: textOf(wire, 'content_type') ?? 'data',
    incrementalBackup: textOf(wire, 'backup') === 'incremental',
    backupMode: mode === 'full' || mode === 'incremental' ? mode : undefined,
    shareable: flagOf(wire, 'shareable'),
    wipeAfterDelete: flagOf(wire, 'wipe_after_delete'),
    propagateErrors: flagOf(wire, 'propagate_errors'),
    storageDomainId: textOf(nestedOf(wire, 'storage_domains', 'storage_domain')[0] ?? {}, 'id') ?? idOf(wire, 'storage_domain'),
    diskProfileId: idOf(wire, 'disk_profile'),
    quotaId: idOf(wire, 'quota'),
    snapshotId: idOf(wire, 'snapshot'),
    vmIds: objectOf(wire, 'vms') && nestedOf(wire, 'vms', 'vm').flatMap((vm) => textOf(vm, 'id') ?? []),
  };
}
