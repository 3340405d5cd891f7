import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { decodeSession, encodeSession, sessionName } from '../format/session-record';
import { randomFrom, sampleBlock } from '../testing/test-disk';
import { temporaryFolder } from '../testing/test-mover';
import { pointDraft, testKey, TestRepository, type TestRepositoryOptions } from '../testing/test-repository';
import { listDrafts, readDraftDigests } from './drafts';
import type { Session } from './session';

const block = 65_536;
const blocks = 700;
const size = blocks * block;

/** A mover of its own on the repository below `folder`. */
function mover(folder: string, instanceId: string, options: TestRepositoryOptions = {}): Promise<TestRepository> {
  return TestRepository.open(folder, {
    lock: { instanceId, leaseDurationMs: 30_000, waitMs: 0 },
    cacheFolder: path.join(folder, `cache-${instanceId}`),
    sessions: { draftIntervalMs: 0 },
    packTargetBytes: 600_000,
    ...options,
  });
}

function open(test: TestRepository, sessionId: string, takeOver = false, pointIds: string[] = []): Promise<Session> {
  return test.sessions.open(test.repository, { sessionId, kind: 'backup', pointIds, leaseDurationMs: 60_000, takeOver });
}

async function openDisk(session: Session, contentId = 'content', basePointId = '') {
  const baseDiskId = basePointId === '' ? '' : 'disk';
  const draft = await session.openDisk({ diskId: 'disk', sizeBytes: size, basePointId, baseDiskId, contentId });
  if (draft === 'committed') throw new Error('committed already');
  return draft;
}

/** All blocks that a disk has mapped, by as many questions as it takes. */
function mappedOf(draft: Awaited<ReturnType<typeof openDisk>>, limit = 7): Set<number> {
  const mapped = new Set<number>();
  for (let next = 0; next < draft.blocks;) {
    const { ranges, nextBlock } = draft.listMapped(next, limit);
    for (const { firstBlock, blockCount } of ranges) for (let i = 0; i < blockCount; i++) mapped.add(firstBlock + i);
    expect(nextBlock).toBeGreaterThan(next);
    next = nextBlock;
  }
  return mapped;
}

/** A disk of data, zeroes that were read, and zeroes that were known. */
const isZeroBlock = (number: number) => number % 5 === 3;
const isKnownZero = (number: number) => number >= 256 && number < 600;
const zeroes = Buffer.alloc(block);
const samples = new Map<number, Buffer>();

function rawOf(number: number): Buffer {
  if (isZeroBlock(number) || isKnownZero(number)) return zeroes;
  const raw = samples.get(number) ?? sampleBlock(number + 1, block);
  samples.set(number, raw);
  return raw;
}

async function sendAll(test: TestRepository, draft: Awaited<ReturnType<typeof openDisk>>, numbers: Iterable<number>): Promise<void> {
  const owner = {};
  for (const number of numbers) if (!isKnownZero(number)) await test.send(draft, number, rawOf(number), owner);
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);
const isGivenUp = expect.objectContaining({ code: 'SESSION_ELSEWHERE' }) as Error;

async function expectContent(test: TestRepository, pointId: string): Promise<void> {
  const image = await test.read(pointId);
  for (let number = 0; number < blocks; number++)
    expect(image.subarray(number * block, (number + 1) * block).equals(rawOf(number))).toBe(true);
}

