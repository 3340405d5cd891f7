import fc from 'fast-check';
import { BlockPlan, addExtent } from './block-plan';
import type { Scope } from './block-plan';

const blockSizeBytes = 64 * 1024;
const unit = 512;

/** Contiguous extents over a whole disk of any size in sectors. */
const disks = fc
  .array(fc.record({ sectors: fc.integer({ min: 1, max: 400 }), zero: fc.boolean(), dirty: fc.boolean() }), { minLength: 1, maxLength: 40 })
  .map((parts) => {
    let start = 0;
    const extents = parts.map(({ sectors, zero, dirty }) => {
      const extent = { start, length: sectors * unit, zero, dirty };
      start += extent.length;
      return extent;
    });
    return { extents, sizeBytes: start };
  });

function planned(
  disk: { extents: readonly { start: number; length: number; zero: boolean; dirty: boolean }[]; sizeBytes: number },
  scope: Scope,
  hasBase: boolean,
) {
  const plan = BlockPlan.empty(disk.sizeBytes, blockSizeBytes);
  for (const extent of disk.extents) addExtent(plan, scope, hasBase, extent);
  return plan;
}

/** Sectors that the plan reads. */
function readSectors(plan: BlockPlan): Set<number> {
  const sectors = new Set<number>();
  for (let block = 0; block < plan.blockCount; block += 1) {
    if (!plan.isTouched(block)) continue;
    plan.forEachDataRun(block, (from, to) => {
      for (let at = from; at < to; at += unit) sectors.add((block * blockSizeBytes + at) / unit);
    });
  }
  return sectors;
}

describe('block plan', () => {
  it('reads every byte of data of every represented block, whatever the extents', () => {
    fc.assert(
      fc.property(disks, fc.constantFrom<Scope>('allocated', 'changed'), fc.boolean(), (disk, scope, hasBase) => {
        const plan = planned(disk, scope, hasBase);
        const read = readSectors(plan);
        for (const { start, length, zero } of disk.extents) {
          for (let at = start; at < start + length && !zero; at += unit) {
            if (plan.isTouched(Math.floor(at / blockSizeBytes)) && !read.has(at / unit)) return false;
          }
        }
        return true;
      }),
    );
  });

  it('represents exactly the blocks that a dirty extent overlaps', () => {
    fc.assert(
      fc.property(disks, (disk) => {
        const plan = planned(disk, 'changed', true);
        for (let block = 0; block < plan.blockCount; block += 1) {
          const [from, to] = [block * blockSizeBytes, (block + 1) * blockSizeBytes];
          const dirty = disk.extents.some((e) => e.dirty && e.start < to && e.start + e.length > from);
          if (plan.isTouched(block) !== dirty) return false;
        }
        return true;
      }),
    );
  });

  it('represents blocks of zeroes only over a base, and then all blocks', () => {
    fc.assert(
      fc.property(disks, (disk) => {
        const [without, over] = [planned(disk, 'allocated', false), planned(disk, 'allocated', true)];
        for (let block = 0; block < without.blockCount; block += 1) {
          if (!over.isTouched(block) || without.isTouched(block) !== without.hasData(block)) return false;
        }
        return true;
      }),
    );
  });

  it('counts what it reads and what it knows to be zero', () => {
    fc.assert(
      fc.property(disks, (disk) => {
        const plan = planned(disk, 'changed', true);
        const { dataBytes, zeroBytes } = plan.totals();
        let touched = 0;
        for (let block = 0; block < plan.blockCount; block += 1) if (plan.isTouched(block)) touched += plan.lengthOf(block);
        return dataBytes === readSectors(plan).size * unit && dataBytes + zeroBytes === touched;
      }),
    );
  });

  it('takes a block whose parts are all data for full, also the short last one', () => {
    const plan = BlockPlan.empty(blockSizeBytes + 5 * unit, blockSizeBytes);
    plan.addData(0, blockSizeBytes + 5 * unit);
    expect([plan.isFull(0), plan.isFull(1), plan.lengthOf(1)]).toEqual([true, true, 5 * unit]);
  });

  it('needs about 2 MiB for an 1 TiB disk, however fragmented', () => {
    const plan = BlockPlan.empty(2 ** 40, 2 ** 20);
    for (let at = 0; at < 2 ** 40; at += 2 ** 22) plan.addData(at, at + 65536);
    expect(plan.shared.data.byteLength + plan.shared.touched.byteLength).toBeLessThan(2.2 * 2 ** 20);
  });
});
