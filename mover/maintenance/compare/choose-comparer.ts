/**
 * Where a verification compares what it read: on the main thread, block by block with a turn for everybody else in between, or on threads of its own, so that
 * all cores work and the main thread is free. Starting threads takes longer than comparing a few packs.
 */
import { setImmediate } from 'node:timers/promises';
import type { DataKeys } from '../../format/document-cipher';
import { BlockComparer, type BlockProblem } from './compare-block';
import { CompareThreads } from './compare-threads';
import type { Compared, Comparer, Piece } from './comparer';

/** Packs to verify that are worth threads, which take a tenth of a second of a core each to start. */
const worthThreadsBytes = 48 * 1024 * 1024;

/** What of a repository comparing needs. */
interface DigestAndKeys {
  readonly digestKey: Buffer;
  /** Of an encrypted one. */
  readonly keys: Pick<DataKeys, 'find'> | undefined;
}

/** For packs of that many bytes; `threads`: how many, whatever there is to do. */
export function comparerFor(repository: DigestAndKeys, bytes: number, threads?: number): Comparer {
  if (threads === 0 || (threads === undefined && bytes < worthThreadsBytes)) return new MainThreadComparer(repository.digestKey);
  return new CompareThreads(repository.digestKey, repository.keys, threads);
}

class MainThreadComparer implements Comparer {
  private readonly comparer: BlockComparer;

  constructor(digestKey: Buffer) {
    this.comparer = new BlockComparer(digestKey);
  }

  async compare({ cipher, entries, start, memory, length }: Piece): Promise<Compared> {
    const found = memory.subarray(0, length);
    const problems: (BlockProblem | undefined)[] = [];
    for (const entry of entries) {
      problems.push(this.comparer.problemOf(entry, found, start, cipher));
      // A block takes a millisecond to decompress and digest.
      await setImmediate();
    }
    return { problems, memory };
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
