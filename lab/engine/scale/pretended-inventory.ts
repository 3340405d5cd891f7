import { createHash } from 'node:crypto';
import type { Database } from '../model/database';
import { attachmentId } from '../model/entities';
import { defaultAttributes } from '../vms/vm-attributes';

/**
 * A large inventory without hosts behind it: thousands of VMs in dozens of clusters, each with a nic and two disks that exist as rows
 * only. The same figures give the same names and ids. Written in chunks, so that the log's lines stay of a bearable length.
 */
export interface Pretence {
  readonly vms: number;
  readonly clusters: number;
  readonly hosts: number;
}

const GIB = 1024 ** 3;
const VMS_PER_CHUNK = 500;
const LEVELS = [5, 6, 7] as const;

/** Does nothing when it is there already. Needs the seeded data center, template, tags and network. */
export function pretendInventory(db: Database, pretence: Pretence): void {
  const dataCenter = db.dataCenters.list()[0];
  if (!dataCenter || db.clusters.has(idOf('cluster', 0))) {
    return;
  }
  db.transaction(() => {
    for (let index = 0; index < pretence.clusters; index += 1) {
      db.clusters.put({
        id: idOf('cluster', index),
        name: `pretended-cluster-${padded(index)}`,
        description: 'pretended',
        comment: '',
        dataCenterId: dataCenter.id,
        version: { major: 4, minor: LEVELS[index % LEVELS.length] ?? 7 },
        cpuType: 'Secure Intel Cascadelake Server Family',
        architecture: 'x86_64',
        biosType: 'q35_sea_bios',
        macPoolId: dataCenter.macPoolId,
      });
    }
    for (let index = 0; index < pretence.hosts; index += 1) {
      db.hosts.put({
        id: idOf('host', index),
        name: `pretended-host-${padded(index)}`,
        description: 'pretended',
        comment: '',
        address: `pretended-host-${padded(index)}.invalid`,
        status: 'up',
        clusterId: idOf('cluster', index % Math.max(1, pretence.clusters)),
        spm: false,
        memoryBytes: 512 * GIB,
        cpuCores: 64,
        pretended: true,
      });
    }
    db.storageDomains.put({
      id: idOf('domain', 0),
      name: 'pretended-data',
      description: 'pretended',
      comment: '',
      type: 'data',
      storageType: 'iscsi',
      address: 'san.invalid',
      path: '',
      storageFormat: 'v5',
      master: false,
      dataCenterId: dataCenter.id,
      status: 'active',
      backup: false,
      wipeAfterDelete: false,
      discardAfterDelete: false,
      warningLowSpacePercent: 10,
      criticalSpaceGib: 5,
      pretended: { availableBytes: 200_000 * GIB, usedBytes: 300_000 * GIB },
    });
  });
  for (let first = 0; first < pretence.vms; first += VMS_PER_CHUNK) {
    db.transaction(() => {
      for (let index = first; index < Math.min(first + VMS_PER_CHUNK, pretence.vms); index += 1) {
        pretendVm(db, pretence, index);
      }
    });
  }
}

function pretendVm(db: Database, pretence: Pretence, index: number): void {
  const id = idOf('vm', index);
  const clusterIndex = index % Math.max(1, pretence.clusters);
  const hosts = Math.max(1, pretence.hosts);
  // Two of three run, on a host of their cluster.
  const hostIndex =
    (clusterIndex +
      pretence.clusters *
        (Math.floor(index / Math.max(1, pretence.clusters)) % Math.max(1, Math.floor(hosts / Math.max(1, pretence.clusters))))) %
    hosts;
  const up = index % 3 !== 0 && pretence.hosts > 0;
  const time = Date.UTC(2025, 0, 1) + index * 60_000;
  const tag = db.tags.list()[1 + (index % Math.max(1, db.tags.size - 1))];
  const snapshotId = idOf('snapshot', index);
  db.vms.put({
    id,
    name: `pretended-${padded(index)}`,
    description: '',
    comment: '',
    clusterId: idOf('cluster', clusterIndex),
    templateId: db.templates.list()[0]?.id ?? '',
    status: up ? 'up' : 'down',
    origin: 'ovirt',
    ...(up ? { hostId: idOf('host', hostIndex), startTime: time } : {}),
    memoryBytes: 4 * GIB,
    deleteProtected: false,
    stateless: false,
    attributes: defaultAttributes,
    tagIds: tag ? [tag.id] : [],
    creationTime: time,
    guest: 'none',
    pretended: true,
  });
  db.snapshots.put({ id: snapshotId, vmId: id, description: 'Active VM', type: 'active', status: 'ok', date: time, persistMemory: false });
  const profile = db.vnicProfiles.list()[0];
  db.nics.put({
    id: idOf('nic', index),
    vmId: id,
    name: 'nic1',
    interface: 'virtio',
    macAddress: `56:6f:ff:${[16, 8, 0].map((shift) => ((index >> shift) & 0xff).toString(16).padStart(2, '0')).join(':')}`,
    plugged: true,
    linked: true,
    ...(profile ? { vnicProfileId: profile.id } : {}),
  });
  for (const [number, format] of ['cow', 'raw'].entries()) {
    const diskId = idOf(`disk${String(number)}`, index);
    const volumeId = idOf(`volume${String(number)}`, index);
    const size = (20 + ((index * 7) % 180)) * GIB;
    const sparse = format === 'cow';
    db.volumes.put({
      id: volumeId,
      diskId,
      domainId: idOf('domain', 0),
      format: format as 'cow',
      sparse,
      virtualSizeBytes: size,
      actualSizeBytes: size / 2,
      snapshotId,
      status: 'ok',
      createdAt: time,
    });
    db.disks.put({
      id: diskId,
      name: `pretended-${padded(index)}_Disk${String(number + 1)}`,
      description: '',
      status: 'ok',
      storageType: 'image',
      contentType: 'data',
      format: format as 'cow',
      sparse,
      provisionedSizeBytes: size,
      backup: sparse ? 'incremental' : 'none',
      shareable: false,
      wipeAfterDelete: false,
      propagateErrors: false,
      storageDomainId: idOf('domain', 0),
      activeVolumeId: volumeId,
      actualSizeBytes: size / 2,
      totalSizeBytes: size / 2,
      createdAt: time,
      pretended: true,
    });
    db.attachments.put({
      id: attachmentId(id, diskId),
      vmId: id,
      diskId,
      interface: 'virtio_scsi',
      active: true,
      bootable: number === 0,
      readOnly: false,
      passDiscard: false,
      usesScsiReservation: false,
    });
  }
}

/** A UUID made from kind and number. */
function idOf(kind: string, index: number): string {
  const hex = createHash('sha256')
    .update(`pretended ${kind} ${String(index)}`)
    .digest('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

const padded = (index: number): string => String(index).padStart(5, '0');
