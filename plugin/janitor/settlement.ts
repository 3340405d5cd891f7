import type { JournalEntry } from '../journal/records';

export type SettledState = 'removed' | 'pending' | 'stuck';

/** What became of one entry. */
export interface Settlement {
  readonly entry: JournalEntry;
  readonly state: SettledState;
  /** The object was seen in the engine; else it was most likely never made, and is nobody's business. */
  readonly found: boolean;
  /** For people; empty when removed without ado. */
  readonly message: string;
  /** What stands in the way, when that is another thing than the entry: disk-lock, snapshot, checkpoint. */
  readonly obstacle?: { readonly kind: string; readonly id: string } | undefined;
}

export interface CleanOptions {
  readonly signal?: AbortSignal | undefined;
  /** Time for all of it; what is not done by then is `pending`. */
  readonly deadlineMs: number;
}
