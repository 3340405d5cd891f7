/** What a collection is doing, and what it did so far. Bytes are those of packs' files. */
export type CollectStep = 'deleting' | 'marking' | 'repacking' | 'condemning';

export interface CollectTotals {
  deletedPacks: number;
  deletedBytes: number;
  deletedPoints: number;
  condemnedPacks: number;
  condemnedBytes: number;
  rewrittenPacks: number;
  rewrittenBytes: number;
  /** Bytes in packs before, and those of them that something needs. */
  storedBytes: number;
  neededBytes: number;
  /** Plans left for a later run, because a writer has not acknowledged them or their grace time is not over. */
  waitingCollections: number;
  /** When the last of what this run condemned may be deleted. */
  deletedAfter: Date | undefined;
  /** Names of objects that maintenance itself needs, that were damaged or missing, and that this run made anew. */
  repaired: string[];
}

export class CollectProgress {
  step: CollectStep = 'deleting';
  /** Of the step, in what it counts: packs deleted, points marked, bytes rewritten. */
  done = 0;
  total = 0;
  readonly totals: CollectTotals = {
    deletedPacks: 0,
    deletedBytes: 0,
    deletedPoints: 0,
    condemnedPacks: 0,
    condemnedBytes: 0,
    rewrittenPacks: 0,
    rewrittenBytes: 0,
    storedBytes: 0,
    neededBytes: 0,
    waitingCollections: 0,
    deletedAfter: undefined,
    repaired: [],
  };

  begin(step: CollectStep, total: number): void {
    this.step = step;
    this.done = 0;
    this.total = total;
  }
}
