import type { ImageClient } from './image-client';

/** A fixed number of clients, each used from one place at a time; who finds none free waits in line. */
export class ClientPool {
  private readonly free: ImageClient[];
  private readonly line: ((client: ImageClient) => void)[] = [];

  constructor(private readonly clients: readonly ImageClient[]) {
    this.free = [...clients];
  }

  async use<T>(work: (client: ImageClient) => Promise<T>): Promise<T> {
    // The last one given back comes first: with little to do the others stay unopened.
    const client = this.free.pop() ?? (await new Promise<ImageClient>((resolve) => this.line.push(resolve)));
    try {
      return await work(client);
    } finally {
      const next = this.line.shift();
      if (next) next(client);
      else this.free.push(client);
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.clients.map((client) => client.close()));
  }
}
