import { randomUUID } from 'node:crypto';
import { RpcClient } from '../../common/rpc/call';
import { loadService } from '../../proto/loader';
import type { JanitorServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/JanitorService';
import type { ProtectionServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/ProtectionService';
import type { StartRestoreRequest } from '../../proto/gen/tidemark/plugin/v1/StartRestoreRequest';
import type { WatchOperationResponse__Output } from '../../proto/gen/tidemark/plugin/v1/WatchOperationResponse';
import { eventually } from '../testing/eventually';
import { MemoryJournalFile } from '../testing/memory-journal-file';
import { addWorkerVm, newEngine, platformId, startBench } from '../testing/protection-bench';
import type { BenchOptions } from '../testing/protection-bench';
import { quietLogger } from '../testing/quiet-logger';
import { secureServer } from '../testing/secure-server';
import { SteadyClock } from '../testing/steady-clock';
import type { Engines } from '../tokens';
import { serveJanitor } from './janitor-service';
import { preflightHandler } from './preflight-handler';
import { serveProtection } from './protection-service';

const { logger } = quietLogger();
const options = { logger, domain: 'plugin' };
const deadlineMs = 120_000;

/** Calls over a network in between: what waits for them has ten times as long as where there are none. */
const clock = new SteadyClock(100);

async function fixture(benchOptions: BenchOptions = {}) {
  const bench = await startBench({ clock, ...benchOptions });
  const engines = { of: () => bench.engine.asEngine(), platformIds: () => [platformId] } satisfies Engines;
  const at = await secureServer((server) => {
    serveProtection(server, bench.protection, preflightHandler(engines), options);
    serveJanitor(server, bench.janitor, options);
  });
  const client = new RpcClient<ProtectionServiceDefinition>(
    loadService('tidemark/plugin/v1/protection_service.proto', 'tidemark.plugin.v1.ProtectionService').service,
    at.endpoint,
    await at.credentialsFor('host', 'h'),
  );
  const janitor = new RpcClient<JanitorServiceDefinition>(
    loadService('tidemark/plugin/v1/janitor_service.proto', 'tidemark.plugin.v1.JanitorService').service,
    at.endpoint,
    await at.credentialsFor('host', 'h'),
  );
  return {
    bench,
    client,
    janitor,
    at,
    watch: async (operationId: string, each: (event: WatchOperationResponse__Output) => unknown = () => undefined, afterSequence = '0') => {
      const events: WatchOperationResponse__Output[] = [];
      for await (const event of client.stream('WatchOperation', { operationId, afterSequence }, { idleTimeoutMs: 120_000 })) {
        if (event.sequence === '0') continue;
        events.push(event);
        await each(event);
      }
      return events;
    },
    [Symbol.asyncDispose]: async () => {
      client.close();
      janitor.close();
      at[Symbol.dispose]();
      await bench[Symbol.asyncDispose]();
    },
  };
}

const backup = (vmId: string, more: object = {}) => ({
  operationId: randomUUID(),
  vm: { platformId, vmId },
  jobName: 'nightly',
  sessionId: 's1',
  dataPath: { endpoints: ['mover:1'], ticket: 'secret-ticket', sessionId: 's1', repositoryId: 'r1' },
  ...more,
});

describe('ProtectionService', () => {
  it('passes on the transport, and tells the way, the worker and its hop of each disk', async () => {
    const engine = newEngine();
    await using at = await fixture({ engine, workers: 1, workerVms: [addWorkerVm(engine)] });
    const vm = at.bench.engine.addVm('web', [{}]);
    for (const [transport, told, hop] of [
      ['DATA_TRANSPORT_DISK_ATTACHMENT', 'DATA_TRANSPORT_DISK_ATTACHMENT', 'same-cluster'],
      ['DATA_TRANSPORT_UNSPECIFIED', 'DATA_TRANSPORT_IMAGE_TRANSFER', 'same-cluster'],
    ] as const) {
      const request = backup(vm.vm.id, { transport });
      await at.client.call('StartBackup', request, { deadlineMs });
      const events = await at.watch(request.operationId, async (event) => {
        if (event.awaitingCommit)
          await at.client.call('ConcludeBackup', { operationId: request.operationId, committed: true }, { deadlineMs });
      });
      const workerId = at.bench.workers.at(-1)?.workerId;
      expect(events.at(-1)?.result?.disks).toMatchObject([{ transport: told, workerHop: hop, workerId }]);
      await expect(
        at.client.call('StartBackup', { ...request, transport: 'DATA_TRANSPORT_IMAGE_TRANSFER' }, { deadlineMs }),
      ).rejects.toMatchObject({
        code: 'REQUEST_ID_REUSED',
      });
    }
  });

  it('changes over to another mover: a worker that cannot is given its task anew, with the new path', async () => {
    await using at = await fixture({ workers: 2 });
    const vm = at.bench.engine.addVm('web', [{}]);
    const request = backup(vm.vm.id);
    for (const worker of at.bench.workers) {
      worker.answer = ({ backupDisk }) => (backupDisk?.dataPath?.endpoints[0] === 'mover:2' ? { readBytes: 7 } : 'hang');
    }
    await at.client.call('StartBackup', request, { deadlineMs });
    const tasks = () => at.bench.workers.flatMap((worker) => worker.tasks);
    await eventually('the task', () => tasks().length === 1);
    const dataPath = { ...request.dataPath, endpoints: ['mover:2'], ticket: 'another-ticket' };
    const change = (operationId: string, path: object) => at.client.call('ChangeDataPath', { operationId, dataPath: path }, { deadlineMs });
    await expect(change(randomUUID(), dataPath)).rejects.toMatchObject({ code: 'OPERATION_NOT_FOUND', status: 'NOT_FOUND' });
    await expect(change(request.operationId, { ...dataPath, sessionId: 's2' })).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
    await expect(change(request.operationId, { ...dataPath, endpoints: [] })).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
    await change(request.operationId, dataPath);
    await change(request.operationId, dataPath);
    const events = await at.watch(request.operationId, async (event) => {
      if (event.awaitingCommit)
        await at.client.call('ConcludeBackup', { operationId: request.operationId, committed: true }, { deadlineMs });
    });
    expect(events.at(-1)?.result).toMatchObject({ disks: [{ counters: { readBytes: '7' } }], leftForJanitor: [] });
    expect(tasks().map(({ backupDisk }) => backupDisk?.dataPath?.ticket)).toEqual(['secret-ticket', 'another-ticket']);
    await expect(change(request.operationId, dataPath)).rejects.toMatchObject({ code: 'OPERATION_NOT_FOUND' });
  });

  it('backs up: start, watch, conclude, result; repeated calls answer the same', async () => {
    await using at = await fixture();
    const vm = at.bench.engine.addVm('web', [{}, { format: 'raw' }]);
    const request = backup(vm.vm.id);
    await at.client.call('StartBackup', request, { deadlineMs });
    const events = await at.watch(request.operationId, async (event) => {
      if (!event.awaitingCommit) return;
      await at.client.call('StartBackup', { ...request, dataPath: { ...request.dataPath, ticket: 'fresh-ticket' } }, { deadlineMs });
      await at.client.call('ConcludeBackup', { operationId: request.operationId, committed: true }, { deadlineMs });
      await at.client.call('ConcludeBackup', { operationId: request.operationId, committed: true }, { deadlineMs });
    });
    const awaiting = events.find((e) => e.awaitingCommit)?.awaitingCommit;
    expect(awaiting).toMatchObject({ vmName: 'web', consistency: 'crash', checkpointId: expect.stringMatching(/-/) });
    expect(awaiting?.disks).toMatchObject([
      {
        disk: { name: 'web_disk1', format: 'cow', sizeBytes: '1073741824' },
        mode: 'DISK_READ_MODE_FULL',
        reason: 'first-backup',
        counters: { readBytes: '1000' },
      },
      { disk: { name: 'web_disk2', format: 'raw' }, mode: 'DISK_READ_MODE_FULL', reason: 'cbt-raw' },
    ]);
    expect(JSON.parse(awaiting!.configuration)).toMatchObject({ version: 1 });
    expect(events.at(-1)?.result).toMatchObject({ outcome: 'OUTCOME_SUCCESS', failure: null, leftForJanitor: [] });
    expect(events.map((e) => e.state?.phase).filter(Boolean)).toEqual([
      'PHASE_PREPARING',
      'PHASE_STARTING',
      'PHASE_TRANSFERRING',
      'PHASE_COMMITTING',
      'PHASE_CLEANING',
    ]);
    const sequences = events.map((e) => Number(e.sequence));
    expect(sequences).toEqual([...sequences].sort((a, b) => a - b));

    const last = events.at(-2)!.sequence;
    expect(await at.watch(request.operationId, undefined, last)).toHaveLength(1);
    const { operations } = await at.client.call('ListOperations', {}, { deadlineMs });
    expect(operations).toMatchObject([
      { operationId: request.operationId, vm: { vmId: vm.vm.id }, final: true, outcome: 'OUTCOME_SUCCESS' },
    ]);
    await at.client.call('CancelOperation', { operationId: request.operationId }, { deadlineMs });
    await expect(at.client.call('StartBackup', { ...request, forceFull: true }, { deadlineMs })).rejects.toMatchObject({
      code: 'REQUEST_ID_REUSED',
      status: 'ALREADY_EXISTS',
    });
    // The configuration is not kept once the host has it.
    expect((await at.watch(request.operationId)).some((e) => e.awaitingCommit)).toBe(false);
  });

  it('cancels', async () => {
    await using at = await fixture();
    const vm = at.bench.engine.addVm('web', [{}]);
    at.bench.worker.answer = () => 'hang';
    const request = backup(vm.vm.id);
    await at.client.call('StartBackup', request, { deadlineMs });
    const events = await at.watch(request.operationId, async (event) => {
      if (event.state?.phase === 'PHASE_TRANSFERRING')
        await at.client.call('CancelOperation', { operationId: request.operationId }, { deadlineMs });
    });
    expect(events.at(-1)?.result).toMatchObject({
      outcome: 'OUTCOME_CANCELLED',
      failure: { code: 'CANCELLED', kind: 'FAILURE_KIND_FAILURE' },
    });
    expect(at.bench.engine.leftovers()).toEqual([]);
  });

  it('refuses what the contract says, by code and status', async () => {
    await using at = await fixture();
    const vm = at.bench.engine.addVm('web', [{}]);
    at.bench.worker.answer = () => 'hang';
    const refused = (request: object) =>
      at.client.call('StartBackup', request, { deadlineMs }).then(
        () => 'accepted',
        (e: unknown) => e,
      );
    expect(await refused(backup('nobody'))).toMatchObject({ code: 'VM_NOT_FOUND', status: 'NOT_FOUND' });
    expect(await refused(backup(vm.vm.id, { vm: { platformId: 'x', vmId: 'y' } }))).toMatchObject({
      code: 'PLATFORM_NOT_FOUND',
      status: 'NOT_FOUND',
    });
    for (const wrong of [
      { operationId: 'x' },
      { vm: null },
      { jobName: '' },
      { sessionId: '' },
      { dataPath: null },
      { diskParallel: 99 },
    ]) {
      expect(await refused(backup(vm.vm.id, wrong))).toMatchObject({ code: 'ARGUMENT_INVALID', status: 'INVALID_ARGUMENT' });
    }
    expect(await refused(backup(vm.vm.id))).toBe('accepted');
    expect(await refused(backup(vm.vm.id))).toMatchObject({
      code: 'VM_BUSY',
      status: 'ABORTED',
      retry: 'after-delay',
      retryDelayMs: 15_000,
    });
    const operationId = randomUUID();
    await expect(at.watch(operationId)).rejects.toMatchObject({ code: 'OPERATION_NOT_FOUND', status: 'NOT_FOUND' });
    await expect(at.client.call('ConcludeBackup', { operationId, committed: true }, { deadlineMs })).rejects.toMatchObject({
      code: 'OPERATION_NOT_FOUND',
    });
    await expect(at.client.call('CancelOperation', { operationId }, { deadlineMs })).rejects.toMatchObject({ code: 'OPERATION_NOT_FOUND' });
    const worker = new RpcClient<ProtectionServiceDefinition>(
      loadService('tidemark/plugin/v1/protection_service.proto', 'tidemark.plugin.v1.ProtectionService').service,
      at.at.endpoint,
      await at.at.credentialsFor('worker', 'w'),
    );
    await expect(worker.call('ListOperations', {}, { deadlineMs })).rejects.toMatchObject({ code: 'ROLE_NOT_ALLOWED' });
    worker.close();
  });

  it('restores a disk, and refuses bad targets while the caller waits', async () => {
    await using at = await fixture();
    const request = (more: Partial<StartRestoreRequest>): StartRestoreRequest => ({
      operationId: randomUUID(),
      platformId,
      sessionId: 's1',
      dataPath: { endpoints: ['mover:1'] },
      pointId: 'p1',
      disks: [{ diskId: 'd1', name: 'data', sizeBytes: '1048576', format: 'cow', sparse: true, storageDomainId: 'sd1' }],
      newDisk: { storageDomainId: 'sd1' },
      ...more,
    });
    const start = request({});
    await at.client.call('StartRestore', start, { deadlineMs });
    const events = await at.watch(start.operationId ?? '');
    const result = events.at(-1)?.result;
    expect(result).toMatchObject({ outcome: 'OUTCOME_SUCCESS', disks: [{ disk: { diskId: 'd1' }, counters: { readBytes: '1000' } }] });
    expect(at.bench.engine.disksById.get(result?.createdId ?? '')).toMatchObject({ status: 'ok', provisionedBytes: 1048576 });
    await at.client.call('StartRestore', start, { deadlineMs });
    const refused = (more: Partial<StartRestoreRequest>) =>
      at.client.call('StartRestore', request(more), { deadlineMs }).then(
        () => 'accepted',
        (e: unknown) => e,
      );
    expect(await refused({ disks: [] })).toMatchObject({ code: 'ARGUMENT_INVALID' });
    expect(await refused({ newDisk: null })).toMatchObject({ code: 'ARGUMENT_INVALID' });
    expect(await refused({ newDisk: { storageDomainId: 'x' } })).toMatchObject({
      code: 'RESTORE_TARGET_NOT_FOUND',
      status: 'NOT_FOUND',
      meta: { field: 'new_disk.storage_domain_id' },
    });
    expect(await refused({ newDisk: null, file: { path: 'relative', format: 'raw' } })).toMatchObject({
      code: 'TARGET_PATH_INVALID',
      status: 'INVALID_ARGUMENT',
    });
    expect(await refused({ newDisk: null, newVm: { name: 'x' }, configuration: '{}' })).toMatchObject({ code: 'CONFIGURATION_UNREADABLE' });
    expect(await refused({ newDisk: null, newVm: { name: 'x' }, configuration: '' })).toMatchObject({ code: 'ARGUMENT_INVALID' });
  });

  it('gives verdicts for several VMs; what cannot be read is a finding', async () => {
    await using at = await fixture();
    const web = at.bench.engine.addVm('web', [{}, { shareable: true, name: 'shared' }]);
    const locked = at.bench.engine.addVm('busy', [{ status: 'locked' }]);
    const vms = [web.vm.id, locked.vm.id, 'nobody'].map((vmId) => ({ platformId, vmId }));
    const { verdicts } = await at.client.call('Preflight', { vms }, { deadlineMs });
    expect(verdicts).toMatchObject([
      { vmName: 'web', canBackUp: true, retryLater: false, disks: [{ name: 'web_disk1', mode: 'DISK_READ_MODE_FULL' }] },
      { vmName: 'busy', canBackUp: false, retryLater: true },
      { vmId: 'nobody', canBackUp: false, findings: [{ code: 'vm-gone', severity: 'SEVERITY_BLOCKING' }] },
    ]);
    expect(verdicts?.[0]?.findings).toContainEqual(
      expect.objectContaining({ code: 'disk-shareable', severity: 'SEVERITY_BLOCKING', diskId: web.attachments[1]!.diskId }),
    );
    at.bench.engine.away = true;
    const away = await at.client.call('Preflight', { vms: vms.slice(0, 1) }, { deadlineMs });
    expect(away.verdicts).toMatchObject([
      { canBackUp: false, retryLater: true, findings: [{ code: 'engine-unreachable' }], failure: null },
    ]);
  });
});

describe('JanitorService', () => {
  it('reports and sweeps what a restart left', async () => {
    const engine = newEngine();
    const file = new MemoryJournalFile();
    const vm = engine.addVm('web', [{}]);
    const request = backup(vm.vm.id);
    {
      await using first = await fixture({ engine, file });
      first.bench.worker.answer = () => 'hang';
      await first.client.call('StartBackup', request, { deadlineMs });
      await eventually('the task', () => first.bench.worker.tasks.length === 1);
      first.bench.mortal.kill();
    }
    await using at = await fixture({ engine, file });
    const [event] = await at.watch(request.operationId, undefined, '99');
    expect(event?.result).toMatchObject({
      outcome: 'OUTCOME_FAILED',
      failure: { code: 'PLUGIN_RESTARTED', retry: 'RETRY_ADVICE_SAME_REQUEST' },
    });
    await expect(
      at.client.call('ConcludeBackup', { operationId: request.operationId, committed: true }, { deadlineMs }),
    ).rejects.toMatchObject({ code: 'OPERATION_NOT_FOUND' });
    expect(await at.janitor.call('GetJanitorReport', {}, { deadlineMs })).toMatchObject({ leftovers: [], lastSweepAt: null });
    const { leftovers } = await at.janitor.call('Sweep', {}, { deadlineMs });
    expect(leftovers?.map((l) => [l.kind, l.state, l.operationId])).toEqual([
      ['image-transfer', 'LEFTOVER_STATE_REMOVED', request.operationId],
      ['backup', 'LEFTOVER_STATE_REMOVED', request.operationId],
    ]);
    expect(engine.leftovers()).toEqual([]);
    const report = await at.janitor.call('GetJanitorReport', {}, { deadlineMs });
    expect(report.leftovers).toHaveLength(2);
    expect(report.lastSweepAt).not.toBeNull();
  });
});
