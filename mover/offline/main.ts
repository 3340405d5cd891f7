/**
 * `tidemark point read`, `tidemark point list --offline` and `tidemark document …`: reads a repository with nothing but its folder, share or bucket. No
 * server, no catalogue, no lock; works while movers write. The only file of this folder that looks at arguments and prints.
 */
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { toTidemarkError } from '../../common/errors/common-errors';
import { hasCode } from '../../common/errors/tidemark-error';
import { loggerTo } from '../../common/log/logger';
import { readAccessKeyFile } from '../../common/secrets/access-key-file';
import { getDocument, listDocuments } from '../documents/documents';
import { Repository } from '../repository/repository';
import { openLocation } from '../repository/served/locations';
import type { S3Access } from '../stores/s3/bucket';
import { isShareLocation } from '../stores/mounts/share-location';
import { isS3Location } from '../stores/s3/s3-location';
import { exportDisk, writeOutput } from './export-disk';
import { keyOf } from './key-options';
import { listPoints } from './list-points';

const usage = `usage: tidemark point list --offline --repository LOCATION [ACCESS] [KEY] [--removed] [--json]
       tidemark point read --repository LOCATION [ACCESS] [KEY] --point POINT --disk DISK --out FILE
                           [--force] [--keep-going] [--json]
       tidemark document list --repository LOCATION [ACCESS] [KEY] --folder FOLDER [--json]
       tidemark document read --repository LOCATION [ACCESS] [KEY] --name FOLDER/NAME --out FILE [--force] [--json]

LOCATION is a folder, nfs:/path or smb:/path of a share that is mounted, or s3:https://host/bucket/prefix.
ACCESS of a bucket is --access-key-file FILE (two lines, its id and its secret) and, where no public CA signed, --ca FILE.
KEY of an encrypted repository is one of --passphrase-file FILE, --key-file FILE, --recovery-key-file FILE.

Reads a repository without any server. "point read" writes a disk as a sparse raw image and checks every block; --keep-going leaves damaged
blocks zero and names them (exit code 3). --removed lists points that were removed and not deleted yet, too.
"document" is what a server keeps there beside points.

Example:
  tidemark point read --repository /backup/main --point 3f0c… --disk 7d0f… --out disk.raw
`;

const exitCodes = { ok: 0, failed: 1, usage: 2, warnings: 3, notFound: 4 } as const;

/** Resolves with the exit code: 0, 1 failed, 2 usage, 3 some blocks are damaged, 4 not found. `argv` may begin with the noun `point`. */
export async function main(argv: string[]): Promise<number> {
  const [noun, verb, ...rest] = argv[0] === 'point' || argv[0] === 'document' ? argv : ['point', ...argv];
  let options;
  try {
    options = parseArgs({
      args: rest,
      options: {
        repository: { type: 'string' },
        'access-key-file': { type: 'string' },
        ca: { type: 'string' },
        'passphrase-file': { type: 'string' },
        'key-file': { type: 'string' },
        'recovery-key-file': { type: 'string' },
        point: { type: 'string' },
        disk: { type: 'string' },
        out: { type: 'string' },
        force: { type: 'boolean' },
        'keep-going': { type: 'boolean' },
        removed: { type: 'boolean' },
        folder: { type: 'string' },
        name: { type: 'string' },
        json: { type: 'boolean' },
        help: { type: 'boolean' },
      },
    }).values;
  } catch (error) {
    return misused((error as Error).message);
  }
  if (options.help === true) {
    process.stdout.write(usage);
    return exitCodes.ok;
  }
  const { repository: place, point, disk, out, folder, name } = options;
  const json = options.json === true;
  if (place === undefined) return misused('--repository is needed');
  if (verb !== 'list' && verb !== 'read') return misused(`unknown verb ${verb ?? ''}`);
  if (noun === 'point' && verb === 'read' && (point === undefined || disk === undefined || out === undefined))
    return misused('--point, --disk and --out are needed');
  if (noun === 'document' && verb === 'list' && folder === undefined) return misused('--folder is needed');
  if (noun === 'document' && verb === 'read' && (name === undefined || out === undefined)) return misused('--name and --out are needed');
  const scratch = await fs.mkdtemp(path.join(os.tmpdir(), 'tidemark-offline-'));
  let repository: Repository | undefined;
  try {
    const logger = loggerTo((level, text, fields) => {
      if (level === 'warn' || level === 'error') process.stderr.write(`${text}: ${JSON.stringify({ ...fields, error: undefined })}\n`);
    });
    const store = await openLocation(locationOf(place), { access: await accessOf(options) });
    repository = await Repository.open(store, { cacheFolder: scratch, logger, key: keyOf(options) });
    if (noun === 'document')
      return verb === 'list'
        ? await documents(repository, folder ?? '', json)
        : await readOne(repository, name ?? '', out ?? '', options.force === true, json);
    if (verb === 'list') return await list(repository, json, options.removed === true);
    return await read(repository, {
      pointId: point ?? '',
      diskId: disk ?? '',
      file: out ?? '',
      force: options.force === true,
      keepGoing: options['keep-going'] === true,
      json,
    });
  } catch (thrown) {
    const error = toTidemarkError(thrown, `${noun} ${verb}`);
    if (json) process.stdout.write(`${JSON.stringify({ error: { code: error.code, message: error.message } })}\n`);
    process.stderr.write(`tidemark: ${error.code}: ${error.message}\n`);
    if (hasCode(error, 'REPOSITORY_LOCATION_INVALID', 'REPOSITORY_ACCESS_MISSING', 'REPOSITORY_KEY_NEEDED', 'ARGUMENT_INVALID'))
      return exitCodes.usage;
    return hasCode(error, 'POINT_NOT_FOUND', 'REPOSITORY_NOT_FOUND', 'DOCUMENT_NOT_FOUND') ? exitCodes.notFound : exitCodes.failed;
  } finally {
    await repository?.close();
    await fs.rm(scratch, { recursive: true, force: true });
  }
}

