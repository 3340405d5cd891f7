import { hasCode } from '../../common/errors/tidemark-error';
import { engineBackupSnapshot } from '../engine/snapshots';
import type { Snapshot } from '../engine/snapshots';
import type { JournalEntry } from '../journal/records';
import type { EngineApi } from '../protection/engine-port';
import { endPace, transferPace } from '../protection/patience';
import type { Patience } from '../protection/patience';
import type { CleanOptions, Settlement } from './settlement';

export type Obstacle = Pick<Settlement, 'state' | 'message' | 'obstacle'>;

/** A disk is unlocked within seconds of the end of its backup. */
const diskOkMs = 3 * 60_000;

/** After the end of an engine backup: is everything as if it had never been, but for what we keep? */
export class VmVerifier {
  constructor(private readonly patience: Patience) {}

  /** Undefined when all is well; else what is not. `entry` is the backup's, with what was seen of it in its details. */
  async verify(
    engine: EngineApi,
    entry: JournalEntry,
    phase: string,
    options: CleanOptions & { keepCheckpoint: boolean },
  ): Promise<Obstacle | undefined> {
    const until = this.patience.clock.elapsed() + options.deadlineMs;
    const left = () => ({ ...options, deadlineMs: Math.max(0, until - this.patience.clock.elapsed()) });
    if (phase !== 'succeeded') await this.#removeScratchDisks(engine, entry, options);
    return (
      (await this.#snapshotsGone(engine, entry, left())) ??
      (options.keepCheckpoint ? undefined : await this.#checkpointsGone(engine, entry, left())) ??
      (await this.disksOk(engine, entry, left()))
    );
  }

  /** True once it is gone. */
  async removeCheckpoint(engine: EngineApi, vmId: string, checkpointId: string, options: CleanOptions): Promise<boolean> {
    const { signal } = options;
    let askedAt: number | undefined;
    const gone = await this.patience.poll({ ...options, everyMs: endPace }, async () => {
      if (!(await engine.checkpoints.list(vmId, { signal })).some((checkpoint) => checkpoint.id === checkpointId)) return true;
      const now = this.patience.clock.elapsed();
      if (askedAt === undefined || now - askedAt > 30_000) {
        askedAt = now;
        await ignoringConflict(() => engine.checkpoints.remove(vmId, checkpointId, { signal }));
      }
      return undefined;
    });
    return gone === true;
  }

  /** The snapshot of a hybrid backup goes with it, unless its merge failed: the engine calls that a success all the same. */
  async #snapshotsGone(engine: EngineApi, entry: JournalEntry, options: CleanOptions): Promise<Obstacle | undefined> {
    const { vmId } = entry;
    const { signal } = options;
    let askedAt: number | undefined;
    let seen: Snapshot | undefined;
    const done = await this.patience.poll({ ...options, everyMs: endPace }, async () => {
      seen = (await engine.snapshots.list(vmId, { signal })).find((snapshot) => isOurs(entry, snapshot));
      if (!seen) return 'gone';
      // Another backup runs by now; a snapshot that we cannot tell by its id may be its own.
      const others = (await engine.backups.list(vmId, { signal })).some(
        (b) => b.id !== entry.objectId && !['succeeded', 'failed'].includes(b.phase),
      );
      if (others && seen.id !== entry.details['snapshotId']) return 'gone';
      const now = this.patience.clock.elapsed();
      if (!others && seen.status === 'ok' && (askedAt === undefined || now - askedAt > 30_000)) {
        askedAt = now;
        await ignoringConflict(() => engine.snapshots.remove(vmId, seen?.id ?? '', { signal }));
      }
      return undefined;
    });
    if (done === 'gone') return undefined;
    return {
      state: 'pending',
      message: `Snapshot "${engineBackupSnapshot}" of VM ${vmId} is still there (${seen?.status ?? 'unknown'}); its merge is asked for again.`,
      obstacle: { kind: 'snapshot', id: seen?.id ?? '' },
    };
  }

  async #checkpointsGone(engine: EngineApi, entry: JournalEntry, options: CleanOptions): Promise<Obstacle | undefined> {
    const { vmId, mark } = entry;
    const all = await this.patience.whileAway(
      options.signal,
      () => engine.checkpoints.list(vmId, { signal: options.signal }),
      options.deadlineMs,
    );
    // The id once the backup was seen ready (without one it made none); before that the exact description, which holds the session's id.
    const { toCheckpointId, seen } = entry.details;
    const ours = all.filter((checkpoint) => checkpoint.id === toCheckpointId || (seen === undefined && checkpoint.description === mark));
    for (const checkpoint of ours) {
      if (!(await this.removeCheckpoint(engine, vmId, checkpoint.id, options))) {
        return {
          state: 'pending',
          message: `Checkpoint ${checkpoint.id} of VM ${vmId} could not be deleted yet.`,
          obstacle: { kind: 'checkpoint', id: checkpoint.id },
        };
      }
    }
    return undefined;
  }

