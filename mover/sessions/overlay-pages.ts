/**
 * What a session changed on a disk: block to digest, in pages of 256, with memory that does not follow the disk. Pages that were not used lately go
 * to a scratch file; all drafts of the process share one budget. Scratch files are never read by another run.
 */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { RepositoryErrors } from '../errors/mover-errors';
import { DIGEST_BYTES, isZero } from '../format/block';
import type { MappedPage } from '../format/draft-record';
import { PAGE_BYTES, PAGE_FAN_OUT } from '../format/index-page';

const bitmapBytes = PAGE_FAN_OUT / 8;
/** Digests, then one bit per digest that is set, one per digest that was taken for a draft, and one per digest that was counted. */
const setBits = PAGE_BYTES;
const takenBits = PAGE_BYTES + bitmapBytes;
const countedBits = PAGE_BYTES + 2 * bitmapBytes;
const overlayBytes = PAGE_BYTES + 3 * bitmapBytes;
/** Positions of it are set. */
const dirtyFlag = 1;
/** All that is not set is zero, whatever the base has. */
const zeroedFlag = 2;
/** Not all of it was taken. */
const untakenFlag = 4;
/** That it is zero was not taken. */
const zeroUntakenFlag = 8;

interface Page {
  readonly owner: OverlayPages;
  readonly number: number;
  readonly bytes: Buffer;
  changed: boolean;
}

/** What was taken of a page for a draft. */
export interface TakenPage extends MappedPage {
  /** Those of its positions that are counted. */
  readonly counted: readonly number[];
}

/** Bound of the pages in memory over all disks of the process. */
export class PageBudget {
  private readonly pages = new Set<Page>();

  /** 4096 pages are 32 MiB and cover 1 TiB of changes at 1 MiB blocks. */
  constructor(private readonly limit = 4096) {}

