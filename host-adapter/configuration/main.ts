/**
 * `tidemark config restore`: makes the data folder of a new server from the copy of the configuration in a repository. Needs no server; the only file of
 * this folder that looks at arguments and prints.
 */
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { CommonErrors, toTidemarkError } from '../../common/errors/common-errors';
import { hasCode } from '../../common/errors/tidemark-error';
import { Secret } from '../../common/log/redact';
import { ExitCode } from '../cli/exit-code';
import { chooseCopy, findCopies, restoreConfiguration } from './restore-configuration';

const usage = `usage: tidemark config restore --repository LOCATION [ACCESS] [KEY] --configuration-key-file FILE --data-dir DIR
                               [--server ID] [--document NAME] [--json]
       tidemark config restore --list --repository LOCATION [ACCESS] [KEY] [--json]

Makes the data folder of a new server from the newest copy of a server's configuration in a repository: it starts as the old one, which
must not run any more. FILE holds the recovery key of the configuration ("tidemark config key" on the old server showed it).

LOCATION is a folder, nfs:/path or smb:/path of a share that is mounted, or s3:https://host/bucket/prefix.
ACCESS of a bucket is --access-key-file FILE (two lines, its id and its secret) and, where no public CA signed, --ca FILE.
KEY of an encrypted repository is one of --passphrase-file FILE, --key-file FILE, --recovery-key-file FILE.

Example:
  tidemark config restore --repository /backup/main --recovery-key-file repository.key --configuration-key-file configuration.key --data-dir /var/lib/tidemark
`;

const passedOn = ['access-key-file', 'ca', 'passphrase-file', 'key-file', 'recovery-key-file'] as const;

/** Resolves with the exit code: 0, 1 failed, 2 usage, 4 no copy, 5 the folder is not empty, 6 the key does not open it. */
export async function main(argv: readonly string[]): Promise<number> {
  let options;
  try {
    options = parseArgs({
      args: [...argv],
      options: {
        repository: { type: 'string' },
        'access-key-file': { type: 'string' },
        ca: { type: 'string' },
        'passphrase-file': { type: 'string' },
        'key-file': { type: 'string' },
        'recovery-key-file': { type: 'string' },
        'configuration-key-file': { type: 'string' },
        'data-dir': { type: 'string' },
        server: { type: 'string' },
        document: { type: 'string' },
        list: { type: 'boolean' },
        json: { type: 'boolean' },
        help: { type: 'boolean' },
      },
    }).values;
  } catch (error) {
    return misused((error as Error).message);
  }
  if (options.help === true) {
    process.stdout.write(usage);
    return ExitCode.success;
  }
  const { repository: location, 'configuration-key-file': keyFile, 'data-dir': dataFolder, server, document } = options;
  const json = options.json === true;
  if (location === undefined) return misused('--repository is needed');
  if (options.list !== true && (keyFile === undefined || dataFolder === undefined))
    return misused('--configuration-key-file and --data-dir are needed');
  const given = options;
  const access = {
    location,
    options: passedOn.flatMap((name) => {
      const value = given[name];
      return value === undefined ? [] : [`--${name}`, value];
    }),
  };
  try {
    const copies = await findCopies(access);
    if (options.list === true) {
      if (json) process.stdout.write(`${JSON.stringify({ items: copies })}\n`);
      else for (const copy of copies) process.stdout.write(`${copy.createdAt}  server ${copy.installationId}  ${copy.name}\n`);
      return copies.length > 0 ? ExitCode.success : ExitCode.notFound;
    }
    const wanted = { ...(server !== undefined && { server }), ...(document !== undefined && { document }) };
    const copy = chooseCopy(copies, location, wanted);
    const folder = path.resolve(dataFolder ?? '');
    const { header, configFile } = await restoreConfiguration(access, copy, readKey(keyFile ?? ''), folder);
    if (json)
      process.stdout.write(`${JSON.stringify({ ...copy, dataFolder: folder, configFile, productVersion: header.productVersion })}\n`);
    else
      process.stdout.write(
        `${folder} is server ${header.installationId} as of ${header.createdAt}. Make sure that the old one does not run, then start it:\n` +
          `  tidemark server --config ${configFile} --data-dir ${folder}\n` +
          `Plug-ins, movers and workers that were enrolled before that time know it, and look for it where the old one was: ${addressesOf(configFile)}.\n` +
          'If it is reached under another name, put that into "addresses" of its configuration and into "host" of theirs (/etc/tidemark), and restart them.\n' +
          'Who was enrolled later enrols again: "tidemark plugin enrol", "tidemark mover enrol".\n',
      );
    return ExitCode.success;
  } catch (thrown) {
    const error = toTidemarkError(thrown, 'restoring a configuration');
    if (json) process.stdout.write(`${JSON.stringify({ error: { code: error.code, message: error.message } })}\n`);
    process.stderr.write(`tidemark: ${error.code}: ${error.message}\n`);
    if (hasCode(error, 'ARGUMENT_INVALID', 'REPOSITORY_LOCATION_INVALID', 'REPOSITORY_ACCESS_MISSING', 'REPOSITORY_KEY_NEEDED'))
      return ExitCode.usage;
    if (hasCode(error, 'CONFIGURATION_COPY_NONE', 'REPOSITORY_NOT_FOUND')) return ExitCode.notFound;
    if (hasCode(error, 'DATA_FOLDER_NOT_EMPTY')) return ExitCode.refused;
    return hasCode(error, 'CONFIGURATION_KEY_WRONG', 'REPOSITORY_KEY_WRONG') ? ExitCode.notAllowed : ExitCode.failed;
  }
}

/** What the old server was called, for people. */
function addressesOf(configFile: string): string {
  const { addresses = [] } = JSON.parse(fs.readFileSync(configFile, 'utf8')) as { addresses?: string[] };
  return addresses.length === 0 ? 'its host name' : addresses.join(', ');
}

function readKey(file: string): Secret {
  try {
    return new Secret(fs.readFileSync(file, 'utf8').trim());
  } catch (cause) {
    throw CommonErrors.ARGUMENT_INVALID({ field: '--configuration-key-file', problem: `${file} cannot be read` }, { cause });
  }
}

function misused(problem: string): number {
  process.stderr.write(`tidemark config restore: ${problem}\n${usage}`);
  return ExitCode.usage;
}
