import { randomUUID } from 'node:crypto';
import { CommonErrors } from '../../common/errors/common-errors';
import { defineErrors } from '../../common/errors/define-errors';
import { EngineErrors } from '../engine/engine-errors';
import { eventually } from '../testing/eventually';
import type { FakeVm } from '../testing/fake-rows';
import { addWorkerVm, backupOf, newEngine, platformId, runBackup, runRestore, startBench } from '../testing/protection-bench';
import type { Bench } from '../testing/protection-bench';
import type { NewVmTarget, RestoreRequest } from './requests';

const TestErrors = defineErrors({
  IMAGE_UNREACHABLE: { kind: 'operational', retry: 'same-request', status: 'UNAVAILABLE', message: () => 'neither host nor proxy' },
});

const newVm: NewVmTarget = {
  kind: 'new-vm',
  name: 'restored',
  clusterId: '',
  storageDomainId: '',
  storageDomains: new Map(),
  vnicProfiles: new Map(),
  macPolicy: 'new',
  powerOn: false,
};

/** A backed-up VM with two disks, a worker VM, and the request that restores it. */
async function backedUp() {
  const engine = newEngine();
  const workerVm = addWorkerVm(engine);
  const at = await startBench({ engine, workers: 0, workerVms: [workerVm] });
  const vm = engine.addVm('web', [{}, { format: 'raw', name: 'data' }]);
  const run = await runBackup(at, backupOf(vm));
  const { disks = [], configuration = '' } = run.awaiting ?? {};
  const restore = (more: Partial<RestoreRequest> = {}): RestoreRequest => ({
    operationId: randomUUID(),
    platformId,
    sessionId: 's1',
    dataPath: { endpoints: ['mover:8445'] },
    pointId: 'p1',
    disks: disks.map((d) => d.disk),
    configuration,
    target: newVm,
    transport: 'disk-attachment',
    ...more,
  });
  return Object.assign(at, { vm, restore, workerVm: engine.vmsById.get(workerVm.vmId)! });
}

const named = (at: Bench, name: string): FakeVm => [...at.engine.vmsById.values()].find((v) => v.vm.name === name)!;

/** Nothing but the original and the worker, each with its own disks. */
function expectUntouched(at: Awaited<ReturnType<typeof backedUp>>): void {
  expect(at.engine.leftovers()).toEqual([]);
  expect(at.journal.openEntries()).toEqual([]);
  expect([...at.engine.vmsById.keys()].sort()).toEqual([at.vm.vm.id, at.workerVm.vm.id].sort());
  expect(at.workerVm.attachments).toHaveLength(1);
  expect(at.engine.disksById.size).toBe(3);
}

