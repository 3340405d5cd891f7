/**
 * Image transfers: tickets for reading or writing one disk, and the loop that follows them to their end.
 *
 * Owns rows of transfers, their tickets and exports, and the disk's status meanwhile. Client actions only write a wanted phase; the
 * loop acts on it later. Phases and their table: phases.ts. Source: reference "oVirt engine REST API" sections 6 and 14.4.
 */
import { randomUUID } from 'node:crypto';
import type { DiskService } from '../disks/disk-service';
import { measureDisk, vmsOfDisk, volumeIdOf } from '../disks/images';
import { incomplete } from '../http/fault';
import type { LockName, LockRequest } from '../locks/lock-manager';
import { takeLocks } from '../locks/take-locks';
import type { Core } from '../model/core';
import type { PollResult } from '../model/clock';
import type { EventEntry, Host, Transfer, TransferPhase } from '../model/entities';
import { RETENTION } from '../model/settings';
import { follow } from '../states/transitions';
import { refuse } from '../states/refusals';
import { clientMayWrite, isFinished, isPaused, TRANSFER_TRANSITIONS } from './phases';
import type { TicketDesk } from './ticket-desk';
import { checkTransfer, chooseHost, findSubject, type TransferRequest, type TransferSubject } from './transfer-checks';
import { closeSource, openSource } from './transfer-source';

/** What the loop remembers between two turns; nothing of it needs to survive a restart. */
interface Watch {
  renewedAt: number;
  failedRenewals: number;
  completeTurns: number;
}

const RENEWALS_BEFORE_STOP = 2;
const COMPLETE_TURNS = 2;

export class TransferService {
  private readonly watches = new Map<string, Watch>();

  constructor(
    private readonly core: Core,
    private readonly disks: DiskService,
    private readonly desk: TicketDesk,
  ) {}

  /** Validates, prepares and installs the ticket inside the request, so the answer is usually `transferring` already. */
  async create(request: TransferRequest): Promise<Transfer> {
    const { core } = this;
    if (request.diskId === undefined && request.volumeId === undefined) throw incomplete('ImageTransfer', ['disk|snapshot|image'], 'add');
    const subject = findSubject(core, request);
    const id = randomUUID();
    if (subject.backup === undefined) takeLocks(core.locks, this.locksOf(id, request.direction, subject), subject.disk.name);
    try {
      checkTransfer(core, request, subject);
    } catch (error) {
      core.locks.release(id);
      throw error;
    }
    const transfer = this.addRow(id, request, subject);
    const host = chooseHost(core, request, subject);
    if (host === undefined) {
      this.log(transfer, 1067, 'error', 'no host is available for it');
      await this.endBadly(transfer);
      return core.db.transfers.require(id);
    }
    core.db.transfers.update(id, { hostId: host.id });
    await this.prepare(id, host);
    this.watch(id);
    return core.db.transfers.require(id);
  }

  finalize(id: string): void {
    this.writeByClient(id, 'finalizing_success');
  }

  cancel(id: string): void {
    this.writeByClient(id, 'cancelled_user');
  }

  pause(id: string): void {
    const transfer = this.core.db.transfers.get(id);
    if (transfer?.direction === 'download') throw refuse('CANNOT_PAUSE_IMAGE_DOWNLOAD');
    this.writeByClient(id, 'paused_user');
  }

  resume(id: string): void {
    const transfer = this.core.db.transfers.get(id);
    if (transfer !== undefined && !isPaused(transfer.phase)) throw refuse('CANNOT_RESUME_IMAGE_TRANSFER');
    this.writeByClient(id, 'resuming');
  }

  /** Refreshes the entity, nothing else: idle time is the ticket's. */
  extend(id: string): void {
    this.core.db.transfers.update(id, { updatedAt: this.core.clock.now() });
  }

