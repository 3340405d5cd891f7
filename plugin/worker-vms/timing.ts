/** Times and limits of worker VMs; product defaults §1. */
export interface WorkerVmLimits {
  /** A storage domain with less than this free takes no worker. */
  readonly minFreeBytes: number;
  readonly minFreePercent: number;
  /** From the start of the VM to its first word. */
  readonly enrolmentMs: number;
  /** A guest that does not end by itself within this time is powered off. */
  readonly shutdownMs: number;
  /** Life of a one-time token. */
  readonly tokenMs: number;
  /** A worker without a stream for this long is lost. */
  readonly lostMs: number;
  /** Ports of the image daemon on hosts, and of the engine's proxy. */
  readonly imageioPort: number;
  readonly imageioProxyPort: number;
}

export const defaultWorkerVmLimits: WorkerVmLimits = {
  minFreeBytes: 20 * 1024 ** 3,
  minFreePercent: 10,
  enrolmentMs: 180_000,
  shutdownMs: 120_000,
  tokenMs: 600_000,
  lostMs: 60_000,
  imageioPort: 54322,
  imageioProxyPort: 54323,
};

/** Patience with the engine while it makes, starts and removes VMs and disks. */
export const engineMs = 10 * 60_000;
/** Without a stream for this long, the engine is asked whether the VM still runs. */
export const suspiciousMs = 10_000;
/** A worker is started this long before work is due. */
export const startAheadMs = 5 * 60_000;
/** Pauses before the next try of a worker or of a deployment that failed; the last one counts on. */
const backOffMs = [30_000, 2 * 60_000, 10 * 60_000, 30 * 60_000, 60 * 60_000] as const;
/** A worker that failed this often is left alone until it is needed. */
export const mostFailures = 5;

/** Whether the next try is due. One that lies farther ahead than any pause was written before the machine's clock was set back. */
export function isDue(retryAt: number, now: number): boolean {
  return retryAt <= now || retryAt - now > Math.max(...backOffMs);
}

export function backOff(failures: number): number {
  return backOffMs[Math.min(Math.max(failures, 1), backOffMs.length) - 1] ?? 0;
}
