import { RepositoryErrors } from '../../errors/mover-errors';

/** A bucket, or a folder in one, on an S3-compatible server. */
export interface S3Location {
  /** Without a path, e.g. `https://s3.example:9000`. */
  readonly endpoint: string;
  readonly bucket: string;
  /** Empty, or ends in `/`. */
  readonly prefix: string;
  readonly region: string;
  /** `path`: bucket in the path, works everywhere; `virtual`: bucket in the host name, as Amazon wants it. */
  readonly addressing: 'path' | 'virtual';
}

const scheme = 's3:';

export function isS3Location(location: string): boolean {
  return location.startsWith(scheme);
}

/**
 * Reads `s3:https://<host>[:<port>]/<bucket>[/<prefix>][?region=<region>&addressing=path|virtual]`. `http` is for networks that nobody else is on.
 * Throws REPOSITORY_LOCATION_INVALID.
 */
export function parseS3Location(location: string): S3Location {
  const invalid = (problem: string) => RepositoryErrors.REPOSITORY_LOCATION_INVALID({ field: 'location', location, problem });
  if (!isS3Location(location)) throw invalid('it does not begin with "s3:"');
  let url: URL;
  try {
    url = new URL(location.slice(scheme.length));
  } catch {
    throw invalid('what follows "s3:" is no URL; write s3:https://host/bucket/prefix');
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:') throw invalid('its URL is neither https nor http');
  if (url.username !== '' || url.password !== '') throw invalid('keys do not belong into the location');
  const [bucket = '', ...rest] = url.pathname.split('/').filter((part) => part !== '');
  // https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
  if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(bucket)) throw invalid('the first part of its path is no bucket name');
  const addressing = url.searchParams.get('addressing') ?? 'path';
  if (addressing !== 'path' && addressing !== 'virtual') throw invalid('"addressing" is neither path nor virtual');
  for (const name of url.searchParams.keys()) {
    if (name !== 'region' && name !== 'addressing') throw invalid(`"${name}" is no option of it`);
  }
  return {
    endpoint: url.origin,
    bucket,
    prefix: rest.length === 0 ? '' : `${rest.map(decodeURIComponent).join('/')}/`,
    region: url.searchParams.get('region') ?? 'us-east-1',
    addressing,
  };
}

/** The one way to write a location, so that two of them can be compared. */
export function formatS3Location(at: S3Location): string {
  const options = new URLSearchParams();
  if (at.region !== 'us-east-1') options.set('region', at.region);
  if (at.addressing !== 'path') options.set('addressing', at.addressing);
  const path = [at.bucket, ...at.prefix.split('/').filter((part) => part !== '')].map(encodeURIComponent).join('/');
  return `${scheme}${at.endpoint}/${path}${options.size === 0 ? '' : `?${options}`}`;
}
