import { randomUUID } from 'node:crypto';
import type { Core } from '../engine/model/core';
import { attachmentId, type Vm } from '../engine/model/entities';
import { MacAddresses } from '../engine/vms/mac-pool';
import { defaultAttributes } from '../engine/vms/vm-attributes';
import { VmService } from '../engine/vms/vm-service';
import type { SeedDisk, SeedPlan, SeedVm } from './seed-plan';

/** The VMs of the plan with their disks' real files; they are stopped. Names that exist already are left alone. */
const MIB = 1024 ** 2;

export async function seedVms(core: Core, plan: SeedPlan): Promise<void> {
  for (const vm of plan.vms) {
    if (!core.db.vms.find(({ name }) => name === vm.name)) {
      await seedVm(core, vm);
    }
  }
}

async function seedVm(core: Core, plan: SeedVm): Promise<void> {
  const { db } = core;
  const cluster = db.clusters.find(({ name }) => name === plan.cluster);
  if (!cluster) {
    throw new Error(`no cluster ${plan.cluster}`);
  }
  const guest = plan.guest ?? 'none';
  // The disks first: a lab that is killed here makes the VM again, whole.
  const disks: string[] = [];
  for (const [index, disk] of plan.disks.entries()) {
    disks.push(await seedDisk(core, disk, index === 0 && guest === 'linux'));
  }
  const memoryBytes = (plan.memoryMib ?? 1024) * MIB;
  db.transaction(() => {
    const vm = new VmService(core).insert({
      id: randomUUID(),
      name: plan.name,
      description: '',
      comment: '',
      clusterId: cluster.id,
      templateId: db.templates.list()[0]?.id ?? '',
      origin: 'ovirt',
      memoryBytes,
      deleteProtected: false,
      stateless: false,
      attributes: {
        ...defaultAttributes,
        memory_policy: { guaranteed: memoryBytes, max: memoryBytes * 4, ballooning: true },
        ...(guest === 'linux' ? { custom_properties: [{ name: 'lab_guest', value: 'linux' }] } : {}),
      },
      guest,
      tagIds: (plan.tags ?? []).flatMap((name) => db.tags.find((tag) => tag.name === name)?.id ?? []),
    });
    attach(core, vm, disks);
    addNics(core, vm, plan.nics ?? 0);
  });
}

async function seedDisk(core: Core, plan: SeedDisk, forGuest: boolean): Promise<string> {
  const { db, fleet, clock } = core;
  const domain = db.storageDomains.find(({ name }) => plan.domain === undefined || name === plan.domain);
  if (!domain) {
    throw new Error(`no storage domain ${plan.domain ?? ''}`);
  }
  const id = randomUUID();
  const volumeId = randomUUID();
  const size = plan.sizeMib * MIB;
  const volume = { domainId: domain.id, diskId: id, volumeId };
  await fleet.createVolume({ ...volume, format: plan.format, virtualSizeBytes: size, sparse: true });
  if (forGuest) {
    const chain = { diskId: id, virtualSizeBytes: size, chain: [{ ...volume, format: plan.format }] };
    await fleet.formatGuestDisk(chain, { seed: plan.name.length + plan.sizeMib, filesBytes: (plan.filesMib ?? 16) * MIB });
  }
  const actual = await fleet.volumeActualBytes(volume);
  const profile = db.diskProfiles.find(({ storageDomainId }) => storageDomainId === domain.id);
  db.transaction(() => {
    db.volumes.put({
      id: volumeId,
      diskId: id,
      domainId: domain.id,
      format: plan.format,
      sparse: true,
      virtualSizeBytes: size,
      actualSizeBytes: actual,
      status: 'ok',
      createdAt: clock.now(),
    });
    db.disks.put({
      id,
      name: plan.name,
      description: '',
      status: 'ok',
      storageType: 'image',
      contentType: 'data',
      format: plan.format,
      sparse: true,
      provisionedSizeBytes: size,
      backup: plan.format === 'cow' ? 'incremental' : 'none',
      shareable: false,
      wipeAfterDelete: false,
      propagateErrors: false,
      storageDomainId: domain.id,
      ...(profile ? { diskProfileId: profile.id } : {}),
      activeVolumeId: volumeId,
      actualSizeBytes: actual,
      totalSizeBytes: actual,
      createdAt: clock.now(),
      pretended: false,
    });
  });
  return id;
}

function attach(core: Core, vm: Vm, diskIds: readonly string[]): void {
  const { db } = core;
  const active = db.snapshots.find((snapshot) => snapshot.vmId === vm.id && snapshot.type === 'active');
  for (const [index, diskId] of diskIds.entries()) {
    db.attachments.put({
      id: attachmentId(vm.id, diskId),
      vmId: vm.id,
      diskId,
      interface: 'virtio_scsi',
      active: true,
      bootable: index === 0,
      readOnly: false,
      passDiscard: false,
      usesScsiReservation: false,
    });
    db.volumes.update(db.disks.require(diskId).activeVolumeId ?? '', { snapshotId: active?.id });
  }
}

function addNics(core: Core, vm: Vm, count: number): void {
  const { db } = core;
  const macs = new MacAddresses(core);
  const profile = db.vnicProfiles.list()[0];
  for (let index = 1; index <= count; index += 1) {
    db.nics.put({
      id: randomUUID(),
      vmId: vm.id,
      name: `nic${String(index)}`,
      interface: 'virtio',
      macAddress: macs.draw(vm.clusterId),
      plugged: true,
      linked: true,
      ...(profile ? { vnicProfileId: profile.id } : {}),
    });
  }
}
