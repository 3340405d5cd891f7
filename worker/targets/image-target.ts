import { ClientPool } from '../imageio/client-pool';
import { ImageClient, maxRangeBytes } from '../imageio/image-client';
import type { ImageEndpoint } from '../imageio/image-endpoint';
import type { BlockTarget } from './block-target';

/** Writes an image over kept connections, without flushing until the end. Throws what ImageClient throws. */
export class ImageTarget implements BlockTarget {
  readonly maxWriteBytes = maxRangeBytes;
  private readonly pool: ClientPool;

  constructor(endpoint: ImageEndpoint, connections: number, signal: AbortSignal) {
    this.pool = new ClientPool(Array.from({ length: connections }, () => new ImageClient(endpoint, signal)));
  }

  write(offset: number, bytes: Buffer): Promise<void> {
    return this.pool.use((client) => client.write(offset, bytes));
  }

  zero(offset: number, lengthBytes: number): Promise<void> {
    return this.pool.use((client) => client.zero(offset, lengthBytes));
  }

  flush(): Promise<void> {
    return this.pool.use((client) => client.flush());
  }

  close(): Promise<void> {
    return this.pool.close();
  }
}