  /** A machine's process ended: exports of its live backups are gone, and their transfers with them. */
  loseLiveTransfers(vmId: string): void {
    const { db } = this.core;
    for (const transfer of db.transfers.list((candidate) => candidate.phase === 'transferring')) {
      const backup = transfer.backupId === undefined ? undefined : db.backups.get(transfer.backupId);
      if (backup?.vmId === vmId && backup.mode === 'live') this.move(transfer.id, 'transferring', 'cancelled_system');
    }
  }

  /** After a restart: locks are taken again and every transfer is followed on. */
  recover(): void {
    const { db, locks } = this.core;
    for (const transfer of db.transfers.list((candidate) => !isFinished(candidate.phase))) {
      const disk = db.disks.get(transfer.diskId);
      if (disk !== undefined && transfer.backupId === undefined) {
        const volume = transfer.volumeId === undefined ? undefined : db.volumes.get(transfer.volumeId);
        locks.tryAcquire(this.locksOf(transfer.id, transfer.direction, { disk, volume, backup: undefined }));
      }
      this.move(transfer.id, 'initializing', this.brokenOff(transfer));
      this.watch(transfer.id);
    }
    this.sweepLater();
  }

  private locksOf(id: string, direction: Transfer['direction'], { disk, volume }: TransferSubject): LockRequest {
    const diskLock: LockName = `disk:${disk.id}`;
    const message = 'DISK_IS_BEING_TRANSFERRED';
    if (direction === 'upload') return { holder: id, message, exclusive: [diskLock] };
    if (volume === undefined) return { holder: id, message, shared: [diskLock] };
    return { holder: id, message, shared: [diskLock, ...vmsOfDisk(this.core.db, disk.id).map((vm): LockName => `vm:${vm.id}`)] };
  }

  private addRow(id: string, request: TransferRequest, { disk, volume, backup }: TransferSubject): Transfer {
    const { db, clock, jobs } = this.core;
    const now = clock.now();
    const verb = request.direction === 'upload' ? 'Uploading' : 'Downloading';
    const job = jobs.start(`${verb} image of disk ${disk.name}`, request);
    return db.transaction(() => {
      if (volume !== undefined) db.volumes.update(volume.id, { status: 'locked' });
      else if (backup === undefined) this.disks.setStatus(disk.id, 'locked');
      else if (backup.mode === 'hybrid') this.setFrozenStatus(backup.id, disk.id, 'locked');
      const transfer = db.transfers.put({
        id,
        diskId: disk.id,
        ...(volume !== undefined && { volumeId: volume.id }),
        ...(backup !== undefined && { backupId: backup.id }),
        direction: request.direction,
        ...(request.format !== undefined && { format: request.format }),
        shallow: request.shallow,
        phase: 'initializing',
        sizeBytes: disk.provisionedSizeBytes,
        inactivityTimeoutSeconds: request.inactivityTimeoutSeconds,
        timeoutPolicy: request.timeoutPolicy,
        active: false,
        transferredBytes: 0,
        jobId: job.id,
        userId: request.userId,
        correlationId: request.correlationId,
        createdAt: now,
        updatedAt: now,
      });
      this.log(transfer, 1031, 'normal', 'was initiated');
      return transfer;
    });
  }

  /** Export and ticket; what goes wrong here pauses an upload and cancels a download. */
  private async prepare(id: string, host: Host): Promise<void> {
    const { db, clock } = this.core;
    const transfer = db.transfers.require(id);
    try {
      const target = await openSource(this.core, transfer, host);
      const addresses = await this.desk.install(transfer, host, target);
      db.transfers.update(id, { ...addresses, hostId: host.id });
      this.watches.set(id, { renewedAt: clock.now(), failedRenewals: 0, completeTurns: 0 });
      // A client may have cancelled while this was under way: the loop then takes the ticket back.
      this.move(id, transfer.phase, 'transferring');
    } catch (error) {
      this.core.log.error(`preparing transfer ${id} failed`, error);
      this.move(id, transfer.phase, this.brokenOff(transfer));
    }
  }

