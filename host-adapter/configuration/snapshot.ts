/**
 * What makes a server the one it is, as one document: the rows of the catalogue that nobody else has, and the small files of the data folder (CA, identities,
 * sealed passwords and the keys that open them). Left out is what the repositories tell again (points), what belongs to the past (sessions,
 * events, the audit log, logins), and what would be wrong by tomorrow (the plug-in's journal). docs/formats/configuration.md.
 */
import fs from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { durableWrite } from '../../common/tls/durable-write';
import { openCatalogue, stepsOf, type Database } from '../catalogue/catalogue';
import type { Tables } from '../catalogue/tables';
import { ConfigurationErrors } from '../errors/configuration-errors';

type TableName = keyof Tables;

/** In the order in which rows may refer to each other. */
export const copiedTables: readonly TableName[] = [
  'setting',
  'user',
  'identity',
  'certificate',
  'peerTrust',
  'certificateWarning',
  'plugin',
  'mover',
  'moverRule',
  'platform',
  'repository',
  'repositoryCare',
  'pointHold',
  'job',
];
/** Each with its reason above. A new table belongs into one of the two lists; a test says so. */
export const leftOutTables: readonly TableName[] = ['login', 'enrolmentToken', 'session', 'task', 'vmLease', 'point', 'event', 'audit'];

const catalogueFile = 'catalogue.sqlite';
/**
 * Not copied: the catalogue (its rows are), logs, caches, what is being written, tokens that work once, and where the server listens now. The journal of
 * a plug-in beside the server too: with yesterday's, its janitor could take what was restored today for the leftover of a run.
 */
const leftOutFiles = [/^catalogue\.sqlite/, /^endpoints\.json$/, /(^|\/)(log|cache|scratch|journal)\//, /\.tmp$/, /(^|\/)enrolment-token$/];
const maxFileBytes = 4 * 1024 * 1024;
const maxFilesBytes = 20 * 1024 * 1024;
/** The server's own settings by which it was started, for whoever starts the new one. */
const configFile = 'restored-server.json';

const cell = z.union([z.string(), z.number(), z.null()]);
const schema = z.object({
  format: z.literal(1),
  /** Last step of the catalogue's schema. */
  catalogueStep: z.string(),
  tables: z.record(z.string(), z.array(z.record(z.string(), cell))),
  files: z.array(z.object({ path: z.string(), mode: z.int(), content: z.base64() })),
  /** The configuration file's content, without the data folder. */
  server: z.record(z.string(), z.unknown()),
});

export type ConfigurationSnapshot = z.infer<typeof schema>;

/** All tables as of one moment; files that are replaced meanwhile are whole. Throws CONFIGURATION_TOO_LARGE. */
export async function takeSnapshot(
  db: Database,
  dataFolder: string,
  server: Readonly<Record<string, unknown>>,
): Promise<ConfigurationSnapshot> {
  const tables = await db.transaction().execute(async (tx) => {
    const rows: ConfigurationSnapshot['tables'] = {};
    for (const name of copiedTables) rows[name] = await tx.selectFrom(name).selectAll().execute();
    return rows;
  });
  return { format: 1, catalogueStep: stepsOf().at(-1) ?? '', tables, files: filesOf(dataFolder), server: { ...server } };
}

export function encodeSnapshot(snapshot: ConfigurationSnapshot): Buffer {
  return Buffer.from(JSON.stringify(snapshot));
}

/** Throws CONFIGURATION_COPY_DAMAGED, CONFIGURATION_COPY_UNKNOWN. */
export function decodeSnapshot(content: Buffer, name: string): ConfigurationSnapshot {
  let found: unknown;
  try {
    found = JSON.parse(content.toString('utf8'));
  } catch (cause) {
    throw ConfigurationErrors.CONFIGURATION_COPY_DAMAGED({ name, problem: 'it holds no JSON' }, { cause });
  }
  const format = (found as { format?: unknown }).format;
  if (typeof format === 'number' && format > 1) throw ConfigurationErrors.CONFIGURATION_COPY_UNKNOWN({ name, version: format });
  const parsed = schema.safeParse(found);
  if (!parsed.success || parsed.data.files.some((file) => !isInside(file.path)))
    throw ConfigurationErrors.CONFIGURATION_COPY_DAMAGED({ name, problem: 'it is not a configuration' }, { cause: parsed.error });
  const step = parsed.data.catalogueStep;
  if (!stepsOf().includes(step)) throw ConfigurationErrors.CONFIGURATION_COPY_UNKNOWN({ name, version: Number.parseInt(step, 10) });
  return parsed.data;
}

/**
 * Makes the data folder of a server from a copy. It appears whole: written beside its place and renamed. Throws DATA_FOLDER_NOT_EMPTY,
 * CATALOGUE_UNUSABLE. Resolves with the path of the configuration file by which the old server was started.
 */
export async function writeSnapshot(snapshot: ConfigurationSnapshot, dataFolder: string): Promise<string> {
  const folder = path.resolve(dataFolder);
  if (fs.existsSync(folder) && fs.readdirSync(folder).length > 0) throw ConfigurationErrors.DATA_FOLDER_NOT_EMPTY({ folder });
  const partial = `${folder}.restoring`;
  fs.rmSync(partial, { recursive: true, force: true });
  try {
    fs.mkdirSync(partial, { recursive: true, mode: 0o700 });
    for (const file of snapshot.files) durableWrite(path.join(partial, file.path), Buffer.from(file.content, 'base64'), file.mode);
    durableWrite(path.join(partial, configFile), `${JSON.stringify(snapshot.server, null, 2)}\n`, 0o600);
    const db = await openCatalogue(path.join(partial, catalogueFile), async (early) => insertAll(early, snapshot), snapshot.catalogueStep);
    await db.destroy();
    if (fs.existsSync(folder)) fs.rmdirSync(folder);
    fs.renameSync(partial, folder);
  } catch (error) {
    fs.rmSync(partial, { recursive: true, force: true });
    throw error;
  }
  return path.join(folder, configFile);
}

async function insertAll(db: Database, { tables }: ConfigurationSnapshot): Promise<void> {
  await db.transaction().execute(async (tx) => {
    for (const name of copiedTables) {
      for (const row of tables[name] ?? []) await tx.insertInto(name).values(row).execute();
    }
  });
}

function filesOf(dataFolder: string): ConfigurationSnapshot['files'] {
  const files: ConfigurationSnapshot['files'] = [];
  let total = 0;
  for (const entry of fs.readdirSync(dataFolder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath, entry.name);
    const relative = path.relative(dataFolder, file).split(path.sep).join('/');
    if (leftOutFiles.some((pattern) => pattern.test(relative))) continue;
    // Gone meanwhile: a process beside the server replaced or removed it.
    const found = fs.statSync(file, { throwIfNoEntry: false });
    if (!found) continue;
    const { size, mode } = found;
    total += size;
    // Who keeps something large there must hear of it now, not when the copy is needed.
    if (size > maxFileBytes) throw ConfigurationErrors.CONFIGURATION_TOO_LARGE({ what: relative, sizeBytes: size });
    if (total > maxFilesBytes) throw ConfigurationErrors.CONFIGURATION_TOO_LARGE({ what: 'all of it together', sizeBytes: total });
    files.push({ path: relative, mode: mode & 0o777, content: fs.readFileSync(file).toString('base64') });
  }
  return files.sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** A copy is authentic, but what it says is still no reason to write outside the folder. */
function isInside(relative: string): boolean {
  return relative !== '' && !path.isAbsolute(relative) && !relative.split('/').some((part) => part === '..' || part === '');
}
