/**
 * Proves points readable: reads every index page and every block they reach, decompresses it and checks its digest. What is shared is read
 * once per run. Damage is a finding, not an error. Knows no operations, callers or network.
 */
import { CommonErrors } from '../../common/errors/common-errors';
import { isTidemarkError, type TidemarkError } from '../../common/errors/tidemark-error';
import { BlockErrors, RepositoryErrors } from '../errors/mover-errors';
import { isZero, verifiedRawForm, hexOf } from '../format/block';
import { blockCount, levelCount, pageDigest, PAGE_FAN_OUT, rawLengthOf } from '../format/index-page';
import type { PointDiskRecord, PointRecord } from '../format/manifest';
import { packName } from '../repository/pack-table';
import type { Repository } from '../repository/repository';
import { DigestSet } from './digest-set';

/** One damaged thing and whom it hurts; empty ids when it is of no point in particular. */
export interface Finding {
  readonly code: string;
  readonly pointId: string;
  readonly diskId: string;
  readonly offsetBytes?: number;
  readonly objectName: string;
  readonly message: string;
}

export interface VerifyProgress {
  checkedBlocks: number;
  /** Of the points known so far. */
  totalBlocks: number;
  checkedBytes: number;
  checkedPoints: number;
  findingCount: number;
}

/** How many findings are kept; the rest is counted. */
export const MAX_FINDINGS = 1000;
/** Digests known to be bad that are remembered, so that they are not read again for each point. */
const maxBad = 100_000;

interface DiskPlace {
  readonly point: PointRecord;
  readonly disk: PointDiskRecord;
}

export class Verifier {
  readonly progress: VerifyProgress = { checkedBlocks: 0, totalBlocks: 0, checkedBytes: 0, checkedPoints: 0, findingCount: 0 };
  readonly findings: Finding[] = [];
  private readonly goodBlocks = new DigestSet();
  /** Pages whose whole subtree is good, by the level they were seen at. */
  private readonly goodPages: DigestSet[] = [];
  private readonly bad = new Map<string, { problem: TidemarkError; objectName: string }>();
  private scratch = Buffer.alloc(0);

  constructor(
    private readonly repository: Repository,
    private readonly signal: AbortSignal,
  ) {}

  /**
   * Verifies one point, or all and every pack's list. Throws CANCELLED when the signal fires, POINT_NOT_FOUND, and REPOSITORY_IO when the store
   * fails as a whole.
   */
  async run(pointId: string | undefined): Promise<void> {
    if (pointId !== undefined) return this.verifyPoint(pointId);
    for (const id of this.repository.points.ids()) {
      this.assertGoesOn();
      await this.verifyPoint(id);
    }
    await this.verifyPackLists();
  }

  private async verifyPoint(pointId: string): Promise<void> {
    let point: PointRecord;
    try {
      point = (await this.repository.points.readWhole(pointId)).point;
    } catch (error) {
      const problem = damage(error);
      if (problem.code === 'POINT_NOT_FOUND') throw problem;
      this.find({ code: problem.code, pointId, diskId: '', objectName: `points/${pointId}`, message: problem.message });
      return;
    }
    for (const disk of point.disks) this.progress.totalBlocks += disk.allocatedBlocks;
    for (const disk of point.disks) await this.verifyDisk({ point, disk });
    this.progress.checkedPoints++;
  }

  private async verifyDisk(place: DiskPlace): Promise<void> {
    const { disk, point } = place;
    const root = Buffer.from(disk.indexRoot, 'hex');
    if (isZero(root)) return;
    const before = this.progress.checkedBlocks;
    const good = await this.verifyPage(root, levelCount(blockCount(disk.sizeBytes, point.blockSizeBytes)) - 1, 0, place);
    // Shared subtrees were looked at for another disk or point.
    if (good) this.progress.checkedBlocks = before + disk.allocatedBlocks;
  }

