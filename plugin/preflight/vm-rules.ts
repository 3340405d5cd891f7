/**
 * Rules about a VM. Each is a function of the picture alone: code, severity, what it means, what to do. Conditions: engine REST API §3.2
 * and §4.5; order and codes: product defaults §7, §11.
 */
import { finalPhases } from '../engine/backups';
import { finishedTransferPhases } from '../engine/image-transfers';
import { compareVersions, versionText } from '../engine/mapping';
import { isWorkerVm } from '../worker-vms/marks';
import { ownMark } from './picture';
import type { VmRule } from './rule';
import { chainLength, checkpointsPile, leftSnapshot, preview, snapshotRunning, trackingLost } from './snapshot-rules';

export const incrementalLevel = { major: 4, minor: 5 } as const;

const hostedEngine: VmRule = ({ vm }) =>
  vm.origin === 'managed_hosted_engine' || vm.origin === 'hosted_engine'
    ? {
        code: 'vm-hosted-engine',
        severity: 'blocking',
        message: 'This is the VM that the engine itself runs in; the engine refuses to back it up.',
        advice: 'Leave it out of the job and use engine-backup inside it.',
      }
    : undefined;

const worker: VmRule = ({ vm }) =>
  isWorkerVm(vm)
    ? {
        code: 'vm-is-worker',
        severity: 'blocking',
        message: 'This is a worker VM, which reads and writes the disks of others and keeps nothing worth a backup.',
        advice: 'Leave it out of the job; a worker that is lost is made again from its settings.',
      }
    : undefined;

const foreign: VmRule = ({ vm }) =>
  vm.origin === 'external' || vm.origin === 'kubevirt'
    ? {
        code: 'vm-foreign',
        severity: 'blocking',
        message: `The VM is not managed by the engine (origin ${vm.origin}).`,
        advice: 'Leave it out of the job, or import it into the engine.',
      }
    : undefined;

const passingStates = new Set([
  'image_locked',
  'migrating',
  'powering_up',
  'powering_down',
  'wait_for_launch',
  'reboot_in_progress',
  'saving_state',
  'restoring_state',
  'unassigned',
]);

const state: VmRule = ({ vm }) => {
  if (vm.status === 'up' || vm.status === 'down') return undefined;
  const status = vm.status ?? 'without a status';
  if (passingStates.has(status)) {
    return {
      code: 'vm-state',
      severity: 'blocking',
      message: `The VM is ${status}; the engine backs up only VMs that are up or down.`,
      advice: 'It is tried again when the VM is up or down.',
      passes: true,
    };
  }
  return {
    code: 'vm-state',
    severity: 'blocking',
    message: `The VM is ${status}; the engine backs up only VMs that are up or down.`,
    advice:
      status === 'paused' || status === 'suspended'
        ? 'Resume it or shut it down.'
        : 'Look at the VM and its host in the engine; when its host is lost, confirm that it was restarted.',
  };
};

const otherBackup: VmRule = ({ backups }) => {
  const running = backups.find((backup) => !finalPhases.includes(backup.phase));
  if (!running) return undefined;
  const own = running.description.startsWith(ownMark);
  return {
    code: own ? 'vm-in-backup' : 'vm-foreign-backup',
    severity: 'blocking',
    message: own
      ? `A backup of ours is running in the engine (${running.id}, ${running.phase}).`
      : `Another product's backup is running in the engine (${running.id}, ${running.phase}${running.description === '' ? '' : `, "${running.description.slice(0, 80)}"`}).`,
    advice: own
      ? 'It is tried again when that one has ended; a leftover is ended by the janitor.'
      : 'It is tried again when that one has ended; do not let two products back up the same VM at the same time.',
    passes: true,
  };
};

const transferRunning: VmRule = ({ disks, surroundings }) => {
  const ids = new Set(disks.map(({ disk }) => disk.id));
  const running = surroundings.transfers.find(
    (transfer) => transfer.diskId !== undefined && ids.has(transfer.diskId) && !finishedTransferPhases.includes(transfer.phase),
  );
  if (!running) return undefined;
  const paused = running.phase.startsWith('paused');
  return {
    code: 'vm-in-transfer',
    severity: 'blocking',
    message: `An image transfer of one of its disks is ${paused ? 'paused' : 'running'} (${running.id}, ${running.phase}).`,
    advice: paused ? 'Resume or cancel that transfer in the engine.' : 'It is tried again when that transfer has ended.',
    ...(paused ? {} : { passes: true }),
  };
};

