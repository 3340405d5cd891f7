/** `/vms/:vmId/backups` and `/vms/:vmId/checkpoints`. */
import { diskView } from '../disks/disk-view';
import { objectsOf, textOf, type ApiObject } from '../http/api-object';
import { incomplete } from '../http/fault';
import { hrefOf, refOf } from '../http/href';
import { created, done, list, ok } from '../http/reply';
import { found, param, type RequestContext } from '../http/request-context';
import type { Routes } from '../http/route';
import type { Core } from '../model/core';
import type { Backup, Checkpoint, Disk, Vm } from '../model/entities';
import type { BackupRequest, BackupService } from './backup-service';
import type { CheckpointService } from './checkpoint-service';
import { apiPhase, hasCheckpoint } from './phases';

export function registerBackups(routes: Routes, core: Core, backups: BackupService): void {
  const { db } = core;
  const vmOf = (context: RequestContext): Vm => found(db.vms.get(param(context, 'vmId')));
  const backupOf = (context: RequestContext): Backup => found(backups.find(vmOf(context).id, param(context, 'backupId')));
  routes.add('GET', '/vms/:vmId/backups', (context) => list('backup', backups.list(vmOf(context).id).map(backupView)));
  routes.add('GET', '/vms/:vmId/backups/:backupId', (context) => ok('backup', backupView(backupOf(context))));
  routes.add(
    'POST',
    '/vms/:vmId/backups',
    async (context) => {
      context.permits('BACKUP_DISK');
      return created('backup', backupView(await backups.start(vmOf(context), requestOf(context))));
    },
    { body: 'backup' },
  );
  routes.add(
    'POST',
    '/vms/:vmId/backups/:backupId/finalize',
    async (context) => {
      context.permits('BACKUP_DISK');
      await backups.finalize(backupOf(context));
      return done();
    },
    { body: 'action' },
  );
  const diskViews = (backup: Backup): ApiObject[] =>
    backup.disks.flatMap((entry) => {
      const disk = db.disks.get(entry.diskId);
      const href = hrefOf('vms', backup.vmId, 'backups', backup.id, 'disks', entry.diskId);
      return disk === undefined ? [] : [diskView(core, disk, { href, backupMode: entry.backupMode })];
    });
  routes.add('GET', '/vms/:vmId/backups/:backupId/disks', (context) => list('disk', diskViews(backupOf(context))));
  routes.add('GET', '/vms/:vmId/backups/:backupId/disks/:diskId', (context) =>
    ok('disk', found(diskViews(backupOf(context)).find((view) => view['id'] === param(context, 'diskId')))),
  );
}

export function registerCheckpoints(routes: Routes, core: Core, checkpoints: CheckpointService): void {
  const { db } = core;
  const vmOf = (context: RequestContext): Vm => found(db.vms.get(param(context, 'vmId')));
  const one = (context: RequestContext): Checkpoint => found(checkpoints.get(vmOf(context).id, param(context, 'checkpointId')));
  const disksOf = (checkpoint: Checkpoint): Disk[] => checkpoint.diskIds.flatMap((id) => db.disks.get(id) ?? []);
  routes.add('GET', '/vms/:vmId/checkpoints', (context) => list('checkpoint', checkpoints.list(vmOf(context).id).map(checkpointView)));
  routes.add('GET', '/vms/:vmId/checkpoints/:checkpointId', (context) => ok('checkpoint', checkpointView(one(context))));
  routes.add('GET', '/vms/:vmId/checkpoints/:checkpointId/disks', (context) =>
    list(
      'disk',
      disksOf(one(context)).map((disk) => diskView(core, disk)),
    ),
  );
  routes.add('DELETE', '/vms/:vmId/checkpoints/:checkpointId', async (context) => {
    context.permits('BACKUP_DISK');
    await checkpoints.remove(vmOf(context), param(context, 'checkpointId'), context);
    return done();
  });
}

function requestOf(context: RequestContext): BackupRequest {
  const { body, query } = context;
  const disks = objectsOf(body, 'disks');
  if (disks === undefined || disks.length === 0) throw incomplete('Backup', ['disks'], 'add');
  const id = textOf(body, 'id');
  const fromCheckpointId = textOf(body, 'from_checkpoint_id');
  return {
    ...(id !== undefined && { id }),
    description: textOf(body, 'description') ?? '',
    diskIds: [...new Set(disks.flatMap((disk) => textOf(disk, 'id') ?? []))],
    ...(fromCheckpointId !== undefined && { fromCheckpointId }),
    // The documented `use_active` is never read by the engine.
    legacy: query.valuedFlag('legacy') ?? false,
    requireConsistency: query.flag('require_consistency') ?? false,
    correlationId: context.correlationId,
    userId: context.userId,
  };
}

function backupView(backup: Backup): ApiObject {
  return {
    href: hrefOf('vms', backup.vmId, 'backups', backup.id),
    id: backup.id,
    description: backup.description,
    phase: apiPhase(backup.phase),
    creation_date: backup.createdAt,
    modification_date: backup.modifiedAt,
    from_checkpoint_id: backup.fromCheckpointId,
    to_checkpoint_id: hasCheckpoint(backup.phase) ? backup.toCheckpointId : undefined,
    host: refOf('hosts', backup.hostId),
    snapshot: backup.snapshotId === undefined ? undefined : refOf(`vms/${backup.vmId}/snapshots`, backup.snapshotId),
    vm: refOf('vms', backup.vmId),
  };
}

function checkpointView(checkpoint: Checkpoint): ApiObject {
  return {
    href: hrefOf('vms', checkpoint.vmId, 'checkpoints', checkpoint.id),
    id: checkpoint.id,
    parent_id: checkpoint.parentId,
    creation_date: checkpoint.createdAt,
    description: checkpoint.description,
    state: checkpoint.state,
    vm: refOf('vms', checkpoint.vmId),
  };
}
