/**
 * Reads one pack from its start to its end and compares everything in it: header, entry list, each block's digest. Nothing outside the pack is
 * looked at, so that each pack is read once whatever refers to it. While one piece is compared the next one is read. Memory: two pieces of 4 MiB, or
 * the largest block where that is more.
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

/** Is told of each block what is stored, cut short where the pack ends; or why it cannot be read. */
type Judge = (entry: PackEntry, stored: Buffer | TidemarkError) => void;

/** Read into in turns: one belongs to its read until that has ended. They grow as needed. */
type Buffers = [Buffer, Buffer];
const noBuffers = (): Buffers => [Buffer.alloc(0), Buffer.alloc(0)];

export class PackVerifier {
  private readonly buffers = noBuffers();

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
    const judge: Judge = (entry, stored) => {
      const problem = Buffer.isBuffer(stored) ? this.problemOf(entry, stored, list.cipher) : stored;
      if (problem) damaged.push({ entry, problem });
      else good.add(entry.offset);
    };
    await this.verifyPieces(id, piecesOf(inOrder), judge);
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

  private async verifyPieces(id: string, pieces: readonly (readonly PackEntry[])[], judge: Judge, buffers = this.buffers): Promise<void> {
    const read = (number: number): Promise<Buffer | TidemarkError> | undefined => {
      const entries = pieces[number];
      const reading = entries && this.read(id, entries, buffers, number % 2 === 0 ? 0 : 1);
      // Whatever it is, it is told when its turn comes.
      reading?.catch(() => undefined);
      return reading;
    };
    let ahead = read(0);
    try {
      for (let number = 0; ahead; number++) {
        const found = await ahead;
        ahead = read(number + 1);
        await this.judgePiece(id, pieces[number] as readonly PackEntry[], found, judge);
      }
    } finally {
      await ahead?.catch(() => undefined);
    }
  }

  /** What the store has of some neighbours; the error of a sector that cannot be read. */
  private async read(id: string, entries: readonly PackEntry[], buffers: Buffers, which: 0 | 1): Promise<Buffer | TidemarkError> {
    const start = startOf(entries);
    const length = Math.max(...entries.map(({ offset, storedLength }) => offset + storedLength)) - start;
    if (buffers[which].length < length) buffers[which] = Buffer.allocUnsafeSlow(Math.max(length, pieceBytes));
    const piece = buffers[which].subarray(0, length);
    await this.run.mayRead(length);
    try {
      return piece.subarray(0, await this.run.repository.store.read(packName(id), start, piece));
    } catch (error) {
      return damageOf(error);
    }
  }

  private async judgePiece(id: string, entries: readonly PackEntry[], found: Buffer | TidemarkError, judge: Judge): Promise<void> {
    if (!Buffer.isBuffer(found) && entries.length > 1) {
      // Each block is tried alone when a sector of the piece cannot be read; the next piece is on its way into one of the usual buffers.
      const alone = entries.map((entry) => [entry]);
      await this.verifyPieces(id, alone, judge, noBuffers());
      return;
    }
    const { progress } = this.run;
    const start = startOf(entries);
    for (const entry of entries) {
      const at = entry.offset - start;
      judge(entry, Buffer.isBuffer(found) ? found.subarray(at, at + entry.storedLength) : found);
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
