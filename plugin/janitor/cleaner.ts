/**
 * Ends and removes what one operation made in an engine, and looks whether it is gone (engine REST API §12.3). Flows use it for their own
 * clean-up, the janitor for what they left: the same steps in the same order. It touches only what the journal names: by id, or by the
 * exact description that was written down before the request.
 */
import { hasCode, isTidemarkError } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import type { EngineBackup } from '../engine/backups';
import type { ImageTransfer } from '../engine/image-transfers';
import type { Journal } from '../journal/journal';
import type { JournalEntry } from '../journal/records';
import type { EngineApi, EngineDirectory } from '../protection/engine-port';
import { endPace, startPace, transferPace } from '../protection/patience';
import type { Patience } from '../protection/patience';
import { removeAttachment } from './remove-attachment';
import { removeDisk, removeVm } from './remove-made';
import { removeSnapshot } from './remove-snapshot';
import type { CleanTools } from './clean-tools';
import type { CleanOptions, Settlement } from './settlement';
import { VmVerifier } from './vm-verifier';

/** A request whose answer was lost, to a time-out or a crash, may still be on its way into the engine. Counted from the first look for it. */
const intentGraceMs = 20_000;

/** A transfer that was asked to end shows it in its phase at once; an engine that restarts may forget that it was asked. */
const endAskAgainMs = 15_000;

const keepMark = 'keepCheckpoint';
const finishedTransfer = ['finished_success', 'finished_failure'];
const endingTransfer = [
  'finalizing_success',
  'finalizing_failure',
  'finalizing_cleanup',
  'finished_cleanup',
  'cancelled_user',
  'cancelled_system',
];
const finalBackup = ['succeeded', 'failed'];

export class Cleaner {
  readonly #verifier: VmVerifier;
  /** When each intent was first looked for, of the clock's elapsed time. */
  readonly #lookedFor = new Map<string, number>();

  constructor(
    private readonly engines: EngineDirectory,
    private readonly journal: Journal,
    private readonly patience: Patience,
    private readonly logger: Logger,
    /** True for the VM of a worker that is deployed. */
    private readonly isOwned: (entry: JournalEntry) => boolean = () => false,
  ) {
    this.#verifier = new VmVerifier(patience);
  }

