/** Movers that are killed or hang in the middle, and others that go on with their sessions; worker and movers as real processes. */
import { execFileSync } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RepositoryKey } from '../../proto/gen/tidemark/mover/v1/RepositoryKey';
import { eventually, type Child } from '../harness/child';
import { DataPathRig } from './rig';

const mib = 1024 * 1024;
const sizeMib = 260;
const sizeBytes = sizeMib * mib;
let folder: string;
let rig: DataPathRig;
/** Those that a test started. */
let movers: Child[] = [];
/** That of the rig's start. */
let idle: Child;

beforeAll(async () => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-take-over-'));
  rig = await DataPathRig.start(folder);
  idle = rig.mover;
});
afterEach(async () => {
  for (const mover of movers) await mover.stop();
  movers = [];
});
afterAll(async () => {
  await rig.stop();
  await idle.stop();
  fs.rmSync(folder, { recursive: true, force: true });
});

async function startMover(name: string): Promise<void> {
  await rig.startMover(undefined, name);
  movers.push(rig.mover);
}

const file = (name: string) => path.join(folder, name);

/** Noise, with a zero megabyte now and then. */
function fill(name: string): string {
  const descriptor = fs.openSync(file(name), 'w');
  for (let at = 0; at < sizeMib; at += 1) fs.writeSync(descriptor, at % 7 === 5 ? Buffer.alloc(mib) : randomBytes(mib), 0, mib, at * mib);
  fs.closeSync(descriptor);
  return file(name);
}

const draftFiles = (repository: string) => {
  const drafts = path.join(file(repository), 'drafts');
  return fs.existsSync(drafts) ? fs.readdirSync(drafts).map((name) => path.join(drafts, name)) : [];
};

/** Blocks that the drafts of a repository in the clear map, read as docs/formats/session.md says. No block is in two of them here. */
function mappedBlocks(repository: string): number {
  let blocks = 0;
  for (const name of draftFiles(repository)) {
    const bytes = fs.readFileSync(name);
    const start = 12 + 2 * 12 + bytes.readUInt32BE(16) + 32;
    const end = start + bytes.readUInt32BE(28);
    for (let at = start; at < end;) {
      let mapped = 0;
      let zero = 0;
      for (let bit = 0; bit < 256; bit += 1) {
        mapped += ((bytes[at + 8 + (bit >> 3)] as number) >> (bit & 7)) & 1;
        zero += ((bytes[at + 40 + (bit >> 3)] as number) >> (bit & 7)) & 1;
      }
      blocks += mapped;
      at += 72 + 32 * (mapped - zero);
    }
  }
  return blocks;
}

async function createRepository(name: string, key: RepositoryKey | undefined): Promise<string> {
  const request = { requestId: randomUUID(), location: `directory:${file(name)}`, ...(key && { key }) };
  const { repository } = await rig.repositories.call('CreateRepository', request, { deadlineMs: 60_000 });
  return repository?.repositoryId ?? '';
}

async function attach(name: string, key: RepositoryKey | undefined): Promise<void> {
  await rig.repositories.call('AttachRepository', { location: `directory:${file(name)}`, ...(key && { key }) }, { deadlineMs: 60_000 });
}

/**
 * Waits until a value has not changed for a while; lanes that have no mover stand still. Looks are counted and not seconds, in which the machine may have
 * stood still.
 */
async function settled(value: () => number): Promise<number> {
  let last = -1;
  let same = 0;
  return eventually('it stands still', 120_000, () => {
    const now = value();
    same = now === last ? same + 1 : 0;
    last = now;
    return same >= 50 ? now : undefined;
  });
}

