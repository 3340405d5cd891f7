/** Copies what is needed out of packs that are mostly waste, so that these can go. Every block is checked on its way: damage is not passed on. */
import { CommonErrors } from '../../../common/errors/common-errors';
import { isTidemarkError } from '../../../common/errors/tidemark-error';
import type { RateLimit } from '../../../common/flow/rate-limit';
import type { Logger } from '../../../common/log/logger';
import { PACK_ENTRY_BYTES, PACK_FOOTER_BYTES, PACK_HEADER_BYTES, type PackEntry } from '../../format/pack';
import type { StoredBlock } from '../../repository/blocks/pack-writer';
import type { Repository } from '../../repository/repository';
import type { CollectProgress } from './collect-progress';
import type { PackMarks } from './pack-marks';

/** Blocks read at the same time, at most 4 MiB each. */
const readsAtOnce = 4;

/** A pack to rewrite. */
export interface Wasteful {
  readonly id: string;
  /** By the marks, which say a little too little. */
  readonly neededBytes: number;
  readonly fileLength: number;
}

/** Packs of which more than `wasteRatio` is waste, the worst first. */
export function wasteful(repository: Repository, ids: Iterable<string>, marks: PackMarks, wasteRatio: number): Wasteful[] {
  const found: Wasteful[] = [];
  const { packs } = repository.index;
  for (const id of ids) {
    const number = packs.numberOf(id);
    if (number === undefined || !marks.hasAny(number)) continue;
    const pack = { id, neededBytes: marks.neededBytes(number), fileLength: packs.lengthOf(number) };
    if (pack.neededBytes < payloadOf(pack.fileLength, packs.entryCountOf(number)) * (1 - wasteRatio)) found.push(pack);
  }
  return found.sort((a, b) => a.neededBytes / a.fileLength - b.neededBytes / b.fileLength);
}

export class Rewriter {
  constructor(
    private readonly repository: Repository,
    private readonly marks: PackMarks,
    private readonly rate: RateLimit,
    private readonly progress: CollectProgress,
    private readonly logger: Logger,
    private readonly signal: AbortSignal,
  ) {}

  /**
   * Copies the needed blocks of packs until `budgetBytes` are copied; resolves with the packs that nothing needs any more. They are so only when this has
   * resolved: then the copies are durable and announced. Throws REPOSITORY_FULL, REPOSITORY_IO, CANCELLED: then nothing has changed.
   */
  async rewrite(packs: readonly Wasteful[], wasteRatio: number, budgetBytes: number): Promise<string[]> {
    const { blocks } = this.repository;
    const failuresBefore = blocks.failureCount;
    const done: string[] = [];
    let left = budgetBytes;
    this.progress.begin(
      'repacking',
      Math.min(
        budgetBytes,
        packs.reduce((sum, pack) => sum + pack.neededBytes, 0),
      ),
    );
    for (const { id } of packs) {
      const needed = await this.neededOf(id, wasteRatio);
      const bytes = needed ? storedBytes(needed) : Infinity;
      if (!needed || bytes > left) continue;
      left -= bytes;
      if (await this.copy(id, needed)) done.push(id);
    }
    await blocks.flush();
    const failure = blocks.failureSince(failuresBefore);
    if (failure !== undefined) throw failure;
    await this.repository.announcePacks();
    return done;
  }

  /** Entries of a pack that are needed; undefined when it is damaged, or not that wasteful after all. */
  private async neededOf(id: string, wasteRatio: number): Promise<PackEntry[] | undefined> {
    const { index } = this.repository;
    const number = index.packs.numberOf(id);
    if (number === undefined) return undefined;
    try {
      const { entries } = await index.readList(id);
      const needed = entries.filter(({ offset }) => this.marks.has(number, offset));
      return storedBytes(needed) < storedBytes(entries) * (1 - wasteRatio) ? needed : undefined;
    } catch (error) {
      if (!isTidemarkError(error) || error.code !== 'PACK_DAMAGED') throw error;
      this.logger.warn('a damaged pack is not rewritten; verify the repository', { pack: id, error });
      return undefined;
    }
  }

  /** False when a block is damaged: then the pack stays, since nothing better is known. */
  private async copy(id: string, needed: readonly PackEntry[]): Promise<boolean> {
    for (let at = 0; at < needed.length; at += readsAtOnce) {
      if (this.signal.aborted) throw CommonErrors.CANCELLED({ what: 'collection' });
      const few = needed.slice(at, at + readsAtOnce);
      await this.rate.take(2 * storedBytes(few), this.signal);
      let read: StoredBlock[];
      try {
        read = await Promise.all(few.map((entry) => this.read(entry)));
      } catch (error) {
        if (!isTidemarkError(error) || (error.code !== 'BLOCK_CORRUPT' && error.code !== 'BLOCK_MISSING')) throw error;
        this.logger.warn('a pack with a damaged block is not rewritten; verify the repository', { pack: id, error });
        return false;
      }
      for (const block of read) {
        await this.repository.blocks.copyBlock(block);
        this.progress.done += block.payload.length;
        this.progress.totals.rewrittenBytes += block.payload.length;
      }
    }
    this.progress.totals.rewrittenPacks++;
    return true;
  }

  /** The best of its copies; those that are damaged go into quarantine. */
  private async read(entry: PackEntry): Promise<StoredBlock> {
    const digest = Buffer.from(entry.digest);
    const { stored, location } = await this.repository.blocks.readChecked(digest);
    return { digest, codec: location.codec, kind: location.kind, rawLength: location.rawLength, payload: stored };
  }
}

function storedBytes(entries: readonly PackEntry[]): number {
  return entries.reduce((sum, { storedLength }) => sum + storedLength, 0);
}

function payloadOf(fileLength: number, entryCount: number): number {
  return fileLength - PACK_HEADER_BYTES - PACK_FOOTER_BYTES - entryCount * PACK_ENTRY_BYTES;
}
