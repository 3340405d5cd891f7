/**
 * Reads packs from their start to their end and compares everything in them: header, entry list, each block's digest. Nothing outside a pack is looked at, so that
 * each is read once whatever refers to it. Packs are read one behind the other, in pieces of 4 MiB, some of them ahead of what is compared: a store that is far
 * away is asked for several at the same time. Memory: the pieces under way, each as large as the largest block where that is more; lists of the next packs.
 */
import type { TidemarkError } from '../../common/errors/tidemark-error';
import { BlockErrors, RepositoryErrors } from '../errors/mover-errors';
import { hexOf } from '../format/block';
import { PACK_HEADER_BYTES, packHeader, type PackEntry } from '../format/pack';
import type { PackCipher } from '../format/pack-cipher';
import { BufferPool } from '../repository/blocks/buffer-pool';
import type { PackList } from '../repository/blocks/pack-reader';
import { packName, uuidBytes } from '../repository/blocks/pack-table';
import { isThere } from '../stores/is-there';
import type { BlockProblem } from './compare/compare-block';
import type { Comparer } from './compare/comparer';
import { damageOf } from './verify-findings';
import type { VerifyRun } from './verify-run';

const pieceBytes = 4 * 1024 * 1024;
/** Pieces that are being read or compared. */
const piecesAtOnce = 8;
/** Packs whose lists are read ahead, which takes some small requests each. */
const packsAtOnce = 4;

/** What was found in a pack. */
export interface PackReport {
  readonly id: string;
  /** Undefined when it cannot be read. */
  readonly list: PackList | undefined;
  /** The pack as a whole cannot be trusted: it is missing, its list or its header is not what it was. */
  readonly whole: TidemarkError | undefined;
  /** Ascending by offset. */
  readonly damaged: readonly { readonly entry: PackEntry; readonly problem: TidemarkError }[];
  /** Blocks that were found good, by their offset. */
  readonly good: ReadonlySet<number>;
}

interface OpenPack {
  readonly id: string;
  readonly cipher: PackCipher | undefined;
}

type Judged = readonly (TidemarkError | undefined)[];

export class PackVerifier {
  private readonly buffers = new BufferPool(pieceBytes, piecesAtOnce);

  constructor(
    private readonly run: VerifyRun,
    private readonly comparer: Comparer,
  ) {}

  /** Reports of these packs, in their order; of those that are deleted meanwhile none. Throws CANCELLED, VERIFICATION_CRASHED, REPOSITORY_IO when the store fails as a whole. */
  async *verify(ids: readonly string[]): AsyncGenerator<PackReport> {
    const running: Promise<PackReport | undefined>[] = [];
    let begun = Promise.resolve();
    let next = 0;
    const begin = (id: string) => {
      const turn = begun;
      let allBegun = () => {};
      begun = new Promise((resolve) => (allBegun = resolve));
      const report = this.verifyPack(id, turn, allBegun).finally(allBegun);
      // Whatever it is, it is told when its turn comes.
      report.catch(() => undefined);
      return report;
    };
    try {
      while (next < ids.length || running.length > 0) {
        while (running.length < packsAtOnce && next < ids.length) running.push(begin(ids[next++] as string));
        const report = await running[0];
        void running.shift();
        this.run.assertGoesOn();
        if (report) yield report;
      }
    } finally {
      if (running.length > 0) this.run.giveUp();
      await Promise.allSettled(running);
    }
  }

  /** Begins with its blocks after `turn`, and calls `allBegun` when all are being read. */
  private async verifyPack(id: string, turn: Promise<void>, allBegun: () => void): Promise<PackReport | undefined> {
    const { index } = this.run.repository;
    // Deleted since the run began.
    if (index.packs.numberOf(id) === undefined) return undefined;
    let list: PackList;
    try {
      list = await index.readList(id);
    } catch (error) {
      return { id, list: undefined, whole: damageOf(error), damaged: [], good: new Set() };
    }
    const whole = await this.headerProblem(id, list.cipher);
    await turn;
    const pack = { id, cipher: list.cipher };
    const pieces = piecesOf([...list.entries].sort((a, b) => a.offset - b.offset));
    const judging: Promise<Judged>[] = [];
    try {
      for (const entries of pieces) {
        const buffer = await this.buffers.acquire();
        const judged = this.verifyPiece(pack, entries, buffer);
        judged.catch(() => undefined);
        judging.push(judged);
        this.run.assertGoesOn();
      }
    } finally {
      allBegun();
      await Promise.allSettled(judging);
    }
    const damaged: { entry: PackEntry; problem: TidemarkError }[] = [];
    const good = new Set<number>();
    for (const [number, entries] of pieces.entries()) {
      const judged = await (judging[number] as Promise<Judged>);
      for (const [i, entry] of entries.entries()) {
        const problem = judged[i];
        if (problem) damaged.push({ entry, problem });
        else good.add(entry.offset);
      }
    }
    return { id, list, whole, damaged, good };
  }

