/** What a collection keeps to. Times in milliseconds. */
export interface CollectSettings {
  /** From condemned to deleted at least, whatever the repository's grace time is (a run may ask for less); never less than two leases of a writer. */
  readonly minimumGraceMs: number;
  /** Packs announced less than this ago are left alone: a backup that is under way is about to refer to them. */
  readonly packAgeMs: number;
  /** Share of a pack that has to be waste before it is rewritten. */
  readonly wasteRatio: number;
  /** Bytes that one run copies at most. */
  readonly rewriteBytes: number;
  /** Left free by rewriting, or the hard watermark if that is more. */
  readonly reserveBytes: number;
  /** How long records of ended sessions are kept, so that a repeated call gets its answer. */
  readonly keepSessionsMs: number;
  readonly leaseDurationMs: number;
  /** How long one run waits for writers that have not acknowledged yet, or to see that they are gone. */
  readonly acknowledgeWaitMs: number;
}

const minute = 60_000;
const hour = 60 * minute;

export const defaultCollectSettings: CollectSettings = {
  minimumGraceMs: 5 * minute,
  packAgeMs: hour,
  wasteRatio: 0.25,
  rewriteBytes: 64 * 2 ** 30,
  reserveBytes: 2 ** 30,
  keepSessionsMs: 24 * hour,
  leaseDurationMs: 30_000,
  acknowledgeWaitMs: minute,
};
