import type { Journal } from '../journal/journal';
import type { EngineApi } from '../protection/engine-port';
import type { Patience } from '../protection/patience';

/** What the removal of one entry works with. */
export interface CleanTools {
  readonly engine: EngineApi;
  readonly patience: Patience;
  readonly journal: Journal;
  /** The request may still be on its way. */
  readonly mayStillCome: boolean;
}
