/**
 * Everything that has to stay: what open sessions hold, then the points that were not removed. In this order, so that a session that is committed
 * meanwhile is seen in one of them; and of each session first the drafts, then its record, so that a disk that is committed meanwhile is, too.
 */
import { hasCode, isTidemarkError } from '../../../common/errors/tidemark-error';
import { MaintenanceErrors } from '../../errors/maintenance-errors';
import { blockCount, levelCount } from '../../format/index-page';
import type { PointRecord } from '../../format/manifest';
import { sessionName } from '../../format/session-record';
import type { Repository } from '../../repository/repository';
import { readDraftDigests } from '../../sessions/drafts';
import { readSession, sessionIds } from './session-records';

/** A disk's index tree, or a block. `owner` is the point or session that needs it, for messages. */
export type Root =
  { readonly owner: string; readonly tree: Buffer; readonly levels: number } | { readonly owner: string; readonly block: Buffer };

export class Roots {
  /** Points that open sessions read or start from, removed ones too. Complete when `find` has ended. */
  readonly inUse = new Set<string>();
  /** Points to look at, and how many were; for progress. */
  points = 0;
  done = 0;

  constructor(private readonly repository: Repository) {}

  /** Throws REPOSITORY_DAMAGED for a point that cannot be read, and as the store. */
  async *find(): AsyncGenerator<Root> {
    for (const sessionId of await sessionIds(this.repository)) yield* this.ofSession(sessionId);
    const { points } = this.repository;
    await points.reload();
    const removed = points.removedIds().filter((id) => this.inUse.has(id));
    const ids = [...points.ids(), ...removed];
    this.points = ids.length;
    for (const pointId of ids) {
      yield* this.ofPoint(pointId);
      this.done++;
    }
  }

  /** Removed points but for these: what they hold stays while somebody may take the removal back. To be called after `find`; damaged ones are left out. */
  async *undoable(except: ReadonlySet<string>): AsyncGenerator<Root> {
    for (const pointId of this.repository.points.removedIds()) {
      if (except.has(pointId) || this.inUse.has(pointId)) continue;
      try {
        yield* this.ofPoint(pointId);
      } catch (error) {
        if (!hasCode(error, 'REPOSITORY_DAMAGED')) throw error;
      }
    }
  }

  private async *ofSession(sessionId: string): AsyncGenerator<Root> {
    const { store, keys } = this.repository;
    for await (const block of readDraftDigests(store, sessionId, keys)) yield { owner: sessionId, block };
    const record = (await readSession(this.repository, sessionName(sessionId)))?.content;
    if (record?.state !== 'open') return;
    for (const pointId of record.pointIds) this.inUse.add(pointId);
    const { blockSizeBytes } = this.repository;
    for (const { indexRoot, sizeBytes } of record.disks) yield treeOf(sessionId, indexRoot, sizeBytes, blockSizeBytes);
  }

  private async *ofPoint(pointId: string): AsyncGenerator<Root> {
    let point: PointRecord;
    try {
      point = await this.repository.points.readRemoved(pointId);
    } catch (error) {
      if (!isTidemarkError(error) || error.code !== 'MANIFEST_DAMAGED') throw error;
      throw MaintenanceErrors.REPOSITORY_DAMAGED({ pointId, problem: error.message }, { cause: error });
    }
    for (const { indexRoot, sizeBytes } of point.disks) yield treeOf(pointId, indexRoot, sizeBytes, point.blockSizeBytes);
  }
}

function treeOf(owner: string, indexRoot: string, sizeBytes: number, blockSizeBytes: number): Root {
  return { owner, tree: Buffer.from(indexRoot, 'hex'), levels: levelCount(blockCount(sizeBytes, blockSizeBytes)) };
}
