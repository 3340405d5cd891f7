import { hasCode } from '../../common/errors/tidemark-error';
import { ImageErrors } from '../errors/worker-errors';
import { ImageClient } from './image-client';
import type { ImageOptions } from './image-client';
import type { ImageTimeouts } from './image-connection';
import { parseImageUrl } from './image-endpoint';
import type { ImageEndpoint } from './image-endpoint';

/** The way to an image that answered. */
export interface ChosenPath {
  readonly endpoint: ImageEndpoint;
  readonly path: 'direct' | 'proxy';
  /** Why the direct way was not taken; empty when it was. */
  readonly reason: string;
  readonly options: ImageOptions;
  /** Connected already. Counts against the service's limit until it is closed. */
  readonly client: ImageClient;
}

/**
 * Tries the host first, then the engine's proxy. Only a way that cannot be reached is passed over: a refused ticket or failing storage
 * would be the same through the proxy. Throws what the last way tried threw.
 */
export async function choosePath(
  transfer: { readonly transferUrl: string; readonly proxyUrl: string; readonly caPem: string },
  signal: AbortSignal,
  timeouts?: ImageTimeouts,
): Promise<ChosenPath> {
  const ways = [
    { path: 'direct' as const, url: transfer.transferUrl },
    { path: 'proxy' as const, url: transfer.proxyUrl },
  ].filter((way) => way.url !== '');
  let reason = transfer.transferUrl === '' ? 'the engine gave no direct address' : '';
  for (const [position, way] of ways.entries()) {
    const endpoint = parseImageUrl(way.url, transfer.caPem);
    const last = position === ways.length - 1;
    // With a second way left one short retry is enough; a host behind a firewall should not cost minutes.
    const client = new ImageClient(endpoint, signal, timeouts, last ? undefined : [500]);
    try {
      const options = await client.options();
      client.bePatient();
      return { endpoint, path: way.path, reason, options, client };
    } catch (error) {
      await client.close();
      if (last || !hasCode(error, 'IMAGE_UNREACHABLE', 'IMAGE_CERTIFICATE_REJECTED', 'IMAGE_TIMED_OUT', 'IMAGE_CONNECTION_BROKEN'))
        throw error;
      reason = error.message;
    }
  }
  throw ImageErrors.IMAGE_URL_INVALID({ problem: 'the engine gave no address at all' });
}
