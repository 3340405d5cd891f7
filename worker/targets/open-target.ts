import type { ImageEndpoint } from '../imageio/image-endpoint';
import type { BlockTarget } from './block-target';
import { DeviceTarget } from './device-target';
import { FileTarget } from './file-target';
import { ImageTarget } from './image-target';

/** How a lane opens its target. Plain data: it crosses threads. */
export type TargetDescription =
  | { readonly kind: 'image'; readonly endpoint: ImageEndpoint; readonly connections: number }
  /** An existing sparse file of the disk's size. */
  | { readonly kind: 'file'; readonly path: string }
  /** A block device at least as large as the disk, with whatever on it. */
  | { readonly kind: 'device'; readonly path: string; readonly readsZero: boolean };

export async function openTarget(description: TargetDescription, signal: AbortSignal): Promise<BlockTarget> {
  if (description.kind === 'image') return new ImageTarget(description.endpoint, description.connections, signal);
  if (description.kind === 'device') return DeviceTarget.open(description.path, description.readsZero);
  return FileTarget.open(description.path);
}