const stateless: VmRule = ({ vm }) =>
  (vm.stateless || vm.poolId !== undefined) && vm.status !== 'down'
    ? {
        code: 'vm-stateless',
        severity: 'blocking',
        message: 'The VM runs stateless (or is a running member of a pool); what its disks hold now is thrown away when it stops.',
        advice: 'Back up the template, or this VM while it is down.',
      }
    : undefined;

const transientDisk: VmRule = ({ disks }) => {
  const found = disks.find(({ disk }) => disk.snapshotId !== undefined);
  return found
    ? {
        code: 'vm-foreign-snapshot-disk',
        severity: 'blocking',
        message: `A disk of another VM's snapshot is attached (${found.disk.name}); such a VM is somebody's helper and cannot be backed up.`,
        advice: 'Detach that disk when its user is done with it, or leave the VM out of the job.',
      }
    : undefined;
};

const coldLevel: VmRule = ({ vm, level, byAttachment }) =>
  !byAttachment && vm.status === 'down' && level !== undefined && compareVersions(level, incrementalLevel) < 0
    ? {
        code: 'vm-level',
        severity: 'blocking',
        message: `At compatibility level ${versionText(level)} the engine cannot back up a VM that is down.`,
        advice: 'Raise the compatibility level of its cluster, or start the VM.',
      }
    : undefined;

const hostsUp: VmRule = ({ surroundings, cluster }) => {
  const { hosts, clusters } = surroundings;
  if (hosts === undefined) return undefined;
  const serving = hosts.some((host) => {
    const center = host.clusterId === undefined ? undefined : clusters.get(host.clusterId)?.dataCenterId;
    return host.status === 'up' && (cluster?.dataCenterId === undefined || center === cluster.dataCenterId);
  });
  return serving
    ? undefined
    : {
        code: 'host-none-up',
        severity: 'blocking',
        message: 'No host of its data centre is up; disks are read through a host.',
        advice: 'Activate a host, or find out in the engine why none is up.',
      };
};

const illegalImages: VmRule = ({ vm }) =>
  vm.hasIllegalImages
    ? {
        code: 'vm-illegal-images',
        severity: 'warning',
        message:
          'The engine marks volumes of this VM as illegal, mostly after a failed snapshot merge. It may not start again once stopped.',
        advice: 'Do not stop it. Retry removing the snapshot in the engine, and ask for help if that fails.',
      }
    : undefined;

const level: VmRule = ({ vm, level: own, byAttachment }) =>
  !byAttachment && vm.status !== 'down' && own !== undefined && compareVersions(own, incrementalLevel) < 0
    ? {
        code: 'cbt-level',
        severity: 'warning',
        message: `At compatibility level ${versionText(own)} changes are not tracked: every run reads everything.`,
        advice: 'Raise the compatibility level of its cluster to 4.5 or newer.',
      }
    : undefined;

const guestAgent: VmRule = ({ vm, requireConsistency }) =>
  vm.status === 'up' && !vm.guestAgentReports
    ? {
        code: 'guest-agent-missing',
        severity: requireConsistency ? 'warning' : 'info',
        message: 'No guest agent reports, so file systems are not frozen: the copy is as after a power cut.',
        advice: 'Install and start qemu-guest-agent in the guest.',
      }
    : undefined;

const firmwareState: VmRule = ({ vm }) =>
  vm.tpmEnabled || vm.biosType === 'q35_secure_boot'
    ? {
        code: 'vm-nvram',
        severity: 'info',
        message: 'The engine gives TPM and secure boot data only with a snapshot; without, a restored VM starts with empty ones.',
        advice: 'Keep recovery keys of encrypted disks at hand.',
      }
    : undefined;

const pendingConfiguration: VmRule = ({ vm }) =>
  vm.nextRunConfigurationExists
    ? {
        code: 'vm-next-run',
        severity: 'info',
        message: 'Changes of the VM wait for its next start; the restore point holds the present configuration.',
        advice: '',
      }
    : undefined;

/** In the order of the findings. */
export const vmRules: readonly VmRule[] = [
  hostedEngine,
  worker,
  foreign,
  transientDisk,
  preview,
  state,
  snapshotRunning,
  otherBackup,
  transferRunning,
  stateless,
  coldLevel,
  hostsUp,
  illegalImages,
  chainLength,
  leftSnapshot,
  level,
  checkpointsPile,
  guestAgent,
  trackingLost,
  firmwareState,
  pendingConfiguration,
];
