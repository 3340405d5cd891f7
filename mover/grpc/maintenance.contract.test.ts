import { randomUUID } from 'node:crypto';
import type { RpcClient } from '../../common/rpc/call';
import type { CollectResult__Output } from '../../proto/gen/tidemark/mover/v1/CollectResult';
import type { MaintenanceServiceDefinition } from '../../proto/gen/tidemark/mover/v1/MaintenanceService';
import { loadService } from '../../proto/loader';
import { sampleBlock } from '../testing/test-disk';
import { temporaryFolder, TestMover } from '../testing/test-mover';

const block = 65_536;
const deadlineMs = 60_000;
const definition = loadService('tidemark/mover/v1/maintenance_service.proto', 'tidemark.mover.v1.MaintenanceService').service;

describe('tidemark.mover.v1.MaintenanceService', () => {
  const scratch = temporaryFolder();
  let mover: TestMover;
  let service: RpcClient<MaintenanceServiceDefinition>;
  let repositoryId: string;
  beforeAll(async () => {
    mover = await TestMover.start(scratch.folder);
    service = mover.client<MaintenanceServiceDefinition>(definition, mover.host);
    repositoryId = await mover.createRepository(block);
  });
  afterAll(async () => {
    service.close();
    await mover.stop();
    scratch[Symbol.dispose]();
  });

  const backup = (seed: number) => mover.backup(repositoryId, 4 * block, new Map([[1, sampleBlock(seed, block)]]));
  const remove = (pointId: string) => service.call('RemovePoint', { repositoryId, pointId }, { deadlineMs });
  const undo = (pointId: string) => service.call('UndoRemovePoint', { repositoryId, pointId }, { deadlineMs });
  async function listed(includeRemoved: boolean): Promise<string[]> {
    const found: string[] = [];
    for await (const entry of mover.repositories.stream('ListPoints', { repositoryId, includeRemoved }, { idleTimeoutMs: 60_000 })) {
      if (entry.point) found.push(entry.point.pointId);
      if (entry.removed) found.push(`removed ${entry.removed.point?.pointId} ${entry.removed.removedAt !== null}`);
    }
    return found;
  }
  async function collected(more: object = {}): Promise<CollectResult__Output> {
    const { operationId } = await service.call('StartCollect', { requestId: randomUUID(), repositoryId, ...more }, { deadlineMs });
    for await (const { result } of service.stream('WatchCollect', { operationId }, { idleTimeoutMs: 60_000 })) if (result) return result;
    throw new Error('the stream ended without a result');
  }

  test('only the host may call; a mover that collects says so', async () => {
    const stranger = mover.client<MaintenanceServiceDefinition>(definition, mover.worker);
    await expect(stranger.call('UndoCollect', { repositoryId }, { deadlineMs })).rejects.toMatchObject({ code: 'ROLE_NOT_ALLOWED' });
    stranger.close();
  });

  test('RemovePoint takes a point out of the lists, UndoRemovePoint puts it back; both can be repeated', async () => {
    const pointId = await backup(1);
    const first = await remove(pointId);
    expect(await remove(pointId)).toEqual(first);
    expect(await listed(false)).not.toContain(pointId);
    expect(await listed(true)).toContain(`removed ${pointId} true`);
    const { repository } = await mover.repositories.call('GetRepository', { repositoryId }, { deadlineMs });
    expect(repository?.removedPointCount).toBe('1');
    await expect(mover.repositories.call('GetPoint', { repositoryId, pointId }, { deadlineMs })).rejects.toMatchObject({
      code: 'POINT_NOT_FOUND',
    });
    await expect(mover.openSession(repositoryId, 'RESTORE', [pointId])).rejects.toMatchObject({ code: 'POINT_NOT_FOUND' });
    expect((await undo(pointId)).point?.pointId).toBe(pointId);
    expect((await undo(pointId)).point?.pointId).toBe(pointId);
    expect(await listed(true)).toContain(pointId);
  });

  test('RemovePoint refuses what is not there or in use', async () => {
    const missing = { code: 'POINT_NOT_FOUND', status: 'NOT_FOUND' };
    await expect(remove(randomUUID())).rejects.toMatchObject(missing);
    await expect(remove('../../etc')).rejects.toMatchObject(missing);
    await expect(undo(randomUUID())).rejects.toMatchObject(missing);
    const pointId = await backup(2);
    const sessionId = await mover.openSession(repositoryId, 'RESTORE', [pointId]);
    await expect(remove(pointId)).rejects.toMatchObject({ code: 'POINT_IN_USE', status: 'FAILED_PRECONDITION', meta: { sessionId } });
    expect(await listed(false)).toContain(pointId);
    await mover.sessions.call('AbortSession', { sessionId }, { deadlineMs });
    await remove(pointId);
  });

  test('StartCollect answers one operation per request; WatchCollect its progress and result', async () => {
    const pointId = await backup(3);
    await remove(pointId);
    const requestId = randomUUID();
    const start = (more: object = {}) => service.call('StartCollect', { requestId, repositoryId, ...more }, { deadlineMs });
    const { operationId } = await start();
    expect(await start()).toEqual({ operationId });
    await expect(start({ dryRun: true })).rejects.toMatchObject({ code: 'REQUEST_ID_REUSED' });
    const events = [];
    for await (const event of service.stream('WatchCollect', { operationId }, { idleTimeoutMs: 60_000 })) events.push(event);
    const result = events.at(-1)?.result;
    expect(result).toMatchObject({ cancelled: false, failure: null, deletedPacks: '0', waitingCollections: 0 });
    // Its packs are too young, but its removal is written down; it can be undone for the grace time.
    expect(Number(result?.deletedAfter?.seconds) * 1000).toBeGreaterThan(Date.now() + 23 * 60 * 60 * 1000);
    expect(Number(result?.storedBytes)).toBeGreaterThan(Number(result?.neededBytes));
    const entries = [];
    for await (const { removed } of mover.repositories.stream(
      'ListPoints',
      { repositoryId, includeRemoved: true },
      { idleTimeoutMs: 60_000 },
    ))
      if (removed?.point?.pointId === pointId) entries.push(removed.deletedAfter?.seconds);
    expect(entries).toEqual([result?.deletedAfter?.seconds]);
    expect((await undo(pointId)).point?.pointId).toBe(pointId);
    expect(await collected()).toMatchObject({ waitingCollections: 1 });
    expect(await service.call('UndoCollect', { repositoryId }, { deadlineMs })).toMatchObject({ restoredPacks: '0' });
  });

  test('what cannot be is refused with its field, an unknown operation by its code; cancelling twice is no error', async () => {
    await expect(collected({ grace: { seconds: 59, nanos: 0 } })).rejects.toMatchObject({
      code: 'ARGUMENT_INVALID',
      meta: { field: 'grace' },
    });
    await expect(collected({ bytesPerSecond: -1 })).rejects.toMatchObject({ meta: { field: 'bytes_per_second' } });
    await expect(collected({ repositoryId: randomUUID() })).rejects.toMatchObject({ code: 'REPOSITORY_NOT_FOUND' });
    const watch = service.stream('WatchCollect', { operationId: randomUUID() }, { idleTimeoutMs: 60_000 });
    await expect(watch[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: 'OPERATION_NOT_FOUND' });
    // One byte a second: it would take hours.
    await backup(4);
    const { operationId } = await service.call(
      'StartCollect',
      { requestId: randomUUID(), repositoryId, bytesPerSecond: 1 },
      { deadlineMs },
    );
    await service.call('CancelCollect', { operationId }, { deadlineMs });
    await service.call('CancelCollect', { operationId }, { deadlineMs });
    for await (const { result } of service.stream('WatchCollect', { operationId }, { idleTimeoutMs: 60_000 }))
      if (result) expect(result.cancelled).toBe(true);
  });
});
