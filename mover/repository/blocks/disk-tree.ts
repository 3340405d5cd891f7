import { blocksPerPage, isZeroAt, levelCount, pageDigest, PAGE_FAN_OUT } from '../../format/index-page';
import { isZero, ZERO_DIGEST } from '../../format/block';
import type { PageStore } from './page-store';

/** Read access to the blocks of one disk of one point, through its index pages. Immutable. */
export class DiskTree {
  readonly levels: number;

  constructor(
    private readonly pages: Pick<PageStore, 'read'>,
    readonly root: Buffer,
    readonly blocks: number,
  ) {
    this.levels = levelCount(blocks);
  }

  /** Digest of page `number` of a level (0: leaves); zero when all under it is zero or beyond the disk. */
  async pageDigest(level: number, number: number): Promise<Buffer> {
    if (number * blocksPerPage(level) >= Math.max(this.blocks, 1)) return ZERO_DIGEST;
    let digest = this.root;
    for (let at = this.levels - 1; at > level; at--) {
      if (isZero(digest)) return ZERO_DIGEST;
      const page = await this.pages.read(digest);
      digest = pageDigest(page, Math.floor(number / PAGE_FAN_OUT ** (at - 1 - level)) % PAGE_FAN_OUT);
    }
    return level >= this.levels ? ZERO_DIGEST : digest;
  }

  /** A page of a level; undefined when it is zero. */
  async page(level: number, number: number): Promise<Buffer | undefined> {
    const digest = await this.pageDigest(level, number);
    return isZero(digest) ? undefined : this.pages.read(digest);
  }

  /** Digest of a block; zero for a block of zeroes. */
  async blockDigest(block: number): Promise<Buffer> {
    const leaf = await this.page(0, Math.floor(block / PAGE_FAN_OUT));
    return leaf ? pageDigest(leaf, block % PAGE_FAN_OUT) : ZERO_DIGEST;
  }

  /** First block at or after `from` that is not zero; the disk's block count when there is none. */
  async nextAllocated(from: number): Promise<number> {
    if (from >= this.blocks || isZero(this.root)) return this.blocks;
    const found = await this.search(this.root, this.levels - 1, 0, from);
    return found < 0 ? this.blocks : Math.min(found, this.blocks);
  }

  private async search(digest: Buffer, level: number, firstBlock: number, from: number): Promise<number> {
    const page = await this.pages.read(digest);
    const span = level === 0 ? 1 : blocksPerPage(level - 1);
    for (let position = Math.max(0, Math.floor((from - firstBlock) / span)); position < PAGE_FAN_OUT; position++) {
      if (isZeroAt(page, position)) continue;
      if (level === 0) return firstBlock + position;
      const found = await this.search(pageDigest(page, position), level - 1, firstBlock + position * span, from);
      if (found >= 0) return found;
    }
    return -1;
  }
}
