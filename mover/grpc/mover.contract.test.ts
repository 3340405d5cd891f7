import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { sampleBlock } from '../testing/test-disk';
import { temporaryFolder, TestMover } from '../testing/test-mover';

const block = 65_536;
const deadlineMs = 60_000;

describe('tidemark.mover.v1', () => {
  const scratch = temporaryFolder();
  let mover: TestMover;
  let repositoryId: string;
  beforeAll(async () => {
    mover = await TestMover.start(scratch.folder);
    repositoryId = await mover.createRepository(block);
  });
  afterAll(async () => {
    await mover.stop();
    scratch[Symbol.dispose]();
  });

  const create = (location: string, requestId: string = randomUUID(), settings = { blockSizeBytes: block }) =>
    mover.repositories.call('CreateRepository', { requestId, location, settings }, { deadlineMs });
  const open = (sessionId: string, more: object = {}) =>
    mover.sessions.call(
      'OpenSession',
      { sessionId, repositoryId, kind: 'SESSION_KIND_BACKUP', pointIds: [], leaseDuration: { seconds: 60, nanos: 0 }, ...more },
      { deadlineMs },
    );
  async function verified(pointId: string) {
    const { operationId } = await mover.repositories.call(
      'StartVerify',
      { requestId: randomUUID(), repositoryId, pointId },
      { deadlineMs },
    );
    for await (const { result } of mover.repositories.stream('WatchVerify', { operationId }, { idleTimeoutMs: 60_000 }))
      if (result) return result;
    throw new Error('the stream ended without a result');
  }

  test('only the host may call', async () => {
    const stranger = mover.sessionsAs(await mover.identity('worker'));
    await expect(stranger.call('GetSession', { sessionId: randomUUID() }, { deadlineMs })).rejects.toMatchObject({
      code: 'ROLE_NOT_ALLOWED',
    });
    stranger.close();
  });

  describe('RepositoryService', () => {
    test('CreateRepository answers the same repository to the same request, and refuses what cannot be', async () => {
      const requestId = randomUUID();
      const location = mover.location('second');
      const first = await create(location, requestId);
      expect(first.repository).toMatchObject({ location, formatVersion: 1, pointCount: '0', blockCount: '0', openSessionCount: 0 });
      expect(await create(location, requestId)).toMatchObject({ repository: { repositoryId: first.repository?.repositoryId } });
      await expect(create(location)).rejects.toMatchObject({ code: 'REPOSITORY_EXISTS', status: 'ALREADY_EXISTS' });

      fs.writeFileSync(path.join(scratch.folder, 'a-file'), 'x');
      fs.mkdirSync(path.join(scratch.folder, 'full'));
      fs.writeFileSync(path.join(scratch.folder, 'full', 'x'), 'x');
      const invalid = { code: 'REPOSITORY_LOCATION_INVALID', status: 'INVALID_ARGUMENT', meta: { field: 'location' } };
      await expect(create(mover.location('a-file'))).rejects.toMatchObject(invalid);
      await expect(create(mover.location('a-file/below'))).rejects.toMatchObject(invalid);
      // A folder that says ENOENT to whoever makes one in it; the mover goes on with the next request.
      await expect(create('directory:/proc/nothing/repository')).rejects.toMatchObject(invalid);
      await expect(create('directory:relative')).rejects.toMatchObject(invalid);
      await expect(create('s3://bucket')).rejects.toMatchObject(invalid);
      await expect(create(mover.location('full'))).rejects.toMatchObject({ code: 'REPOSITORY_LOCATION_NOT_EMPTY' });
      await expect(create(mover.location('third'), randomUUID(), { blockSizeBytes: 1000 })).rejects.toMatchObject({
        code: 'ARGUMENT_INVALID',
      });
    });

    test('AttachRepository and DetachRepository are idempotent; a repository in use is not let go', async () => {
      const location = mover.location('moved');
      const id = await mover.createRepository(block, 'moved');
      const attach = (expectedRepositoryId = '') =>
        mover.repositories.call('AttachRepository', { location, expectedRepositoryId }, { deadlineMs });
      const detach = () => mover.repositories.call('DetachRepository', { repositoryId: id }, { deadlineMs });
      const sessionId = await mover.openSession(id, 'BACKUP');
      await expect(detach()).rejects.toMatchObject({ code: 'REPOSITORY_IN_USE', status: 'FAILED_PRECONDITION' });
      await mover.sessions.call('AbortSession', { sessionId }, { deadlineMs });
      await detach();
      await detach();
      await expect(mover.repositories.call('GetRepository', { repositoryId: id }, { deadlineMs })).rejects.toMatchObject({
        code: 'REPOSITORY_NOT_FOUND',
        status: 'NOT_FOUND',
      });
      await expect(attach(randomUUID())).rejects.toMatchObject({ code: 'REPOSITORY_NOT_FOUND' });
      expect((await attach(id)).repository?.repositoryId).toBe(id);
      expect((await attach()).repository?.repositoryId).toBe(id);
      await expect(
        mover.repositories.call('AttachRepository', { location: mover.location('nowhere') }, { deadlineMs }),
      ).rejects.toMatchObject({ code: 'REPOSITORY_NOT_FOUND' });
      fs.writeFileSync(path.join(scratch.folder, 'no-folder'), 'x');
      fs.cpSync(path.join(scratch.folder, 'moved'), path.join(scratch.folder, 'copy'), { recursive: true });
      for (const name of ['no-folder', 'copy']) {
        await expect(mover.repositories.call('AttachRepository', { location: mover.location(name) }, { deadlineMs })).rejects.toMatchObject(
          {
            code: 'REPOSITORY_LOCATION_INVALID',
            meta: { field: 'location' },
          },
        );
      }
    });

    test('two movers serve the same repository, and each lists what the other made', async () => {
      using other = temporaryFolder();
      const location = mover.location('shared');
      const id = await mover.createRepository(block, 'shared');
      await using second = await TestMover.start(other.folder);
      const { repository } = await second.repositories.call('AttachRepository', { location }, { deadlineMs });
      expect(repository?.repositoryId).toBe(id);
      const made = [
        await mover.commit(await mover.openSession(id, 'BACKUP'), []),
        await second.commit(await second.openSession(id, 'BACKUP'), []),
      ];
      for (const one of [mover, second]) {
        const points = [];
        for await (const entry of one.repositories.stream('ListPoints', { repositoryId: id, vmId: '' }, { idleTimeoutMs: deadlineMs }))
          points.push(entry.point?.pointId);
        expect(points).toEqual(made);
      }
    });

    test('points are listed oldest first, filtered by VM, and returned whole with their configuration', async () => {
      const id = await mover.createRepository(block, 'listed');
      const configuration = JSON.stringify({ ovf: '<ovf:Envelope/>', text: 'ü'.repeat(5000) });
      const made: string[] = [];
      for (let i = 0; i < 3; i++) {
        const sessionId = await mover.openSession(id, 'BACKUP');
        made.push(await mover.commit(sessionId, [], randomUUID(), configuration));
      }
      const list = async (vmId: string) => {
        const points = [];
        for await (const entry of mover.repositories.stream('ListPoints', { repositoryId: id, vmId }, { idleTimeoutMs: deadlineMs }))
          points.push(entry.point?.pointId);
        return points;
      };
      expect(await list('')).toEqual(made);
      expect(await list('vm')).toEqual(made);
      expect(await list('other')).toEqual([]);
      const whole = await mover.repositories.call('GetPoint', { repositoryId: id, pointId: made[1] as string }, { deadlineMs });
      expect(whole.configuration).toBe(configuration);
      expect(whole.point).toMatchObject({
        vmName: 'a vm',
        repositoryId: id,
        consistency: 'CONSISTENCY_CRASH',
        pointInTime: { seconds: '1700000000' },
      });
      await expect(mover.repositories.call('GetPoint', { repositoryId: id, pointId: randomUUID() }, { deadlineMs })).rejects.toMatchObject({
        code: 'POINT_NOT_FOUND',
      });
      expect(mover.logged.some((line) => JSON.stringify(line).includes('ovf:Envelope'))).toBe(false);
    });

    test('verification is started once per request, watched, and reports damage as findings', async () => {
      const pointId = await mover.backup(repositoryId, 4 * block, new Map([[2, sampleBlock(77, block)]]));
      expect(await verified(pointId)).toMatchObject({
        checkedBlocks: '1',
        findingCount: '0',
        findings: [],
        cancelled: false,
        failure: null,
      });
      const requestId = randomUUID();
      const start = (id: string) => mover.repositories.call('StartVerify', { requestId, repositoryId, pointId: id }, { deadlineMs });
      const { operationId } = await start(pointId);
      expect((await start(pointId)).operationId).toBe(operationId);
      await expect(start('')).rejects.toMatchObject({ code: 'REQUEST_ID_REUSED' });
      await expect(
        mover.repositories.call('StartVerify', { requestId: randomUUID(), repositoryId, pointId: randomUUID() }, { deadlineMs }),
      ).rejects.toMatchObject({ code: 'POINT_NOT_FOUND' });
      await mover.repositories.call('CancelVerify', { operationId }, { deadlineMs });
      await mover.repositories.call('CancelVerify', { operationId: randomUUID() }, { deadlineMs });
      const watch = mover.repositories.stream('WatchVerify', { operationId: randomUUID() }, { idleTimeoutMs: deadlineMs });
      await expect(watch.next()).rejects.toMatchObject({ code: 'OPERATION_NOT_FOUND' });

      const folder = path.join(scratch.folder, 'repository', 'packs');
      for (const name of fs.readdirSync(folder, { recursive: true }) as string[])
        if (name.endsWith('.pack')) fs.truncateSync(path.join(folder, name), 3000);
      const damaged = await verified(pointId);
      expect(Number(damaged.findingCount)).toBeGreaterThan(0);
      expect(damaged.findings[0]).toMatchObject({ pointId, diskId: 'disk' });
    });
  });

  describe('SessionService', () => {
    test('OpenSession is idempotent by id, and refuses what cannot be', async () => {
      const sessionId = randomUUID();
      expect(await open(sessionId)).toMatchObject({ state: 'SESSION_STATE_OPEN' });
      expect(await open(sessionId)).toMatchObject({ state: 'SESSION_STATE_OPEN' });
      await expect(open(sessionId, { kind: 'SESSION_KIND_RESTORE' })).rejects.toMatchObject({ code: 'REQUEST_ID_REUSED' });
      await expect(open(randomUUID(), { pointIds: [randomUUID()] })).rejects.toMatchObject({ code: 'POINT_NOT_FOUND' });
      await expect(open(randomUUID(), { repositoryId: randomUUID() })).rejects.toMatchObject({ code: 'REPOSITORY_NOT_FOUND' });
      await expect(open('../../etc/passwd')).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
      await expect(open(randomUUID(), { leaseDuration: { seconds: 0, nanos: 1 } })).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
      await mover.sessions.call('AbortSession', { sessionId }, { deadlineMs });
      await expect(open(sessionId)).rejects.toMatchObject({ code: 'SESSION_ENDED', status: 'FAILED_PRECONDITION' });
    });

    test('RenewSession extends the lease; a session that is not renewed is aborted', async () => {
      const sessionId = randomUUID();
      const opened = await open(sessionId, { leaseDuration: { seconds: 600, nanos: 0 } });
      const renew = (seconds: number) =>
        mover.sessions.call('RenewSession', { sessionId, leaseDuration: { seconds, nanos: 0 } }, { deadlineMs });
      const renewed = await renew(1_200);
      expect(Number(renewed.leaseExpiresAt?.seconds)).toBeGreaterThan(Number(opened.leaseExpiresAt?.seconds));
      await renew(3);
      // One that is never aborted runs out of the test's time.
      while ((await mover.sessions.call('GetSession', { sessionId }, { deadlineMs })).state !== 'SESSION_STATE_ABORTED') await sleep(50);
      await expect(mover.sessions.call('RenewSession', { sessionId }, { deadlineMs })).rejects.toMatchObject({ code: 'SESSION_NOT_FOUND' });
      await expect(mover.sessions.call('RenewSession', { sessionId: randomUUID() }, { deadlineMs })).rejects.toMatchObject({
        code: 'SESSION_NOT_FOUND',
      });
    });

    test('CommitSession makes the point once, and only of committed disks', async () => {
      const sessionId = await mover.openSession(repositoryId, 'BACKUP');
      await expect(mover.commit(sessionId, [{ diskId: 'disk', sizeBytes: block }])).rejects.toMatchObject({
        code: 'SESSION_DISK_INCOMPLETE',
      });
      const lane = await mover.lane(sessionId, repositoryId);
      const { handle } = await lane.openDisk('disk', block);
      await lane.send(handle, new Map([[0, sampleBlock(9, block)]]));
      await lane.commitDisk(handle);
      expect(await mover.sessions.call('GetSession', { sessionId }, { deadlineMs })).toMatchObject({
        state: 'SESSION_STATE_OPEN',
        committedDiskIds: ['disk'],
        pointId: '',
      });
      await expect(mover.commit(sessionId, [{ diskId: 'disk', sizeBytes: 2 * block }])).rejects.toMatchObject({
        code: 'SESSION_DISK_INCOMPLETE',
      });
      const pointId = await mover.commit(sessionId, [{ diskId: 'disk', sizeBytes: block }]);
      await lane.closed;
      expect(await mover.commit(sessionId, [{ diskId: 'disk', sizeBytes: block }], pointId)).toBe(pointId);
      await expect(mover.commit(sessionId, [{ diskId: 'disk', sizeBytes: block }])).rejects.toMatchObject({ code: 'REQUEST_ID_REUSED' });
      await expect(mover.sessions.call('AbortSession', { sessionId }, { deadlineMs })).rejects.toMatchObject({ code: 'SESSION_ENDED' });
      expect(await mover.sessions.call('GetSession', { sessionId }, { deadlineMs })).toMatchObject({
        state: 'SESSION_STATE_COMMITTED',
        pointId,
      });
      const { point } = await mover.repositories.call('GetPoint', { repositoryId, pointId }, { deadlineMs });
      expect(point?.disks[0]).toMatchObject({ diskId: 'disk', readMode: 'READ_MODE_FULL' });
      expect(point?.disks[0]?.indexRoot).toHaveLength(32);
      expect(Number(point?.disks[0]?.counters?.storedBytes)).toBeGreaterThan(0);
      // Another session may not take the point's id.
      await expect(mover.commit(await mover.openSession(repositoryId, 'BACKUP'), [], pointId)).rejects.toMatchObject({
        code: 'REQUEST_ID_REUSED',
      });
    });

    test('AbortSession is idempotent, also for sessions that never were; commits after it are refused', async () => {
      await mover.sessions.call('AbortSession', { sessionId: randomUUID() }, { deadlineMs });
      const sessionId = await mover.openSession(repositoryId, 'BACKUP');
      await mover.sessions.call('AbortSession', { sessionId }, { deadlineMs });
      await mover.sessions.call('AbortSession', { sessionId }, { deadlineMs });
      await expect(mover.commit(sessionId, [])).rejects.toMatchObject({ code: 'SESSION_ENDED' });
      await expect(mover.sessions.call('GetSession', { sessionId: randomUUID() }, { deadlineMs })).rejects.toMatchObject({
        code: 'SESSION_NOT_FOUND',
      });
    });
  });
});

