/** Rules about one disk of a VM. Each is a function of the picture and the disk. Conditions: engine REST API §3.2, §4.5, §4.10. */
import { compareVersions } from '../engine/mapping';
import { isBlockStorage } from '../engine/storage-domains';
import type { PreflightFinding } from './finding';
import type { AttachedDisk, VmPicture } from './picture';

export type DiskRule = (attached: AttachedDisk, picture: VmPicture) => Omit<PreflightFinding, 'diskId'> | undefined;

const gibibyte = 1024 ** 3;
const hybridLevel = { major: 4, minor: 7 } as const;
/** Of live backups on block storage: MaxBackupBlockScratchDiskInitialSizePercents and MinBackupBlockScratchDiskInitialSizeInGB. */
const scratchShare = 0.2;
const scratchBytes = 4 * gibibyte;

const directLun: DiskRule = ({ disk }) =>
  disk.storageType === 'lun'
    ? {
        code: 'disk-direct-lun',
        severity: 'blocking',
        message: `Disk ${disk.name} is a LUN given to the VM directly; the engine cannot back it up.`,
        advice: 'Back it up inside the guest or on the storage, or move the data to a disk on a storage domain.',
      }
    : undefined;

const managedBlock: DiskRule = ({ disk }) =>
  disk.storageType === 'managed_block_storage' || disk.storageType === 'cinder'
    ? {
        code: 'disk-managed-block',
        severity: 'blocking',
        message: `Disk ${disk.name} lies on ${disk.storageType === 'cinder' ? 'Cinder' : 'managed block storage'}, whose disks the engine cannot transfer.`,
        advice: 'Back it up on the storage, or move it to another storage domain.',
      }
    : undefined;

const shareable: DiskRule = ({ disk }) =>
  disk.shareable
    ? {
        code: 'disk-shareable',
        severity: 'blocking',
        message: `Disk ${disk.name} is shared between VMs; the engine leaves such disks out of backups and snapshots.`,
        advice: 'Back up its content inside a guest.',
      }
    : undefined;

const notData: DiskRule = ({ disk }) =>
  disk.contentType === 'data'
    ? undefined
    : {
        code: 'disk-not-data',
        severity: 'blocking',
        message: `Disk ${disk.name} holds ${disk.contentType.replaceAll('_', ' ')}, not data of the VM.`,
        advice: '',
      };

const illegal: DiskRule = ({ disk }) =>
  disk.status === 'illegal'
    ? {
        code: 'disk-illegal',
        severity: 'blocking',
        message: `The engine marks disk ${disk.name} (${disk.id}) as illegal.`,
        advice: 'Mend it in the engine first; do not stop the VM, it may not start again.',
      }
    : undefined;

const locked: DiskRule = ({ disk }) =>
  disk.status === 'locked'
    ? {
        code: 'disk-locked',
        severity: 'blocking',
        message: `Disk ${disk.name} (${disk.id}) is locked by another operation of the engine.`,
        advice:
          'It is tried again when it is free. When nothing uses it for long, the engine lost the operation: unlock it with unlock_entity.sh on the engine machine.',
        passes: true,
      }
    : undefined;

const unplugged: DiskRule = ({ attachment, disk }) =>
  attachment.active
    ? undefined
    : {
        code: 'disk-unplugged',
        severity: 'blocking',
        message: `Disk ${disk.name} is attached but not plugged; the engine backs up plugged disks only.`,
        advice: 'Activate it, or exclude it in the job.',
      };

const domainStatus: DiskRule = ({ disk }, { surroundings }) => {
  const domain = disk.storageDomainId === undefined ? undefined : surroundings.storageDomains.get(disk.storageDomainId);
  if (!domain || domain.status === undefined || domain.status === 'active') return undefined;
  return {
    code: 'domain-inactive',
    severity: 'blocking',
    message: `Storage domain ${domain.name} of disk ${disk.name} is ${domain.status}.`,
    advice: 'Activate the storage domain.',
  };
};

const domainSpace: DiskRule = ({ disk }, { surroundings }) => {
  const domain = disk.storageDomainId === undefined ? undefined : surroundings.storageDomains.get(disk.storageDomainId);
  if (domain?.availableBytes === undefined || domain.availableBytes >= domain.criticalFreeBytes) return undefined;
  return {
    code: 'domain-low-space',
    severity: 'blocking',
    message: `Storage domain ${domain.name} of disk ${disk.name} has ${gib(domain.availableBytes)} free; below ${gib(domain.criticalFreeBytes)} the engine makes neither snapshots nor scratch disks.`,
    advice: 'Free space there or extend it.',
  };
};

const scratchSpace: DiskRule = ({ disk }, { vm, level, surroundings, byAttachment }) => {
  const domain = disk.storageDomainId === undefined ? undefined : surroundings.storageDomains.get(disk.storageDomainId);
  if (domain?.availableBytes === undefined || !isBlockStorage(domain.storageType)) return undefined;
  const live = !byAttachment && vm.status !== 'down' && (level === undefined || compareVersions(level, hybridLevel) < 0);
  const needed = Math.min(disk.provisionedBytes, Math.max(disk.provisionedBytes * scratchShare, scratchBytes)) + domain.criticalFreeBytes;
  if (!live || domain.availableBytes < domain.criticalFreeBytes || domain.availableBytes >= needed) return undefined;
  return {
    code: 'scratch-space',
    severity: 'warning',
    message: `The engine makes a scratch disk beside disk ${disk.name}; ${gib(needed)} should be free on ${domain.name}, ${gib(domain.availableBytes)} are.`,
    advice: 'Free space there or extend it, else the start of the backup may fail.',
  };
};

const raw: DiskRule = ({ disk }, { byAttachment }) =>
  !byAttachment && disk.format === 'raw'
    ? {
        code: 'cbt-raw',
        severity: 'info',
        message: `Disk ${disk.name} has format raw, in which the engine cannot track changes: it is read fully each time, and only what changed is stored.`,
        advice: 'Convert it to qcow2 if reading takes too long.',
      }
    : undefined;

const notIncremental: DiskRule = ({ disk }, { byAttachment }) =>
  !byAttachment && disk.format === 'cow' && !disk.incrementalBackup
    ? {
        code: 'cbt-off',
        severity: 'info',
        message: `Incremental backup is not switched on for disk ${disk.name}. Newer engines track it all the same.`,
        advice: 'Switch it on in the properties of the disk.',
      }
    : undefined;

/** In the order of the findings; the first blocking one ends the list for a disk. */
export const diskRules: readonly DiskRule[] = [
  directLun,
  managedBlock,
  shareable,
  notData,
  illegal,
  locked,
  unplugged,
  domainStatus,
  domainSpace,
  scratchSpace,
  raw,
  notIncremental,
];

function gib(bytes: number): string {
  return `${(bytes / gibibyte).toFixed(1)} GiB`;
}
