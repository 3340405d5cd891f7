/** Options of the engine that a test or an administrator sets; names of the real engine's options in brackets. */
export interface EngineSettings {
  /** Engine time passes this many times as fast as real time. */
  readonly clockFactor: number;
  /** Engine version reported, and what depends on it: after 4.5.7 detaching a disk wipes its bitmaps. */
  readonly version: { readonly major: number; readonly minor: number; readonly build: number; readonly detachWipesCheckpoints: boolean };
  /** How long a snapshot's volumes take to create, engine milliseconds. */
  readonly snapshotCreateMs: number;
  /** Merge time per GiB of virtual size, engine milliseconds, on top of the real merge. */
  readonly mergeMsPerGib: number;
  /** How long a disk stays locked after its creation, engine milliseconds. */
  readonly diskCreateMs: number;
  /** Copy time per GiB of virtual size, engine milliseconds, on top of the real copy. */
  readonly copyMsPerGib: number;
  /** [TransferImageClientInactivityTimeoutInSeconds] */
  readonly transferInactivitySeconds: number;
  /** [ImageTransferHostTicketValidityInSeconds] */
  readonly ticketValiditySeconds: number;
  /** [ImageTransferHostTicketRefreshAllowanceInSeconds] */
  readonly ticketRefreshSeconds: number;
  /** Idle time of the machine, not the engine's, after which a session answers 401 [UserSessionTimeOutInterval]. */
  readonly sessionIdleMinutes: number;
  /** What runs in a VM that is started with a seed of the product's workers on its config drive. */
  readonly workerVms: 'none' | 'process' | 'guest';
}

export const defaultSettings: EngineSettings = {
  clockFactor: 1,
  version: { major: 4, minor: 5, build: 7, detachWipesCheckpoints: false },
  snapshotCreateMs: 3_000,
  mergeMsPerGib: 1_000,
  diskCreateMs: 2_000,
  copyMsPerGib: 500,
  transferInactivitySeconds: 60,
  ticketValiditySeconds: 300,
  ticketRefreshSeconds: 240,
  sessionIdleMinutes: 30,
  workerVms: 'none',
};

/**
 * Rows of finished work stay this long, in milliseconds of the machine however fast the engine's time runs: a client that was away or slow for a
 * while must still find how its work ended, as it does with a real engine. How often they are swept, `cleanerEveryMs`, is engine time.
 */
export const RETENTION = {
  succeededMs: 15 * 60_000,
  failedMs: 30 * 60_000,
  cleanerEveryMs: 10 * 60_000,
  jobFinishedMs: 10 * 60_000,
  jobFailedMs: 60 * 60_000,
} as const;
