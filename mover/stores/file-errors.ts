import { setTimeout as sleep } from 'node:timers/promises';
import { isTidemarkError } from '../../common/errors/tidemark-error';
import { RepositoryErrors } from '../errors/mover-errors';

/** What the file system said; '' when it was something else that failed. */
export function fileErrorCode(error: unknown): string {
  return (error as NodeJS.ErrnoException | undefined)?.code ?? '';
}

/** Does the work again, once, when a handle or a cached name turned out stale: the server of an NFS share moved on, or another mover replaced the file. */
export async function onceMoreIfStale<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (fileErrorCode(error) !== 'ESTALE') throw error;
    return work();
  }
}

/** What SMB servers answer while somebody has the file open that is to be replaced. */
const busyCodes: readonly string[] = ['EBUSY', 'EACCES', 'ETXTBSY'];
const busyTries = 6;

/** Does the work again for up to a second while another machine holds the file open. */
export async function patiently<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (attempt === busyTries || !busyCodes.includes(fileErrorCode(error))) throw error;
      await sleep(2 ** attempt * (5 + Math.random() * 10));
    }
  }
}

/** What the clients of shares say when their server does not answer (any more). */
const unreachableCodes: readonly string[] = [
  'ETIMEDOUT',
  'EHOSTDOWN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTCONN',
  'ECONNREFUSED',
  'ECONNABORTED',
];

/** OBJECT_NOT_FOUND, REPOSITORY_FULL or REPOSITORY_IO; errors of ours stay. */
export function translateFileError(error: unknown, name: string): unknown {
  if (isTidemarkError(error)) return error;
  const code = fileErrorCode(error) || 'unknown';
  if (code === 'ENOENT') return RepositoryErrors.OBJECT_NOT_FOUND({ object: name }, { cause: error });
  if (code === 'ENOSPC' || code === 'EDQUOT') return RepositoryErrors.REPOSITORY_FULL({ what: name }, { cause: error });
  const reason = unreachableCodes.includes(code) ? `${code}, the server of its share does not answer` : code;
  return RepositoryErrors.REPOSITORY_IO({ what: name, reason }, { cause: error });
}