  /** Whether the disks that the entry names are usable; waits a little for their locks. */
  async disksOk(engine: EngineApi, entry: JournalEntry, options: CleanOptions): Promise<Obstacle | undefined> {
    const diskIds = (entry.details['diskIds'] ?? '').split(',').filter((id) => id !== '');
    const since = this.patience.clock.elapsed();
    for (const diskId of diskIds) {
      const deadlineMs = Math.max(0, Math.min(options.deadlineMs, diskOkMs) - (this.patience.clock.elapsed() - since));
      let status: string | undefined;
      const ok = await this.patience.poll({ signal: options.signal, deadlineMs, everyMs: transferPace }, async () => {
        const disk = await engine.disks.find(diskId, { signal: options.signal });
        status = disk?.status;
        return !disk || status === undefined || status !== 'locked' ? true : undefined;
      });
      if (ok === undefined) return lockedDisk(entry.vmId, diskId);
      if (status === 'illegal') return illegalDisk(entry.vmId, diskId);
    }
    return undefined;
  }

  /** Live backups of an engine that crashed leave theirs behind; the engine writes the backup's id into the name. */
  async #removeScratchDisks(engine: EngineApi, entry: JournalEntry, options: CleanOptions): Promise<void> {
    const { signal } = options;
    const backupId = entry.objectId ?? '';
    if (backupId === '') return;
    for await (const page of engine.disks.pages({ signal, search: `alias=*${backupId}*`, pageSize: 100 })) {
      for (const disk of page) {
        if (disk.contentType === 'backup_scratch' && disk.name.includes(backupId)) {
          await ignoringConflict(() => engine.disks.remove(disk.id, { signal }));
        }
      }
    }
  }
}

function isOurs(entry: JournalEntry, snapshot: Snapshot): boolean {
  if (snapshot.description !== engineBackupSnapshot || snapshot.type === 'active') return false;
  const known = entry.details['snapshotId'];
  if (known !== undefined) return snapshot.id === known;
  // Seen without a snapshot: a live or cold backup, which has none.
  return entry.details['seen'] === undefined;
}

function lockedDisk(vmId: string, diskId: string): Obstacle {
  return {
    state: 'stuck',
    message:
      `Disk ${diskId} of VM ${vmId} stays locked although no backup or transfer of ours runs. If nobody else works on it, an administrator ` +
      `can free it on the engine machine: /usr/share/ovirt-engine/setup/dbutils/unlock_entity.sh -t disk ${diskId}`,
    obstacle: { kind: 'disk-lock', id: diskId },
  };
}

function illegalDisk(vmId: string, diskId: string): Obstacle {
  return {
    state: 'stuck',
    message: `Disk ${diskId} of VM ${vmId} is illegal. Do not stop the VM: it may not start again. Let an administrator look at its volumes.`,
    obstacle: { kind: 'disk-lock', id: diskId },
  };
}

async function ignoringConflict(work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    // Locked, or refused for now: asked again later, and reported when the time is over.
    if (!hasCode(error, 'ENGINE_CONFLICT', 'ENGINE_REFUSED', 'ENGINE_INTERNAL_FAILURE')) throw error;
  }
}
