/** Wakes whoever waits for something to have changed; each looks for itself whether it was its own condition. */
export class Wake {
  private waiting: (() => void)[] = [];

  /** Resolves at the next `raise`. */
  wait(): Promise<void> {
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  raise(): void {
    if (this.waiting.length === 0) return;
    const woken = this.waiting;
    this.waiting = [];
    for (const resolve of woken) resolve();
  }
}
