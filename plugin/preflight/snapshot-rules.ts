/** Rules about the snapshots and checkpoints of a VM. Conditions: engine REST API §3.2, §4.8, §5. */
import { finalPhases } from '../engine/backups';
import { engineBackupSnapshot } from '../engine/snapshots';
import type { VmRule } from './rule';

const warnSnapshots = 10;
const mostSnapshots = 25;
const manyCheckpoints = 20;

export const preview: VmRule = ({ snapshots }) =>
  snapshots.some((snapshot) => snapshot.status === 'in_preview' || snapshot.type === 'preview')
    ? {
        code: 'vm-preview',
        severity: 'blocking',
        message: 'The VM is in the middle of a snapshot preview.',
        advice: 'Commit or undo the preview in the engine.',
      }
    : undefined;

export const snapshotRunning: VmRule = ({ snapshots }) =>
  snapshots.some((snapshot) => snapshot.status === 'locked')
    ? {
        code: 'vm-snapshot-running',
        severity: 'blocking',
        message: 'A snapshot of the VM is being made or removed.',
        advice: 'It is tried again when that has ended.',
        passes: true,
      }
    : undefined;

export const chainLength: VmRule = ({ snapshots }) => {
  const count = snapshots.filter((snapshot) => snapshot.type === 'regular' || snapshot.type === undefined).length;
  if (count < warnSnapshots) return undefined;
  return count >= mostSnapshots
    ? {
        code: 'chain-too-long',
        severity: 'blocking',
        message: `The VM has ${count} snapshots; with ${mostSnapshots} or more a backup could make it unusable.`,
        advice: 'Remove snapshots in the engine until there are fewer than ten.',
      }
    : {
        code: 'chain-too-long',
        severity: 'warning',
        message: `The VM has ${count} snapshots, which makes it slow and merges long.`,
        advice: 'Remove snapshots that nobody needs.',
      };
};

/** One that we took ourselves, see `plugin/protection/marks.ts`. */
const ownSnapshot = /^tidemark \S+ operation=/;

export const leftSnapshot: VmRule = ({ snapshots, backups }) => {
  const running = backups.some((backup) => !finalPhases.includes(backup.phase));
  const left = snapshots.find(
    ({ description, status }) => (description === engineBackupSnapshot || ownSnapshot.test(description)) && status === 'ok',
  );
  return left && !running
    ? {
        code: 'snapshot-left',
        severity: 'warning',
        message: `A snapshot of an ended backup is left (${left.id}).`,
        advice: 'The janitor removes it when it is ours; else remove it in the engine.',
      }
    : undefined;
};

export const checkpointsPile: VmRule = ({ checkpoints }) =>
  checkpoints.length >= manyCheckpoints
    ? {
        code: 'checkpoints-many',
        severity: 'warning',
        message: `The VM has ${checkpoints.length} checkpoints; each costs space in its disks and has broken snapshot merges.`,
        advice: 'Remove those of products that no longer run; ours are removed by themselves.',
      }
    : undefined;

export const trackingLost: VmRule = ({ checkpoints, byAttachment }) =>
  byAttachment && checkpoints.length > 0
    ? {
        code: 'cbt-detach-risk',
        severity: 'info',
        message: `The VM has ${checkpoints.length} checkpoints; engines after 4.5.7 drop them when a disk is taken off a worker, so the next backup by image transfer reads everything, other products' too.`,
        advice: 'Do not mix both ways for the same VM without need.',
      }
    : undefined;
