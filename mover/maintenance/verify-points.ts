/**
 * Walks the index pages of points: every page can be read, every block they name is there with the right length. Shared subtrees are walked
 * once. Two ways to judge a block: read it (one point), or ask the pack index, after every pack was read (all points).
 *
 * Memory: digests of good pages and blocks, see DigestSet; the problems of 100 000 bad ones; one point's findings.
 */
import { hasCode, type TidemarkError } from '../../common/errors/tidemark-error';
import { BlockErrors } from '../errors/mover-errors';
import { hexOf, isZero } from '../format/block';
import { blockCount, levelCount, PAGE_BYTES, pageDigest, PAGE_FAN_OUT, rawLengthOf } from '../format/index-page';
import type { PointDiskRecord, PointRecord } from '../format/manifest';
import { DigestSet } from './digest-set';
import { damageOf, Findings } from './verify-findings';
import type { VerifyRun } from './verify-run';

/** Digests known to be bad that are remembered, so that they are not read again for each point. */
const maxBad = 100_000;

interface DiskPlace {
  readonly point: PointRecord;
  readonly disk: PointDiskRecord;
  readonly findings: Findings;
}

export class PointVerifier {
  /** Pages whose whole subtree is good, by the level they were seen at. */
  private readonly goodPages: DigestSet[] = [];
  private readonly goodBlocks = new DigestSet();
  private readonly bad = new Map<string, { problem: TidemarkError; objectName: string }>();

  constructor(
    private readonly run: VerifyRun,
    /** False: blocks in packs that count are taken for good. */
    private readonly readsBlocks: boolean,
  ) {}

  /**
   * Findings go to the run's, unless the point was removed meanwhile: what it needed may be deleted then. Throws POINT_NOT_FOUND when it was removed
   * before.
   */
  async verify(pointId: string): Promise<void> {
    const { repository, progress } = this.run;
    const findings = new Findings();
    let point: PointRecord | undefined;
    try {
      point = (await repository.points.readWhole(pointId)).point;
    } catch (error) {
      const problem = damageOf(error);
      if (problem.code === 'POINT_NOT_FOUND') throw problem;
      findings.add({ code: problem.code, pointId, diskId: '', objectName: `points/${pointId}`, message: problem.message });
    }
    if (point) {
      if (this.readsBlocks) for (const disk of point.disks) progress.totalBlocks += disk.allocatedBlocks;
      for (const disk of point.disks) await this.verifyDisk({ point, disk, findings });
    }
    if (findings.count > 0) {
      await repository.refresh();
      if (!repository.points.has(pointId)) return;
    }
    this.run.findings.addAll(findings);
    if (point) progress.checkedPoints++;
  }

  /** True for a block or page (hex digest) that some point needs and that was found damaged. */
  isKnownBad(digest: string): boolean {
    return this.bad.has(digest);
  }

  private async verifyDisk(place: DiskPlace): Promise<void> {
    const { disk, point } = place;
    const { progress } = this.run;
    const root = Buffer.from(disk.indexRoot, 'hex');
    if (isZero(root)) return;
    const before = progress.checkedBlocks;
    const good = await this.verifyPage(root, levelCount(blockCount(disk.sizeBytes, point.blockSizeBytes)) - 1, 0, place);
    // Shared subtrees were looked at for another disk or point.
    if (good && this.readsBlocks) progress.checkedBlocks = before + disk.allocatedBlocks;
  }

  /** True when the page and all under it is good. */
  private async verifyPage(digest: Buffer, level: number, number: number, place: DiskPlace): Promise<boolean> {
    const known = (this.goodPages[level] ??= new DigestSet());
    if (known.has(digest)) return true;
    const firstBlock = number * PAGE_FAN_OUT ** (level + 1);
    let page: Buffer;
    try {
      const before = this.bad.get(hexOf(digest));
      if (before) throw before.problem;
      await this.run.mayRead(PAGE_BYTES);
      page = await this.run.repository.pages.load(digest);
    } catch (error) {
      const problem = damageOf(error);
      this.remember(digest, problem, hexOf(digest));
      this.tell(place, firstBlock, 'INDEX_PAGE_DAMAGED', hexOf(digest), problem.message);
      return false;
    }
    let good = true;
    for (let position = 0; position < PAGE_FAN_OUT; position++) {
      const child = pageDigest(page, position);
      if (isZero(child)) continue;
      const ok =
        level === 0
          ? await this.verifyBlock(child, firstBlock + position, place)
          : await this.verifyPage(child, level - 1, number * PAGE_FAN_OUT + position, place);
      good &&= ok;
    }
    if (good) known.add(digest);
    await this.run.breathe();
    return good;
  }

  private async verifyBlock(digest: Buffer, block: number, place: DiskPlace): Promise<boolean> {
    const { repository, progress } = this.run;
    const { index, blocks } = repository;
    if (this.readsBlocks) {
      progress.checkedBlocks++;
      if (this.goodBlocks.has(digest)) return true;
    }
    let objectName = hexOf(digest);
    try {
      const before = this.bad.get(hexOf(digest));
      if (before) {
        ({ objectName } = before);
        throw before.problem;
      }
      const location = await blocks.locate(digest);
      objectName = index.packNameOf(location);
      if (location.rawLength !== rawLengthOf(block, place.disk.sizeBytes, place.point.blockSizeBytes))
        throw BlockErrors.BLOCK_CORRUPT({ digest: hexOf(digest), problem: `it has ${location.rawLength} bytes` });
      if (this.readsBlocks || index.isQuarantined(index.packs.idOf(location.pack), location.offset)) {
        await this.run.mayRead(location.storedLength);
        await blocks.readChecked(digest);
        if (this.readsBlocks) progress.checkedBytes += location.rawLength;
        await this.run.breathe();
      }
      if (this.readsBlocks) this.goodBlocks.add(digest);
      return true;
    } catch (error) {
      const problem = damageOf(error);
      this.remember(digest, problem, objectName);
      this.tell(place, block, problem.code, objectName, problem.message);
      return false;
    }
  }

  private tell({ point, disk, findings }: DiskPlace, block: number, code: string, objectName: string, message: string): void {
    const offsetBytes = block * point.blockSizeBytes;
    findings.add({ code, pointId: point.pointId, diskId: disk.diskId, offsetBytes, objectName, message });
  }

  private remember(digest: Buffer, problem: TidemarkError, objectName: string): void {
    if (this.bad.size < maxBad) this.bad.set(hexOf(digest), { problem, objectName });
  }
}

/** True for a point that was removed between being listed and being read. */
export function isRemoved(error: unknown): boolean {
  return hasCode(error, 'POINT_NOT_FOUND');
}
