export interface FleetTiming {
  readonly heartbeatMs: number;
  /** How long a task outlives its worker's stream. */
  readonly reconnectMs: number;
  /** A worker answers a cancel within 10 s; beyond this the task counts as cancelled without it. */
  readonly cancelMs: number;
  /** How long a worker that is gone stays in the list. */
  readonly forgetMs: number;
  /** Workers tell of a task each 2 s while they have it, whether bytes move or not; after this silence it is lost inside the worker. */
  readonly stuckMs: number;
  /** A worker has 60 s for its self-test; this is a little more. */
  readonly selfTestMs: number;
}

export const defaultFleetTiming: FleetTiming = {
  heartbeatMs: 5000,
  reconnectMs: 15_000,
  cancelMs: 10_000,
  forgetMs: 24 * 3_600_000,
  stuckMs: 120_000,
  selfTestMs: 65_000,
};
