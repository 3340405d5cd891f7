/**
 * What a restore will make, decided and checked against the engine before anything is made: names, places, NICs. Bad targets are refused
 * here, while the caller still waits.
 */
import path from 'node:path';
import { isBlockStorage } from '../engine/storage-domains';
import type { StorageDomain } from '../engine/storage-domains';
import type { StoredDisk } from '../operations/events';
import { creatableAttributes, readConfiguration } from './configuration';
import type { StoredNic, VmConfiguration } from './configuration';
import type { EngineApi } from './engine-port';
import { ProtectionErrors } from './protection-errors';
import type { FileTarget, NewDiskTarget, NewVmTarget, RestoreRequest } from './requests';

export interface PlannedRestoreDisk {
  readonly stored: StoredDisk;
  readonly name: string;
  readonly storageDomainId: string;
  readonly format: 'raw' | 'cow';
  readonly sparse: boolean;
  readonly initialBytes: number | undefined;
  readonly incrementalBackup: boolean;
  readonly wipeAfterDelete: boolean;
  readonly attachment: {
    readonly interface: string;
    readonly bootable: boolean;
    readonly active: boolean;
    readonly readOnly: boolean;
    readonly passDiscard: boolean;
  };
}

export interface PlannedNic {
  readonly stored: StoredNic;
  /** Undefined: a NIC without profile. */
  readonly vnicProfileId: string | undefined;
  /** It had a profile that does not exist here. */
  readonly profileLost: boolean;
}

export interface VmRestorePlan {
  readonly kind: 'new-vm';
  readonly target: NewVmTarget;
  readonly name: string;
  readonly clusterId: string;
  readonly dataCenterId: string;
  readonly attributes: Record<string, unknown>;
  readonly description: string;
  readonly disks: readonly PlannedRestoreDisk[];
  readonly nics: readonly PlannedNic[];
  readonly configuration: VmConfiguration;
}

export interface DiskRestorePlan {
  readonly kind: 'new-disk';
  readonly disk: PlannedRestoreDisk;
  readonly dataCenterId: string;
}

export interface FileRestorePlan {
  readonly kind: 'file';
  readonly disk: StoredDisk;
  readonly path: string;
  readonly format: 'raw' | 'qcow2';
}

export type RestorePlan = VmRestorePlan | DiskRestorePlan | FileRestorePlan;

/** Throws RESTORE_TARGET_NOT_FOUND, VM_NAME_TAKEN, VM_NAME_INVALID, TARGET_PATH_INVALID, CONFIGURATION_UNREADABLE. */
export async function planRestore(engineOf: (platformId: string) => EngineApi, request: RestoreRequest, now: Date): Promise<RestorePlan> {
  const { target } = request;
  switch (target.kind) {
    case 'file':
      return planFile(target, request.disks[0]!);
    case 'new-disk':
      return await planDisk(engineOf(request.platformId), target, request.disks[0]!, now);
    case 'new-vm':
      return await planVm(engineOf(request.platformId), target, request, now);
  }
}

/** `<name>-restored-<YYYYMMDD-HHMM>`, UTC, at most 63 characters of those that the engine allows. */
export function restoredName(name: string, now: Date): string {
  const stamp = now.toISOString().replaceAll(/[-:]/g, '').replace('T', '-').slice(0, 13);
  const tail = `-restored-${stamp}`;
  return `${name.replaceAll(/[^A-Za-z0-9._-]/g, '-').slice(0, 63 - tail.length)}${tail}`;
}

function planFile(target: FileTarget, disk: StoredDisk): FileRestorePlan {
  const refuse = (problem: string) => ProtectionErrors.TARGET_PATH_INVALID({ path: target.path, problem });
  if (!path.isAbsolute(target.path)) throw refuse('the path must be absolute');
  if (target.path.includes('\0') || target.path.endsWith('/')) throw refuse('it is not the name of a file');
  if (target.format !== 'raw' && target.format !== 'qcow2') throw refuse(`the format "${target.format}" is not raw or qcow2`);
  return { kind: 'file', disk, path: path.normalize(target.path), format: target.format };
}

async function planDisk(engine: EngineApi, target: NewDiskTarget, stored: StoredDisk, now: Date): Promise<DiskRestorePlan> {
  const id = target.storageDomainId || stored.storageDomainId;
  const found = id === '' ? undefined : await engine.storageDomains.find(id);
  const domain = found && (await activeDomains(engine, found.dataCenterIds[0])).get(id);
  if (!domain) throw ProtectionErrors.RESTORE_TARGET_NOT_FOUND({ field: 'new_disk.storage_domain_id', id });
  const name = target.name || restoredName(stored.name || 'disk', now);
  return { kind: 'new-disk', disk: { ...placed(stored, domain, undefined), name }, dataCenterId: found?.dataCenterIds[0] ?? '' };
}

