/**
 * SIGKILL of a mover on a directory, of a gateway on S3, and of the S3 server itself at seeded moments of a backup, a verification and a collection. Each
 * time: what was interrupted goes on or ends with a code, all older points verify and read back as they were, and in the end collections give back
 * everything that the last point does not need. Movers, worker and S3 server are real processes; the movers' clocks run ahead at each collection, so that
 * what is condemned is deleted by the next one. `TIDEMARK_SEED` chooses other moments, `TIDEMARK_ROUNDS` more of them.
 */
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { isTidemarkError } from '../../common/errors/tidemark-error';
import { failureError } from '../../common/rpc/failure-message';
import type { RepositoryKey } from '../../proto/gen/tidemark/mover/v1/RepositoryKey';
import { eventually } from '../harness/child';
import { randomFrom } from '../harness/random';
import { BucketServer } from '../harness/s3-server';
import { DataPathRig } from './rig';
import type { MoverPorts } from './rig';

const seed = Number(process.env['TIDEMARK_SEED'] ?? '1');
const rounds = Number(process.env['TIDEMARK_ROUNDS'] ?? '1');
const mib = 1024 * 1024;
const sizeMib = 24;
const sizeBytes = sizeMib * mib;
const hourMs = 3_600_000;
const stepMs = 150_000;
const testMs = 900_000;
const key: RepositoryKey = { kind: 'REPOSITORY_KEY_KIND_KEY_FILE', secret: '5a'.repeat(32) };

const kinds = ['directory', 's3'] as const;
type Kind = (typeof kinds)[number];
type Victim = 'mover' | 's3-server';

let folder: string;
let rig: DataPathRig;
let bucket: BucketServer;
const file = (name: string) => path.join(folder, name);

beforeAll(async () => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-kill-'));
  bucket = await BucketServer.start(file('s3'));
  // Leases that are renewed often: with each renewal movers acknowledge what collections condemn.
  rig = await DataPathRig.start(folder, {}, { lockLeaseMs: 15_000 });
}, 300_000);
afterAll(async () => {
  await rig.stop();
  await bucket.stop();
  if (process.env['TIDEMARK_KEEP_SITES'] === undefined) fs.rmSync(folder, { recursive: true, force: true });
}, 300_000);

/** Objects of a repository below one folder, with their sizes. */
async function objects(kind: Kind, below: string): Promise<Map<string, number>> {
  if (kind === 's3') return new Map([...(await bucket.look('kill')).sizes].filter(([name]) => name.startsWith(`${below}/`)));
  const root = file('directory');
  const found = fs.existsSync(path.join(root, below)) ? fs.readdirSync(path.join(root, below), { recursive: true, encoding: 'utf8' }) : [];
  const files = found.map((name) => path.join(below, name)).filter((name) => fs.statSync(path.join(root, name)).isFile());
  return new Map(files.map((name) => [name, fs.statSync(path.join(root, name)).size]));
}

/** Says what it was that did not end, with what the processes said last; a test's own time limit says neither. */
async function inTime<T>(what: string, work: Promise<T>): Promise<T> {
  let late: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_resolve, reject) => {
    late = setTimeout(() => {
      const logs = fs.readdirSync(folder).filter((name) => name.endsWith('.log'));
      const said = logs.map((name) => `${name}:\n${fs.readFileSync(file(name), 'utf8').split('\n').slice(-12).join('\n')}`);
      reject(new Error(`${what} did not end within ${stepMs} ms\n${said.join('\n')}`));
    }, stepMs);
  });
  return Promise.race([work, limit]).finally(() => clearTimeout(late));
}

const total = (sizes: ReadonlyMap<string, number>) => [...sizes.values()].reduce((sum, size) => sum + size, 0);

