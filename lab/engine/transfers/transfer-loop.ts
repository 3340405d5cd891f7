/**
 * The loop that follows a transfer: it prepares and watches tickets, renews them, gives up what is idle or lost, and takes everything
 * back at the end. It acts on the phase it finds, which a client may have changed at any moment.
 */
import { measureDisk, volumeIdOf } from '../disks/images';
import type { PollResult } from '../model/clock';
import type { Core } from '../model/core';
import type { Host, Transfer, TransferPhase } from '../model/entities';
import { isFinished } from './phases';
import type { TicketDesk } from './ticket-desk';
import type { TransferRows } from './transfer-rows';
import { closeSource, openSource } from './transfer-source';

/** What the loop remembers between two turns; nothing of it needs to survive a restart. */
interface Watch {
  renewedAt: number;
  failedRenewals: number;
  completeTurns: number;
}

const RENEWALS_BEFORE_STOP = 2;
const COMPLETE_TURNS = 2;

export class TransferLoop {
  private readonly watches = new Map<string, Watch>();

  constructor(
    private readonly core: Core,
    private readonly rows: TransferRows,
    private readonly desk: TicketDesk,
  ) {}

  /** Export and ticket; what goes wrong here pauses an upload and cancels a download. */
  async prepare(id: string, host: Host): Promise<void> {
    const { db, clock } = this.core;
    const transfer = db.transfers.require(id);
    try {
      const target = await openSource(this.core, transfer, host);
      const addresses = await this.desk.install(transfer, host, target);
      db.transfers.update(id, { ...addresses, hostId: host.id });
      this.watches.set(id, { renewedAt: clock.now(), failedRenewals: 0, completeTurns: 0 });
      // A client may have cancelled while this was under way: the loop then takes the ticket back.
      this.rows.move(id, transfer.phase, 'transferring');
    } catch (error) {
      this.core.log.error(`preparing transfer ${id} failed`, error);
      this.rows.move(id, transfer.phase, this.rows.brokenOff(transfer));
    }
  }

  watch(id: string): void {
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
        this.rows.move(transfer.id, 'cancelled_user', 'finalizing_cleanup');
        return 'soon';
      case 'cancelled_system':
        this.rows.move(transfer.id, 'cancelled_system', 'finalizing_failure');
        return 'soon';
      case 'finalizing_success':
      case 'finalizing_failure':
      case 'finalizing_cleanup':
        return this.close(transfer);
      case 'finished_cleanup':
        this.rows.move(transfer.id, 'finished_cleanup', 'finished_failure');
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
      if (clock.elapsedMs(watch.renewedAt) >= renewalDueMs) this.countFailedRenewal(transfer, watch);
      return;
    }
    if (state === undefined || state.canceled) {
      this.rows.log(transfer, 1065, 'error', 'lost its ticket; the image daemon may have been restarted');
      this.rows.move(transfer.id, 'transferring', this.rows.brokenOff(transfer));
      return;
    }
    const transferredBytes = state.transferredBytes ?? transfer.transferredBytes;
    if (transferredBytes !== transfer.transferredBytes || state.active !== transfer.active) {
      db.transfers.update(transfer.id, { transferredBytes, active: state.active });
    }
    if (state.expiresInSeconds < settings.ticketRefreshSeconds) await this.renew(transfer, watch);
    const complete = transfer.direction === 'download' && !state.active && transferredBytes === transfer.sizeBytes;
    watch.completeTurns = complete ? watch.completeTurns + 1 : 0;
    if (watch.completeTurns >= COMPLETE_TURNS) this.rows.move(transfer.id, 'transferring', 'finalizing_success');
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
    this.rows.log(transfer, 1064, 'error', 'was stopped: its ticket cannot be renewed');
    this.rows.move(transfer.id, 'transferring', this.rows.brokenOff(transfer));
  }

  private giveUpIdle(transfer: Transfer): void {
    const next: TransferPhase =
      transfer.timeoutPolicy === 'pause'
        ? 'paused_system'
        : transfer.timeoutPolicy === 'cancel'
          ? 'cancelled_system'
          : this.rows.brokenOff(transfer);
    this.rows.log(transfer, 1051, 'warning', 'was inactive for too long');
    this.rows.move(transfer.id, 'transferring', next);
  }

  private async continueUpload(transfer: Transfer): Promise<void> {
    if (!(await this.dropTicket(transfer))) return;
    const host = this.core.db.hosts.get(transfer.hostId ?? '');
    if (host?.status === 'up') await this.prepare(transfer.id, host);
    else this.rows.move(transfer.id, 'resuming', this.rows.brokenOff(transfer));
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
    await this.rows.releaseFailed(transfer);
    const cleanup = transfer.phase === 'finalizing_cleanup';
    this.rows.move(transfer.id, transfer.phase, cleanup ? 'finished_cleanup' : 'finished_failure');
    this.rows.log(transfer, cleanup ? 1033 : 1034, cleanup ? 'normal' : 'error', cleanup ? 'was cancelled' : 'failed');
    this.rows.endJob(transfer, false);
    return cleanup ? 'soon' : 'done';
  }

  private async endWell(transfer: Transfer): Promise<PollResult> {
    if (transfer.direction === 'upload' && !(await this.isUploadValid(transfer))) {
      this.rows.move(transfer.id, 'finalizing_success', 'finalizing_failure');
      return 'soon';
    }
    this.rows.unlock(transfer);
    this.rows.move(transfer.id, 'finalizing_success', 'finished_success');
    this.core.locks.release(transfer.id);
    this.rows.log(transfer, 1032, 'normal', 'succeeded');
    this.rows.endJob(transfer, true);
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
}