  private watch(id: string): void {
    if (!this.watches.has(id)) this.watches.set(id, { renewedAt: 0, failedRenewals: 0, completeTurns: 0 });
    this.core.clock.poll(async () => {
      const transfer = this.core.db.transfers.get(id);
      if (transfer === undefined || isFinished(transfer.phase)) {
        this.watches.delete(id);
        return 'done';
      }
      return this.turn(transfer);
    });
  }

  private async turn(transfer: Transfer): Promise<PollResult> {
    switch (transfer.phase) {
      case 'transferring':
        await this.observe(transfer);
        return 'again';
      case 'resuming':
        await this.continueUpload(transfer);
        return 'again';
      case 'paused_user':
      case 'paused_system':
        await this.dropTicket(transfer);
        return 'again';
      case 'cancelled_user':
        this.move(transfer.id, 'cancelled_user', 'finalizing_cleanup');
        return 'soon';
      case 'cancelled_system':
        this.move(transfer.id, 'cancelled_system', 'finalizing_failure');
        return 'soon';
      case 'finalizing_success':
      case 'finalizing_failure':
      case 'finalizing_cleanup':
        return this.close(transfer);
      case 'finished_cleanup':
        this.move(transfer.id, 'finished_cleanup', 'finished_failure');
        return 'done';
      default:
        return 'again';
    }
  }

  /** One look at the ticket: progress, renewal, inactivity, loss, and downloads that are complete. */
  private async observe(transfer: Transfer): Promise<void> {
    const { db, settings, clock } = this.core;
    const watch = this.watches.get(transfer.id);
    if (watch === undefined) return;
    let state;
    try {
      await this.core.step('transfer.poll', transfer.id);
      state = await this.loseTicketOnDemand(transfer).then(() => this.desk.look(transfer));
    } catch (error) {
      this.core.log.error(`ticket of transfer ${transfer.id} cannot be read`, error);
      const renewalDueMs = (settings.ticketValiditySeconds - settings.ticketRefreshSeconds) * 1_000;
      if (clock.now() - watch.renewedAt >= renewalDueMs) this.countFailedRenewal(transfer, watch);
      return;
    }
    if (state === undefined || state.canceled) {
      this.log(transfer, 1065, 'error', 'lost its ticket; the image daemon may have been restarted');
      this.move(transfer.id, 'transferring', this.brokenOff(transfer));
      return;
    }
    const transferredBytes = state.transferredBytes ?? transfer.transferredBytes;
    if (transferredBytes !== transfer.transferredBytes || state.active !== transfer.active) {
      db.transfers.update(transfer.id, { transferredBytes, active: state.active });
    }
    if (state.expiresInSeconds < settings.ticketRefreshSeconds) await this.renew(transfer, watch);
    const complete = transfer.direction === 'download' && !state.active && transferredBytes === transfer.sizeBytes;
    watch.completeTurns = complete ? watch.completeTurns + 1 : 0;
    if (watch.completeTurns >= COMPLETE_TURNS) this.move(transfer.id, 'transferring', 'finalizing_success');
    const limit = transfer.inactivityTimeoutSeconds;
    if (limit > 0 && !state.active && state.idleSeconds > limit) this.giveUpIdle(transfer);
  }

  /** Named point `transfer.lose-ticket`: its injected fault is the loss itself. */
  private async loseTicketOnDemand(transfer: Transfer): Promise<void> {
    try {
      await this.core.step('transfer.lose-ticket', transfer.id);
    } catch {
      // Asked for by the control endpoint: the daemons forget the ticket, as a restart would make them.
      await this.core.fleet.removeTicket('proxy', transfer.ticketId ?? '');
      await this.core.fleet.removeTicket(transfer.hostId ?? '', transfer.ticketId ?? '');
    }
  }