  /**
   * All open entries of an operation, or those that `only` names, in the order that the engine's locks want: a snapshot cannot go while a
   * disk of it hangs on a worker, a disk not while it is being written. Never rejects but for an abort.
   */
  async settle(operationId: string, options: CleanOptions & { only?: (entry: JournalEntry) => boolean }): Promise<Settlement[]> {
    const { only = () => true, ...rest } = options;
    this.#forgetLooks();
    const of = (...kinds: JournalEntry['kind'][]) =>
      this.journal.openEntries(operationId).filter((entry) => kinds.includes(entry.kind) && only(entry));
    const until = this.patience.clock.elapsed() + options.deadlineMs;
    const left = () => ({ ...rest, deadlineMs: Math.max(0, until - this.patience.clock.elapsed()) });
    const settled = await Promise.all([
      ...of('image-transfer').map((entry) => this.#guard(entry, (e) => this.endTransfer(e, 'cancel', left()))),
      ...of('attachment').map((entry) => this.#guard(entry, (e) => removeAttachment(this.#tools(e), e, left()))),
    ]);
    const blocked = settled.some((one) => one.state !== 'removed');
    const wait = (entry: JournalEntry): Settlement => ({
      entry,
      state: 'pending',
      found: entry.state === 'created',
      message: 'Waits for the end of an image transfer or attachment.',
    });
    for (const kind of ['backup', 'checkpoint', 'snapshot', 'vm', 'disk'] as const) {
      for (const entry of of(kind)) {
        settled.push(blocked ? wait(entry) : await this.#guard(entry, (e) => this.#remove(kind, e, left())));
      }
    }
    return settled;
  }

  /**
   * Ends a transfer and waits until the engine has let go of the disk. Connections to its ticket must be closed. With `finalize` the
   * answer's phase tells whether the engine took it as a success.
   */
  async endTransfer(entry: JournalEntry, how: 'finalize' | 'cancel', options: CleanOptions): Promise<Settlement & { phase: string }> {
    const engine = this.engines.of(entry.platformId);
    const { signal } = options;
    let transfer = await this.patience.whileAway(signal, () => this.#findTransfer(engine, entry, signal), options.deadlineMs);
    if (!transfer) {
      if (this.#mayStillCome(entry)) return { ...pending(entry, 'Looked for, not there so far.', false), phase: '' };
      await this.journal.removed(entry.entryId);
      return { ...removed(entry, entry.state === 'created'), phase: 'gone' };
    }
    if (entry.objectId === undefined) await this.journal.created(entry.entryId, transfer.id);
    const id = transfer.id;
    let looked = true;
    let asked: { readonly what: 'finalize' | 'cancel'; readonly at: number } | undefined;
    const phase = await this.patience.poll({ signal, deadlineMs: options.deadlineMs, everyMs: transferPace }, async () => {
      if (!looked) transfer = await engine.transfers.find(id, { signal });
      looked = false;
      if (!transfer) return 'gone';
      if (finishedTransfer.includes(transfer.phase)) return transfer.phase;
      // Never a cancel once finalize was sent: it would turn a finalizing transfer into clean-up.
      if (endingTransfer.includes(transfer.phase)) return undefined;
      // An upload that the engine paused while finalizing has failed and keeps its disk locked until it is cancelled.
      const what = how === 'cancel' || (asked && transfer.phase.startsWith('paused')) ? 'cancel' : 'finalize';
      const now = this.patience.clock.elapsed();
      if (asked?.what === what && now - asked.at <= endAskAgainMs) return undefined;
      await engine.transfers[what](id, { signal });
      asked = { what, at: now };
      return undefined;
    });
    if (phase === undefined) {
      const message = `Image transfer ${id} is still ${transfer?.phase ?? 'there'}; the engine retries until the host lets go of its ticket.`;
      return { ...pending(entry, message), phase: transfer?.phase ?? '' };
    }
    await this.journal.removed(entry.entryId);
    return { ...removed(entry), phase };
  }

  /**
   * Ends an engine backup, waits for its final phase, removes its checkpoint unless `keepCheckpoint`, and verifies disks and snapshots.
   * `phase` is `gone` when the engine does not know it (any more).
   */
  async endBackup(entry: JournalEntry, options: CleanOptions & { keepCheckpoint: boolean }): Promise<Settlement & { phase: string }> {
    const engine = this.engines.of(entry.platformId);
    const { signal } = options;
    const { vmId, objectId: backupId = '' } = entry;
    let askedAt: number | undefined;
    let last: EngineBackup | undefined;
    let seen: Readonly<Record<string, string>> = entry.details;
    const phase = await this.patience.poll(
      { signal, deadlineMs: options.deadlineMs, everyMs: (waited) => (askedAt === undefined ? startPace(waited) : endPace(waited)) },
      async () => {
        const backup = await engine.backups.find(vmId, backupId, { signal });
        if (!backup) return 'gone';
        last = backup;
        seen = await this.#remember(entry, seen, backup);
        if (finalBackup.includes(backup.phase)) return backup.phase;
        const now = this.patience.clock.elapsed();
        if (backup.phase === 'ready' && (askedAt === undefined || now - askedAt > 30_000)) {
          try {
            await engine.backups.finalize(vmId, backupId, { signal });
            askedAt = now;
          } catch (error) {
            // A transfer that has just ended still counts for the engine; asked again at the next look.
            if (!hasCode(error, 'ENGINE_CONFLICT') && !isRefusal(error)) throw error;
          }
        }
        return undefined;
      },
    );
    if (phase === undefined) {
      const message = `Engine backup ${backupId} is still ${last?.phase ?? 'there'}.`;
      return { ...pending(entry, message), phase: last?.phase ?? '' };
    }
    if (phase === 'gone' && last === undefined && this.#mayStillCome(entry))
      return { ...pending(entry, 'Looked for, not there so far.', false), phase };
    const verified = await this.#verifier.verify(engine, { ...entry, details: seen }, phase, options);
    if (verified) return { entry, found: true, ...verified, phase };
    await (options.keepCheckpoint ? this.journal.kept(entry.entryId) : this.journal.removed(entry.entryId));
    return { ...removed(entry, last !== undefined || entry.state === 'created'), phase };
  }

  /** The point is committed: from here on the end of this backup, whoever does it, leaves its checkpoint. */
  async commit(entry: JournalEntry): Promise<JournalEntry> {
    await this.journal.created(entry.entryId, entry.objectId ?? '', { [keepMark]: 'yes' });
    return { ...entry, details: { ...entry.details, [keepMark]: 'yes' } };
  }

  /** Deletes one checkpoint that is ours and waits until it is gone. */
  async removeCheckpoint(entry: JournalEntry, options: CleanOptions): Promise<Settlement> {
    const { platformId, vmId, objectId = '' } = entry;
    if (!(await this.#verifier.removeCheckpoint(this.engines.of(platformId), vmId, objectId, options))) {
      return pending(entry, `Checkpoint ${objectId} of VM ${vmId} could not be deleted yet.`);
    }
    await this.journal.removed(entry.entryId);
    return removed(entry);
  }

  async #remove(
    kind: 'backup' | 'checkpoint' | 'snapshot' | 'vm' | 'disk',
    entry: JournalEntry,
    options: CleanOptions,
  ): Promise<Settlement> {
    switch (kind) {
      case 'backup':
        return await this.endBackup(entry, { ...options, keepCheckpoint: entry.details[keepMark] === 'yes' });
      case 'checkpoint':
        return await this.removeCheckpoint(entry, options);
      case 'snapshot':
        return await removeSnapshot(this.#tools(entry), this.#verifier, entry, options);
      case 'vm':
        if (!this.isOwned(entry)) return await removeVm(this.#tools(entry), entry, options);
        // A crash between the last two records of a deployment: the worker is complete and in use.
        await this.journal.kept(entry.entryId);
        return removed(entry, false);
      case 'disk':
        return await removeDisk(this.#tools(entry), entry, options);
    }
  }

  #tools(entry: JournalEntry): CleanTools {
    const { patience, journal } = this;
    return { engine: this.engines.of(entry.platformId), patience, journal, mayStillCome: this.#mayStillCome(entry) };
  }

  /**
   * By id; else, as the engine tells neither mark nor backup of a transfer, by disk and direction while the disk is ours alone, or, of a
   * volume of our snapshot, while that volume is locked and by the time-out that we chose for it.
   */
  async #findTransfer(engine: EngineApi, entry: JournalEntry, signal: AbortSignal | undefined): Promise<ImageTransfer | undefined> {
    if (entry.objectId !== undefined) return await engine.transfers.find(entry.objectId, { signal });
    const { diskId = '', direction, backupId, volumeId, inactivityTimeout } = entry.details;
    if (volumeId !== undefined && !(await isLocked(engine, diskId, volumeId, signal))) return undefined;
    const known = new Set(this.journal.openEntries().flatMap((e) => (e.kind === 'image-transfer' && e.objectId ? [e.objectId] : [])));
    const found = (await engine.transfers.list({ signal })).find(
      (t) =>
        t.diskId === diskId &&
        (t.direction ?? direction) === direction &&
        !finishedTransfer.includes(t.phase) &&
        !known.has(t.id) &&
        (volumeId === undefined || t.inactivityTimeoutSeconds === Number(inactivityTimeout)),
    );
    if (!found || backupId === undefined || backupId === '') return found;
    // While our backup is unfinished the engine refuses every other transfer of its disks; afterwards it could be anybody's.
    const backup = await engine.backups.find(entry.vmId, backupId, { signal });
    return backup && !finalBackup.includes(backup.phase) ? found : undefined;
  }

  async #remember(
    entry: JournalEntry,
    seen: Readonly<Record<string, string>>,
    backup: EngineBackup,
  ): Promise<Readonly<Record<string, string>>> {
    const fresh: Record<string, string> = { found: 'yes' };
    // From here on it is certain whether the backup has a snapshot.
    if (['ready', 'finalizing', 'succeeded'].includes(backup.phase)) fresh['seen'] = 'yes';
    if (backup.toCheckpointId !== undefined) fresh['toCheckpointId'] = backup.toCheckpointId;
    if (backup.snapshotId !== undefined) fresh['snapshotId'] = backup.snapshotId;
    if (Object.entries(fresh).every(([key, value]) => seen[key] === value)) return seen;
    await this.journal.created(entry.entryId, backup.id, fresh);
    return { ...seen, ...fresh };
  }

  #mayStillCome(entry: JournalEntry): boolean {
    if (entry.state !== 'intent') return false;
    // A definite refusal is journalled by whoever got it, so an intent that was looked for in vain for so long was never made.
    const now = this.patience.clock.elapsed();
    const since = this.#lookedFor.get(entry.entryId) ?? now;
    this.#lookedFor.set(entry.entryId, since);
    return now - since < intentGraceMs;
  }

  #forgetLooks(): void {
    if (this.#lookedFor.size === 0) return;
    const open = new Set(this.journal.openEntries().map((entry) => entry.entryId));
    for (const entryId of this.#lookedFor.keys()) if (!open.has(entryId)) this.#lookedFor.delete(entryId);
  }

  async #guard(entry: JournalEntry, work: (entry: JournalEntry) => Promise<Settlement>): Promise<Settlement> {
    try {
      return await work(entry);
    } catch (error) {
      if (hasCode(error, 'CANCELLED')) throw error;
      this.logger.warn('clean-up of an object failed', { kind: entry.kind, objectId: entry.objectId, vmId: entry.vmId, error });
      const message = isTidemarkError(error) ? error.message : 'An unexpected failure; see the log.';
      const forPeople = hasCode(
        error,
        'ENGINE_PERMISSION_MISSING',
        'ENGINE_LOGIN_REFUSED',
        'ENGINE_CERTIFICATE_CHANGED',
        'PLATFORM_NOT_FOUND',
      );
      return { entry, state: forPeople ? 'stuck' : 'pending', found: entry.state === 'created', message };
    }
  }
}

/** A transfer of a volume locks it (engine REST API §6.3). */
async function isLocked(engine: EngineApi, diskId: string, volumeId: string, signal: AbortSignal | undefined): Promise<boolean> {
  try {
    return (await engine.disks.volumes(diskId, { signal })).some(({ id, status }) => id === volumeId && status === 'locked');
  } catch (error) {
    if (hasCode(error, 'ENGINE_NOT_FOUND')) return false;
    throw error;
  }
}

/** A refused finalize: too early, or the host lost it; the phase tells at the next look. */
function isRefusal(error: unknown): boolean {
  return hasCode(error, 'ENGINE_REFUSED', 'ENGINE_INTERNAL_FAILURE');
}

function removed(entry: JournalEntry, found = true): Settlement {
  return { entry, state: 'removed', found, message: '' };
}

function pending(entry: JournalEntry, message: string, found = true): Settlement {
  return { entry, state: 'pending', found, message };
}
