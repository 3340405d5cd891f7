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
import { readAhead } from '../repository/read-ahead';
import { DigestSet } from './digest-set';
import { damageOf, Findings } from './verify-findings';
import type { VerifyRun } from './verify-run';

/** Digests known to be bad that are remembered, so that they are not read again for each point. */
const maxBad = 100_000;

/** Pages, or blocks of a point, that are read at the same time. */
const readsAtOnce = 8;

/** A block, or a page by its number on its level. */
interface Child {
  readonly digest: Buffer;
  readonly number: number;
}

interface BadBlock {
  readonly child: Child;
  readonly problem: TidemarkError;
  readonly objectName: string;
}

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
  private async verifyPage(digest: Buffer, level: number, number: number, place: DiskPlace, ahead?: Promise<Buffer>): Promise<boolean> {
    const known = (this.goodPages[level] ??= new DigestSet());
    if (known.has(digest)) return true;
    const firstBlock = number * PAGE_FAN_OUT ** (level + 1);
    let page: Buffer;
    try {
      const before = this.bad.get(hexOf(digest));
      if (before) throw before.problem;
      page = await (ahead ?? this.load(digest));
    } catch (error) {
      const problem = damageOf(error);
      this.remember(digest, problem, hexOf(digest));
      this.tell(place, firstBlock, 'INDEX_PAGE_DAMAGED', hexOf(digest), problem.message);
      return false;
    }
    const children: Child[] = [];
    for (let position = 0; position < PAGE_FAN_OUT; position++) {
      const child = pageDigest(page, position);
      if (!isZero(child)) children.push({ digest: child, number: number * PAGE_FAN_OUT + position });
    }
    const good = await (level === 0 ? this.verifyBlocks(children, place) : this.verifyPages(children, level - 1, place));
    if (good) known.add(digest);
    await this.run.breathe();
    return good;
  }

  private async verifyPages(children: readonly Child[], level: number, place: DiskPlace): Promise<boolean> {
    let good = true;
    if (level > 0) {
      for (const child of children) if (!(await this.verifyPage(child.digest, level, child.number, place))) good = false;
      return good;
    }
    const load = (child: Child) => {
      if (this.goodPages[level]?.has(child.digest) === true || this.bad.has(hexOf(child.digest))) return Promise.resolve({ child });
      const page = this.load(child.digest);
      // What is wrong with it is told by who verifies it.
      return page.then(
        () => ({ child, page }),
        () => ({ child, page }),
      );
    };
    for await (const { child, page } of readAhead<Child, { child: Child; page?: Promise<Buffer> }>(children, readsAtOnce, load))
      if (!(await this.verifyPage(child.digest, level, child.number, place, page))) good = false;
    return good;
  }

  private async load(digest: Buffer): Promise<Buffer> {
    await this.run.mayRead(PAGE_BYTES);
    return this.run.repository.pages.load(digest);
  }

  private async verifyBlocks(children: readonly Child[], place: DiskPlace): Promise<boolean> {
    let good = true;
    const tell = (found: BadBlock | undefined) => {
      if (!found) return;
      good = false;
      this.remember(found.child.digest, found.problem, found.objectName);
      this.tell(place, found.child.number, found.problem.code, found.objectName, found.problem.message);
    };
    // Without being read they are looked up only, which nobody waits for.
    if (!this.readsBlocks) for (const child of children) tell(await this.verifyBlock(child, place));
    else for await (const found of readAhead(children, readsAtOnce, (child) => this.verifyBlock(child, place))) tell(found);
    return good;
  }

  private async verifyBlock(child: Child, place: DiskPlace): Promise<BadBlock | undefined> {
    const { repository, progress } = this.run;
    const { index, blocks } = repository;
    const { digest } = child;
    if (this.readsBlocks) {
      progress.checkedBlocks++;
      if (this.goodBlocks.has(digest)) return undefined;
    }
    const before = this.bad.get(hexOf(digest));
    if (before) return { child, ...before };
    let objectName = hexOf(digest);
    try {
      const location = await blocks.locate(digest);
      objectName = index.packNameOf(location);
      if (location.rawLength !== rawLengthOf(child.number, place.disk.sizeBytes, place.point.blockSizeBytes))
        throw BlockErrors.BLOCK_CORRUPT({ digest: hexOf(digest), problem: `it has ${location.rawLength} bytes` });
      if (this.readsBlocks || index.isQuarantined(index.packs.idOf(location.pack), location.offset)) {
        await this.run.mayRead(location.storedLength);
        await blocks.readChecked(digest);
        if (this.readsBlocks) progress.checkedBytes += location.rawLength;
        await this.run.breathe();
      }
      if (this.readsBlocks) this.goodBlocks.add(digest);
      return undefined;
    } catch (error) {
      return { child, problem: damageOf(error), objectName };
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
