import { pause } from '../rpc/call';

/** Slows somebody down to a rate. Bursts of up to a quarter of a second pass. */
export class RateLimit {
  private freeAtMs = 0;

  /** 0: no limit. */
  constructor(
    private readonly bytesPerSecond: number,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** Resolves when `bytes` may move. */
  async take(bytes: number, signal?: AbortSignal): Promise<void> {
    if (this.bytesPerSecond <= 0) return;
    const now = this.now();
    const from = Math.max(this.freeAtMs, now - 250);
    this.freeAtMs = from + (bytes / this.bytesPerSecond) * 1000;
    if (from > now) await pause(from - now, signal);
  }
}