/** A bare path means a folder; it may be relative here. */
function locationOf(place: string): string {
  if (isS3Location(place) || isShareLocation(place)) return place;
  return `directory:${path.resolve(place.replace(/^directory:/, ''))}`;
}

async function accessOf(options: { 'access-key-file'?: string; ca?: string }): Promise<S3Access | undefined> {
  const { 'access-key-file': keyFile, ca } = options;
  if (keyFile === undefined) return undefined;
  const key = readAccessKeyFile(keyFile, '--access-key-file');
  return ca === undefined ? key : { ...key, caPem: await fs.readFile(ca, 'utf8') };
}

function misused(problem: string): number {
  process.stderr.write(`tidemark: ${problem}\n${usage}`);
  return exitCodes.usage;
}

async function list(repository: Repository, json: boolean, removed: boolean): Promise<number> {
  let damaged = 0;
  const points: object[] = [];
  for await (const { pointId, point, problem, removedAt } of listPoints(repository, removed)) {
    if (point === undefined) {
      damaged++;
      points.push({ pointId, damaged: problem, ...removedAt });
      if (!json) process.stdout.write(`${pointId}  DAMAGED  ${problem}\n`);
      continue;
    }
    const disks = point.disks.map(({ diskId, name, sizeBytes }) => ({ diskId, name, sizeBytes }));
    points.push({ pointId, vmId: point.vmId, vmName: point.vmName, pointInTime: point.pointInTime, ...removedAt, disks });
    if (json) continue;
    process.stdout.write(`${pointId}  ${point.pointInTime}  ${point.vmName}${removedAt ? `  REMOVED ${removedAt.removedAt ?? ''}` : ''}\n`);
    for (const disk of disks) process.stdout.write(`    disk ${disk.diskId}  ${disk.sizeBytes} bytes  ${disk.name}\n`);
  }
  if (json) process.stdout.write(`${JSON.stringify({ repositoryId: repository.id, points })}\n`);
  else if (points.length === 0) process.stdout.write('no restore point\n');
  return damaged > 0 ? exitCodes.warnings : exitCodes.ok;
}

async function documents(repository: Repository, folder: string, json: boolean): Promise<number> {
  const names = await listDocuments(repository, folder);
  if (json) process.stdout.write(`${JSON.stringify({ repositoryId: repository.id, names })}\n`);
  else process.stdout.write(names.length === 0 ? 'no document\n' : `${names.join('\n')}\n`);
  return exitCodes.ok;
}

async function readOne(repository: Repository, name: string, file: string, force: boolean, json: boolean): Promise<number> {
  const { content, writtenAt } = await getDocument(repository, name);
  await writeOutput(file, content, force);
  if (json) process.stdout.write(`${JSON.stringify({ file, name, writtenAt, sizeBytes: content.length })}\n`);
  else process.stdout.write(`${file}: ${content.length} bytes, written ${writtenAt}\n`);
  return exitCodes.ok;
}

async function read(
  repository: Repository,
  options: { pointId: string; diskId: string; file: string; force: boolean; keepGoing: boolean; json: boolean },
): Promise<number> {
  const onTerminal = process.stderr.isTTY && !options.json;
  const result = await exportDisk(repository, {
    ...options,
    progress: (done, total) => {
      if (onTerminal) process.stderr.write(`\r${((done / Math.max(total, 1)) * 100).toFixed(1)} %`);
    },
  });
  if (onTerminal) process.stderr.write('\r         \r');
  const { sizeBytes, writtenBytes, damaged } = result;
  if (options.json) process.stdout.write(`${JSON.stringify({ file: options.file, sizeBytes, writtenBytes, damaged })}\n`);
  else process.stdout.write(`${options.file}: ${sizeBytes} bytes, ${writtenBytes} of them data, every block checked\n`);
  for (const { offsetBytes, message } of damaged) process.stderr.write(`damaged at byte ${offsetBytes}: ${message}\n`);
  return damaged.length > 0 ? exitCodes.warnings : exitCodes.ok;
}

if (require.main === module) void main(process.argv.slice(2)).then((code) => (process.exitCode = code));