describe.each([
  ['in the clear', {}],
  ['encrypted', { key: testKey }],
])('a session whose mover is gone, %s', (_name, options) => {
  test('goes on at another mover from what was written down, and the first one finds out', async () => {
    using scratch = temporaryFolder();
    const first = await mover(scratch.folder, 'first', options);
    const sessionId = randomUUID();
    const session = await open(first, sessionId);
    const draft = await openDisk(session);
    expect(draft.hasMapped).toBe(false);
    draft.zero(256, 344);
    await sendAll(first, draft, range(0, 200));
    await first.repository.blocks.flush();
    await session.keep();
    // What comes now is lost with the mover, as far as it is not sealed and written down.
    await sendAll(first, draft, range(200, 256));
    const written = await listDrafts(first.repository.store, sessionId);
    expect(written.length).toBeGreaterThan(0);

    await using second = await mover(scratch.folder, 'second', options);
    await expect(open(second, sessionId)).rejects.toThrow(isGivenUp);
    expect(() => second.sessions.find(sessionId)).toThrow(isGivenUp);
    const taken = await open(second, sessionId, true);
    expect(taken.wasTakenOver).toBe(true);
    const again = await openDisk(taken);
    expect(again.handle).not.toBe(draft.handle);
    expect(again.hasMapped).toBe(true);
    const mapped = mappedOf(again);
    expect([...mapped].sort((a, b) => a - b)).toEqual([...range(0, 200), ...range(256, 600)]);
    // Exactly what a mark would keep.
    const digests = new Set<string>();
    for await (const digest of readDraftDigests(second.repository.store, sessionId, second.repository.keys))
      digests.add(digest.toString('hex'));
    expect(digests.size).toBe(range(0, 200).filter((number) => !isZeroBlock(number)).length);

    await sendAll(
      second,
      again,
      range(0, blocks).filter((number) => !mapped.has(number)),
    );
    await second.commitDisk(taken, again);
    expect(await listDrafts(second.repository.store, sessionId)).toEqual([]);

    // The first one is alive after all: nothing that it does counts.
    await sendAll(first, draft, range(600, blocks));
    await expect(session.commitDisk(draft, 100)).rejects.toThrow(isGivenUp);
    expect(session.isElsewhere).toBe(true);
    expect(() => first.sessions.find(sessionId)).toThrow(isGivenUp);
    await expect(session.abort('aborted')).rejects.toThrow(isGivenUp);

    const pointId = await second.commit(taken, [{ diskId: 'disk', sizeBytes: size }]);
    await expectContent(second, pointId);
    await first.close();
    expect(await listDrafts(second.repository.store)).toEqual([]);
  });

  test('goes on at the same mover after a kill', async () => {
    using scratch = temporaryFolder();
    const before = await mover(scratch.folder, 'one', options);
    const basePointId = await before.backup(size, new Map(range(0, 50).map((number) => [number, sampleBlock(9000 + number, block)])));
    const sessionId = randomUUID();
    const session = await open(before, sessionId, false, [basePointId]);
    const draft = await openDisk(session, 'content', basePointId);
    for (let from = 0; from < 250; from += 50) {
      await sendAll(before, draft, range(from, from + 50));
      await session.keep();
    }
    const durable = new Set(range(0, 250).filter((number) => before.repository.blocks.isDurable(before.digestOf(rawOf(number)))));
    await before.vanish();

    await using after = await mover(scratch.folder, 'one', options);
    const found = after.sessions.get(sessionId);
    expect(found.wasTakenOver).toBe(false);
    const again = await openDisk(found, 'content', basePointId);
    const mapped = mappedOf(again);
    // Small packs are sealed all the time: most of it is there, and nothing that is not.
    for (const number of mapped) expect(durable.has(number) || isZeroBlock(number)).toBe(true);
    expect(mapped.size).toBeGreaterThan(100);
    const rest = range(0, blocks).filter((number) => !mapped.has(number));
    again.zero(256, 344);
    await sendAll(after, again, rest);
    await after.commitDisk(found, again);
    await expectContent(after, await after.commit(found, [{ diskId: 'disk', sizeBytes: size }]));
  });
});

