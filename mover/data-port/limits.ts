/** Bounds of the data port; defaults in config.ts, reasons in docs/protocol/data-mover.md. */
export interface DataPortLimits {
  readonly maxConnections: number;
  readonly maxConnectionsPerSession: number;
  /** Connections that only measure the way, at the same time. */
  readonly maxProbes: number;
  readonly helloTimeoutMs: number;
  /** A connection on which no whole frame arrived for this long is closed. */
  readonly idleTimeoutMs: number;
  readonly maxPutsInFlight: number;
  /** Entries of an Offer, blocks of a Read. */
  readonly maxBatch: number;
}
