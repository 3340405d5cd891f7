/** Runs works one after the other, in the order they came. A failure concerns only its own caller. */
export class SerialQueue {
  private last: Promise<unknown> = Promise.resolve();

  run<T>(work: () => Promise<T>): Promise<T> {
    const next = this.last.then(work, work);
    this.last = next.catch(() => undefined);
    return next;
  }
}

/** A {@link SerialQueue} per key: works of one key run one after the other, those of different keys do not wait for each other. */
export class SerialQueues {
  private readonly queues = new Map<string, { readonly queue: SerialQueue; waiting: number }>();

  async run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const entry = this.queues.get(key) ?? { queue: new SerialQueue(), waiting: 0 };
    this.queues.set(key, entry);
    entry.waiting += 1;
    try {
      return await entry.queue.run(work);
    } finally {
      entry.waiting -= 1;
      if (entry.waiting === 0) this.queues.delete(key);
    }
  }

  isBusy(key: string): boolean {
    return this.queues.has(key);
  }

  /** Keys with works that run or wait. */
  get keys(): readonly string[] {
    return [...this.queues.keys()];
  }
}