test('what is sent again after a connection or a mover was lost is counted once', async () => {
  /** Sends all blocks, some of them twice, and tells what was counted. */
  const counted = async (between: (test: TestRepository) => Promise<TestRepository>, folder: string) => {
    let test = await mover(folder, 'one', { packTargetBytes: 300_000 });
    const sessionId = randomUUID();
    const draft = await openDisk(await open(test, sessionId));
    await sendAll(test, draft, range(0, 120));
    await test.sessions.get(sessionId).keep();
    test = await between(test);
    const session = test.sessions.get(sessionId);
    const again = await openDisk(session);
    await sendAll(test, again, range(0, 256));
    await test.commitDisk(session, again);
    const { storedBytes, deduplicatedBytes } = session.committedDisks[0] as { storedBytes: number; deduplicatedBytes: number };
    await test.close();
    return { storedBytes, deduplicatedBytes };
  };
  using scratch = temporaryFolder();
  const same = await counted((test) => Promise.resolve(test), path.join(scratch.folder, 'connection'));
  expect(same.deduplicatedBytes).toBe(0);
  const killed = await counted(
    async (test) => {
      await test.vanish();
      return mover(path.join(scratch.folder, 'mover'), 'one', { packTargetBytes: 300_000 });
    },
    path.join(scratch.folder, 'mover'),
  );
  // What lay in the open pack was lost with the mover, and sent again; what was durable and not written down was found.
  expect(killed.storedBytes + killed.deduplicatedBytes).toBeGreaterThan(same.storedBytes * 0.9);
  expect(killed.storedBytes).toBeLessThan(same.storedBytes * 1.02);
});

test('each block is counted once, as stored or as deduplicated, whenever the mover dies', async () => {
  using scratch = temporaryFolder();
  const options = { packTargetBytes: 300_000 };
  let test = await mover(scratch.folder, 'one', options);
  // Half of it is there already.
  const half = range(0, 256).filter((number) => number % 2 === 0);
  await test.backup(size, new Map(half.map((number) => [number, rawOf(number)])));
  const sessionId = randomUUID();
  let session = await open(test, sessionId);
  let stored = 0;
  for (const [until, isWrittenDown] of [
    [60, true],
    [120, false],
    [180, true],
    [256, false],
  ] as const) {
    const draft = await openDisk(session);
    const before = test.repository.index.packs.totalBytes;
    const mapped = mappedOf(draft);
    await sendAll(
      test,
      draft,
      range(0, until).filter((number) => !mapped.has(number)),
    );
    await test.repository.blocks.flush();
    stored += test.repository.index.packs.totalBytes - before;
    if (isWrittenDown) {
      // While a draft is being written more comes, which is not in it.
      const { repository } = test;
      const announce = repository.announcePacks.bind(repository);
      const live = test;
      jest.spyOn(repository, 'announcePacks').mockImplementationOnce(async () => {
        await sendAll(live, draft, range(until, until + 20));
        await repository.blocks.flush();
        await announce();
      });
      await session.keep();
    }
    if (until === 256) {
      await test.commitDisk(session, draft);
      break;
    }
    await test.vanish();
    test = await mover(scratch.folder, 'one', options);
    session = test.sessions.get(sessionId);
  }
  const counted = session.committedDisks[0] as { storedBytes: number; deduplicatedBytes: number };
  const data = range(0, 256).filter((number) => !isZeroBlock(number));
  // What was not written down when the mover died: what was stored of it was there for who went on.
  const isUntold = (number: number) => (number >= 60 && number < 120) || (number >= 180 && number < 200);
  const found = data.filter((number) => number % 2 === 0 || isUntold(number));
  expect(counted.deduplicatedBytes).toBe(found.length * block);
  expect(counted.storedBytes).toBeLessThan(stored);
  await test.close();
});

