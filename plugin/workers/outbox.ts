/** Messages on their way to one worker. Bounded: a worker that does not read is cut off rather than remembered for ever. */
export class Outbox<T> {
  readonly #messages: T[] = [];
  #wake: (() => void) | undefined;
  #closed = false;

  constructor(private readonly limit: number) {}

  /** False when the message was not taken: closed or full (which also closes). */
  push(message: T): boolean {
    if (this.#closed) return false;
    if (this.#messages.length >= this.limit) {
      this.close();
      return false;
    }
    this.#messages.push(message);
    this.#wake?.();
    return true;
  }

  /** Ends the reader after what is already inside. */
  close(): void {
    this.#closed = true;
    this.#wake?.();
  }

  async *read(): AsyncGenerator<T> {
    for (;;) {
      const next = this.#messages.shift();
      if (next !== undefined) yield next;
      else if (this.#closed) return;
      else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = undefined;
      }
    }
  }
}
