/**
 * Reads one pack from its start to its end and compares everything in it: header, entry list, each block's digest. Nothing outside the pack is
 * looked at, so that each pack is read once whatever refers to it. Memory: one piece of 4 MiB and the largest block.
 */
import type { TidemarkError } from '../../common/errors/tidemark-error';
import { BlockErrors, RepositoryErrors } from '../errors/mover-errors';
import { hexOf, verifiedRawForm } from '../format/block';
import { PACK_HEADER_BYTES, packHeader, type PackEntry } from '../format/pack';
import type { PackCipher } from '../format/pack-cipher';
import type { PackList } from '../repository/blocks/pack-reader';
import { packName, uuidBytes } from '../repository/blocks/pack-table';
import { isThere } from '../stores/is-there';
import { damageOf } from './verify-findings';
import type { VerifyRun } from './verify-run';

const pieceBytes = 4 * 1024 * 1024;

/** What was found in a pack. */
export interface PackReport {
  /** Undefined when it cannot be read. */
  readonly list: PackList | undefined;
  /** The pack as a whole cannot be trusted: it is missing, its list or its header is not what it was. */
  readonly whole: TidemarkError | undefined;
  readonly damaged: readonly { readonly entry: PackEntry; readonly problem: TidemarkError }[];
  /** Blocks that were found good, by their offset. */
  readonly good: ReadonlySet<number>;
}

export class PackVerifier {
  private buffer = Buffer.alloc(0);

  constructor(private readonly run: VerifyRun) {}

  /** Throws CANCELLED, REPOSITORY_IO when the store fails as a whole. */
  async verify(id: string): Promise<PackReport> {
    const { index } = this.run.repository;
    const damaged: { entry: PackEntry; problem: TidemarkError }[] = [];
    const good = new Set<number>();
    let list: PackList;
    try {
      list = await index.readList(id);
    } catch (error) {
      return { list: undefined, whole: damageOf(error), damaged, good };
    }
    const whole = await this.headerProblem(id, list.cipher);
    const inOrder = [...list.entries].sort((a, b) => a.offset - b.offset);
    for (let from = 0; from < inOrder.length;) {
      const to = endOfPiece(inOrder, from);
      await this.verifyPiece(id, inOrder.slice(from, to), list.cipher, (entry, problem) => {
        if (problem) damaged.push({ entry, problem });
        else good.add(entry.offset);
      });
      from = to;
    }
    return { list, whole, damaged, good };
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

  private async verifyPiece(
    id: string,
    entries: readonly PackEntry[],
    cipher: PackCipher | undefined,
    tell: (entry: PackEntry, problem: TidemarkError | undefined) => void,
  ): Promise<void> {
    const { repository, progress } = this.run;
    const start = (entries[0] as PackEntry).offset;
    const length = Math.max(...entries.map(({ offset, storedLength }) => offset + storedLength)) - start;
    if (this.buffer.length < length) this.buffer = Buffer.allocUnsafeSlow(Math.max(length, pieceBytes));
    const piece = this.buffer.subarray(0, length);
    await this.run.mayRead(length);
    let read: number;
    try {
      read = await repository.store.read(packName(id), start, piece);
    } catch (error) {
      // Each block is tried alone when a sector of the piece cannot be read.
      if (entries.length > 1) {
        for (const entry of entries) await this.verifyPiece(id, [entry], cipher, tell);
        return;
      }
      const problem = damageOf(error);
      return tell(entries[0] as PackEntry, problem);
    }
    for (const entry of entries) {
      const at = entry.offset - start;
      tell(entry, this.problemOf(entry, piece.subarray(at, Math.max(at, Math.min(at + entry.storedLength, read))), cipher));
      progress.checkedBlocks++;
      progress.checkedBytes += entry.rawLength;
      await this.run.breathe();
    }
  }

  private problemOf(entry: PackEntry, stored: Buffer, cipher: PackCipher | undefined): TidemarkError | undefined {
    const { digest, codec, rawLength, storedLength, offset } = entry;
    try {
      if (stored.length < storedLength) throw BlockErrors.BLOCK_MISSING({ digest: hexOf(digest), problem: 'its pack is cut short' });
      const clear = cipher ? cipher.openBlock(entry, offset, stored) : stored;
      verifiedRawForm(this.run.repository.digestKey, clear, codec, rawLength, digest);
      return undefined;
    } catch (error) {
      return damageOf(error);
    }
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

/** End of the longest run of entries that one read fetches. */
function endOfPiece(entries: readonly PackEntry[], from: number): number {
  const start = (entries[from] as PackEntry).offset;
  let to = from + 1;
  while (to < entries.length) {
    const { offset, storedLength } = entries[to] as PackEntry;
    if (offset + storedLength - start > pieceBytes) break;
    to++;
  }
  return to;
}
