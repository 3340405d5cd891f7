import type { MoverAddress } from './dial-mover';

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

  /** An address of the same place brings a new ticket: it is used by the next connection, and those that are open stay. */
  change(address: MoverAddress): void {
    const [before, known] = [this.changing, this.address];
    this.address = address;
    if (!known || !isSamePlace(known, address)) {
      this.changing = new AbortController();
      before.abort();
    }
    for (const listener of [...this.listeners]) listener(address);
  }

  /** Calls back at each change until the returned function is called. */
  onChange(listener: (address: MoverAddress) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}

function isSamePlace(one: MoverAddress, other: MoverAddress): boolean {
  return one.serverName === other.serverName && one.endpoints.join() === other.endpoints.join();
}
