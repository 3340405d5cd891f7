/**
 * What a session changed on a disk: block to digest, in pages of 256, with memory that does not follow the disk. Pages that were not used lately go
 * to a scratch file; all drafts of the process share one budget. Scratch files are never read by another run.
 */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { RepositoryErrors } from '../errors/mover-errors';
import { DIGEST_BYTES } from '../format/block';
import { PAGE_BYTES, PAGE_FAN_OUT } from '../format/index-page';

/** Digests, then one bit per digest that is set. */
const overlayBytes = PAGE_BYTES + PAGE_FAN_OUT / 8;
const dirtyFlag = 1;
const zeroedFlag = 2;

interface Page {
  readonly owner: OverlayPages;
  readonly number: number;
  readonly bytes: Buffer;
  changed: boolean;
}

/** Bound of the pages in memory over all disks of the process. */
export class PageBudget {
  private readonly pages = new Set<Page>();

  /** 4096 pages are 32 MiB and cover 1 TiB of changes at 1 MiB blocks. */
  constructor(private readonly limit = 4096) {}

  /** Marks a page as used now; puts the one unused for longest into its scratch file when there are too many. */
  use(page: Page): void {
    this.pages.delete(page);
    this.pages.add(page);
    if (this.pages.size <= this.limit) return;
    const oldest = this.pages.values().next().value;
    if (!oldest) return;
    this.pages.delete(oldest);
    oldest.owner.spill(oldest);
  }

  remove(page: Page): void {
    this.pages.delete(page);
  }
}

export class OverlayPages {
  /** One byte per page: 256 blocks. */
  private readonly flags: Uint8Array;
  private readonly inMemory = new Map<number, Page>();
  private descriptor: number | undefined;

  constructor(
    readonly pageCount: number,
    private readonly scratchFolder: string,
    private readonly budget: PageBudget,
  ) {
    this.flags = new Uint8Array(pageCount);
  }

  /** Maps a block to a digest (copied). */
  set(block: number, digest: Uint8Array): void {
    const number = Math.floor(block / PAGE_FAN_OUT);
    const position = block % PAGE_FAN_OUT;
    const page = this.page(number);
    page.bytes.set(digest, position * DIGEST_BYTES);
    const bit = PAGE_BYTES + (position >> 3);
    page.bytes[bit] = (page.bytes[bit] as number) | (1 << (position & 7));
    page.changed = true;
    this.flags[number] = (this.flags[number] as number) | dirtyFlag;
  }

  /** Maps a range of blocks to zero; whole pages cost one byte each. */
  zero(firstBlock: number, count: number): void {
    const zero = Buffer.alloc(DIGEST_BYTES);
    const end = firstBlock + count;
    for (let block = firstBlock; block < end;) {
      const number = Math.floor(block / PAGE_FAN_OUT);
      if (block % PAGE_FAN_OUT === 0 && block + PAGE_FAN_OUT <= end) {
        this.dropPage(number);
        this.flags[number] = zeroedFlag;
        block += PAGE_FAN_OUT;
      } else {
        this.set(block++, zero);
      }
    }
  }

  /** True when the page, or one of a range of pages, was changed. */
  isChanged(firstPage: number, pages = 1): boolean {
    const end = Math.min(firstPage + pages, this.pageCount);
    for (let number = firstPage; number < end; number++) if (this.flags[number] !== 0) return true;
    return false;
  }

  /** True when nothing of the page's base counts any more. */
  isZeroed(number: number): boolean {
    return ((this.flags[number] as number) & zeroedFlag) !== 0;
  }

  /** True when the block was mapped since the disk was opened. */
  isSet(block: number): boolean {
    const number = Math.floor(block / PAGE_FAN_OUT);
    if (this.isZeroed(number)) return true;
    if (((this.flags[number] as number) & dirtyFlag) === 0) return false;
    return hasBit(this.page(number).bytes, block % PAGE_FAN_OUT);
  }

  /** Calls `visit` with each position of a page that was mapped and its digest (a view). */
  forEachSet(number: number, visit: (position: number, digest: Buffer) => void): void {
    if (((this.flags[number] as number) & dirtyFlag) === 0) return;
    const { bytes } = this.page(number);
    for (let position = 0; position < PAGE_FAN_OUT; position++)
      if (hasBit(bytes, position)) visit(position, bytes.subarray(position * DIGEST_BYTES, (position + 1) * DIGEST_BYTES));
  }

  /** Forgets everything and removes the scratch file. */
  dispose(): void {
    for (const page of this.inMemory.values()) this.budget.remove(page);
    this.inMemory.clear();
    if (this.descriptor !== undefined) fs.closeSync(this.descriptor);
    this.descriptor = undefined;
  }

  /** Called by the budget. */
  spill(page: Page): void {
    this.inMemory.delete(page.number);
    if (!page.changed) return;
    this.scratch((descriptor) => fs.writeSync(descriptor, page.bytes, 0, overlayBytes, page.number * overlayBytes));
  }

  private page(number: number): Page {
    let page = this.inMemory.get(number);
    if (!page) {
      page = { owner: this, number, bytes: Buffer.alloc(overlayBytes), changed: false };
      const { bytes } = page;
      if (((this.flags[number] as number) & dirtyFlag) !== 0)
        this.scratch((descriptor) => fs.readSync(descriptor, bytes, 0, overlayBytes, number * overlayBytes));
      this.inMemory.set(number, page);
    }
    this.budget.use(page);
    return page;
  }

  private dropPage(number: number): void {
    const page = this.inMemory.get(number);
    if (!page) return;
    this.budget.remove(page);
    this.inMemory.delete(number);
  }

  private scratch(work: (descriptor: number) => number): void {
    try {
      if (this.descriptor === undefined) {
        fs.mkdirSync(this.scratchFolder, { recursive: true, mode: 0o700 });
        const file = path.join(this.scratchFolder, randomUUID());
        this.descriptor = fs.openSync(file, 'wx+', 0o600);
        // Without a name it goes with the process, however that ends.
        fs.rmSync(file);
      }
      if (work(this.descriptor) === overlayBytes) return;
    } catch (cause) {
      const reason = (cause as NodeJS.ErrnoException).code ?? 'unknown';
      throw RepositoryErrors.REPOSITORY_IO({ what: 'scratch file', reason }, { cause });
    }
    throw RepositoryErrors.REPOSITORY_IO({ what: 'scratch file', reason: 'short' });
  }
}

function hasBit(bytes: Buffer, position: number): boolean {
  return (((bytes[PAGE_BYTES + (position >> 3)] as number) >> (position & 7)) & 1) === 1;
}
