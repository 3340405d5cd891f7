import fs from 'node:fs/promises';
import path from 'node:path';
import { RepositoryErrors } from '../../errors/mover-errors';
import { makeFolder } from '../../stores/make-folder';

/** Folder of a `directory:` location. Throws REPOSITORY_LOCATION_INVALID. */
export function directoryOf(location: string): string {
  const folder = /^directory:(.+)$/s.exec(location)?.[1];
  if (folder === undefined) throw invalid(location, 'it has to be "directory:" and an absolute path');
  if (!path.isAbsolute(folder)) throw invalid(location, 'the path is relative');
  if (folder.includes('\0')) throw invalid(location, 'the path is not one');
  return path.resolve(folder);
}

/** Names in the folder, which is made when it is missing; it can be written to. Throws REPOSITORY_LOCATION_INVALID, REPOSITORY_FULL. */
export async function prepareFolder(folder: string, location: string): Promise<string[]> {
  try {
    await makeFolder(folder);
    const names = await fs.readdir(folder);
    const probe = path.join(folder, '.tidemark-probe');
    await fs.writeFile(probe, 'probe');
    await fs.rm(probe);
    return names.filter((name) => name !== '.tidemark-probe');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOSPC' || code === 'EDQUOT') throw RepositoryErrors.REPOSITORY_FULL({ what: location }, { cause: error });
    if (code === 'ENOTDIR') throw invalid(location, 'it is a file', error);
    if (code === 'EACCES' || code === 'EROFS' || code === 'EPERM') throw invalid(location, 'it cannot be written to', error);
    throw invalid(location, `it cannot be used (${code ?? 'unknown'})`, error);
  }
}

/** Throws REPOSITORY_LOCATION_INVALID when the folder is a file, REPOSITORY_NOT_FOUND when it is missing. */
export async function requireFolder(folder: string, location: string): Promise<void> {
  try {
    if ((await fs.stat(folder)).isDirectory()) return;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw RepositoryErrors.REPOSITORY_NOT_FOUND({ repository: location }, { cause: error });
    if (code !== 'ENOTDIR') throw RepositoryErrors.REPOSITORY_IO({ what: location, reason: code ?? 'unknown' }, { cause: error });
  }
  throw invalid(location, 'it is a file');
}

function invalid(location: string, problem: string, cause?: unknown) {
  return RepositoryErrors.REPOSITORY_LOCATION_INVALID({ field: 'location', location, problem }, { cause });
}
