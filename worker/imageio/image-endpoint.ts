import net from 'node:net';
import { ImageErrors } from '../errors/worker-errors';

/** One image on one image service. Plain data: it crosses threads. The path is the authorisation and must not be logged. */
export interface ImageEndpoint {
  /** Name or address, IPv6 without brackets. */
  readonly host: string;
  readonly port: number;
  /** `/images/ID`. */
  readonly path: string;
  /** The only CAs trusted, PEM. */
  readonly caPem: string;
}

/** Splits a transfer URL. Throws IMAGE_URL_INVALID. */
export function parseImageUrl(url: string, caPem: string): ImageEndpoint {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    throw ImageErrors.IMAGE_URL_INVALID({ problem: 'it is not a URL' });
  }
  if (parsed.protocol !== 'https:') throw ImageErrors.IMAGE_URL_INVALID({ problem: `it uses ${parsed.protocol} and not https:` });
  if (!/^\/images\/[^/?#]+$/.test(parsed.pathname) || parsed.search !== '') {
    throw ImageErrors.IMAGE_URL_INVALID({ problem: 'its path is not /images/ID' });
  }
  return {
    host: parsed.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: parsed.port === '' ? 443 : Number(parsed.port),
    path: parsed.pathname,
    caPem,
  };
}

/** `host:port` for messages, without the ticket. */
export function endpointName(endpoint: ImageEndpoint): string {
  return net.isIPv6(endpoint.host) ? `[${endpoint.host}]:${endpoint.port}` : `${endpoint.host}:${endpoint.port}`;
}
