/**
 * Backups of machines: what is common to the live, cold and hybrid modes, and the loop that moves each of them on.
 *
 * Owns backup rows and their locks; data flows by image transfers, which only ask {@link BackupService} for the row. Phases and
 * their table: phases.ts; the modes: live-backup.ts, cold-backup.ts, hybrid-backup.ts.
 * Source: reference "oVirt engine REST API" section 4.
 */
import { randomUUID } from 'node:crypto';
import type { DiskService, Requester } from '../disks/disk-service';
import { disksOfVm, effectiveLevel, isLive, isSnapable } from '../disks/images';
import { EngineFault } from '../http/fault';
import { takeLocks } from '../locks/take-locks';
import type { LockName } from '../locks/lock-manager';
import type { Core } from '../model/core';
import type { PollResult, Timer } from '../model/clock';
import type { Backup, BackupDiskEntry, BackupMode, Checkpoint, Disk, Vm } from '../model/entities';
import { RETENTION } from '../model/settings';
import { refuse } from '../states/refusals';
import { isFinished as transferIsFinished } from '../transfers/phases';
import { unfinishedBackup } from './backup-queries';
import type { BackupRows } from './backup-rows';
import type { CheckpointService } from './checkpoint-service';
import { apiPhase, chooseMode, isAtLeast, isFinished } from './phases';
import { checkStart } from './start-checks';

export interface BackupRequest extends Requester {
  readonly id?: string;
  readonly description: string;
  readonly diskIds: readonly string[];
  readonly fromCheckpointId?: string;
  readonly legacy: boolean;
  readonly requireConsistency: boolean;
}

/** What a mode adds: each step reads the row anew, since a client may have ended it meanwhile. */
export interface BackupModeDriver {
  /** Inside the POST; a thrown fault is the answer, the row has then failed. */
  begin(backup: Backup, vm: Vm, from: Checkpoint | undefined): Promise<void>;
  /** One turn of the loop. */
  tick(backup: Backup, vm: Vm): Promise<PollResult>;
  /** The backup is ready and no transfer runs. A thrown fault is the answer. */
  finalize(backup: Backup, vm: Vm): Promise<void>;
  /** It ended badly: take back what the hosts or files still hold. */
  cleanUp(backup: Backup, vm: Vm): Promise<void>;
  /** After a restart: whether the loop can go on from this phase. */
  canResume(backup: Backup): boolean;
}

export class BackupService {
  private readonly watches = new Map<string, Timer>();

  constructor(
    private readonly core: Core,
    private readonly rows: BackupRows,
    private readonly checkpoints: CheckpointService,
    private readonly disks: DiskService,
    private readonly modes: Readonly<Record<BackupMode, BackupModeDriver>>,
  ) {}

  async start(vm: Vm, request: BackupRequest): Promise<Backup> {
    const { db, locks } = this.core;
    const id = request.id ?? randomUUID();
    const level = effectiveLevel(db, vm);
    const mode = chooseMode(level, request.legacy, isLive(vm));
    if (unfinishedBackup(db, vm.id) !== undefined) throw refuse('VM_IS_DURING_BACKUP', vm.name);
    this.takeLocks(vm, id, mode, request.diskIds);
    let checked;
    try {
      checked = checkStart(this.core, vm, { ...request, id, mode });
    } catch (error) {
      locks.release(id);
      throw error;
    }
    const backup = this.addRow(vm, id, mode, checked.disks, checked.from, request);
    try {
      await this.modes[mode].begin(backup, vm, checked.from);
    } catch (error) {
      this.rows.fail(id);
      throw error;
    }
    this.watch(id);
    return db.backups.require(id);
  }

  /** Answers 200 when the end was accepted; see the table in section 4.4 for the refusals. */
  async finalize(backup: Backup): Promise<void> {
    const { db } = this.core;
    const vm = db.vms.require(backup.vmId);
    const transfers = db.transfers.list((transfer) => transfer.backupId === backup.id && !transferIsFinished(transfer.phase));
    if (transfers.length > 0) throw refuse('ACTIVE_IMAGE_TRANSFER_FOR_VM_BACKUP', backup.id);
    if (backup.phase === 'READY' && !backup.stopRequested) {
      await this.modes[backup.mode].finalize(backup, vm);
      if (backup.mode !== 'hybrid') this.watch(backup.id);
      return;
    }
    const phase = apiPhase(backup.phase);
    if (['ready', 'finalizing', 'succeeded', 'failed'].includes(phase)) throw refuse('VM_BACKUP_ALREADY_STOPPED', phase);
    // Too early: refused, and yet it ends the backup.
    this.rows.log(backup, 10796, 'warning', 'was stopped');
    this.rows.fail(backup.id);
    this.core.background(() => this.modes[backup.mode].cleanUp(backup, vm));
    throw refuse('VM_BACKUP_STOPPED_TOO_EARLY', phase);
  }

  find(vmId: string, id: string): Backup | undefined {
    const backup = this.core.db.backups.get(id);
    return backup?.vmId === vmId ? backup : undefined;
  }

  list(vmId: string): Backup[] {
    return this.core.db.backups.list((backup) => backup.vmId === vmId);
  }

