/**
 * Where a backup's bytes come from: images of the image service, or devices and files of this machine. A source is opened once per lane and
 * reads ranges into the lane's own buffers. It knows nothing of blocks, digests or movers.
 */
import { FileSource } from './file-source';
import { ImageSource } from './image-source';
import type { ImageEndpoint } from '../imageio/image-endpoint';

/** Reads ranges of one disk; up to `concurrency` reads at a time. */
export interface BlockSource {
  readonly concurrency: number;
  /** Longest range of one read. */
  readonly maxReadBytes: number;
  /** Fills `target` with the bytes from `offset`; short data is an error. */
  read(offset: number, target: Buffer): Promise<void>;
  close(): Promise<void>;
}

/** How a lane opens its source. Plain data: it crosses threads. */
export type SourceDescription =
  | { readonly kind: 'image'; readonly endpoint: ImageEndpoint; readonly connections: number }
  | { readonly kind: 'file'; readonly path: string };

export async function openSource(description: SourceDescription, signal: AbortSignal): Promise<BlockSource> {
  if (description.kind === 'image') return new ImageSource(description.endpoint, description.connections, signal);
  return FileSource.open(description.path);
}
