/**
 * Proves points readable. One point: every index page and every block it reaches is read and compared. All points: every pack is read once, from its
 * start to its end, then the index pages of all points are walked and every other document is read. Damage is a finding, not an error, and goes into
 * quarantine. Knows no operations, callers or network.
 */
import { RateLimit } from '../../common/flow/rate-limit';
import type { Logger } from '../../common/log/logger';
import { RepositoryErrors } from '../errors/mover-errors';
import { hexOf } from '../format/block';
import type { QuarantinedBlock } from '../format/quarantine';
import { packName } from '../repository/blocks/pack-table';
import { wholePack } from '../repository/sharing/quarantine';
import type { Repository } from '../repository/repository';
import { comparerFor } from './compare/choose-comparer';
import { DocumentVerifier } from './verify-documents';
import { Findings, type Finding } from './verify-findings';
import type { VerifyLedger } from './verify-ledger';
import { PackVerifier, wasCollected, type PackReport } from './verify-pack';
import { isRemoved, PointVerifier } from './verify-points';
import { VerifyRun, type VerifyProgress } from './verify-run';

export interface VerifierOptions {
  /** 0: no limit. */
  readonly bytesPerSecond?: number;
  /** Packs verified less than this ago are left alone; 0: none are. */
  readonly periodMs?: number;
  /** Where it is noted which packs were verified; without it every pack is read. */
  readonly ledger?: VerifyLedger;
  readonly now?: () => number;
  readonly logger?: Logger;
  /** That compare blocks, 0: the main thread does; absent: one per core when there is enough to compare. */
  readonly threads?: number;
}

/** Packs whose damaged blocks are looked at once more after the walk; of further ones only points' findings tell. */
const maxDamagedPacks = 1000;

export class Verifier {
  private readonly found = new Findings();
  private readonly context: VerifyRun;
  private readonly now: () => number;
  /** Damaged blocks found by this run, by pack. */
  private readonly damagedBlocks = new Map<string, readonly QuarantinedBlock[]>();

  constructor(
    private readonly repository: Repository,
    signal: AbortSignal,
    private readonly options: VerifierOptions = {},
  ) {
    this.now = options.now ?? Date.now;
    this.context = new VerifyRun(repository, this.found, signal, new RateLimit(options.bytesPerSecond ?? 0));
  }

  get progress(): Readonly<VerifyProgress> {
    return this.context.progress;
  }

  /** Findings kept, at most MAX_FINDINGS. */
  get findings(): readonly Finding[] {
    return this.found.kept;
  }

  get findingCount(): number {
    return this.found.count;
  }

  /** Throws CANCELLED when the signal fires, POINT_NOT_FOUND, and REPOSITORY_IO when the store fails as a whole. */
  async run(pointId: string | undefined): Promise<void> {
    const { quarantine } = this.repository;
    const addedBefore = quarantine.added;
    try {
      if (pointId === undefined) await this.verifyAll();
      else await new PointVerifier(this.context, true).verify(pointId);
    } finally {
      this.context.progress.quarantinedBlocks = quarantine.added - addedBefore;
      this.context.progress.healedBlocks = quarantine.count().healed;
    }
  }

  private async verifyAll(): Promise<void> {
    // What others made is verified too, and what they took away is not missed.
    await this.repository.refresh();
    await this.verifyPacks();
    const points = new PointVerifier(this.context, false);
    for (const id of this.repository.points.ids()) {
      try {
        await points.verify(id);
      } catch (error) {
        if (!isRemoved(error)) throw error;
      }
    }
    this.tellOfUnneeded(points);
    await new DocumentVerifier(this.context).verify();
    const { packs } = this.repository.index;
    // What lies in no pack any more cannot be damaged any more.
    await this.repository.quarantine.settle(
      ({ packId }) => packs.numberOf(packId) === undefined && !this.repository.index.damagedPacks.has(packId),
    );
  }

  /** Those first that were not verified for longest, so that a run that never ends within its period still comes round. */
  private async verifyPacks(): Promise<void> {
    const { index } = this.repository;
    const { ledger, periodMs = 0 } = this.options;
    const { progress } = this.context;
    const startedAt = this.now();
    const ids = index.packs.ids();
    const due = ids.filter((id) => startedAt - (ledger?.verifiedAt(id) ?? -Infinity) >= periodMs);
    due.sort((a, b) => (ledger?.verifiedAt(a) ?? 0) - (ledger?.verifiedAt(b) ?? 0));
    progress.skippedPacks = ids.length - due.length;
    progress.totalPacks = due.length;
    const entriesOf = (id: string) => index.packs.entryCountOf(index.packs.numberOf(id) ?? -1);
    progress.totalBlocks = due.reduce((sum, id) => sum + entriesOf(id), 0);
    const bytesOf = (id: string) => index.packs.lengthOf(index.packs.numberOf(id) ?? -1);
    const comparer = comparerFor(
      this.repository,
      due.reduce((sum, id) => sum + bytesOf(id), 0),
      this.options.threads,
    );
    try {
      for await (const report of new PackVerifier(this.context, comparer).verify(due)) {
        if ((report.whole ?? report.damaged.length > 0) && (await wasCollected(this.context, report.id))) continue;
        await this.judge(report);
        progress.checkedPacks++;
      }
    } finally {
      await comparer.close();
    }
  }

  /** Damaged blocks that no point needs hurt nobody, but tell that the device fails: one finding per pack. */
  private tellOfUnneeded(points: PointVerifier): void {
    for (const [id, blocks] of this.damagedBlocks) {
      const unneeded = blocks.filter(({ digest }) => !points.isKnownBad(digest) && !this.repository.index.has(Buffer.from(digest, 'hex')));
      if (unneeded.length === 0) continue;
      const problem = `${unneeded.length} of its blocks are damaged; no point needs them`;
      this.found.addObject(packName(id), RepositoryErrors.PACK_DAMAGED({ pack: packName(id), problem }));
    }
  }

  private async judge({ id, list, whole, damaged, good }: PackReport): Promise<void> {
    const { index, quarantine } = this.repository;
    const foundAt = new Date(this.now()).toISOString();
    const blocks: QuarantinedBlock[] = damaged.map(({ entry, problem }) => ({
      digest: hexOf(entry.digest),
      packId: id,
      offset: entry.offset,
      code: problem.code,
      foundAt,
    }));
    const damagedPlaces = [...blocks];
    if (blocks.length > 0 && this.damagedBlocks.size < maxDamagedPacks) this.damagedBlocks.set(id, blocks);
    if (whole) {
      this.found.addObject(packName(id), whole);
      index.damagedPacks.set(id, whole.message);
      damagedPlaces.push(wholePack(id, foundAt));
    }
    if (damagedPlaces.length > 0) {
      this.options.ledger?.forget(id);
      await quarantine.add(damagedPlaces);
    } else this.options.ledger?.note(id, this.now());
    // A place that is good now was put back by somebody, or read badly then.
    if (!whole && index.isQuarantined(id, 0)) await quarantine.settle(({ packId, offset }) => packId === id && offset === 0);
    if ([...good].some((offset) => index.isQuarantined(id, offset)))
      await quarantine.settle(({ packId, offset }) => packId === id && good.has(offset));
    // Its list could not be read when the repository was opened, and can be now.
    if (list && !whole && index.damagedPacks.delete(id)) index.addPack(id, list.fileLength, list.entries);
  }
}
