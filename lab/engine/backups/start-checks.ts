/** Validation of a backup's start, in the engine's order. Source: reference "oVirt engine REST API" section 4.5. */
import { aliases, disksOfVm, effectiveLevel, isSnapable, requireUsable } from '../disks/images';
import type { Core } from '../model/core';
import type { BackupMode, Checkpoint, Disk, Vm } from '../model/entities';
import { refuse } from '../states/refusals';
import { unfinishedBackup } from './backup-queries';
import { isAtLeast } from './phases';

const LONGEST_DESCRIPTION = 1024;

export interface StartRequest {
  readonly id: string;
  readonly description: string;
  readonly diskIds: readonly string[];
  readonly fromCheckpointId?: string;
  readonly mode: BackupMode;
}

/** The disks to back up, LUNs and shareable ones silently left out, and the checkpoint to start from. */
export interface CheckedStart {
  readonly disks: readonly Disk[];
  readonly from: Checkpoint | undefined;
}

export function checkStart(core: Core, vm: Vm, request: StartRequest): CheckedStart {
  const { db } = core;
  if (vm.origin === 'hosted_engine' || vm.origin === 'managed_hosted_engine')
    throw refuse('HOSTED_ENGINE_VM_BACKUP_NOT_SUPPORTED', vm.name);
  const missing = request.diskIds.filter((id) => !db.disks.has(id));
  if (missing.length > 0) throw refuse('DISKS_NOT_EXIST', missing.join(', '));
  const disks = request.diskIds.map((id) => db.disks.require(id)).filter(isSnapable);
  requireUsable(disks);
  const plugged = new Set(disksOfVm(db, vm.id).flatMap(({ disk, attachment }) => (attachment.active ? [disk.id] : [])));
  const inactive = disks.filter((disk) => !plugged.has(disk.id));
  if (inactive.length > 0) throw refuse('DISKS_ARE_NOT_ACTIVE', aliases(inactive));
  const from = checkOrigin(core, vm, request, disks);
  if (vm.status !== 'up' && vm.status !== 'down') throw refuse('CANNOT_START_BACKUP_VM_SHOULD_BE_IN_UP_OR_DOWN_STATUS', vm.name);
  if (db.snapshots.find((snapshot) => snapshot.vmId === vm.id && snapshot.status === 'in_preview')) throw refuse('VM_IN_PREVIEW', vm.name);
  if (request.mode === 'cold' && !isAtLeast(effectiveLevel(db, vm), 4, 5)) throw refuse('COLD_BACKUP_NOT_SUPPORTED', vm.name);
  if (unfinishedBackup(db, vm.id) !== undefined) throw refuse('VM_IS_DURING_BACKUP', vm.name);
  if (request.description.length > LONGEST_DESCRIPTION) throw refuse('VM_BACKUP_DESCRIPTION_IS_TOO_LONG');
  if (db.backups.has(request.id)) throw refuse('VM_BACKUP_ID_ALREADY_EXIST', request.id);
  return { disks, from };
}

function checkOrigin(core: Core, vm: Vm, request: StartRequest, disks: readonly Disk[]): Checkpoint | undefined {
  const { db } = core;
  const { fromCheckpointId } = request;
  if (fromCheckpointId === undefined) return undefined;
  if (!isAtLeast(effectiveLevel(db, vm), 4, 5)) {
    if (disks.some((disk) => disk.backup !== 'incremental')) throw refuse('INCREMENTAL_BACKUP_NOT_SUPPORTED', vm.name);
    const covered = new Set(db.checkpoints.get(fromCheckpointId)?.diskIds);
    const uncovered = disks.filter((disk) => !covered.has(disk.id));
    if (uncovered.length > 0) throw refuse('MIXED_INCREMENTAL_AND_FULL', aliases(uncovered));
  }
  const checkpoint = db.checkpoints.get(fromCheckpointId);
  if (checkpoint?.vmId !== vm.id) throw refuse('CHECKPOINT_NOT_EXIST', fromCheckpointId);
  if (checkpoint.state === 'invalid') throw refuse('CHECKPOINT_INVALID', fromCheckpointId);
  return checkpoint;
}
