/** Counts attempts per key in a sliding window; memory is bounded by forgetting the oldest keys. */
export class Throttle {
  readonly #attempts = new Map<string, number[]>();

  constructor(
    private readonly limit: number,
    private readonly windowMs: number,
    private readonly maxKeys = 10_000,
  ) {}

  /** Records an attempt; false when there were too many. */
  allow(key: string, now: number): boolean {
    const recent = (this.#attempts.get(key) ?? []).filter((at) => at > now - this.windowMs);
    const allowed = recent.length < this.limit;
    if (allowed) recent.push(now);
    this.#attempts.delete(key);
    this.#attempts.set(key, recent);
    if (this.#attempts.size > this.maxKeys) this.#attempts.delete(this.#attempts.keys().next().value ?? '');
    return allowed;
  }

  forget(key: string): void {
    this.#attempts.delete(key);
  }
}