  /**
   * Marks a page as used now; puts the one unused for longest into its scratch file when there are too many. When that fails the page stays in memory, since
   * nothing else knows what is on it, and who asked for another one is told. Throws REPOSITORY_IO.
   */
  use(page: Page): void {
    this.pages.delete(page);
    this.pages.add(page);
    if (this.pages.size <= this.limit) return;
    const oldest = this.pages.values().next().value;
    if (!oldest) return;
    oldest.owner.spill(oldest);
    this.pages.delete(oldest);
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
  /** Counts what was mapped since the disk was opened. */
  private changed = 0;
  private disposed = false;

  constructor(
    readonly pageCount: number,
    private readonly scratchFolder: string,
    private readonly budget: PageBudget,
  ) {
    this.flags = new Uint8Array(pageCount);
  }

  /** Maps a block to a digest (copied). False when it was mapped to it before. */
  set(block: number, digest: Uint8Array): boolean {
    const number = Math.floor(block / PAGE_FAN_OUT);
    const position = block % PAGE_FAN_OUT;
    const page = this.page(number);
    const { bytes } = page;
    // Lanes repeat what they offered on a connection that broke.
    if (hasBit(bytes, setBits, position) && digestAt(bytes, position).equals(digest)) return false;
    bytes.set(digest, position * DIGEST_BYTES);
    putBit(bytes, setBits, position, true);
    putBit(bytes, takenBits, position, false);
    putBit(bytes, countedBits, position, false);
    page.changed = true;
    this.addFlags(number, dirtyFlag | untakenFlag);
    this.changed++;
    return true;
  }

  /** Notes whether a block that was mapped is counted; false when that was noted before. */
  count(block: number, isCounted: boolean): boolean {
    const page = this.page(Math.floor(block / PAGE_FAN_OUT));
    const position = block % PAGE_FAN_OUT;
    if (hasBit(page.bytes, countedBits, position) === isCounted) return false;
    putBit(page.bytes, countedBits, position, isCounted);
    page.changed = true;
    return true;
  }

  /** Grows with everything that is mapped. */
  get changeCount(): number {
    return this.changed;
  }

  /** True when something was mapped. */
  get isUsed(): boolean {
    return this.changed > 0;
  }

  /** First page at or after `from` of which not all was taken; the page count when there is none. */
  nextUntaken(from: number): number {
    const mask = untakenFlag | zeroUntakenFlag;
    let number = from;
    while (number < this.pageCount && ((this.flags[number] as number) & mask) === 0) number++;
    return number;
  }

  /**
   * Takes what was mapped on a page and not taken before, as far as `isDurable` says that its block is; zeroes always are. What is mapped to something else
   * later is taken again. Undefined when there is nothing now.
   */
  take(number: number, isDurable: (digest: Buffer) => boolean): TakenPage | undefined {
    const isZeroed = this.hasFlag(number, zeroUntakenFlag);
    const page = this.hasFlag(number, dirtyFlag) ? this.page(number) : undefined;
    const open = page ? positionsOf(page.bytes).filter((position) => !hasBit(page.bytes, takenBits, position)) : [];
    const taken = open.filter((position) => {
      const digest = digestAt((page as Page).bytes, position);
      return isZero(digest) || isDurable(digest);
    });
    // Without the blocks that came after it the zeroed page would hide that they are missing.
    if (isZeroed && taken.length < open.length) return undefined;
    this.flags[number] = (this.flags[number] as number) & ~(untakenFlag | zeroUntakenFlag);
    if (taken.length < open.length) this.addFlags(number, untakenFlag);
    if (!isZeroed && taken.length === 0) return undefined;
    const digests = taken.map((position) => Buffer.from(digestAt((page as Page).bytes, position)));
    for (const position of taken) putBit((page as Page).bytes, takenBits, position, true);
    if (page && taken.length > 0) page.changed = true;
    const counted = taken.filter((position) => hasBit((page as Page).bytes, countedBits, position));
    return { number, isZeroed, positions: taken, digests, counted };
  }

  /** Maps again what was taken in another life. */
  restore({ number, isZeroed, positions, digests }: MappedPage): void {
    const firstBlock = number * PAGE_FAN_OUT;
    if (isZeroed) this.zero(firstBlock, PAGE_FAN_OUT);
    positions.forEach((position, i) => this.set(firstBlock + position, digests[i] as Buffer));
    this.take(number, () => true);
  }

  /** Maps a range of blocks to zero; whole pages cost one byte each. */
  zero(firstBlock: number, count: number): void {
    const zero = Buffer.alloc(DIGEST_BYTES);
    const end = firstBlock + count;
    for (let block = firstBlock; block < end;) {
      const number = Math.floor(block / PAGE_FAN_OUT);
      if (block % PAGE_FAN_OUT === 0 && block + PAGE_FAN_OUT <= end) {
        if (this.flags[number] !== zeroedFlag) {
          this.dropPage(number);
          this.flags[number] = zeroedFlag | zeroUntakenFlag;
          this.changed++;
        }
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
    return this.hasFlag(number, zeroedFlag);
  }

  /** True when the block was mapped since the disk was opened. */
  isSet(block: number): boolean {
    const number = Math.floor(block / PAGE_FAN_OUT);
    if (this.isZeroed(number)) return true;
    if (!this.hasFlag(number, dirtyFlag)) return false;
    return hasBit(this.page(number).bytes, setBits, block % PAGE_FAN_OUT);
  }

  /** Calls `visit` with each position of a page that was mapped and its digest (a view). */
  forEachSet(number: number, visit: (position: number, digest: Buffer) => void): void {
    if (!this.hasFlag(number, dirtyFlag)) return;
    const { bytes } = this.page(number);
    for (const position of positionsOf(bytes)) visit(position, digestAt(bytes, position));
  }

  /** Forgets everything and removes the scratch file. */
  dispose(): void {
    for (const page of this.inMemory.values()) this.budget.remove(page);
    this.inMemory.clear();
    if (this.descriptor !== undefined) fs.closeSync(this.descriptor);
    this.descriptor = undefined;
    this.disposed = true;
  }

  /** Called by the budget. */
  spill(page: Page): void {
    if (page.changed) this.scratch((descriptor) => fs.writeSync(descriptor, page.bytes, 0, overlayBytes, page.number * overlayBytes));
    this.inMemory.delete(page.number);
  }

  private page(number: number): Page {
    const known = this.inMemory.get(number);
    if (known) {
      this.budget.use(known);
      return known;
    }
    const bytes = Buffer.alloc(overlayBytes);
    const page: Page = { owner: this, number, bytes, changed: false };
    if (this.hasFlag(number, dirtyFlag))
      this.scratch((descriptor) => fs.readSync(descriptor, bytes, 0, overlayBytes, number * overlayBytes));
    try {
      this.budget.use(page);
    } catch (error) {
      // Memory stays bounded: this one was not changed yet, and is read again.
      this.budget.remove(page);
      throw error;
    }
    this.inMemory.set(number, page);
    return page;
  }

  private hasFlag(number: number, flag: number): boolean {
    return ((this.flags[number] as number) & flag) !== 0;
  }

  private addFlags(number: number, flags: number): void {
    this.flags[number] = (this.flags[number] as number) | flags;
  }

  private dropPage(number: number): void {
    const page = this.inMemory.get(number);
    if (!page) return;
    this.budget.remove(page);
    this.inMemory.delete(number);
  }

  private scratch(work: (descriptor: number) => number): void {
    // Nobody would close another file.
    if (this.disposed) throw RepositoryErrors.REPOSITORY_IO({ what: 'scratch file', reason: 'closed' });
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

function digestAt(bytes: Buffer, position: number): Buffer {
  return bytes.subarray(position * DIGEST_BYTES, (position + 1) * DIGEST_BYTES);
}

/** Positions that are set, ascending. */
function positionsOf(bytes: Buffer): number[] {
  const positions: number[] = [];
  for (let position = 0; position < PAGE_FAN_OUT; position++) if (hasBit(bytes, setBits, position)) positions.push(position);
  return positions;
}

function hasBit(bytes: Buffer, bitmap: number, position: number): boolean {
  return (((bytes[bitmap + (position >> 3)] as number) >> (position & 7)) & 1) === 1;
}

function putBit(bytes: Buffer, bitmap: number, position: number, value: boolean): void {
  const at = bitmap + (position >> 3);
  const bit = 1 << (position & 7);
  bytes[at] = value ? (bytes[at] as number) | bit : (bytes[at] as number) & ~bit;
}