test('a mover that stops in good order leaves nothing to be read again', async () => {
  using scratch = temporaryFolder();
  // As long as it takes: that a mover's end does not wait for ever is not what is looked at.
  const sessions = { draftIntervalMs: 3_600_000, suspendMs: 600_000 };
  const before = await mover(scratch.folder, 'one', { sessions, packTargetBytes: 64 * 1024 * 1024 });
  const sessionId = randomUUID();
  await sendAll(before, await openDisk(await open(before, sessionId)), range(0, 200));
  await before.close();
  await using after = await mover(scratch.folder, 'two');
  const draft = await openDisk(await open(after, sessionId, true));
  expect(mappedOf(draft).size).toBe(200);
});

test('another content of the same disk starts anew, and nothing of the first is left in it', async () => {
  using scratch = temporaryFolder();
  await using test = await mover(scratch.folder, 'one');
  const session = await test.openSession();
  const first = await openDisk(session, 'yesterday');
  for (let number = 0; number < 100; number++) await test.send(first, number, sampleBlock(5000 + number, block), {});
  await test.repository.blocks.flush();
  await session.keep();
  expect(await listDrafts(test.repository.store, session.id)).not.toEqual([]);
  const second = await openDisk(session, 'today');
  expect(second.handle).not.toBe(first.handle);
  expect(second.hasMapped).toBe(false);
  expect(() => first.zero(0, 1)).toThrow(expect.objectContaining({ code: 'DISK_NOT_OPEN' }) as Error);
  expect(await listDrafts(test.repository.store, session.id)).toEqual([]);
  await sendAll(test, second, range(90, blocks));
  await test.commitDisk(session, second);
  const pointId = await test.commit(session, [{ diskId: 'disk', sizeBytes: size }]);
  const image = await test.read(pointId);
  expect(image.subarray(0, 90 * block).equals(Buffer.alloc(90 * block))).toBe(true);
  expect(image.subarray(90 * block, 91 * block).equals(rawOf(90))).toBe(true);
});

test('drafts of an earlier content are not used after a restart either', async () => {
  using scratch = temporaryFolder();
  const before = await mover(scratch.folder, 'one');
  const session = await before.openSession();
  await sendAll(before, await openDisk(session, 'yesterday'), range(0, 100));
  await before.repository.blocks.flush();
  await session.keep();
  await before.vanish();
  await using after = await mover(scratch.folder, 'one');
  const draft = await openDisk(after.sessions.get(session.id), 'today');
  expect(draft.hasMapped).toBe(false);
  expect(await listDrafts(after.repository.store)).toEqual([]);
});

test('a point that was made right before the mover died is found by who takes its session over', async () => {
  using scratch = temporaryFolder();
  let isDead = false;
  const step = (what: string, name: string) => {
    if (isDead) throw Object.assign(new Error('EIO'), { code: 'EIO' });
    // The manifest has its name; neither the announcement nor the record gets theirs.
    if (what === 'sync-folder' && name === 'points') isDead = true;
  };
  const first = await mover(scratch.folder, 'first', { step });
  const session = await first.openSession();
  const draft = await openDisk(session);
  await sendAll(first, draft, range(0, blocks));
  draft.zero(256, 344);
  await first.commitDisk(session, draft);
  const pointId = randomUUID();
  const disks = [{ diskId: 'disk', sizeBytes: size }];
  await expect(first.commit(session, disks, pointId)).rejects.toMatchObject({ code: 'REPOSITORY_IO' });

  await using second = await mover(scratch.folder, 'second');
  await expect(open(second, session.id, true)).rejects.toMatchObject({ code: 'SESSION_ENDED' });
  const found = second.sessions.get(session.id);
  expect([found.state, found.pointId]).toEqual(['committed', pointId]);
  expect((await found.commit(pointDraft(pointId, disks), '{}')).pointId).toBe(pointId);
  await expectContent(second, pointId);
});

