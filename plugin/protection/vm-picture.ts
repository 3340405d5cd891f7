import type { DiskAttachment } from '../engine/disk-attachments';
import type { Vm } from '../engine/vms';
import type { StoredDisk } from '../operations/events';
import type { VmKey } from '../operations/operation';
import { keptAttributes } from './configuration';
import type { VmConfiguration } from './configuration';
import type { EngineApi } from './engine-port';
import type { Patience } from './patience';

/** A VM as it was right before its backup. */
export interface VmPicture {
  readonly vm: Vm;
  readonly attachments: readonly (DiskAttachment & { readonly disk: NonNullable<DiskAttachment['disk']> })[];
  readonly configuration: VmConfiguration;
}

/** The engine leaves the OVF out while anything of the VM is locked or changes. */
const ovfTries = 5;
const ovfPauseMs = 2000;

/** Reads a VM with all that a point keeps of it. Undefined when there is no such VM. The OVF may be missing: then it was not to be had. */
export async function takePicture(engine: EngineApi, patience: Patience, key: VmKey, signal: AbortSignal): Promise<VmPicture | undefined> {
  const away = <T>(work: () => Promise<T>) => patience.whileAway(signal, work);
  const vm = await away(() => engine.vms.find(key.vmId, { with: ['diskAttachments', 'nics', 'tags'], signal }));
  if (!vm) return undefined;
  const { raw, ovf } = await readOvf(engine, patience, key.vmId, signal);
  const [cluster, profiles, groups] = await Promise.all([
    away(() => engine.clusters.find(vm.clusterId, { signal })),
    away(() => engine.networks.vnicProfiles({ signal })),
    away(() => engine.affinityGroups.list(vm.clusterId, { signal })),
  ]);
  const attachments = (vm.diskAttachments ?? []).flatMap((a) => (a.disk ? [{ ...a, disk: a.disk }] : []));
  const profileNames = new Map(profiles.map((profile) => [profile.id, profile.name]));
  return {
    vm,
    attachments,
    configuration: {
      format: 'tidemark-ovirt-vm',
      version: 1,
      takenAt: new Date(patience.clock.now()).toISOString(),
      vm: { id: vm.id, name: vm.name, clusterId: vm.clusterId, clusterName: cluster?.name ?? '', status: vm.status ?? '' },
      attributes: keptAttributes(raw),
      ...(ovf === undefined ? {} : { ovf }),
      disks: attachments.map(({ disk, ...attachment }) => ({
        diskId: disk.id,
        name: disk.name,
        description: disk.description,
        sizeBytes: disk.provisionedBytes,
        format: disk.format ?? '',
        sparse: disk.sparse,
        storageDomainId: disk.storageDomainId ?? '',
        interface: attachment.interface,
        bootable: attachment.bootable,
        active: attachment.active,
        readOnly: attachment.readOnly,
        passDiscard: attachment.passDiscard,
        wipeAfterDelete: disk.wipeAfterDelete,
        incrementalBackup: disk.incrementalBackup,
        leftOut: '',
      })),
      nics: (vm.nics ?? []).map((nic) => ({
        name: nic.name,
        interface: nic.interface,
        macAddress: nic.macAddress ?? '',
        vnicProfileId: nic.vnicProfileId ?? '',
        vnicProfileName: profileNames.get(nic.vnicProfileId ?? '') ?? '',
        plugged: nic.plugged,
        linked: nic.linked,
      })),
      tags: (vm.tags ?? []).map((tag) => tag.name),
      affinityGroups: groups.filter((group) => group.vmIds.includes(vm.id)).map(({ id, name }) => ({ id, name })),
    },
  };
}

export function storedDiskOf(attachment: VmPicture['attachments'][number]): StoredDisk {
  const { disk } = attachment;
  return {
    diskId: disk.id,
    name: disk.name,
    sizeBytes: disk.provisionedBytes,
    format: disk.format ?? 'raw',
    sparse: disk.sparse,
    storageDomainId: disk.storageDomainId ?? '',
    interface: attachment.interface,
    bootable: attachment.bootable,
    allocatedBytes: disk.totalBytes,
  };
}

async function readOvf(
  engine: EngineApi,
  patience: Patience,
  vmId: string,
  signal: AbortSignal,
): Promise<{ raw: Readonly<Record<string, unknown>>; ovf: string | undefined }> {
  for (let attempt = 1; ; attempt += 1) {
    const raw = await patience.whileAway(signal, () => engine.vms.raw(vmId, { signal }));
    const configuration = (raw['initialization'] as { configuration?: { data?: unknown } } | undefined)?.configuration;
    const ovf = typeof configuration?.data === 'string' && configuration.data !== '' ? configuration.data : undefined;
    if (ovf !== undefined || attempt >= ovfTries) return { raw, ovf };
    await patience.clock.sleep(ovfPauseMs, signal);
  }
}
