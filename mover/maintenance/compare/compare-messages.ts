/** What a verification and its threads tell each other. */
import type { PackEntry } from '../../format/pack';
import type { BlockProblem } from './compare-block';

/** Told to a thread when it starts. */
export interface ThreadStart {
  readonly digestKey: Uint8Array;
}

export interface CompareRequest {
  readonly request: number;
  /** Its first `length` bytes were read from `start` of the pack on. Transferred, and given back with the reply. */
  readonly memory: ArrayBuffer;
  readonly length: number;
  readonly start: number;
  readonly packId: string;
  /** Of an encrypted pack. */
  readonly dataKey: { readonly keyId: string; readonly key: Uint8Array } | undefined;
  readonly entries: readonly Omit<PackEntry, 'digest'>[];
  /** Of the blocks, one behind the other. */
  readonly digests: Uint8Array;
}

export type CompareReply =
  | { readonly request: number; readonly memory: ArrayBuffer; readonly problems: readonly (BlockProblem | undefined)[] }
  | { readonly request: number; readonly failure: string };
