import type { PackEntry } from '../../format/pack';
import type { PackCipher } from '../../format/pack-cipher';
import type { BlockProblem } from './compare-block';

/** Blocks of a pack that lie one behind the other, as they were read. */
export interface Piece {
  readonly packId: string;
  readonly cipher: PackCipher | undefined;
  /** Ascending by offset. */
  readonly entries: readonly PackEntry[];
  /** Of the first byte in `memory`. */
  readonly start: number;
  /** All of an array buffer of its own; it is the comparer's until `compare` has ended. */
  readonly memory: Buffer;
  /** Bytes that were read. */
  readonly length: number;
}

export interface Compared {
  /** Of each block, in the order of the entries. */
  readonly problems: readonly (BlockProblem | undefined)[];
  /** In place of the piece's. */
  readonly memory: Buffer;
}

/** Compares what a verification read with what packs say of their blocks. */
export interface Comparer {
  /** Throws VERIFICATION_CRASHED. */
  compare(piece: Piece): Promise<Compared>;
  close(): Promise<void>;
}