describe.each(kinds)(`kill -9 around a repository of kind %s (seed ${seed})`, (kind) => {
  const random = randomFrom(seed * 7919 + kinds.indexOf(kind));
  /** Images of the points. */
  const points = new Map<string, string>();
  const device = () => file(`${kind}.device`);
  /** How what was interrupted ended: codes, or `ok`. */
  const ends: string[] = [];
  let ports: MoverPorts | undefined;
  let aheadMs = 0;
  let repositoryId = '';

  const place = () => {
    const { accessKeyId, secretAccessKey } = bucket.access;
    if (kind === 'directory') return { location: `directory:${file('directory')}` };
    return { location: bucket.location('kill'), access: { accessKeyId, secretAccessKey }, key };
  };
  const attach = () => rig.repositories.call('AttachRepository', place(), { deadlineMs: 60_000 });
  async function startMover(): Promise<void> {
    await rig.startMover(ports, `mover-${kind}`, aheadMs);
    ports = rig.moverPorts();
  }
  async function restartMover(): Promise<void> {
    await rig.mover.kill();
    await startMover();
    await attach();
  }
  /** Stopped in good order: one that was killed announces all packs again, and for an hour they count as new. */
  async function restartLater(): Promise<void> {
    await rig.mover.stop();
    aheadMs += 30 * hourMs;
    await startMover();
    await attach();
  }
  /** A rate at which all packs take this long. */
  const slowly = async (seconds: number) => Math.ceil(total(await objects(kind, 'packs')) / seconds);

  /** Kills after a random time, and brings back what was killed. */
  async function death(victim: Victim, withinMs: number): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, random() * withinMs));
    await (victim === 'mover' ? restartMover() : bucket.dieAndComeBack());
  }

  /** Runs what may be interrupted; its error, if it is one that an interruption may have. */
  async function interrupted(what: string, work: () => Promise<unknown>): Promise<unknown> {
    try {
      await work();
      ends.push(`${what}: ok`);
      return undefined;
    } catch (error) {
      if (!isTidemarkError(error) || error.kind === 'bug') throw error;
      ends.push(`${what}: ${error.code}`);
      return error;
    }
  }

  /** New noise in a third of the disk. */
  function change(): void {
    const isNew = !fs.existsSync(device());
    const noise = Buffer.alloc(mib);
    const write = fs.openSync(device(), isNew ? 'w' : 'r+');
    for (let at = 0; at < sizeMib; at += 1) {
      if (!isNew && random() > 0.33) continue;
      for (let word = 0; word < mib; word += 4) noise.writeUInt32LE(random() * 0x1_0000_0000, word);
      fs.writeSync(write, noise, 0, mib, at * mib);
    }
    fs.closeSync(write);
  }

  /** One point of the disk as it is; with a victim, over its death. */
  async function backup(victim?: Victim): Promise<void> {
    const { sessionId, dataPath } = await rig.openBackup(repositoryId);
    const order = {
      diskId: 'd',
      localDevice: { path: device(), sizeBytes: String(sizeBytes) },
      readScope: 'READ_SCOPE_ALLOCATED' as const,
    };
    const limits = { rateBytesPerSecond: String(12 * mib) };
    const over = victim && death(victim, 2_500);
    const { result } = rig.plugin.run({ backupDisk: { ...order, dataPath, ...(victim && { limits }) } });
    const { failure } = await inTime('the backup', result);
    if (failure) {
      const error = await interrupted('backup', () => Promise.reject(failureError(failure)));
      await over;
      // It ended with a reason, and the next one must do.
      if (!victim) throw error;
      await rig.sessions.call('AbortSession', { sessionId }, { deadlineMs: 60_000 });
      return backup();
    }
    const pointId = randomUUID();
    const error = await interrupted(`backup${victim ? '' : ' in peace'}`, () => rig.commit(sessionId, 'd', sizeBytes, pointId));
    await over;
    if (error !== undefined) await rig.commit(sessionId, 'd', sizeBytes, pointId);
    const image = file(`${kind}-${points.size}-${pointId}.raw`);
    fs.copyFileSync(device(), image);
    points.set(pointId, image);
  }

  async function remove(pointId: string): Promise<void> {
    await rig.maintenance.call('RemovePoint', { repositoryId, pointId }, { deadlineMs: 60_000, attempts: 3 });
    points.delete(pointId);
  }

  /** Findings of a verification of everything; throws when it could not go on. */
  async function verify(bytesPerSecond = 0): Promise<unknown[]> {
    const request = { requestId: randomUUID(), repositoryId, bytesPerSecond: String(bytesPerSecond) };
    const { operationId } = await rig.repositories.call('StartVerify', request, { deadlineMs: 60_000 });
    for await (const { result } of rig.repositories.stream('WatchVerify', { operationId }, { idleTimeoutMs: 120_000 })) {
      if (!result) continue;
      // What a server that is away makes unreadable is no damage.
      expect(result.findings).toEqual([]);
      if (result.failure) throw failureError(result.failure);
      return result.findings;
    }
    throw new Error('the verification ended without a result');
  }

  /** Another collection, after the grace time of those before. */
  async function collect(bytesPerSecond = 0) {
    const request = { requestId: randomUUID(), repositoryId, bytesPerSecond: String(bytesPerSecond) };
    const { operationId } = await rig.maintenance.call('StartCollect', request, { deadlineMs: 60_000 });
    for await (const { result } of rig.maintenance.stream('WatchCollect', { operationId }, { idleTimeoutMs: 120_000 })) {
      if (!result) continue;
      if (result.failure) throw failureError(result.failure);
      return result;
    }
    throw new Error('the collection ended without a result');
  }

  /** Every point verifies; a random one reads back. */
  async function expectSound(which = [...points.keys()]): Promise<void> {
    expect(await inTime('the verification', verify())).toEqual([]);
    for (const pointId of which.splice(Math.floor(random() * which.length), 1)) {
      const out = file(`${kind}.restored`);
      await inTime('the restore', rig.restore(repositoryId, { pointId, diskId: 'd', localFile: { path: out, format: 'FILE_FORMAT_RAW' } }));
      execFileSync('cmp', [out, points.get(pointId) ?? '']);
      fs.rmSync(out);
    }
  }

  beforeAll(async () => {
    await rig.mover.stop();
    await startMover();
    const request = { requestId: randomUUID(), ...place() };
    repositoryId = (await rig.repositories.call('CreateRepository', request, { deadlineMs: 60_000 })).repository?.repositoryId ?? '';
    await attach();
    for (let i = 0; i < 2; i++) {
      change();
      await backup();
    }
  }, 120_000);

  const victims: Victim[] = kind === 's3' ? ['mover', 's3-server'] : ['mover'];
  describe.each(Array.from({ length: rounds }, (_, round) => round))('round %i', () => {
    it.each(victims)(
      'of the %s during a backup',
      async (victim) => {
        change();
        await backup(victim);
        await expectSound();
      },
      testMs,
    );

    it.each(victims)(
      'of the %s during a verification',
      async (victim) => {
        const over = death(victim, 2_500);
        await interrupted('verification', async () => verify(await slowly(3)));
        await over;
        await expectSound();
      },
      testMs,
    );

    it.each(victims)(
      'of the %s during a collection',
      async (victim) => {
        const [oldest = ''] = points.keys();
        await remove(oldest);
        aheadMs += 30 * hourMs;
        await restartMover();
        const over = death(victim, 1_500);
        await inTime(
          'the collection, or its end',
          interrupted('collection', async () => collect(await slowly(8))),
        );
        await inTime('the return of what was killed', over);
        await eventually('a collection that is not disturbed', 120_000, () => inTime('a collection', collect()));
        await expectSound();
        change();
        await backup();
      },
      testMs,
    );
  });

  it(
    'leaves nothing that the next collections do not give back',
    async () => {
      for (const pointId of [...points.keys()].slice(0, -1)) await remove(pointId);
      let neededBytes = '';
      for (let i = 0; i < 2; i++) {
        await restartLater();
        ({ neededBytes } = await collect());
      }
      await expectSound();
      const packs = await objects(kind, 'packs');
      console.info(`${kind}: ${ends.join(', ')}; ${packs.size} packs of ${total(packs)} bytes, ${neededBytes} needed`);
      expect(points.size).toBe(1);
      expect((await objects(kind, 'points')).size).toBe(1);
      // All of the disk is noise: less cannot be there; a quarter of a pack may be waste before it is written anew.
      expect(total(packs)).toBeGreaterThan(0.95 * sizeBytes);
      expect(total(packs)).toBeLessThan(1.35 * sizeBytes);
      expect((await objects(kind, 'drafts')).size).toBe(0);
      // The lock of a file that was being replaced is broken by the next who replaces it.
      expect([...(await objects(kind, 'tmp')).keys()].filter((name) => !name.endsWith('.lock'))).toEqual([]);
      if (kind === 's3') expect((await bucket.look('kill')).uploads).toBe(0);
    },
    testMs,
  );
});
