import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Secret } from '../../common/log/redact';
import { CommonErrors } from '../../common/errors/common-errors';
import { ConfigurationErrors } from '../errors/configuration-errors';
import { COPY_FOLDER, copyOf } from './copy-name';
import { openEnvelope, type EnvelopeHeader } from './envelope';
import { readOffline } from './offline-reader';
import { decodeSnapshot, writeSnapshot } from './snapshot';

/** A copy in a repository. */
export interface FoundCopy {
  readonly name: string;
  readonly createdAt: string;
  readonly installationId: string;
}

/** Where the repository is and what opens it: options of the offline reader. */
export interface RepositoryAccess {
  readonly location: string;
  /** e.g. `['--recovery-key-file', file]`. */
  readonly options: readonly string[];
}

/** The copies in a repository, newest first. Throws what the offline reader says. */
export async function findCopies({ location, options }: RepositoryAccess): Promise<FoundCopy[]> {
  const { names } = await readOffline(['document', 'list', '--repository', location, ...options, '--folder', COPY_FOLDER]);
  return (names as string[])
    .flatMap((name) => {
      const copy = copyOf(name);
      return copy ? [{ name, ...copy }] : [];
    })
    .sort((a, b) => (a.createdAt < b.createdAt ? 1 : -1));
}

/** The one that is meant. Throws CONFIGURATION_COPY_NONE, ARGUMENT_INVALID when it could be of several servers. */
export function chooseCopy(copies: readonly FoundCopy[], location: string, wanted: { document?: string; server?: string }): FoundCopy {
  const fit = copies.filter(
    ({ name, installationId }) =>
      (wanted.document === undefined || name === wanted.document) && (wanted.server === undefined || installationId === wanted.server),
  );
  const [newest] = fit;
  if (!newest) throw ConfigurationErrors.CONFIGURATION_COPY_NONE({ location });
  const servers = [...new Set(fit.map(({ installationId }) => installationId))];
  if (servers.length > 1)
    throw CommonErrors.ARGUMENT_INVALID({
      field: '--server',
      problem: `copies of ${servers.length} servers are there: ${servers.join(', ')}`,
    });
  return newest;
}

/**
 * Makes a server's data folder from a copy in a repository. The folder appears whole or not at all. Throws what the offline reader says,
 * CONFIGURATION_…, DATA_FOLDER_NOT_EMPTY, ARGUMENT_INVALID.
 */
export async function restoreConfiguration(
  access: RepositoryAccess,
  copy: FoundCopy,
  recoveryKey: Secret,
  dataFolder: string,
): Promise<{ readonly header: EnvelopeHeader; readonly configFile: string }> {
  const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-configuration-'));
  try {
    const file = path.join(scratch, 'copy');
    await readOffline([
      ...['document', 'read', '--repository', access.location, ...access.options],
      ...['--name', copy.name, '--out', file],
    ]);
    const { header, content } = openEnvelope(fs.readFileSync(file), copy.name, recoveryKey);
    return { header, configFile: await writeSnapshot(decodeSnapshot(content, copy.name), dataFolder) };
  } finally {
    fs.rmSync(scratch, { recursive: true, force: true });
  }
}
