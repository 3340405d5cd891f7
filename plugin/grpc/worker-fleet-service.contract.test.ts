import { randomUUID } from 'node:crypto';
import { RpcClient } from '../../common/rpc/call';
import { loadService } from '../../proto/loader';
import type { WorkerFleetServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/WorkerFleetService';
import type { StartWorkerOperationRequest } from '../../proto/gen/tidemark/plugin/v1/StartWorkerOperationRequest';
import { eventually } from '../testing/eventually';
import { MemoryWorker } from '../testing/memory-worker';
import { quietLogger } from '../testing/quiet-logger';
import { secureServer } from '../testing/secure-server';
import { WorkerWorld, clusterId, platformId, startWorkerBench } from '../testing/worker-bench';
import { serveWorkerFleet } from './worker-fleet-service';

const { logger } = quietLogger();
const deadlineMs = 120_000;

/** A worker is idle for long enough to be stopped after three seconds, of which calls over a network take some. */
const pace = 200;

async function fixture(version?: string) {
  const world = new WorkerWorld(version, pace);
  const bench = await startWorkerBench(world);
  const at = await secureServer((server) => serveWorkerFleet(server, bench.workerVms, { logger, domain: 'plugin' }));
  const definition = loadService('tidemark/plugin/v1/worker_fleet_service.proto', 'tidemark.plugin.v1.WorkerFleetService').service;
  const client = new RpcClient<WorkerFleetServiceDefinition>(definition, at.endpoint, await at.credentialsFor('host', 'h'));
  const worker = new RpcClient<WorkerFleetServiceDefinition>(definition, at.endpoint, await at.credentialsFor('worker', 'w'));
  const start = (action: Omit<StartWorkerOperationRequest, 'operationId'>, operationId: string = randomUUID()) =>
    client.call('StartWorkerOperation', { operationId, requestedBy: 'admin', ...action }, { deadlineMs });
  return {
    ...{ bench, client, worker, start },
    run: async (action: Omit<StartWorkerOperationRequest, 'operationId'>) => {
      const operationId = randomUUID();
      await start(action, operationId);
      const operation = bench.registry.get(operationId);
      await eventually('the end', () => operation.result !== undefined);
      return operation;
    },
    refused: (action: Omit<StartWorkerOperationRequest, 'operationId'>, operationId?: string) =>
      start(action, operationId).then(
        () => 'accepted',
        (error: unknown) => error,
      ),
    [Symbol.asyncDispose]: async () => {
      client.close();
      worker.close();
      at[Symbol.dispose]();
      await bench[Symbol.asyncDispose]();
      world[Symbol.dispose]();
    },
  };
}

const deploy = (more: object = {}, settings: object = {}) => ({
  deploy: { platformId, clusterId, workerId: randomUUID(), settings, ...more },
});

describe('WorkerFleetService', () => {
  it('deploys, lists, tests, edits, stops, starts, redeploys and removes', async () => {
    await using at = await fixture();
    const order = deploy(
      {},
      { taskSlots: 2, nics: [{ ipv4: { method: 'ADDRESS_METHOD_STATIC', address: '10.0.0.9/24', gateway: '10.0.0.1' } }] },
    );
    const { workerId } = order.deploy;
    const operationId = randomUUID();
    await at.start(order, operationId);
    await at.start(order, operationId);
    expect(await at.refused(deploy(), operationId)).toMatchObject({ code: 'REQUEST_ID_REUSED', status: 'ALREADY_EXISTS' });
    const operation = at.bench.registry.get(operationId);
    const busy = await at.refused({ stop: { workerId } });
    expect(busy).toMatchObject({ code: 'WORKER_BUSY', status: 'ABORTED', retryDelayMs: 15_000 });
    await eventually('the end', () => operation.result !== undefined);
    expect(operation.result).toMatchObject({ outcome: 'success', createdId: workerId });
    const list = async () => (await at.client.call('ListWorkers', {}, { deadlineMs })).workers ?? [];
    expect(await list()).toMatchObject([
      {
        workerId,
        state: 'connected',
        platformId,
        clusterId,
        clusterName: 'Default',
        name: 'tidemark-worker-Default-01',
        imageVersion: '1.0.0',
        outdated: false,
        taskSlots: 2,
        problem: null,
        operationId: '',
        selfTest: { verdict: 'SELF_TEST_VERDICT_PASSED' },
        settings: {
          taskSlots: 2,
          nics: [{ ipv4: { method: 'ADDRESS_METHOD_STATIC', address: '10.0.0.9/24' }, ipv6: { method: 'ADDRESS_METHOD_AUTOMATIC' } }],
        },
      },
    ]);
    expect((await list())[0]?.createdAt).not.toBeNull();
    for (const action of [
      { test: { workerId } },
      { stop: { workerId } },
      { start: { workerId } },
      { edit: { workerId, settings: { taskSlots: 3 } } },
      { redeploy: { workerId, force: true } },
    ]) {
      expect((await at.run(action)).result).toMatchObject({ outcome: 'success', createdId: workerId });
      await eventually('nobody at it', () => at.bench.operations.ownerOf(workerId) === undefined);
    }
    expect(await list()).toMatchObject([{ state: 'connected', taskSlots: 3 }]);
    expect((await at.run({ remove: { workerId } })).outcome).toBe('success');
    expect((await list()).filter((one) => one.vmId !== '')).toEqual([]);
  });

  it('refuses what the contract says, by code and status', async () => {
    await using at = await fixture();
    at.bench.world.engine.addVm('taken', []);
    new MemoryWorker(at.bench.fleet, 'beside');
    await eventually('the worker beside the server', () => at.bench.fleet.list().length === 1);
    for (const [request, code, status] of [
      [deploy({ platformId: 'x' }), 'PLATFORM_NOT_FOUND', 'NOT_FOUND'],
      [deploy({ clusterId: 'x' }), 'WORKER_TARGET_NOT_FOUND', 'NOT_FOUND'],
      [deploy({}, { storageDomainId: 'x' }), 'WORKER_TARGET_NOT_FOUND', 'NOT_FOUND'],
      [deploy({}, { nics: [{ vnicProfileId: 'x' }] }), 'WORKER_TARGET_NOT_FOUND', 'NOT_FOUND'],
      [deploy({}, { dnsServers: ['x'] }), 'WORKER_SETTINGS_INVALID', 'INVALID_ARGUMENT'],
      [deploy({}, { name: 'taken' }), 'VM_NAME_TAKEN', 'ALREADY_EXISTS'],
      [deploy({ workerId: 'x' }), 'ARGUMENT_INVALID', 'INVALID_ARGUMENT'],
      [{ remove: { workerId: 'nobody' } }, 'WORKER_NOT_FOUND', 'NOT_FOUND'],
      [{ test: { workerId: 'nobody' } }, 'WORKER_NOT_FOUND', 'NOT_FOUND'],
      [{ stop: { workerId: 'beside' } }, 'WORKER_NOT_DEPLOYED', 'FAILED_PRECONDITION'],
      [{ edit: { workerId: 'beside' } }, 'WORKER_NOT_DEPLOYED', 'FAILED_PRECONDITION'],
      [{ removeOrphan: { platformId: 'x', vmId: 'y' } }, 'PLATFORM_NOT_FOUND', 'NOT_FOUND'],
      [{}, 'ARGUMENT_INVALID', 'INVALID_ARGUMENT'],
    ] as const) {
      expect(await at.refused(request)).toMatchObject({ code, status });
    }
    expect(await at.refused(deploy(), 'no uuid')).toMatchObject({ code: 'ARGUMENT_INVALID', meta: { field: 'operation_id' } });
    for (const method of ['DrainWorker', 'ResumeWorker'] as const) {
      await expect(at.client.call(method, { workerId: 'nobody' }, { deadlineMs })).rejects.toMatchObject({
        code: 'WORKER_NOT_FOUND',
        status: 'NOT_FOUND',
      });
    }
    await expect(at.worker.call('ListWorkers', {}, { deadlineMs })).rejects.toMatchObject({ code: 'ROLE_NOT_ALLOWED' });
    await expect(at.client.call('PrepareWorkers', { platformId: 'x' }, { deadlineMs })).rejects.toMatchObject({
      code: 'PLATFORM_NOT_FOUND',
    });
  });

  it('without an image deploys nothing, and says where to put one', async () => {
    await using at = await fixture('');
    const missing = {
      code: 'WORKER_IMAGE_MISSING',
      status: 'FAILED_PRECONDITION',
      message: expect.stringContaining(at.bench.world.folder),
    };
    await expect(at.client.call('GetWorkerImage', {}, { deadlineMs })).rejects.toMatchObject(missing);
    expect(await at.refused(deploy())).toMatchObject(missing);
    at.bench.world.putImage('2.0.0');
    expect(await at.client.call('GetWorkerImage', {}, { deadlineMs })).toMatchObject({
      version: '2.0.0',
      fileBytes: '4096',
      diskBytes: String(2 ** 31),
    });
  });

  it('drains and resumes a worker beside the server, and shows it', async () => {
    await using at = await fixture();
    new MemoryWorker(at.bench.fleet, 'beside', 3);
    await eventually('the worker beside the server', () => at.bench.fleet.list().length === 1);
    const listed = async () => (await at.client.call('ListWorkers', {}, { deadlineMs })).workers;
    expect(await listed()).toMatchObject([
      {
        workerId: 'beside',
        hostName: 'beside',
        name: 'beside',
        state: 'connected',
        clusterId: '',
        vmId: '',
        taskSlots: 3,
        settings: null,
        createdAt: null,
      },
    ]);
    await at.client.call('DrainWorker', { workerId: 'beside' }, { deadlineMs });
    await at.client.call('DrainWorker', { workerId: 'beside' }, { deadlineMs });
    expect(await listed()).toMatchObject([{ state: 'drained' }]);
    await at.client.call('ResumeWorker', { workerId: 'beside' }, { deadlineMs });
    expect(await listed()).toMatchObject([{ state: 'connected' }]);
  });

  it('keeps rules per platform; absent numbers are defaults', async () => {
    await using at = await fixture();
    const get = async () => (await at.client.call('GetFleetPolicy', { platformId }, { deadlineMs })).policy;
    const defaults = {
      deployAutomatically: true,
      allowOtherClusters: true,
      allowBesideServer: true,
      stopIdleAfter: { seconds: '600', nanos: 0 },
      warmWorkers: 0,
      maxWorkers: 4,
      tasksPerHost: 2,
      tasksPerStorageDomain: 4,
      tasksPerPlatform: 16,
      namePrefix: 'tidemark',
    };
    expect(await get()).toMatchObject(defaults);
    const policy = {
      platformId,
      allowBesideServer: true,
      tasksPerHost: 7,
      warmWorkers: 1,
      automaticSettings: { taskSlots: 8, name: 'ignored' },
    };
    await at.client.call('PutFleetPolicy', { policy }, { deadlineMs });
    expect(await get()).toMatchObject({
      ...defaults,
      deployAutomatically: false,
      allowOtherClusters: false,
      tasksPerHost: 7,
      warmWorkers: 1,
      automaticSettings: { taskSlots: 8, name: '' },
    });
    expect(at.bench.workerVms.supply.policy(platformId)).toMatchObject({ allowOtherClusters: false, tasksPerHost: 7 });
    const put = (change: object) => at.client.call('PutFleetPolicy', { policy: { ...policy, ...change } }, { deadlineMs });
    await expect(put({ tasksPerHost: -1 })).rejects.toMatchObject({
      code: 'WORKER_SETTINGS_INVALID',
      meta: { field: 'policy.tasks_per_host' },
    });
    await expect(put({ platformId: 'x' })).rejects.toMatchObject({ code: 'PLATFORM_NOT_FOUND' });
    await expect(at.client.call('GetFleetPolicy', { platformId: 'x' }, { deadlineMs })).rejects.toMatchObject({
      code: 'PLATFORM_NOT_FOUND',
    });
  });

  it('starts workers before they are needed, and shows those of others', async () => {
    await using at = await fixture();
    const vm = at.bench.world.engine.addVm('web', [{}]);
    const orphan = at.bench.world.engine.addVm('left', [{}]);
    orphan.tags.push('tidemark-worker');
    expect((await at.client.call('ListOrphanWorkers', {}, { deadlineMs })).orphans).toMatchObject([
      { platformId, vmId: orphan.vm.id, name: 'left', madeBy: '', status: 'up', clusterId },
    ]);
    await at.client.call(
      'PrepareWorkers',
      { platformId, vmIds: [vm.vm.id], neededAt: { seconds: String(Math.floor(Date.now() / 1000)), nanos: 0 } },
      { deadlineMs },
    );
    await eventually('a worker', () => at.bench.workerVms.list().some((one) => one.state === 'connected'));
    const removed = await at.run({ removeOrphan: { platformId, vmId: orphan.vm.id } });
    expect(removed.outcome).toBe('success');
    expect((await at.client.call('ListOrphanWorkers', {}, { deadlineMs })).orphans).toEqual([]);
  });
});
