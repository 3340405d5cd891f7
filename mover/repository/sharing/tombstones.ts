/**
 * Which points were removed. A removed point is not listed and cannot be read; what it holds is deleted by a later collection, and until then the
 * removal can be taken back (docs/formats/concurrency.md). That a tombstone is there says all that matters: a damaged one counts too.
 */
import { hasCode } from '../../../common/errors/tidemark-error';
import { decodeTombstone, encodeTombstone, TOMBSTONE_PREFIX, tombstoneName, tombstoneOf } from '../../format/tombstone';
import type { Store } from '../../stores/store';
import { readDocument } from '../read-document';
import type { RepositoryKeys } from '../keys/repository-keys';

const maxTombstoneBytes = 64 * 1024;

export class Tombstones {
  private readonly removed = new Set<string>();

  constructor(
    private readonly store: Store,
    private readonly keys: RepositoryKeys | undefined,
  ) {}

  /** Finds tombstones that nobody told of. */
  async reload(): Promise<void> {
    const found = new Set<string>();
    for await (const name of this.store.list(TOMBSTONE_PREFIX)) {
      const pointId = tombstoneOf(name);
      if (pointId !== undefined) found.add(pointId);
    }
    this.removed.clear();
    for (const pointId of found) this.removed.add(pointId);
  }

  /** As far as this mover has heard. */
  has(pointId: string): boolean {
    return this.removed.has(pointId);
  }

  ids(): string[] {
    return [...this.removed];
  }

  get count(): number {
    return this.removed.size;
  }

  /** Looks in the store, whatever was heard. */
  async look(pointId: string): Promise<boolean> {
    try {
      await this.store.sizeOf(tombstoneName(pointId));
      this.removed.add(pointId);
      return true;
    } catch (error) {
      if (!hasCode(error, 'OBJECT_NOT_FOUND')) throw error;
      this.removed.delete(pointId);
      return false;
    }
  }

  /** When a point was removed; undefined when its tombstone is gone or damaged. */
  async removedAt(pointId: string): Promise<Date | undefined> {
    try {
      const found = await readDocument(this.store, this.keys, tombstoneName(pointId), maxTombstoneBytes, decodeTombstone);
      return found && new Date(found.content.removedAt);
    } catch (error) {
      if (hasCode(error, 'OBJECT_DAMAGED')) return undefined;
      throw error;
    }
  }

  /** Removes a point, unless it is removed already. */
  async put(pointId: string, removedAt: Date): Promise<void> {
    const name = tombstoneName(pointId);
    await this.store.putNew(name, encodeTombstone({ pointId, removedAt: removedAt.toISOString() }, this.keys?.document(name)));
    this.removed.add(pointId);
  }

  /** The point is there again, or gone for good. */
  async delete(pointId: string): Promise<void> {
    await this.store.delete(tombstoneName(pointId));
    this.removed.delete(pointId);
  }
}
