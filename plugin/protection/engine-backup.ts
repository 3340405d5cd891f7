import { randomUUID } from 'node:crypto';
import type { EngineBackup } from '../engine/backups';
import type { Disk } from '../engine/disks';
import { engineCorrelationId } from '../engine/engine-session';
import { EngineErrors } from '../engine/engine-errors';
import type { Journal } from '../journal/journal';
import type { JournalEntry } from '../journal/records';
import { isDefiniteRefusal } from './definite';
import type { EngineApi } from './engine-port';
import { startPace } from './patience';
import type { Patience } from './patience';
import { ProtectionErrors } from './protection-errors';

export interface EngineBackupOrder {
  readonly operationId: string;
  readonly platformId: string;
  readonly vmId: string;
  readonly mark: string;
  readonly diskIds: readonly string[];
  readonly fromCheckpointId: string | undefined;
  readonly requireConsistency: boolean;
  /** Hears why the engine makes us wait; empty once it goes on. */
  readonly waiting: (detail: string) => void;
}

/** An engine backup whose disks can be read. */
export interface ReadyBackup {
  readonly entry: JournalEntry;
  readonly backup: EngineBackup;
  /** As the engine serves them, with `backupMode`. */
  readonly disks: readonly Disk[];
  /** When the request was answered: what is in the copy was written before or shortly after. */
  readonly pointInTime: number;
}

/** Our wait for `ready` (product defaults §3: live snapshots may take 30 minutes). */
const readyMs = 35 * 60_000;
/** Locks of others: a disk move, a snapshot, another product's backup. */
const conflictMs = 30 * 60_000;

/** Starts backups in the engine, journalled with an id of ours before they are asked for. Ending them is the cleaner's. */
export class EngineBackups {
  constructor(
    private readonly journal: Journal,
    private readonly patience: Patience,
  ) {}

  /**
   * From intent to `ready`. Throws ENGINE_CHECKPOINT_UNUSABLE (advice: full backup) when it was to build on a checkpoint and could not,
   * ENGINE_BACKUP_FAILED, ENGINE_BACKUP_LATE, FREEZE_FAILED. Whatever it made is in the journal.
   */
  async start(engine: EngineApi, order: EngineBackupOrder, signal: AbortSignal): Promise<ReadyBackup> {
    const { operationId, platformId, vmId, mark, diskIds } = order;
    const backupId = randomUUID();
    const entry = await this.journal.intend({
      operationId,
      platformId,
      vmId,
      kind: 'backup',
      mark,
      objectId: backupId,
      details: { diskIds: diskIds.join(','), fromCheckpointId: order.fromCheckpointId ?? '' },
    });
    let backup = await this.#post(engine, order, entry, backupId, signal);
    const pointInTime = this.patience.clock.now();
    await this.journal.created(entry.entryId, backupId, backup.snapshotId === undefined ? {} : { snapshotId: backup.snapshotId });
    const outcome = await this.patience.poll({ signal, deadlineMs: readyMs, everyMs: startPace }, async () => {
      const found = await engine.backups.find(vmId, backupId, { signal });
      if (!found) return 'gone';
      backup = found;
      return found.phase === 'ready' || found.phase === 'failed' || found.phase === 'succeeded' ? found.phase : undefined;
    });
    if (outcome === undefined) {
      throw ProtectionErrors.ENGINE_BACKUP_LATE({ vmId, backupId, phase: backup.phase, waitedMs: readyMs });
    }
    if (outcome !== 'ready') {
      const detail = (await engine.events.failureText(engineCorrelationId(operationId), { signal }).catch(() => undefined)) ?? '';
      const { fromCheckpointId } = order;
      if (fromCheckpointId !== undefined) throw EngineErrors.ENGINE_CHECKPOINT_UNUSABLE({ vmId, checkpointId: fromCheckpointId, detail });
      if (order.requireConsistency) throw ProtectionErrors.FREEZE_FAILED({ vmId, detail: detail || 'no reason given' });
      throw ProtectionErrors.ENGINE_BACKUP_FAILED({ vmId, backupId, detail });
    }
    const details: Record<string, string> = { seen: 'yes' };
    if (backup.toCheckpointId !== undefined) details['toCheckpointId'] = backup.toCheckpointId;
    if (backup.snapshotId !== undefined) details['snapshotId'] = backup.snapshotId;
    await this.journal.created(entry.entryId, backupId, details);
    const disks = await this.patience.whileAway(signal, () => engine.backups.disks(vmId, backupId, { signal }));
    return { entry: { ...entry, state: 'created', details: { ...entry.details, ...details } }, backup, disks, pointInTime };
  }

  async #post(
    engine: EngineApi,
    order: EngineBackupOrder,
    entry: JournalEntry,
    backupId: string,
    signal: AbortSignal,
  ): Promise<EngineBackup> {
    const { vmId, mark, diskIds, fromCheckpointId, requireConsistency } = order;
    let sent = false;
    try {
      return await this.patience.whileConflict({ signal, deadlineMs: conflictMs, waiting: order.waiting }, async () => {
        // After a lost answer it may be there; a second request with its id would be refused.
        const found = sent ? await engine.backups.find(vmId, backupId, { signal }) : undefined;
        if (found) return found;
        sent = true;
        return await this.patience.create(signal, (lingering) =>
          engine.backups.start(
            vmId,
            {
              id: backupId,
              description: mark,
              diskIds,
              ...(fromCheckpointId === undefined ? {} : { fromCheckpointId }),
              // Only the live path honours it; hybrid ignores it without a word.
              ...(requireConsistency ? { requireConsistency: true, legacy: true } : {}),
            },
            { signal: lingering },
          ),
        );
      });
    } catch (error) {
      // Refused before a row was made, or with a row in phase failed: the look-up tells which.
      if (isDefiniteRefusal(error)) {
        // Not under the signal: a cancel must not keep us from knowing.
        const row = await engine.backups.find(vmId, backupId);
        if (row) await this.journal.created(entry.entryId, backupId);
        else await this.journal.removed(entry.entryId);
      }
      throw error;
    }
  }
}
