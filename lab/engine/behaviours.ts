import { ColdBackup } from './backups/cold-backup';
import { BackupRows } from './backups/backup-rows';
import { registerBackups, registerCheckpoints } from './backups/backup-routes';
import { BackupService } from './backups/backup-service';
import { CheckpointService } from './backups/checkpoint-service';
import { HybridBackup } from './backups/hybrid-backup';
import { LiveBackup } from './backups/live-backup';
import { AttachmentService } from './disks/attachment-service';
import { registerAttachments, registerDisks } from './disks/disk-routes';
import { isFinished as backupIsFinished } from './backups/phases';
import { DiskCopy } from './disks/disk-copy';
import { DiskService } from './disks/disk-service';
import { setImageStatus } from './disks/images';
import type { Routes } from './http/route';
import type { Core } from './model/core';
import { registerPower } from './power/power-routes';
import { PowerService } from './power/power-service';
import { PreviewService } from './snapshots/preview-service';
import { registerSnapshots } from './snapshots/snapshot-routes';
import { SnapshotRemoval } from './snapshots/snapshot-removal';
import { SnapshotService } from './snapshots/snapshot-service';
import { isFinished as transferIsFinished } from './transfers/phases';
import { TicketDesk } from './transfers/ticket-desk';
import { TransferLoop } from './transfers/transfer-loop';
import { registerTransfers } from './transfers/transfer-routes';
import { TransferRows } from './transfers/transfer-rows';
import { TransferService } from './transfers/transfer-service';
import { snapshotOvf } from './vms/ovf-writer';

/**
 * Everything of the engine that takes time and locks: disks, snapshots, backups, transfers and power, wired for one engine run.
 *
 * Named points for injected faults (`Core.step`): disk.create, disk.copy, disk.hotplug, disk.hotunplug, snapshot.create, snapshot.freeze
 * (silent), snapshot.merge, backup.redefine, backup.scratch, backup.freeze, backup.start, backup.bitmaps, backup.stop,
 * checkpoint.delete, transfer.prepare, transfer.ticket, transfer.poll, transfer.renew, transfer.lose-ticket (a fault here makes the
 * daemons forget the ticket), transfer.verify, transfer.remove-ticket, vm.start, vm.stop, vm.freeze, vm.thaw.
 */
export function registerBehaviours(routes: Routes, core: Core): void {
  const disks = new DiskService(core);
  const attachments = new AttachmentService(core, disks);
  const snapshots = new SnapshotService(core, (vm) => snapshotOvf(core.db, vm));
  const removal = new SnapshotRemoval(core, snapshots);
  const checkpoints = new CheckpointService(core);
  const rows = new BackupRows(core, checkpoints, disks);
  const backups = new BackupService(core, rows, checkpoints, disks, {
    live: new LiveBackup(core, rows, checkpoints),
    cold: new ColdBackup(core, rows),
    hybrid: new HybridBackup(core, rows, checkpoints, snapshots, removal),
  });
  const transferRows = new TransferRows(core, disks);
  const transferLoop = new TransferLoop(core, transferRows, new TicketDesk(core));
  const transfers = new TransferService(core, disks, transferRows, transferLoop);
  const power = new PowerService(core, attachments);
  power.onProcessEnd((vmId) => {
    transfers.loseLiveTransfers(vmId);
    return Promise.resolve();
  });
  registerDisks(routes, core, disks, new DiskCopy(core, disks));
  registerAttachments(routes, core, attachments, disks);
  registerSnapshots(routes, core, { snapshots, removal, previews: new PreviewService(core, snapshots) });
  registerBackups(routes, core, backups);
  registerCheckpoints(routes, core, checkpoints);
  registerTransfers(routes, core, transfers);
  registerPower(routes, core, power);
  // Backups and transfers take their locks before anything else can ask for them; machines are looked at last.
  core.onStart(async () => {
    backups.recover();
    transfers.recover();
    await snapshots.recover();
    removal.recover();
    await disks.recover();
    freeForgottenDisks(core);
    await power.recover();
    endOrphanedJobs(core);
  });
}

/** Short work on a disk (growing it, merging one volume) is not stored: what it locked is free again, as it was or as it became. */
function freeForgottenDisks(core: Core): void {
  const { db } = core;
  const busy = new Set([
    ...db.backups
      .list(({ phase, mode }) => mode !== 'hybrid' && !backupIsFinished(phase))
      .flatMap(({ disks }) => disks.map(({ diskId }) => diskId)),
    ...db.transfers.list(({ phase, volumeId }) => volumeId === undefined && !transferIsFinished(phase)).map(({ diskId }) => diskId),
    ...db.volumes.list(({ snapshotId }) => db.snapshots.get(snapshotId ?? '')?.pending !== undefined).map(({ diskId }) => diskId),
  ]);
  for (const disk of db.disks.list(({ id, status, pending }) => status === 'locked' && pending === undefined && !busy.has(id))) {
    setImageStatus(db, disk.id, 'ok');
  }
}

/** Jobs of work that did not survive the restart would stay `started` for ever. */
function endOrphanedJobs(core: Core): void {
  const { db, jobs } = core;
  const alive = new Set([...db.backups.list(), ...db.transfers.list(), ...db.snapshots.list()].map((entity) => entity.jobId));
  for (const job of db.jobs.list((candidate) => candidate.status === 'started' && !candidate.external && !alive.has(candidate.id))) {
    jobs.end(job.id, false);
  }
}
