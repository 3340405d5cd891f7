import type { ImageEndpoint } from '../imageio/image-endpoint';
import type { BlockSource } from './block-source';
import { FileSource } from './file-source';
import { ImageSource } from './image-source';

/** How a lane opens its source. Plain data: it crosses threads. */
export type SourceDescription =
  | { readonly kind: 'image'; readonly endpoint: ImageEndpoint; readonly connections: number }
  | { readonly kind: 'file'; readonly path: string; readonly mode: 'cached' | 'direct' };

export async function openSource(description: SourceDescription, signal: AbortSignal): Promise<BlockSource> {
  if (description.kind === 'image') return new ImageSource(description.endpoint, description.connections, signal);
  return FileSource.open(description.path, description.mode);
}
