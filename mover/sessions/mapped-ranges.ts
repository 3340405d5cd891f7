import type { BlockRange } from '../../proto/data-mover/frame-payloads';
import { isZero } from '../format/block';
import { PAGE_FAN_OUT } from '../format/index-page';
import type { OverlayPages } from './overlay-pages';

/** Pages that one answer looks at: some 10 ms. */
const pagesPerAnswer = 64;

export interface MappedRanges {
  readonly ranges: readonly BlockRange[];
  /** Where the next question goes on; the disk's block count when this was all. */
  readonly nextBlock: number;
}

/** Ranges of a disk that are mapped to zero or to blocks which are here, ascending, at most `limit`, and perhaps fewer than there are. */
export function mappedRanges(
  overlay: OverlayPages,
  blocks: number,
  firstBlock: number,
  limit: number,
  isHere: (digest: Buffer) => boolean,
): MappedRanges {
  const ranges: { firstBlock: number; blockCount: number }[] = [];
  let pagesLeft = pagesPerAnswer;
  let number = Math.floor(firstBlock / PAGE_FAN_OUT);
  for (; number < overlay.pageCount && pagesLeft > 0; number++) {
    if (!overlay.isChanged(number)) continue;
    pagesLeft--;
    for (const block of mappedBlocks(overlay, number, blocks, isHere)) {
      if (block < firstBlock) continue;
      const last = ranges.at(-1);
      if (last && last.firstBlock + last.blockCount === block) last.blockCount++;
      else if (ranges.length === limit) return { ranges, nextBlock: block };
      else ranges.push({ firstBlock: block, blockCount: 1 });
    }
  }
  return { ranges, nextBlock: Math.min(number * PAGE_FAN_OUT, blocks) };
}

function mappedBlocks(overlay: OverlayPages, number: number, blocks: number, isHere: (digest: Buffer) => boolean): number[] {
  const start = number * PAGE_FAN_OUT;
  const mapped: number[] = [];
  const missing = new Set<number>();
  overlay.forEachSet(number, (position, digest) => {
    if (isZero(digest) || isHere(digest)) mapped.push(start + position);
    else missing.add(start + position);
  });
  if (!overlay.isZeroed(number)) return mapped;
  const count = Math.min(PAGE_FAN_OUT, blocks - start);
  return Array.from({ length: count }, (_, position) => start + position).filter((block) => !missing.has(block));
}
