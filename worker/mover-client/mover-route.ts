import type { MoverAddress } from './mover-connection';

/** The way to the mover of a task, which may become another one while the task runs: that of before is gone, and its session is served elsewhere. */
export class MoverRoute {
  private changing = new AbortController();
  private readonly listeners = new Set<(address: MoverAddress) => void>();

  /** Undefined until one is known. */
  constructor(private address: MoverAddress | undefined = undefined) {}

  get current(): MoverAddress | undefined {
    return this.address;
  }

  /** Aborts when the current address is replaced: who is connected to it, or tries to be, has to go to the next one. */
  get replaced(): AbortSignal {
    return this.changing.signal;
  }

  change(address: MoverAddress): void {
    const before = this.changing;
    this.address = address;
    this.changing = new AbortController();
    before.abort();
    for (const listener of [...this.listeners]) listener(address);
  }

  /** Calls back at each change until the returned function is called. */
  onChange(listener: (address: MoverAddress) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}