test('a session that somebody ended meanwhile is not written to', async () => {
  using scratch = temporaryFolder();
  await using test = await mover(scratch.folder, 'one');
  const { store } = test.repository;
  const session = await test.openSession();
  const draft = await openDisk(session);
  await sendAll(test, draft, range(0, 10));
  const name = sessionName(session.id);
  const bytes = await store.readWhole(name, 1 << 20);
  const ended = encodeSession({ ...decodeSession(bytes, name), state: 'aborted', endedAt: new Date().toISOString() });
  expect(await store.swap(name, bytes, ended)).toBe(true);
  await expect(session.commitDisk(draft, 10)).rejects.toMatchObject({ code: 'SESSION_ENDED' });
  expect(session.state).toBe('aborted');
  expect((await store.readWhole(name, 1 << 20)).equals(ended)).toBe(true);
});

test('of two movers that want the same session at once one gets it', async () => {
  using scratch = temporaryFolder();
  const owner = await mover(scratch.folder, 'owner');
  const session = await owner.openSession();
  await using a = await mover(scratch.folder, 'a');
  await using b = await mover(scratch.folder, 'b');
  const tries = await Promise.allSettled([open(a, session.id, true), open(b, session.id, true)]);
  const lost = [];
  for (const one of tries) if (one.status === 'rejected') lost.push(one.reason as Error);
  expect(lost.length).toBeLessThan(2);
  for (const error of lost) expect(error).toEqual(isGivenUp);
  // Both may have had it, one after the other: then only the last one can write.
  const record = decodeSession(await owner.repository.store.readWhole(sessionName(session.id), 1 << 20), 'record');
  expect(['a', 'b']).toContain(record.owner);
  expect(record.generation).toBe(1 + 2 - lost.length);
  await owner.close();
});

test('drafts without a session are removed at the next start, those of open ones of others are not', async () => {
  using scratch = temporaryFolder();
  const other = await mover(scratch.folder, 'other');
  const session = await other.openSession();
  await sendAll(other, await openDisk(session), range(0, 60));
  await other.repository.blocks.flush();
  await session.keep();
  const folder = path.join(scratch.folder, 'repository', 'drafts');
  const [name] = fs.readdirSync(folder) as [string];
  fs.copyFileSync(path.join(folder, name), path.join(folder, name.replace(session.id, randomUUID())));
  fs.writeFileSync(path.join(folder, 'README'), 'of somebody');
  await using test = await mover(scratch.folder, 'one');
  expect((await listDrafts(test.repository.store)).map(({ sessionId }) => sessionId)).toEqual([session.id]);
  expect(fs.existsSync(path.join(folder, 'README'))).toBe(true);
  await other.close();
});

test('random lives of a session end in the disk that was sent', async () => {
  const seed = Number(process.hrtime.bigint() % 2n ** 31n);
  const random = randomFrom(seed);
  using scratch = temporaryFolder();
  const sessionId = randomUUID();
  const movers: TestRepository[] = [];
  const resent: number[] = [];
  let mapped = new Set<number>();
  let current: TestRepository | undefined;
  for (let life = 0; ; life++) {
    if (current) movers.push(current);
    current = await mover(scratch.folder, `mover-${life}`);
    const session = await open(current, sessionId, true);
    const draft = await openDisk(session);
    const before = mapped;
    mapped = mappedOf(draft);
    for (const number of before) if (!mapped.has(number)) throw new Error(`seed ${seed}: block ${number} was mapped before`);
    const rest = range(0, blocks).filter((number) => !mapped.has(number) && !isKnownZero(number));
    const upTo = life === 6 ? rest.length : Math.floor(random() * rest.length * 0.6);
    if (!mapped.has(256)) draft.zero(256, 344);
    for (let from = 0; from < upTo; from += 10) {
      await sendAll(current, draft, rest.slice(from, Math.min(upTo, from + 10)));
      if (random() < 0.3) await session.keep();
    }
    resent.push(upTo);
    if (life < 6) continue;
    await current.commitDisk(session, draft);
    await expectContent(current, await current.commit(session, [{ diskId: 'disk', sizeBytes: size }]));
    break;
  }
  for (const one of [...movers, current]) await one.close();
});