describe('restoring by attachment', () => {
  it('makes disks, writes them on the worker, takes them off with their data, and gives them to the VM', async () => {
    await using at = await backedUp();
    const seen: unknown[] = [];
    at.worker.answer = (task) => {
      const { serial, sizeBytes, readsZero } = task.restoreDisk!.attachedDisk!;
      const found = at.workerVm.attachments.find((a) => a.diskId === serial);
      // Only a thin disk reads zero where nothing was written.
      expect(readsZero).toBe(at.engine.disksById.get(serial)?.sparse);
      seen.push({
        sizeBytes,
        readOnly: found?.readOnly,
        active: found?.active,
        snapshotId: found?.snapshotId,
        interface: found?.interface,
      });
      return { readBytes: 5, imagePath: 'IMAGE_PATH_ATTACHED' };
    };
    const run = await runRestore(at, at.restore());
    expect(run.result).toMatchObject({ outcome: 'success', leftForJanitor: [] });
    const expected = { sizeBytes: '1073741824', readOnly: false, active: true, snapshotId: undefined, interface: 'virtio_scsi' };
    expect(seen).toEqual([expected, expected]);
    expect(run.result.disks).toMatchObject([
      { transport: 'disk-attachment', workerHop: 'same-cluster', workerId: at.worker.workerId },
      { transport: 'disk-attachment' },
    ]);
    const made = named(at, 'restored');
    expect(made.attachments.map((a) => at.engine.disksById.get(a.diskId)?.name)).toEqual(['web_disk1', 'data']);
    expect(at.workerVm.attachments).toHaveLength(1);
    expect(at.engine.leftovers()).toEqual([]);
    expect(at.journal.openEntries()).toEqual([]);
  });

  it('restores a single disk', async () => {
    await using at = await backedUp();
    const target = { kind: 'new-disk' as const, storageDomainId: 'sd1', name: 'copy' };
    const run = await runRestore(at, at.restore({ disks: at.restore().disks.slice(0, 1), target }));
    expect(run.result.outcome).toBe('success');
    expect(at.engine.disksById.get(run.result.createdId)).toMatchObject({ name: 'copy', status: 'ok' });
    expect(at.workerVm.attachments).toHaveLength(1);
    expect(at.engine.calls.filter((call) => call === 'transfers.create')).toHaveLength(2);
  });

  it.each([
    ['fails', () => ({ failure: CommonErrors.PEER_UNAVAILABLE({ peer: 'mover' }) }), 'PEER_UNAVAILABLE'],
    ['is lost', (at: Bench) => (at.worker.kill(), 'hang' as const), 'WORKER_LOST'],
  ])('removes all it made when the worker %s', async (_name, answer, code) => {
    await using at = await backedUp();
    at.worker.answer = () => answer(at);
    const run = await runRestore(at, at.restore());
    expect(run.result).toMatchObject({ outcome: 'failed', failure: { code }, leftForJanitor: [] });
    expectUntouched(at);
  });

  it.each(['disks.create', 'diskAttachments.add'])('removes all it made when %s is refused', async (call) => {
    await using at = await backedUp();
    at.engine.before = (name) => {
      if (name === call) throw EngineErrors.ENGINE_REFUSED({ operation: 'POST', httpStatus: 409, detail: 'no' });
    };
    const run = await runRestore(at, at.restore());
    expect(run.result).toMatchObject({ outcome: 'failed', failure: { code: 'ENGINE_REFUSED' }, leftForJanitor: [] });
    expectUntouched(at);
  });

  it('removes all it made when it is cancelled while it writes', async () => {
    await using at = await backedUp();
    at.worker.answer = () => 'hang';
    const before = at.worker.tasks.length;
    const request = at.restore();
    const run = await runRestore(at, request, {
      each: async (event) => {
        if (event.type !== 'state' || event.phase !== 'transferring') return;
        await eventually('tasks', () => at.worker.tasks.length > before);
        at.protection.cancel(request.operationId);
      },
    });
    expect(run.result).toMatchObject({ outcome: 'cancelled', leftForJanitor: [] });
    expect(at.worker.cancelled.length).toBeGreaterThan(0);
    expectUntouched(at);
  });

  it('does not give a disk away that the worker does not let go of', async () => {
    await using at = await backedUp();
    at.engine.before = (call) => {
      if (call === 'diskAttachments.detach' || call === 'diskAttachments.unplug')
        throw EngineErrors.ENGINE_CONFLICT({ operation: call, detail: 'Failed to hot-unplug disk' });
    };
    const run = await runRestore(at, at.restore());
    expect(run.result).toMatchObject({ outcome: 'failed', failure: { code: 'RESTORED_DISK_LOST' } });
    expect(run.result.leftForJanitor.length).toBeGreaterThan(0);
    at.engine.before = () => undefined;
    at.janitor.start();
    await eventually('a clean engine', () => at.journal.openEntries().length === 0);
    expectUntouched(at);
  });
});

describe('restoring when no image service can be reached', () => {
  it('goes on by attachment, keeps what was written, and leaves no half disk', async () => {
    await using at = await backedUp();
    const [first] = at.restore().disks;
    at.worker.answer = (task) =>
      task.restoreDisk?.imageTransfer && task.restoreDisk.diskId !== first!.diskId
        ? { failure: TestErrors.IMAGE_UNREACHABLE({}) }
        : { readBytes: 2 };
    const run = await runRestore(at, at.restore({ transport: 'auto' }));
    expect(run.result).toMatchObject({ outcome: 'warning', leftForJanitor: [] });
    expect(run.notes.map((n) => n.code)).toContain('transport-fallback');
    expect(run.result.disks.map((d) => d.disk.name)).toEqual(['web_disk1', 'data']);
    expect(run.result.disks[1]).toMatchObject({ transport: 'disk-attachment' });
    expect(named(at, 'restored').attachments).toHaveLength(2);
    expect(at.engine.disksById.size).toBe(5);
    expect(at.workerVm.attachments).toHaveLength(1);
    expect(at.engine.leftovers()).toEqual([]);
  });

  it('fails with what went wrong first where nobody can attach', async () => {
    await using at = await startBench();
    const vm = at.engine.addVm('web', [{}]);
    const { awaiting } = await runBackup(at, backupOf(vm));
    at.worker.answer = () => ({ failure: TestErrors.IMAGE_UNREACHABLE({}) });
    const run = await runRestore(at, {
      operationId: randomUUID(),
      platformId,
      sessionId: 's1',
      dataPath: { endpoints: ['mover:8445'] },
      pointId: 'p1',
      disks: awaiting!.disks.map((d) => d.disk),
      configuration: awaiting!.configuration,
      target: newVm,
      transport: 'auto',
    });
    expect(run.result.failure?.code).toBe('IMAGE_UNREACHABLE');
    expect(at.engine.disksById.size).toBe(1);
    expect(at.engine.leftovers()).toEqual([]);
  });
});