  private async renew(transfer: Transfer, watch: Watch): Promise<void> {
    try {
      await this.desk.renew(transfer);
      watch.failedRenewals = 0;
      watch.renewedAt = this.core.clock.now();
    } catch (error) {
      this.core.log.error(`renewing the ticket of transfer ${transfer.id} failed`, error);
      this.countFailedRenewal(transfer, watch);
    }
  }

  private countFailedRenewal(transfer: Transfer, watch: Watch): void {
    watch.failedRenewals += 1;
    if (watch.failedRenewals < RENEWALS_BEFORE_STOP) return;
    this.log(transfer, 1064, 'error', 'was stopped: its ticket cannot be renewed');
    this.move(transfer.id, 'transferring', this.brokenOff(transfer));
  }

  private giveUpIdle(transfer: Transfer): void {
    const next: TransferPhase =
      transfer.timeoutPolicy === 'pause'
        ? 'paused_system'
        : transfer.timeoutPolicy === 'cancel'
          ? 'cancelled_system'
          : this.brokenOff(transfer);
    this.log(transfer, 1051, 'warning', 'was inactive for too long');
    this.move(transfer.id, 'transferring', next);
  }

  private async continueUpload(transfer: Transfer): Promise<void> {
    if (!(await this.dropTicket(transfer))) return;
    const host = this.core.db.hosts.get(transfer.hostId ?? '');
    if (host?.status === 'up') await this.prepare(transfer.id, host);
    else this.move(transfer.id, 'resuming', this.brokenOff(transfer));
  }

  /** False while a client or a silent daemon keeps it; the next turn tries again. */
  private async dropTicket(transfer: Transfer): Promise<boolean> {
    if (transfer.ticketId === undefined) return true;
    try {
      await this.desk.remove(transfer);
    } catch (error) {
      this.core.log.error(`ticket of transfer ${transfer.id} cannot be removed yet`, error);
      return false;
    }
    this.core.db.transfers.update(transfer.id, { ticketId: undefined, transferUrl: undefined, proxyUrl: undefined, active: false });
    return true;
  }

  /** Ticket, then export, then the disk. Stays where it is until the ticket is gone. */
  private async close(transfer: Transfer): Promise<PollResult> {
    if (!(await this.dropTicket(transfer))) return 'again';
    await closeSource(this.core, transfer);
    // A client may have written another wanted phase meanwhile: the next turn follows that one.
    if (this.core.db.transfers.get(transfer.id)?.phase !== transfer.phase) return 'soon';
    if (transfer.phase === 'finalizing_success') return this.endWell(transfer);
    await this.releaseFailed(transfer);
    const cleanup = transfer.phase === 'finalizing_cleanup';
    this.move(transfer.id, transfer.phase, cleanup ? 'finished_cleanup' : 'finished_failure');
    this.log(transfer, cleanup ? 1033 : 1034, cleanup ? 'normal' : 'error', cleanup ? 'was cancelled' : 'failed');
    this.endJob(transfer, false);
    return cleanup ? 'soon' : 'done';
  }

  private async endWell(transfer: Transfer): Promise<PollResult> {
    if (transfer.direction === 'upload' && !(await this.isUploadValid(transfer))) {
      this.move(transfer.id, 'finalizing_success', 'finalizing_failure');
      return 'soon';
    }
    this.unlock(transfer);
    this.move(transfer.id, 'finalizing_success', 'finished_success');
    this.core.locks.release(transfer.id);
    this.log(transfer, 1032, 'normal', 'succeeded');
    this.endJob(transfer, true);
    return 'done';
  }

  private async isUploadValid(transfer: Transfer): Promise<boolean> {
    const { db, fleet } = this.core;
    const disk = db.disks.get(transfer.diskId);
    const leaf = disk === undefined ? undefined : db.volumes.get(disk.activeVolumeId ?? '');
    if (disk === undefined || leaf === undefined) return false;
    try {
      await this.core.step('transfer.verify', transfer.id);
      await fleet.verifyVolume(volumeIdOf(leaf), leaf.format);
      await measureDisk(this.core, disk.id);
      return true;
    } catch (error) {
      this.core.log.error(`the uploaded image of disk ${disk.id} is not valid`, error);
      return false;
    }
  }

