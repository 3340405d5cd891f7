/**
 * Where a restore's bytes go: images of the image service, or files of this machine. A target is opened once per lane; ranges of different
 * lanes never overlap. It knows nothing of blocks, digests or movers.
 */
import type { ImageEndpoint } from '../imageio/image-endpoint';
import { FileTarget } from './file-target';
import { ImageTarget } from './image-target';

export interface BlockTarget {
  readonly maxWriteBytes: number;
  /** `bytes` may be reused when it resolves. */
  write(offset: number, bytes: Buffer): Promise<void>;
  /** The range must read as zeroes afterwards. */
  zero(offset: number, lengthBytes: number): Promise<void>;
  /** All is written; makes it as durable as this target can. */
  flush(): Promise<void>;
  close(): Promise<void>;
}

/** How a lane opens its target. Plain data: it crosses threads. */
export type TargetDescription =
  | { readonly kind: 'image'; readonly endpoint: ImageEndpoint; readonly connections: number }
  /** An existing sparse file of the disk's size. */
  | { readonly kind: 'file'; readonly path: string };

export async function openTarget(description: TargetDescription, signal: AbortSignal): Promise<BlockTarget> {
  if (description.kind === 'image') return new ImageTarget(description.endpoint, description.connections, signal);
  return FileTarget.open(description.path);
}