async function planVm(engine: EngineApi, target: NewVmTarget, request: RestoreRequest, now: Date): Promise<VmRestorePlan> {
  const configuration = readConfiguration(request.configuration);
  const name = target.name || restoredName(configuration.vm.name, now);
  if (!/^[A-Za-z0-9._-]{1,64}$/.test(name)) throw ProtectionErrors.VM_NAME_INVALID({ name });
  const clusterId = target.clusterId || configuration.vm.clusterId;
  const [taken, cluster, profiles] = await Promise.all([
    engine.vms.findByName(name),
    clusterId === '' ? undefined : engine.clusters.find(clusterId),
    engine.networks.vnicProfiles(),
  ]);
  if (taken) throw ProtectionErrors.VM_NAME_TAKEN({ name });
  if (!cluster) throw ProtectionErrors.RESTORE_TARGET_NOT_FOUND({ field: 'new_vm.cluster_id', id: clusterId });
  const domains = await activeDomains(engine, cluster.dataCenterId);
  const disks = request.disks.map((stored) => {
    const id = target.storageDomains.get(stored.storageDomainId) ?? (target.storageDomainId || stored.storageDomainId);
    const domain = domains.get(id);
    if (!domain) throw ProtectionErrors.RESTORE_TARGET_NOT_FOUND({ field: 'new_vm.storage_domain_id', id });
    return placed(stored, domain, configuration);
  });
  const ids = new Set(profiles.map((profile) => profile.id));
  const nics = configuration.nics.map((stored): PlannedNic => {
    const mapped = target.vnicProfiles.get(stored.vnicProfileId);
    if (mapped !== undefined) {
      if (mapped !== '' && !ids.has(mapped)) throw ProtectionErrors.RESTORE_TARGET_NOT_FOUND({ field: 'new_vm.vnic_profiles', id: mapped });
      return { stored, vnicProfileId: mapped === '' ? undefined : mapped, profileLost: false };
    }
    if (stored.vnicProfileId === '') return { stored, vnicProfileId: undefined, profileLost: false };
    // On another engine the ids differ; a profile of the same name, if there is just one, is what was meant.
    const byName = profiles.filter((profile) => profile.name === stored.vnicProfileName);
    const vnicProfileId = ids.has(stored.vnicProfileId) ? stored.vnicProfileId : byName.length === 1 ? byName[0]?.id : undefined;
    return { stored, vnicProfileId, profileLost: vnicProfileId === undefined };
  });
  const description = configuration.attributes['description'];
  return {
    kind: 'new-vm',
    target,
    name,
    clusterId,
    dataCenterId: cluster.dataCenterId ?? '',
    attributes: creatableAttributes(configuration.attributes),
    description: typeof description === 'string' ? description : '',
    disks,
    nics,
    configuration,
  };
}

async function activeDomains(engine: EngineApi, dataCenterId: string | undefined): Promise<Map<string, StorageDomain>> {
  if (dataCenterId === undefined) return new Map();
  const all = await engine.storageDomains.listOfDataCenter(dataCenterId);
  return new Map(all.filter((domain) => domain.type === 'data' && domain.status === 'active').map((domain) => [domain.id, domain]));
}

/** Format and allocation that the domain can hold (engine REST API §4.9, §6.6). */
function placed(stored: StoredDisk, domain: StorageDomain, configuration: VmConfiguration | undefined): PlannedRestoreDisk {
  const block = isBlockStorage(domain.storageType);
  const format = stored.format === 'cow' ? 'cow' : 'raw';
  const known = configuration?.disks.find((disk) => disk.diskId === stored.diskId);
  return {
    stored,
    name: stored.name || 'disk',
    storageDomainId: domain.id,
    format,
    // Preallocated qcow2 without change tracking is refused, sparse raw on block storage too.
    sparse: format === 'cow' || (stored.sparse && !block),
    initialBytes: format === 'cow' && block ? initialBytes(stored) : undefined,
    incrementalBackup: format === 'cow' && known?.incrementalBackup === true,
    wipeAfterDelete: known?.wipeAfterDelete === true,
    attachment: {
      interface: stored.interface || 'virtio_scsi',
      bootable: stored.bootable,
      active: known?.active ?? true,
      readOnly: known?.readOnly ?? false,
      passDiscard: known?.passDiscard ?? false,
    },
  };
}

/** Nothing extends the volume during an upload: room for the data, the qcow2 tables and some slack. */
function initialBytes(stored: StoredDisk): number {
  const most = Math.ceil(stored.sizeBytes * 1.1);
  if (stored.allocatedBytes === 0) return most;
  return Math.min(most, Math.ceil(stored.allocatedBytes * 1.1) + 64 * 1024 * 1024);
}
