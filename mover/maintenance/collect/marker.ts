/** Follows everything that has to stay from its roots to its blocks, each distinct index page once, and marks where it lies. */
import { CommonErrors } from '../../../common/errors/common-errors';
import { isTidemarkError } from '../../../common/errors/tidemark-error';
import type { RateLimit } from '../../../common/flow/rate-limit';
import { MaintenanceErrors } from '../../errors/maintenance-errors';
import { isZero } from '../../format/block';
import { pageDigest, PAGE_BYTES, PAGE_FAN_OUT } from '../../format/index-page';
import type { BlockLocation } from '../../repository/blocks/block-location';
import type { Repository } from '../../repository/repository';
import { PackMarks } from './pack-marks';
import { forEachOf } from '../../../common/flow/for-each-of';
import { PlaceSet } from './place-set';
import type { Root } from './roots';

/** Leaf pages read at the same time: on an object store each takes a round trip. */
const pagesAtOnce = 8;

export class Marker {
  /** What has to stay. */
  readonly marks: PackMarks;
  /** What beside that removed points hold whose removal can still be taken back. */
  readonly undoable: PackMarks;
  /** Blocks that are needed and lie nowhere. */
  missing = 0;
  /** Pages that were followed, by the level they were seen at. */
  private readonly seen: PlaceSet[] = [];
  private refreshed = false;
  private owner = '';
  private target: PackMarks;

  constructor(
    private readonly repository: Repository,
    private readonly rate: RateLimit,
    private readonly signal: AbortSignal,
  ) {
    this.marks = new PackMarks(repository.index.packs);
    this.undoable = new PackMarks(repository.index.packs);
    this.target = this.marks;
  }

  /** Throws REPOSITORY_DAMAGED when an index page cannot be read, CANCELLED, and as the store. */
  async mark(root: Root): Promise<void> {
    this.target = this.marks;
    await this.follow(root);
  }

  /** The same for a removed point, after all that has to stay was marked. One that is damaged is marked as far as it can be read. */
  async markUndoable(root: Root): Promise<void> {
    this.target = this.undoable;
    await this.follow(root);
  }

  private async follow(root: Root): Promise<void> {
    this.refreshed = false;
    this.owner = root.owner;
    if ('block' in root) await this.place(root.block);
    else if (!isZero(root.tree)) await this.page(root.tree, root.levels - 1);
  }

  private async page(digest: Buffer, level: number): Promise<void> {
    if (this.signal.aborted) throw CommonErrors.CANCELLED({ what: 'collection' });
    const place = await this.place(digest);
    const seen = (this.seen[level] ??= new PlaceSet());
    if (place) {
      if (seen.has(place)) return;
      seen.add(place);
    }
    const page = await this.load(digest);
    if (!page) return;
    const children: Buffer[] = [];
    for (let position = 0; position < PAGE_FAN_OUT; position++) {
      const child = pageDigest(page, position);
      if (!isZero(child)) children.push(child);
    }
    if (level === 0) {
      // Without a turn of the event loop for each of 256.
      for (const child of children) if (!this.placeKnown(child)) await this.place(child);
    } else {
      await forEachOf(children, level === 1 ? pagesAtOnce : 1, (child) => this.page(child, level - 1));
    }
  }

  /** Undefined for a page of a removed point that cannot be read: what others of its pages hold stays all the same. */
  private async load(digest: Buffer): Promise<Buffer | undefined> {
    await this.rate.take(PAGE_BYTES, this.signal);
    try {
      return await this.repository.pages.load(digest);
    } catch (error) {
      if (!isTidemarkError(error) || error.code !== 'INDEX_PAGE_DAMAGED') throw error;
      if (this.target === this.undoable) return undefined;
      throw MaintenanceErrors.REPOSITORY_DAMAGED({ pointId: this.owner, problem: error.message }, { cause: error });
    }
  }

  /** Marks where a block lies; undefined when it lies nowhere. */
  private async place(digest: Buffer): Promise<BlockLocation | undefined> {
    const known = this.placeKnown(digest);
    if (known) return known;
    // Something newer than this mover's knowledge of packs; once for each root, or damage would cost a look at everybody's announcements per block.
    if (!this.refreshed) await this.repository.refresh();
    this.refreshed = true;
    await this.repository.index.locate(digest);
    const found = this.placeKnown(digest);
    if (!found) this.missing++;
    return found;
  }

  private placeKnown(digest: Buffer): BlockLocation | undefined {
    const { index } = this.repository;
    const location = index.find(digest);
    if (!location) return undefined;
    if (index.packs.counts(location.pack) && !index.isQuarantined(index.packs.idOf(location.pack), location.offset))
      this.target.mark(location);
    // No place of it is beyond doubt: all of them stay.
    else for (const other of index.findAll(digest)) this.target.mark(other);
    return location;
  }
}
