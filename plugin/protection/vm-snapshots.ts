/**
 * Takes snapshots of VMs for disks to be read from, without memory, frozen first when that is wanted; journalled before anything is asked
 * for. Removing them is the cleaner's. Engine REST API §5.1 to §5.3.
 */
import { hasCode, isTidemarkError } from '../../common/errors/tidemark-error';
import { engineCorrelationId } from '../engine/engine-session';
import type { Snapshot } from '../engine/snapshots';
import type { Journal } from '../journal/journal';
import type { JournalEntry } from '../journal/records';
import { AttachmentErrors } from './attachment-errors';
import { isDefiniteRefusal } from './definite';
import type { EngineApi } from './engine-port';
import { startPace } from './patience';
import type { Patience } from './patience';
import { ProtectionErrors } from './protection-errors';

export interface SnapshotOrder {
  readonly operationId: string;
  readonly platformId: string;
  readonly vmId: string;
  readonly mark: string;
  readonly diskIds: readonly string[];
  /**
   * Freeze the guest's file systems ourselves and fail when they cannot be. Without, the host asks the guest agent right before the
   * snapshot of a running VM, and tells nobody what came of it.
   */
  readonly requireConsistency: boolean;
  /** Windows guests thaw by themselves after ten seconds. */
  readonly windows: boolean;
  waiting(detail: string): void;
}

export interface TakenSnapshot {
  readonly entry: JournalEntry;
  readonly snapshotId: string;
  /** When the engine took the request on: what is in the copy was written before or shortly after. */
  readonly pointInTime: number;
  /** Frozen from before the request until the snapshot was there. */
  readonly quiesced: boolean;
  /** Sizes of its disks by id: one may have grown since the VM was looked at. */
  readonly sizesBytes: ReadonlyMap<string, number>;
  /** The volumes that hold its disks as they were, by disk. */
  readonly volumeIds: ReadonlyMap<string, string>;
}

/** Live snapshots may take 30 minutes (product defaults §3). */
const readyMs = 35 * 60_000;
const conflictMs = 30 * 60_000;
const thawMs = 60_000;

/** No guest is kept frozen for longer: its writers would time out; Windows thaws by itself. */
export interface FreezeLimits {
  readonly linuxMs: number;
  readonly windowsMs: number;
}

/** By the machine's clock and by the time that this process ran. */
interface Moment {
  readonly wallMs: number;
  readonly elapsedMs: number;
}

export const defaultFreezeLimits: FreezeLimits = { linuxMs: 60_000, windowsMs: 10_000 };

export class VmSnapshots {
  constructor(
    private readonly journal: Journal,
    private readonly patience: Patience,
    private readonly limits: FreezeLimits = defaultFreezeLimits,
  ) {}

  /** From intent to `ok`. Throws FREEZE_FAILED, SNAPSHOT_FAILED, SNAPSHOT_LATE, ENGINE_CONFLICT, ENGINE_REFUSED, CANCELLED. */
  async take(engine: EngineApi, order: SnapshotOrder, signal: AbortSignal): Promise<TakenSnapshot> {
    const { operationId, platformId, vmId, mark, diskIds, requireConsistency } = order;
    const entry = await this.journal.intend({
      operationId,
      platformId,
      vmId,
      kind: 'snapshot',
      mark,
      details: { diskIds: diskIds.join(','), ...(requireConsistency ? { frozen: 'yes' } : {}) },
    });
    let thawed = !requireConsistency;
    let taken: Omit<TakenSnapshot, 'sizesBytes' | 'volumeIds'>;
    try {
      try {
        taken = await this.#take(engine, order, entry, signal);
      } finally {
        if (requireConsistency) thawed = await this.#thaw(engine, entry);
      }
      const { snapshotId } = taken;
      const disks = await this.patience.whileAway(signal, () => engine.snapshots.disks(vmId, snapshotId, { signal }));
      return {
        ...taken,
        sizesBytes: new Map(disks.map((disk) => [disk.id, disk.provisionedBytes])),
        volumeIds: new Map(disks.flatMap(({ id, imageId }) => (imageId === undefined ? [] : [[id, imageId] as const]))),
      };
    } catch (error) {
      if (thawed && (isDefiniteRefusal(error) || hasCode(error, 'FREEZE_FAILED'))) await this.#forgetUnlessThere(engine, entry);
      throw error;
    }
  }