  private async endBadly(transfer: Transfer): Promise<void> {
    await this.releaseFailed(transfer);
    this.move(transfer.id, 'initializing', 'finished_failure');
    this.log(transfer, 1034, 'error', 'failed');
    this.endJob(transfer, false);
  }

  /** An upload that failed takes its disk with it, also one that was there before. */
  private async releaseFailed(transfer: Transfer): Promise<void> {
    if (transfer.direction === 'download') this.unlock(transfer);
    else if (this.core.db.disks.has(transfer.diskId)) {
      this.disks.setStatus(transfer.diskId, 'illegal');
      await this.disks.finishRemove(transfer.diskId);
    }
    this.core.locks.release(transfer.id);
  }

  /** The disk is `ok` again; also while its live or cold backup goes on, as in the engine. */
  private unlock(transfer: Transfer): void {
    const { db } = this.core;
    if (transfer.volumeId !== undefined) db.volumes.update(transfer.volumeId, { status: 'ok' });
    else if (transfer.backupId !== undefined && db.backups.get(transfer.backupId)?.mode === 'hybrid') {
      this.setFrozenStatus(transfer.backupId, transfer.diskId, 'ok');
    } else this.disks.setStatus(transfer.diskId, 'ok');
  }

  private setFrozenStatus(backupId: string, diskId: string, status: 'ok' | 'locked'): void {
    const { db } = this.core;
    const volumeId = db.backups.get(backupId)?.disks.find((entry) => entry.diskId === diskId)?.frozenVolumeId;
    if (volumeId !== undefined) db.volumes.update(volumeId, { status });
  }

  private brokenOff(transfer: Transfer): TransferPhase {
    return transfer.direction === 'upload' ? 'paused_system' : 'cancelled_system';
  }

  /** The loop's own step, unless somebody has moved it on meanwhile. */
  private move(id: string, from: TransferPhase, to: TransferPhase): void {
    const { db, clock } = this.core;
    if (db.transfers.get(id)?.phase !== from) return;
    db.transfers.update(id, { phase: follow('transfer', TRANSFER_TRANSITIONS, from, to), updatedAt: clock.now() });
  }

  /** Any wanted phase from any unfinished one; on finished or vanished transfers it is ignored. */
  private writeByClient(id: string, phase: TransferPhase): void {
    const transfer = this.core.db.transfers.get(id);
    if (transfer !== undefined && clientMayWrite(transfer.phase))
      this.core.db.transfers.update(id, { phase, updatedAt: this.core.clock.now() });
  }

  private endJob(transfer: Transfer, succeeded: boolean): void {
    if (transfer.jobId !== undefined) this.core.jobs.end(transfer.jobId, succeeded);
  }

  private log(transfer: Transfer, code: number, severity: EventEntry['severity'], text: string): void {
    const disk = this.core.db.disks.get(transfer.diskId);
    const what = transfer.direction === 'upload' ? 'Image upload' : 'Image download';
    const refs = {
      diskId: transfer.diskId,
      userId: transfer.userId,
      ...(disk?.storageDomainId !== undefined && { storageDomainId: disk.storageDomainId }),
    };
    this.core.events.log(code, severity, `${what} with disk ${disk?.name ?? transfer.diskId} ${text}.`, refs, transfer.correlationId);
  }

  private sweepLater(): void {
    const { db, clock } = this.core;
    clock.after(RETENTION.cleanerEveryMs, () => {
      for (const transfer of db.transfers.list((candidate) => isFinished(candidate.phase))) {
        const keptMs = transfer.phase === 'finished_success' ? RETENTION.succeededMs : RETENTION.failedMs;
        if (clock.elapsedMs(transfer.updatedAt) > keptMs) db.transfers.delete(transfer.id);
      }
      this.sweepLater();
    });
  }
}