  /** True when the page and all under it is good. */
  private async verifyPage(digest: Buffer, level: number, number: number, place: DiskPlace): Promise<boolean> {
    this.assertGoesOn();
    const known = (this.goodPages[level] ??= new DigestSet());
    if (known.has(digest)) return true;
    const firstBlock = number * PAGE_FAN_OUT ** (level + 1);
    let page: Buffer;
    try {
      const before = this.bad.get(hexOf(digest));
      if (before) throw before.problem;
      page = await this.repository.pages.load(digest);
    } catch (error) {
      const problem = damage(error);
      this.remember(digest, problem, hexOf(digest));
      this.find({
        code: 'INDEX_PAGE_DAMAGED',
        pointId: place.point.pointId,
        diskId: place.disk.diskId,
        offsetBytes: firstBlock * place.point.blockSizeBytes,
        objectName: hexOf(digest),
        message: problem.message,
      });
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
    return good;
  }

  private async verifyBlock(digest: Buffer, block: number, place: DiskPlace): Promise<boolean> {
    this.assertGoesOn();
    this.progress.checkedBlocks++;
    if (this.goodBlocks.has(digest)) return true;
    const { blockSizeBytes } = place.point;
    let objectName = hexOf(digest);
    try {
      const before = this.bad.get(hexOf(digest));
      if (before) {
        objectName = before.objectName;
        throw before.problem;
      }
      const location = await this.repository.blocks.locate(digest);
      objectName = this.repository.index.packNameOf(location);
      if (location.rawLength !== rawLengthOf(block, place.disk.sizeBytes, blockSizeBytes))
        throw BlockErrors.BLOCK_CORRUPT({ digest: hexOf(digest), problem: `it has ${location.rawLength} bytes` });
      if (this.scratch.length < location.storedLength) this.scratch = Buffer.allocUnsafeSlow(location.storedLength);
      const stored = await this.repository.blocks.readBlock(location, digest, this.scratch);
      verifiedRawForm(this.repository.digestKey, stored, location.codec, location.rawLength, digest);
      this.progress.checkedBytes += location.rawLength;
      this.goodBlocks.add(digest);
      return true;
    } catch (error) {
      const problem = damage(error);
      this.remember(digest, problem, objectName);
      this.find({
        code: problem.code,
        pointId: place.point.pointId,
        diskId: place.disk.diskId,
        offsetBytes: block * blockSizeBytes,
        objectName,
        message: problem.message,
      });
      return false;
    }
  }

  private async verifyPackLists(): Promise<void> {
    const { packs, damagedPacks } = this.repository.index;
    for (const id of packs.ids()) {
      this.assertGoesOn();
      try {
        await this.repository.index.readList(id);
      } catch (error) {
        const problem = damage(error);
        this.find({ code: problem.code, pointId: '', diskId: '', objectName: packName(id), message: problem.message });
        damagedPacks.set(id, problem.message);
      }
    }
  }

  private assertGoesOn(): void {
    if (this.signal.aborted) throw CommonErrors.CANCELLED({ what: 'verification' });
  }

  private remember(digest: Buffer, problem: TidemarkError, objectName: string): void {
    if (this.bad.size < maxBad) this.bad.set(hexOf(digest), { problem, objectName });
  }

  private find(finding: Finding): void {
    this.progress.findingCount++;
    if (this.findings.length < MAX_FINDINGS) this.findings.push(finding);
  }
}

/** Damage as an error of ours; anything else, and trouble with the store as a whole, ends the run. */
function damage(error: unknown): TidemarkError {
  if (!isTidemarkError(error) || error.code === 'CANCELLED') throw error;
  // A sector that cannot be read is damage of what lies there, not of the whole store.
  if (error.code === 'REPOSITORY_IO') {
    if (error.meta['reason'] === 'EIO')
      return RepositoryErrors.PACK_DAMAGED({ pack: String(error.meta['what']), problem: 'it cannot be read' });
    throw error;
  }
  return error;
}