test('a mover that is started again serves its repositories and goes on with its sessions', async () => {
  using scratch = temporaryFolder();
  let repositoryId: string;
  let sessionId: string;
  let pointId: string;
  {
    await using before = await TestMover.start(scratch.folder);
    repositoryId = await before.createRepository(block);
    pointId = await before.backup(repositoryId, block, new Map([[0, sampleBlock(1, block)]]));
    sessionId = await before.openSession(repositoryId, 'BACKUP', [pointId]);
    const lane = await before.lane(sessionId, repositoryId);
    const { handle } = await lane.openDisk('done', block);
    await lane.send(handle, new Map([[0, sampleBlock(2, block)]]));
    await lane.commitDisk(handle);
    await lane.openDisk('lost', block);
  }
  await using after = await TestMover.start(scratch.folder);
  expect(await after.sessions.call('GetSession', { sessionId }, { deadlineMs })).toMatchObject({
    state: 'SESSION_STATE_OPEN',
    committedDiskIds: ['done'],
  });
  const lane = await after.lane(sessionId, repositoryId);
  expect(await lane.openDisk('done', block)).toMatchObject({ committed: true });
  const { handle } = await lane.openDisk('lost', block, pointId, 'disk');
  expect((await lane.commitDisk(handle)).missing).toEqual([]);
  const made = await after.commit(sessionId, [
    { diskId: 'done', sizeBytes: block },
    { diskId: 'lost', sizeBytes: block },
  ]);
  const found = await after.repositories.call('GetPoint', { repositoryId, pointId: made }, { deadlineMs });
  expect(found.point?.disks).toHaveLength(2);
});