describe.each([
  ['in the clear', undefined],
  ['encrypted', { kind: 'REPOSITORY_KEY_KIND_KEY_FILE', secret: '5a'.repeat(32) }],
] as const)('a backup into a repository %s', (kind, key) => {
  it.each([
    ['is killed', 'SIGKILL'],
    ['hangs, and comes back later', 'SIGSTOP'],
  ] as const)(
    'goes on at another mover when its own %s, and reads only what was not durable',
    async (_end, signal) => {
      const name = `repository-${randomUUID()}`;
      const device = fill('device');
      await startMover(`a-${name}`);
      const first = rig.mover;
      const repositoryId = await createRepository(name, key);
      const { sessionId, dataPath } = await rig.openBackup(repositoryId);
      let read = 0;
      const order = { diskId: 'd', localDevice: { path: device, sizeBytes: String(sizeBytes) } };
      // Slow enough for a pack and a draft in the middle.
      const limits = { rateBytesPerSecond: String(20 * mib) };
      const task = rig.plugin.run({ backupDisk: { ...order, readScope: 'READ_SCOPE_ALLOCATED', dataPath, limits } }, ({ counters }) => {
        read = Number(counters?.readBytes);
      });
      // More than forty digests.
      const isWritten = () => draftFiles(name).reduce((sum, one) => sum + fs.statSync(one).size, 0) > 2_000;
      // The worker is held while the mover writes down what it has, so that both are in the middle however slow the mover is.
      const { pid } = rig.worker;
      for (let least = 110 * mib; !isWritten(); least += 20 * mib) {
        await eventually('it reads on', 120_000, () => read >= least || undefined, 20);
        process.kill(pid, 'SIGSTOP');
        for (let look = 0; look < 200 && !isWritten(); look++) await sleep(100);
        if (!isWritten()) process.kill(pid, 'SIGCONT');
      }
      process.kill(first.pid, signal);
      process.kill(pid, 'SIGCONT');
      const readBefore = await settled(() => read);
      expect(readBefore).toBeLessThan(sizeBytes);

      await startMover(`b-${name}`);
      await attach(name, key);
      await expect(rig.reopenSession(sessionId, repositoryId, 'SESSION_KIND_BACKUP', [])).rejects.toMatchObject({
        code: 'SESSION_ELSEWHERE',
      });
      const other = await rig.reopenSession(sessionId, repositoryId, 'SESSION_KIND_BACKUP', [], true);
      const mapped = key ? undefined : mappedBlocks(name);
      rig.plugin.changeDataPath(task.taskId, other.dataPath);
      const result = await task.result;
      expect(result.failure).toBeNull();
      const readAgain = Number(result.counters?.readBytes) - readBefore;
      if (mapped === undefined) expect(readAgain).toBeLessThan(sizeBytes - 40 * mib);
      else {
        expect(mapped).toBeGreaterThan(40);
        expect(readAgain).toBe(sizeBytes - mapped * mib);
      }
      if (signal === 'SIGSTOP') process.kill(first.pid, 'SIGCONT');

      const pointId = await rig.commit(sessionId, 'd', sizeBytes);
      expect(draftFiles(name)).toEqual([]);
      await rig.restore(repositoryId, { pointId, diskId: 'd', localFile: { path: file('restored.raw'), format: 'FILE_FORMAT_RAW' } });
      execFileSync('cmp', [device, file('restored.raw')]);
      fs.rmSync(file('restored.raw'));
      await rig.verify(repositoryId);
    },
    600_000,
  );
});

it('a restore reads on from another mover when its own is killed', async () => {
  const name = 'restored';
  const device = fill('device');
  await startMover('restore-a');
  const repositoryId = await createRepository(name, undefined);
  const pointId = await rig.backup(repositoryId, { diskId: 'd', localDevice: { path: device, sizeBytes: String(sizeBytes) } }, sizeBytes);
  const { sessionId, dataPath } = await rig.openSession(repositoryId, 'SESSION_KIND_RESTORE', [pointId]);
  let written = 0;
  const limits = { rateBytesPerSecond: String(40 * mib) };
  const order = { pointId, diskId: 'd', localFile: { path: file('out.raw'), format: 'FILE_FORMAT_RAW' as const } };
  const task = rig.plugin.run({ restoreDisk: { ...order, dataPath, limits } }, ({ counters }) => (written = Number(counters?.readBytes)));
  await eventually('some of it is written', 120_000, () => written > 30 * mib || undefined, 20);
  await rig.mover.kill();
  await startMover('restore-b');
  await attach(name, undefined);
  const other = await rig.reopenSession(sessionId, repositoryId, 'SESSION_KIND_RESTORE', [pointId], true);
  rig.plugin.changeDataPath(task.taskId, other.dataPath);
  const result = await task.result;
  expect(result.failure).toBeNull();
  execFileSync('cmp', [device, file('out.raw')]);
  // Nothing was written twice.
  expect(Number(result.counters?.readBytes)).toBeLessThanOrEqual(sizeBytes);
  await rig.sessions.call('AbortSession', { sessionId }, { deadlineMs: 60_000 });
}, 600_000);

it('a backup that outlives its ticket goes on with a new one, after a break of its lanes too', async () => {
  const name = 'days';
  const device = fill('device');
  await startMover(name);
  const ports = rig.moverPorts();
  const repositoryId = await createRepository(`repository-${name}`, undefined);
  const { sessionId, dataPath } = await rig.openBackup(repositoryId);
  let read = 0;
  const order = { diskId: 'd', localDevice: { path: device, sizeBytes: String(sizeBytes) }, readScope: 'READ_SCOPE_ALLOCATED' as const };
  // Long enough to begin with, also where there is much else to do.
  const lifeMs = 20_000;
  const short = { ...dataPath, ticket: rig.host.ticket(sessionId, repositoryId, ['write'], [], lifeMs) };
  const since = Date.now();
  const task = rig.plugin.run(
    { backupDisk: { ...order, dataPath: short, limits: { rateBytesPerSecond: String(20 * mib) } } },
    ({ counters }) => (read = Number(counters?.readBytes)),
  );
  await eventually('some of it is read', 120_000, () => read > 5 * mib || undefined, 20);
  await rig.mover.kill();
  movers.pop();
  await eventually('the end of the ticket', 120_000, () => Date.now() > since + lifeMs || undefined);
  await rig.startMover(ports, name);
  movers.push(rig.mover);
  await eventually(
    'lanes to be refused',
    120_000,
    () => fs.readFileSync(file(`${name}.log`), 'utf8').includes('TICKET_EXPIRED') || undefined,
  );
  rig.plugin.changeDataPath(task.taskId, dataPath);
  expect((await task.result).failure).toBeNull();
  const pointId = await rig.commit(sessionId, 'd', sizeBytes);
  await rig.restore(repositoryId, { pointId, diskId: 'd', localFile: { path: file('restored.raw'), format: 'FILE_FORMAT_RAW' } });
  execFileSync('cmp', [device, file('restored.raw')]);
}, 600_000);