  /** After a restart: take locks again and go on, or fail what nobody can go on with. */
  recover(): void {
    const { core } = this;
    const { db, locks } = core;
    for (const backup of db.backups.list((candidate) => !isFinished(candidate.phase))) {
      const vm = db.vms.get(backup.vmId);
      if (vm === undefined) {
        this.rows.fail(backup.id, 10814, 'was not monitored any more and failed');
        continue;
      }
      locks.tryAcquire({
        holder: backup.id,
        message: 'VM_IS_DURING_BACKUP',
        ...this.locksOf(
          vm,
          backup.mode,
          backup.disks.map((d) => d.diskId),
        ),
      });
      if (this.modes[backup.mode].canResume(backup)) this.watch(backup.id);
      else {
        this.rows.fail(backup.id, 10814, 'was not monitored any more and failed');
        core.background(() => this.modes[backup.mode].cleanUp(backup, vm));
      }
    }
    this.sweepLater();
  }

  private takeLocks(vm: Vm, id: string, mode: BackupMode, diskIds: readonly string[]): void {
    const { locks } = this.core;
    const wanted = this.locksOf(vm, mode, diskIds);
    const vmLocks = wanted.exclusive.filter((name) => name.startsWith('vm:'));
    const diskLocks = wanted.exclusive.filter((name) => name.startsWith('disk:'));
    takeLocks(locks, { holder: id, message: 'VM_IS_DURING_BACKUP', exclusive: vmLocks }, vm.name);
    try {
      takeLocks(locks, { holder: id, message: 'DISK_IS_LOCKED', exclusive: diskLocks }, vm.name);
    } catch (error) {
      locks.release(id);
      throw error;
    }
  }

  /** Live and cold: the machine and the chosen disks. Hybrid: all snapable disks, chosen or not, and never the machine. */
  private locksOf(vm: Vm, mode: BackupMode, diskIds: readonly string[]): { exclusive: LockName[] } {
    if (mode !== 'hybrid') return { exclusive: [`vm:${vm.id}`, ...diskIds.map((id): LockName => `disk:${id}`)] };
    const snapable = disksOfVm(this.core.db, vm.id).filter(({ disk }) => isSnapable(disk));
    return { exclusive: snapable.map(({ disk }): LockName => `disk:${disk.id}`) };
  }

  private addRow(
    vm: Vm,
    id: string,
    mode: BackupMode,
    disks: readonly Disk[],
    from: Checkpoint | undefined,
    request: BackupRequest,
  ): Backup {
    const { db, clock, jobs } = this.core;
    const level = effectiveLevel(db, vm);
    const tracked = isAtLeast(level, 4, 5) ? disks.filter((disk) => disk.format === 'cow') : [];
    const trackedIds = new Set(tracked.map((disk) => disk.id));
    const covered = new Set(from?.diskIds);
    const entries = disks.map((disk): BackupDiskEntry => ({
      diskId: disk.id,
      backupMode: covered.has(disk.id) && disk.format === 'cow' ? 'incremental' : 'full',
      inCheckpoint: trackedIds.has(disk.id),
    }));
    const hasCheckpoint = mode === 'hybrid' || trackedIds.size > 0;
    const toCheckpointId = hasCheckpoint ? randomUUID() : undefined;
    const now = clock.now();
    const job = jobs.start(`Backing up VM ${vm.name}`, request);
    return db.transaction(() => {
      if (mode !== 'hybrid') {
        for (const disk of disks) this.disks.setStatus(disk.id, 'locked');
        if (toCheckpointId !== undefined) this.checkpoints.add(toCheckpointId, vm.id, request.description, [...trackedIds]);
      }
      return db.backups.put({
        id,
        vmId: vm.id,
        mode,
        phase: 'INITIALIZING',
        description: request.description,
        disks: entries,
        ...(from !== undefined && { fromCheckpointId: from.id }),
        ...(toCheckpointId !== undefined && { toCheckpointId }),
        requireConsistency: request.requireConsistency,
        stopRequested: false,
        jobId: job.id,
        correlationId: request.correlationId,
        userId: request.userId,
        createdAt: now,
        modifiedAt: now,
      });
    });
  }

  private watch(id: string): void {
    this.watches.get(id)?.cancel();
    const timer = this.core.clock.poll(async () => {
      const backup = this.rows.alive(id);
      const vm = backup === undefined ? undefined : this.core.db.vms.get(backup.vmId);
      const result = backup === undefined || vm === undefined ? 'done' : await this.tick(backup, vm);
      if (result === 'done') this.watches.delete(id);
      return result;
    });
    this.watches.set(id, timer);
  }

  private async tick(backup: Backup, vm: Vm): Promise<PollResult> {
    try {
      return await this.modes[backup.mode].tick(backup, vm);
    } catch (error) {
      this.core.log.error(`backup ${backup.id} failed`, error);
      this.rows.fail(backup.id, 10792, `failed (${error instanceof EngineFault ? error.detail : 'see the engine log'})`);
      await this.modes[backup.mode].cleanUp(backup, vm);
      return 'done';
    }
  }

  private sweepLater(): void {
    const { db, clock } = this.core;
    clock.after(RETENTION.cleanerEveryMs, () => {
      for (const backup of db.backups.list((candidate) => isFinished(candidate.phase))) {
        const keptMs = backup.phase === 'SUCCEEDED' ? RETENTION.succeededMs : RETENTION.failedMs;
        if (clock.now() - backup.modifiedAt > keptMs) db.backups.delete(backup.id);
      }
      this.sweepLater();
    });
  }
}
