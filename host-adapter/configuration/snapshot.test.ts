import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { sql } from 'kysely';
import { openCatalogue, type Database } from '../catalogue/catalogue';
import { copiedTables, decodeSnapshot, encodeSnapshot, leftOutTables, takeSnapshot, writeSnapshot } from './snapshot';

const names = async (db: Database): Promise<string[]> => {
  const found = await sql<{ name: string }>`select name from sqlite_master where type = 'table'`.execute(db);
  return found.rows.map((row) => row.name).filter((name) => !name.startsWith('sqlite_') && !name.startsWith('kysely_'));
};

describe('a copy of the configuration', () => {
  let folder: string;
  let db: Database;
  beforeEach(async () => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-snapshot-'));
    db = await openCatalogue(path.join(folder, 'old', 'catalogue.sqlite'));
  });
  afterEach(async () => {
    await db.destroy();
    fs.rmSync(folder, { recursive: true });
  });
  const put = (file: string, text: string, mode = 0o600) => {
    fs.mkdirSync(path.dirname(path.join(folder, 'old', file)), { recursive: true });
    fs.writeFileSync(path.join(folder, 'old', file), text, { mode });
  };

  it('has every table of the catalogue in one of the two lists', async () => {
    expect([...copiedTables, ...leftOutTables].sort()).toEqual((await names(db)).sort());
  });

  it('becomes the data folder of another server', async () => {
    await db
      .insertInto('repository')
      .values({ id: 'r', name: 'main', location: 'l', moverId: 'm', gatewaysJson: null, sealedJson: 's', lastKnownJson: '{}' })
      .execute();
    await db
      .insertInto('job')
      .values({ id: 'j', name: 'nightly', repositoryId: 'r', enabled: 1, definitionJson: '{}', createdAt: 'a', scheduledAt: 'b' })
      .execute();
    await db
      .insertInto('event')
      .values({ at: 'x', source: 'host', severity: 'info', code: 'C', message: 'm', referencesJson: '{}' })
      .execute();
    put('identity/authority.json', 'the CA');
    put('ca.pem', 'public', 0o644);
    put('plugin/platforms.key', 'a key');
    for (const left of [
      'log/server.log',
      'mover/cache/x/index',
      'mover/scratch/y',
      'plugin/journal/intents.jsonl',
      'endpoints.json',
      'mover/enrolment-token',
      'ports.json.77.tmp',
    ])
      put(left, 'left out');
    const snapshot = await takeSnapshot(db, path.join(folder, 'old'), { allInOne: true });
    expect(snapshot.files.map((file) => file.path)).toEqual(['ca.pem', 'identity/authority.json', 'plugin/platforms.key']);

    const target = path.join(folder, 'new');
    const configFile = await writeSnapshot(decodeSnapshot(encodeSnapshot(snapshot), 'x'), target);
    expect(JSON.parse(fs.readFileSync(configFile, 'utf8'))).toEqual({ allInOne: true });
    expect(fs.readFileSync(path.join(target, 'identity/authority.json'), 'utf8')).toBe('the CA');
    expect([
      fs.statSync(path.join(target, 'ca.pem')).mode & 0o777,
      fs.statSync(path.join(target, 'plugin/platforms.key')).mode & 0o777,
    ]).toEqual([0o644, 0o600]);
    const restored = await openCatalogue(path.join(target, 'catalogue.sqlite'));
    expect(await restored.selectFrom('job').selectAll().execute()).toEqual(await db.selectFrom('job').selectAll().execute());
    expect(await restored.selectFrom('event').selectAll().execute()).toEqual([]);
    await restored.destroy();
    await expect(writeSnapshot(snapshot, target)).rejects.toMatchObject({ code: 'DATA_FOLDER_NOT_EMPTY' });
    expect(fs.existsSync(`${target}.restoring`)).toBe(false);
  });

  it('of an older schema is brought up to date', async () => {
    const snapshot = {
      format: 1 as const,
      catalogueStep: '0002-certificates',
      tables: { repository: [{ id: 'r', name: 'main', location: 'l', moverId: 'm', lastKnownJson: '{}' }] },
      files: [],
      server: {},
    };
    await writeSnapshot(snapshot, path.join(folder, 'new'));
    const restored = await openCatalogue(path.join(folder, 'new', 'catalogue.sqlite'));
    expect(await restored.selectFrom('repository').selectAll().execute()).toEqual([
      {
        id: 'r',
        name: 'main',
        location: 'l',
        moverId: 'm',
        lastKnownJson: '{}',
        gatewaysJson: null,
        preferredGatewaysJson: null,
        sealedJson: null,
      },
    ]);
    await restored.destroy();
  });

  it('that is not one leaves nothing behind', async () => {
    const bad = { format: 1 as const, catalogueStep: '0001-first', tables: { job: [{ id: 'j' }] }, files: [], server: {} };
    await expect(writeSnapshot(bad, path.join(folder, 'new'))).rejects.toMatchObject({ code: 'CATALOGUE_UNUSABLE' });
    expect(fs.readdirSync(folder)).toEqual(['old']);
    const decode = (change: object) => () => decodeSnapshot(Buffer.from(JSON.stringify({ ...bad, ...change })), 'x');
    for (const file of ['../escaped', '/etc/escaped', 'a//b', '']) {
      expect(decode({ files: [{ path: file, mode: 0o600, content: '' }] })).toThrow(
        expect.objectContaining({ code: 'CONFIGURATION_COPY_DAMAGED' }) as Error,
      );
    }
    expect(decode({ format: 2 })).toThrow(expect.objectContaining({ code: 'CONFIGURATION_COPY_UNKNOWN' }) as Error);
    expect(decode({ catalogueStep: '9999-future' })).toThrow(expect.objectContaining({ code: 'CONFIGURATION_COPY_UNKNOWN' }) as Error);
  });

  it('is refused, with the file’s name, when somebody keeps something large in the data folder', async () => {
    put('plugin/dump', 'x'.repeat(5 * 1024 * 1024));
    await expect(takeSnapshot(db, path.join(folder, 'old'), {})).rejects.toMatchObject({
      code: 'CONFIGURATION_TOO_LARGE',
      meta: { what: 'plugin/dump' },
    });
  });
});