  private async headerProblem(id: string, cipher: PackCipher | undefined): Promise<TidemarkError | undefined> {
    const { store, header } = this.run.repository;
    const found = Buffer.alloc(PACK_HEADER_BYTES);
    try {
      await this.run.mayRead(found.length);
      await store.read(packName(id), 0, found);
    } catch (error) {
      return damageOf(error);
    }
    if (found.equals(packHeader(uuidBytes(id), uuidBytes(header.repositoryId), cipher))) return undefined;
    return RepositoryErrors.PACK_DAMAGED({ pack: packName(id), problem: 'its header is not that of this pack' });
  }

  /** Problems of neighbours. The buffer goes back to the pool. */
  private async verifyPiece(pack: OpenPack, entries: readonly PackEntry[], buffer: Buffer): Promise<Judged> {
    const start = startOf(entries);
    const length = endOf(entries) - start;
    let memory = buffer.length < length ? Buffer.allocUnsafeSlow(length) : buffer;
    let unreadable: TidemarkError | undefined;
    try {
      const found = await this.read(pack, start, memory.subarray(0, length));
      if (typeof found === 'number') {
        const compared = await this.comparer.compare({ packId: pack.id, cipher: pack.cipher, entries, start, memory, length: found });
        ({ memory } = compared);
        this.count(entries);
        return entries.map(({ digest }, i) => errorOf(compared.problems[i], digest));
      }
      unreadable = found;
    } finally {
      this.buffers.release(memory);
    }
    if (entries.length === 1) {
      this.count(entries);
      return [unreadable];
    }
    // Each block is tried alone when a sector of the piece cannot be read.
    const judged: (TidemarkError | undefined)[] = [];
    for (const entry of entries) judged.push(...(await this.verifyPiece(pack, [entry], await this.buffers.acquire())));
    return judged;
  }

  /** Bytes that the store has of it; the error of a sector that cannot be read. */
  private async read({ id }: OpenPack, start: number, target: Buffer): Promise<number | TidemarkError> {
    await this.run.mayRead(target.length);
    try {
      return await this.run.repository.store.read(packName(id), start, target);
    } catch (error) {
      return damageOf(error);
    }
  }

  private count(entries: readonly PackEntry[]): void {
    const { progress } = this.run;
    progress.checkedBlocks += entries.length;
    for (const { rawLength } of entries) progress.checkedBytes += rawLength;
  }
}

/** True when a pack is not there any more because a collection deleted it. */
export async function wasCollected(run: VerifyRun, id: string): Promise<boolean> {
  const { repository } = run;
  // When the store cannot even say that, it is damage.
  if (await isThere(repository.store, packName(id)).catch(() => true)) return false;
  await repository.follow();
  const { packs } = repository.index;
  return packs.numberOf(id) === undefined || packs.isCondemned(id);
}

function errorOf(found: BlockProblem | undefined, digest: Buffer): TidemarkError | undefined {
  return found && BlockErrors[found.code]({ digest: hexOf(digest), problem: found.problem });
}

/** Runs of neighbours that one read fetches. */
function piecesOf(inOrder: readonly PackEntry[]): PackEntry[][] {
  const pieces: PackEntry[][] = [];
  for (const entry of inOrder) {
    const piece = pieces.at(-1);
    if (piece && entry.offset + entry.storedLength - startOf(piece) <= pieceBytes) piece.push(entry);
    else pieces.push([entry]);
  }
  return pieces;
}

function startOf(piece: readonly PackEntry[]): number {
  return (piece[0] as PackEntry).offset;
}

function endOf(piece: readonly PackEntry[]): number {
  return Math.max(...piece.map(({ offset, storedLength }) => offset + storedLength));
}
