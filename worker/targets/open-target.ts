import type { ImageEndpoint } from '../imageio/image-endpoint';
import type { BlockTarget } from './block-target';
import { FileTarget } from './file-target';
import { ImageTarget } from './image-target';

/** How a lane opens its target. Plain data: it crosses threads. */
export type TargetDescription =
  | { readonly kind: 'image'; readonly endpoint: ImageEndpoint; readonly connections: number }
  /** An existing sparse file of the disk's size. */
  | { readonly kind: 'file'; readonly path: string };

export async function openTarget(description: TargetDescription, signal: AbortSignal): Promise<BlockTarget> {
  if (description.kind === 'image') return new ImageTarget(description.endpoint, description.connections, signal);
  return FileTarget.open(description.path);
}
