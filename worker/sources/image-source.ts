import { ImageClient, maxRangeBytes } from '../imageio/image-client';
import type { ImageEndpoint } from '../imageio/image-endpoint';
import { ClientPool } from '../imageio/client-pool';
import type { BlockSource } from './block-source';

/** Reads an image over several kept connections, opened at first use. Throws what ImageClient throws. */
export class ImageSource implements BlockSource {
  readonly maxReadBytes = maxRangeBytes;
  private readonly pool: ClientPool;

  constructor(
    endpoint: ImageEndpoint,
    readonly concurrency: number,
    signal: AbortSignal,
  ) {
    this.pool = new ClientPool(Array.from({ length: concurrency }, () => new ImageClient(endpoint, signal)));
  }

  read(offset: number, target: Buffer): Promise<void> {
    return this.pool.use((client) => client.read(offset, target));
  }

  close(): Promise<void> {
    return this.pool.close();
  }
}