  async #take(
    engine: EngineApi,
    order: SnapshotOrder,
    entry: JournalEntry,
    signal: AbortSignal,
  ): Promise<Omit<TakenSnapshot, 'sizesBytes' | 'volumeIds'>> {
    const { vmId, requireConsistency } = order;
    let frozenAt: Moment | undefined;
    const waiting = (detail: string) => order.waiting(detail);
    // A guest is not kept frozen while the engine makes us wait: each try freezes anew.
    const snapshot = await this.patience.whileConflict({ signal, deadlineMs: conflictMs, waiting }, async () => {
      if (requireConsistency) frozenAt = await this.#freeze(engine, vmId, signal);
      try {
        return await this.#create(engine, order, signal);
      } catch (error) {
        if (requireConsistency) await engine.vms.thawFileSystems(vmId);
        throw error;
      }
    });
    const pointInTime = this.patience.clock.now();
    await this.journal.created(entry.entryId, snapshot.id);
    await this.#untilOk(engine, order, snapshot, frozenAt, signal);
    return {
      entry: { ...entry, objectId: snapshot.id, state: 'created' },
      snapshotId: snapshot.id,
      pointInTime,
      quiesced: frozenAt !== undefined,
    };
  }

  async #freeze(engine: EngineApi, vmId: string, signal: AbortSignal): Promise<Moment> {
    try {
      await engine.vms.freezeFileSystems(vmId, { signal });
      return { wallMs: this.patience.clock.now(), elapsedMs: this.patience.clock.elapsed() };
    } catch (error) {
      if (!hasCode(error, 'ENGINE_REFUSED', 'ENGINE_INTERNAL_FAILURE')) throw error;
      throw ProtectionErrors.FREEZE_FAILED({ vmId, detail: detailOf(error) || 'no reason given' }, { cause: error });
    }
  }

  /** Creates; after a lost answer it looks for the description, which is this operation's alone. */
  async #create(engine: EngineApi, order: SnapshotOrder, signal: AbortSignal): Promise<Snapshot> {
    const { vmId, mark, diskIds } = order;
    const made = (await engine.snapshots.list(vmId, { signal })).find((snapshot) => snapshot.description === mark);
    if (made) return made;
    return await this.patience.create(signal, (lingering) =>
      engine.snapshots.create(vmId, { description: mark, diskIds }, { signal: lingering }),
    );
  }

  async #untilOk(
    engine: EngineApi,
    order: SnapshotOrder,
    snapshot: Snapshot,
    frozenAt: Moment | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const { vmId, operationId } = order;
    const deadlineMs = frozenAt === undefined ? readyMs : this.#frozenLeft(order, frozenAt);
    let missed = 0;
    const status = await this.patience.poll({ signal, deadlineMs, everyMs: startPace }, async () => {
      const found = await engine.snapshots.find(vmId, snapshot.id, { signal });
      if (found) return found.status === 'locked' ? undefined : found.status;
      // A row that is being written is left out of one answer or the other.
      missed += 1;
      return missed >= 3 ? 'gone' : undefined;
    });
    if (status === undefined && frozenAt !== undefined) {
      const seconds = Math.round(this.#frozenMs(frozenAt) / 1000);
      throw ProtectionErrors.FREEZE_FAILED({
        vmId,
        detail: `the snapshot was not there after ${seconds} s, and longer a guest is not kept frozen`,
      });
    }
    if (status === undefined) throw AttachmentErrors.SNAPSHOT_LATE({ vmId, snapshotId: snapshot.id, waitedMs: readyMs });
    if (status !== 'ok') {
      const detail = await engine.events.failureText(engineCorrelationId(operationId), { signal }).catch(() => undefined);
      throw AttachmentErrors.SNAPSHOT_FAILED({ vmId, detail: detail ?? (status === 'gone' ? '' : `it is ${status}`) });
    }
    // Polled in steps: it may have been late although the last look found it ready.
    if (frozenAt !== undefined && order.windows && this.#frozenLeft(order, frozenAt) <= 0) {
      throw ProtectionErrors.FREEZE_FAILED({
        vmId,
        detail: 'the snapshot took longer than the ten seconds for which Windows stays frozen',
      });
    }
  }

  #frozenLeft(order: SnapshotOrder, frozenAt: Moment): number {
    return Math.max(0, (order.windows ? this.limits.windowsMs : this.limits.linuxMs) - this.#frozenMs(frozenAt));
  }

  /** A guest stays frozen, and a Windows thaws, while this process is stopped: the longer of the two is the safe one. */
  #frozenMs({ wallMs, elapsedMs }: Moment): number {
    const { clock } = this.patience;
    return Math.max(clock.now() - wallMs, clock.elapsed() - elapsedMs);
  }

  /** Never rejects: what cannot be thawed now stays in the journal and is thawed by the cleaner. */
  async #thaw(engine: EngineApi, entry: JournalEntry): Promise<boolean> {
    try {
      // Not under the signal: a cancelled run must not leave a guest that stands still.
      await this.patience.whileAway(undefined, () => engine.vms.thawFileSystems(entry.vmId), thawMs);
      await this.journal.noted(entry.entryId, { frozen: 'no' });
      return true;
    } catch {
      // The entry goes on saying that it is frozen: whoever settles it thaws first.
      return false;
    }
  }

  async #forgetUnlessThere(engine: EngineApi, entry: JournalEntry): Promise<void> {
    const made = (await engine.snapshots.list(entry.vmId)).some((snapshot) => snapshot.description === entry.mark);
    if (!made) await this.journal.removed(entry.entryId);
  }
}

function detailOf(error: unknown): string {
  return isTidemarkError(error) ? String(error.meta['detail'] ?? '') : '';
}
