/** What failures of an S3-compatible server mean. Servers agree on HTTP's status codes more than on names. */
import { isTidemarkError } from '../../../common/errors/tidemark-error';
import { RepositoryErrors } from '../../errors/mover-errors';

export function statusOf(error: unknown): number | undefined {
  return (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode;
}

/** The SDK repeated the request before it failed. */
export function wasRepeated(error: unknown): boolean {
  return ((error as { $metadata?: { attempts?: number } }).$metadata?.attempts ?? 1) > 1;
}

export function isNotFound(error: unknown): boolean {
  return statusOf(error) === 404 && (error as { name?: string }).name !== 'NoSuchBucket';
}

/** The server does not know the key, or not for this. */
export function isRefusedKey(error: unknown): boolean {
  return refusedKeyNames.includes((error as { name?: string }).name ?? '') || [401, 403].includes(statusOf(error) ?? 0);
}

const refusedKeyNames = ['InvalidAccessKeyId', 'SignatureDoesNotMatch'];

/** The errors that stores throw; ours stay. `what` is the object or prefix that was asked for. */
export function translateS3Error(error: unknown, what: string, at: { readonly location: string; readonly bucket: string }): unknown {
  if (isTidemarkError(error)) return error;
  const { location, bucket } = at;
  const { name = 'unknown', code } = error as { name?: string; code?: string };
  const status = statusOf(error);
  const invalid = (field: string, problem: string) =>
    RepositoryErrors.REPOSITORY_LOCATION_INVALID({ field, location, problem }, { cause: error });
  if (name === 'NoSuchBucket') return invalid('location', `there is no bucket "${bucket}"; make it first`);
  if (refusedKeyNames.includes(name)) return invalid('access', 'the server refuses the access key');
  if (status === 401 || status === 403)
    return RepositoryErrors.REPOSITORY_ACCESS_DENIED({ location, what, reason: name }, { cause: error });
  if (isNotFound(error)) return RepositoryErrors.OBJECT_NOT_FOUND({ object: what }, { cause: error });
  if (name === 'QuotaExceeded' || name === 'XMinioStorageFull' || status === 507)
    return RepositoryErrors.REPOSITORY_FULL({ what: location }, { cause: error });
  if (code !== undefined && /CERT|SELF_SIGNED|UNABLE_TO_VERIFY/.test(code))
    return invalid('access', `its certificate is refused (${code})`);
  return RepositoryErrors.REPOSITORY_IO({ what, reason: code ?? name }, { cause: error });
}
