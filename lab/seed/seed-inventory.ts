import { randomUUID } from 'node:crypto';
import { BLANK_TEMPLATE_ID, ROOT_TAG_ID } from '../engine/inventory/ids';
import type { Database } from '../engine/model/database';
import type { ActionGroup, Version } from '../engine/model/entities';
import { defaultAttributes } from '../engine/vms/vm-attributes';
import { LAB_ADDRESS, type LabLayout } from './lab-layout';

/** Everything but VMs: written before the engine's first start. Does nothing when there is a data center already. */
const ALL_PERMITS: readonly ActionGroup[] = [
  'LOGIN',
  'BACKUP_DISK',
  'EDIT_DISK_PROPERTIES',
  'MANIPULATE_VM_SNAPSHOTS',
  'CONFIGURE_VM_STORAGE',
  'CONFIGURE_VM_NETWORK',
  'CREATE_VM',
  'EDIT_VM_PROPERTIES',
  'VM_BASIC_OPERATIONS',
  'STOP_VM',
  'IMPORT_EXPORT_VM',
  'DELETE_VM',
  'CREATE_DISK',
  'DELETE_DISK',
  'INJECT_EXTERNAL_EVENTS',
  'INJECT_EXTERNAL_TASKS',
  'CREATE_STORAGE_DOMAIN',
  'MANIPULATE_STORAGE_DOMAIN',
  'MANIPULATE_AFFINITY_GROUPS',
  'MANIPULATE_PERMISSIONS',
  'TAG_MANAGEMENT',
];

const GIB = 1024 ** 3;

export const ADMIN_USER = 'admin@internal';

export function seedInventory(db: Database, layout: LabLayout): void {
  if (db.dataCenters.size > 0) {
    return;
  }
  db.transaction(() => {
    seedAccounts(db, layout.adminPassword);
    const macPoolId = randomUUID();
    db.macPools.put({
      id: macPoolId,
      name: 'Default',
      description: 'Default MAC pool',
      allowDuplicates: false,
      defaultPool: true,
      ranges: [{ from: '56:6f:1a:2b:00:00', to: '56:6f:1a:2b:ff:ff' }],
    });
    const levels = layout.plan.clusters.map(({ level }) => parseLevel(level));
    const dataCenterId = randomUUID();
    db.dataCenters.put({
      id: dataCenterId,
      name: layout.plan.dataCenter,
      description: '',
      comment: '',
      // A data center is at the level of its oldest cluster.
      version: levels.sort((a, b) => a.minor - b.minor)[0] ?? { major: 4, minor: 7 },
      status: 'up',
      local: false,
      storageFormat: 'v5',
      quotaMode: 'disabled',
      macPoolId,
    });
    seedClusters(db, layout, dataCenterId, macPoolId);
    seedDomains(db, layout.plan.storageDomains, dataCenterId);
    seedNetwork(db, dataCenterId);
    db.templates.put({
      id: BLANK_TEMPLATE_ID,
      name: 'Blank',
      description: 'Blank template',
      comment: '',
      status: 'ok',
      creationTime: Date.UTC(2008, 2, 31),
      attributes: { ...defaultAttributes, memory: GIB },
    });
    db.tags.put({ id: ROOT_TAG_ID, name: 'root', description: 'root' });
    for (const name of layout.plan.tags) {
      db.tags.put({ id: randomUUID(), name, description: '', parentId: ROOT_TAG_ID });
    }
  });
}

function seedAccounts(db: Database, adminPassword: string): void {
  const superUser = randomUUID();
  const backupOperator = randomUUID();
  db.roles.put({
    id: superUser,
    name: 'SuperUser',
    description: 'Roles management administrator',
    administrative: true,
    permits: ALL_PERMITS,
  });
  db.roles.put({
    id: backupOperator,
    name: 'BackupOperator',
    description: 'Backs up and restores VMs',
    administrative: true,
    permits: ['LOGIN', 'BACKUP_DISK', 'EDIT_DISK_PROPERTIES', 'MANIPULATE_VM_SNAPSHOTS', 'CONFIGURE_VM_STORAGE', 'CREATE_DISK'],
  });
  db.roles.put({
    id: randomUUID(),
    name: 'UserRole',
    description: 'Standard user',
    administrative: false,
    permits: ['LOGIN', 'VM_BASIC_OPERATIONS'],
  });
  db.users.put({
    id: randomUUID(),
    userName: ADMIN_USER,
    password: adminPassword,
    roleIds: [superUser],
    revokedPermits: [],
    locked: false,
  });
  db.users.put({
    id: randomUUID(),
    userName: 'backup@internal',
    password: adminPassword,
    roleIds: [backupOperator],
    revokedPermits: [],
    locked: false,
  });
}

function seedClusters(db: Database, layout: LabLayout, dataCenterId: string, macPoolId: string): void {
  for (const plan of layout.plan.clusters) {
    const cluster = db.clusters.put({
      id: randomUUID(),
      name: plan.name,
      description: '',
      comment: '',
      dataCenterId,
      version: parseLevel(plan.level),
      cpuType: 'Secure Intel Cascadelake Server Family',
      architecture: 'x86_64',
      biosType: 'q35_sea_bios',
      macPoolId,
    });
    db.cpuProfiles.put({ id: randomUUID(), name: plan.name, clusterId: cluster.id });
    for (const host of layout.hosts.filter(({ cluster: name }) => name === plan.name)) {
      db.hosts.put({
        id: host.id,
        name: host.name,
        description: '',
        comment: '',
        address: LAB_ADDRESS,
        status: 'connecting',
        clusterId: cluster.id,
        spm: host.id === layout.hosts[0]?.id,
        memoryBytes: (plan.hostMemoryGib ?? 256) * GIB,
        cpuCores: 16,
        pretended: false,
      });
    }
  }
}

function seedDomains(db: Database, names: readonly string[], dataCenterId: string): void {
  for (const [index, name] of names.entries()) {
    const domain = db.storageDomains.put({
      id: randomUUID(),
      name,
      description: '',
      comment: '',
      type: 'data',
      storageType: 'nfs',
      address: 'storage.lab',
      path: `/exports/${name}`,
      storageFormat: 'v5',
      master: index === 0,
      dataCenterId,
      status: 'active',
      backup: false,
      wipeAfterDelete: false,
      discardAfterDelete: false,
      warningLowSpacePercent: 10,
      criticalSpaceGib: 1,
    });
    db.diskProfiles.put({ id: randomUUID(), name, storageDomainId: domain.id });
  }
}

function seedNetwork(db: Database, dataCenterId: string): void {
  const network = db.networks.put({
    id: randomUUID(),
    name: 'ovirtmgmt',
    description: 'Management Network',
    comment: '',
    dataCenterId,
    clusterIds: db.clusters.list().map(({ id }) => id),
    mtu: 0,
  });
  db.vnicProfiles.put({
    id: randomUUID(),
    name: 'ovirtmgmt',
    description: '',
    comment: '',
    networkId: network.id,
    passThrough: false,
    portMirroring: false,
  });
}

export function parseLevel(level: string): Version {
  const [major = 4, minor = 7] = level.split('.').map(Number);
  return { major, minor };
}
