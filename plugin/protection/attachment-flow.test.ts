import { defineErrors } from '../../common/errors/define-errors';
import type { StartTask__Output } from '../../proto/gen/tidemark/worker/v1/StartTask';
import { EngineErrors } from '../engine/engine-errors';
import { eventually } from '../testing/eventually';
import type { FakeVm } from '../testing/fake-rows';
import { addWorkerVm, backupOf, newEngine, quick, runBackup, startBench } from '../testing/protection-bench';
import type { Bench, BenchOptions, Run } from '../testing/protection-bench';
import type { BackupRequest, BasePoint } from './requests';

const TestErrors = defineErrors({
  IMAGE_UNREACHABLE: { kind: 'operational', retry: 'same-request', status: 'UNAVAILABLE', message: () => 'neither host nor proxy' },
});

/** A bench with one worker VM and none beside the server. */
async function bench(options: BenchOptions & { level?: { major: number; minor: number } } = {}) {
  const engine = options.engine ?? newEngine();
  engine.level = options.level ?? { major: 4, minor: 6 };
  const workerVms = options.workerVms ?? [addWorkerVm(engine)];
  return Object.assign(await startBench({ workers: 0, ...options, engine, workerVms }), { workerVms });
}

const attached = (vm: FakeVm, more: Partial<BackupRequest> = {}) => backupOf(vm, { transport: 'disk-attachment', ...more });

function baseOf(run: Run, pointId = 'p1'): BasePoint {
  return { pointId, checkpointId: run.awaiting?.checkpointId ?? '', diskIds: run.awaiting?.disks.map((d) => d.disk.diskId) ?? [] };
}

function expectClean(at: Bench): void {
  expect(at.engine.leftovers()).toEqual([]);
  expect(at.journal.openEntries()).toEqual([]);
}

const modesOf = (run: Run) => Object.fromEntries(run.awaiting?.disks.map((d) => [d.disk.name, `${d.mode} ${d.reason}`.trim()]) ?? []);
const codesOf = (run: Run) => run.notes.map((n) => n.code);

/** What hangs on the worker VM while a task runs there. */
function watchAttachments(at: Awaited<ReturnType<typeof bench>>) {
  const seen: { task: StartTask__Output; snapshotId: string | undefined; active: boolean; readOnly: boolean; interface: string }[] = [];
  let most = 0;
  at.worker.answer = (task) => {
    const hanging = at.engine.vmsById.get(at.workerVms[0]!.vmId)!.attachments.filter((a) => a.diskId !== ownDiskOf(at));
    most = Math.max(most, hanging.length);
    const serial = (task.backupDisk ?? task.restoreDisk)?.attachedDisk?.serial;
    const found = hanging.find((a) => a.diskId === serial);
    if (found)
      seen.push({ task, snapshotId: found.snapshotId, active: found.active, readOnly: found.readOnly, interface: found.interface });
    return { readBytes: 7, imagePath: 'IMAGE_PATH_ATTACHED' };
  };
  return { seen, most: () => most };
}

const ownDiskOf = (at: Awaited<ReturnType<typeof bench>>) => at.engine.vmsById.get(at.workerVms[0]!.vmId)!.attachments[0]!.diskId;

describe('a backup by attachment', () => {
  it.each(['up', 'down'])(
    'of a VM that is %s: snapshot, attach, read, detach, merge; full first, compared by digest later',
    async (status) => {
      await using at = await bench();
      const vm = at.engine.addVm('web', [{}, { format: 'raw', sparse: false }], status);
      const watch = watchAttachments(at);
      const request = attached(vm);
      const first = await runBackup(at, request, {
        each: (event) => {
          if (event.type !== 'state' || event.phase !== 'transferring') return;
          expect(vm.snapshots[0]).toMatchObject({ type: 'regular', status: 'ok', withMemory: false });
          expect(vm.snapshots[0]!.description).toBe(`tidemark ${request.sessionId} operation=${request.operationId} job=nightly`);
        },
      });
      expect(first.result).toMatchObject({ outcome: 'success', leftForJanitor: [] });
      expect(modesOf(first)).toEqual({ web_disk1: 'full first-backup', web_disk2: 'full first-backup' });
      expect(first.awaiting).toMatchObject({ checkpointId: '', consistency: status === 'down' ? 'offline' : 'crash' });
      expect(first.awaiting?.disks[0]).toMatchObject({
        transport: 'disk-attachment',
        workerId: at.worker.workerId,
        workerHop: 'same-cluster',
        counters: { readBytes: 7 },
      });
      expect(first.phases).toEqual(['preparing', 'starting', 'transferring', 'committing', 'cleaning']);
      expect(codesOf(first)).toContain('transport-attachment');
      expect(watch.seen).toHaveLength(2);
      for (const one of watch.seen) {
        expect(one).toMatchObject({ active: true, readOnly: true, interface: 'virtio_scsi', snapshotId: expect.any(String) });
        expect(one.task.backupDisk).toMatchObject({ readScope: 'READ_SCOPE_ALLOCATED', basePointId: '' });
        expect(one.task.backupDisk?.imageTransfer ?? null).toBeNull();
        expect(one.task.backupDisk?.attachedDisk).toMatchObject({ serial: one.task.backupDisk?.diskId, sizeBytes: '1073741824' });
      }
      expect(at.engine.calls).not.toContain('backups.start');
      // For lists of extents, no data.
      expect(at.engine.calls.filter((call) => call === 'transfers.create')).toHaveLength(2);
      expectClean(at);

      const added = at.engine.addDisk({ name: 'added' });
      vm.attachments.push({ ...vm.attachments[0]!, diskId: added.id, bootable: false });
      const second = await runBackup(at, attached(vm, { base: baseOf(first) }));
      expect(modesOf(second)).toEqual({
        web_disk1: 'digest-compare cbt-attachment',
        web_disk2: 'digest-compare cbt-attachment',
        added: 'full cbt-new-disk',
      });
      expect(modesOf(await runBackup(at, attached(vm, { base: baseOf(second), forceFull: true })))).toMatchObject({
        web_disk1: 'full forced-full',
      });
      expectClean(at);
    },
  );

  it('snapshots only the disks that are saved', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}, {}, { shareable: true }]);
    const asked: unknown[] = [];
    at.engine.before = (call, args) => void (call === 'snapshots.create' && asked.push((args[1] as { diskIds: string[] }).diskIds));
    const run = await runBackup(at, attached(vm, { excludedDiskIds: [vm.attachments[1]!.diskId] }));
    expect(run.result.outcome).toBe('partial');
    expect(asked).toEqual([[vm.attachments[0]!.diskId]]);
  });

  it('knows the size that a disk has in the snapshot, when it grew since the VM was looked at', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    at.engine.before = (call) => {
      if (call === 'snapshots.create') at.engine.disksById.get(vm.attachments[0]!.diskId)!.provisionedBytes = 2 ** 31;
    };
    const run = await runBackup(at, attached(vm));
    expect(at.worker.tasks[0]?.backupDisk?.attachedDisk?.sizeBytes).toBe(String(2 ** 31));
    expect(run.awaiting?.disks[0]?.disk.sizeBytes).toBe(2 ** 31);
  });

  it('has never more than eight disks on one worker', async () => {
    await using at = await bench({ slots: 32 });
    const watch = watchAttachments(at);
    const answer = at.worker.answer;
    at.worker.answer = async (task) => {
      const result = await answer(task);
      // The first ones read until there are enough of them at the same time.
      await eventually('more of them', () => watch.most() > 4);
      return result;
    };
    const many = Array.from({ length: 12 }, () => ({}));
    const vms = [at.engine.addVm('one', many), at.engine.addVm('two', many)];
    const runs = await Promise.all(vms.map((vm) => runBackup(at, attached(vm, { diskParallel: 8 }))));
    expect(runs.map((run) => run.result.outcome)).toEqual(['success', 'success']);
    expect(watch.most()).toBeGreaterThan(4);
    expect(watch.most()).toBeLessThanOrEqual(8);
    expectClean(at);
  });

  it('waits for a worker VM before it takes a snapshot, and says so when there is none', async () => {
    const engine = newEngine();
    await using at = await startBench({ engine, workers: 1 });
    const vm = engine.addVm('web', [{}]);
    const run = await runBackup(at, attached(vm));
    expect(run.result).toMatchObject({ outcome: 'failed', failure: { code: 'WORKER_NONE' } });
    expect(engine.calls).not.toContain('snapshots.create');
  });

  it('takes a worker of another cluster in the same data centre, and none of another', async () => {
    for (const [dataCenterId, outcome] of [
      ['dc1', 'success'],
      ['dc2', 'failed'],
    ] as const) {
      const engine = newEngine();
      const at = await bench({ engine, workerVms: [addWorkerVm(engine, { clusterId: 'cluster2', dataCenterId })] });
      const vm = engine.addVm('web', [{}]);
      const run = await runBackup(at, attached(vm));
      expect(run.result.outcome).toBe(outcome);
      if (outcome === 'success') expect(run.awaiting?.disks[0]?.workerHop).toBe('other-cluster');
      if (outcome === 'success') expect(codesOf(run)).toContain('worker-hop');
      await at[Symbol.asyncDispose]();
    }
  });
});

describe('the file systems of the guest', () => {
  it('are frozen by us from before the snapshot until it is there, when the job wants it', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    let frozenAtCreate = false;
    at.engine.before = (call) => {
      if (call === 'snapshots.create') frozenAtCreate = at.engine.frozen.has(vm.vm.id);
    };
    const run = await runBackup(at, attached(vm, { requireConsistency: true }), {
      each: (event) => {
        if (event.type === 'state' && event.phase === 'transferring') expect(at.engine.frozen.size).toBe(0);
      },
    });
    expect(frozenAtCreate).toBe(true);
    expect(run.awaiting?.consistency).toBe('quiesced');
    expect(run.result.outcome).toBe('success');
    expectClean(at);
  });

  it('are left to the host when the job does not', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    at.engine.freezeFailure = 'no agent';
    const run = await runBackup(at, attached(vm));
    expect(run.awaiting?.consistency).toBe('crash');
    expect(at.engine.calls).not.toContain('vms.freezeFileSystems');
  });

  it('that cannot be frozen fail the run, without a snapshot', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    at.engine.freezeFailure = 'guest agent is not connected';
    const run = await runBackup(at, attached(vm, { requireConsistency: true }));
    expect(run.result.failure).toMatchObject({ code: 'FREEZE_FAILED', message: expect.stringContaining('not connected') });
    expect(at.engine.calls).not.toContain('snapshots.create');
    expectClean(at);
  });

  it('do not stay frozen when the engine makes us wait, nor for a snapshot that takes too long', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    let refusals = 0;
    const frozenBetween: number[] = [];
    at.engine.before = (call) => {
      if (call === 'vms.freezeFileSystems') frozenBetween.push(at.engine.frozen.size);
      if (call === 'snapshots.create' && ++refusals <= 2) throw EngineErrors.ENGINE_CONFLICT({ operation: 'POST', detail: 'VM is locked' });
    };
    const run = await runBackup(at, attached(vm, { requireConsistency: true }));
    expect(run.result.outcome).toBe('success');
    expect(frozenBetween).toEqual([0, 0, 0]);

    const windows = at.engine.addVm('windows', [{}]);
    windows.vm.operatingSystem = 'windows_2022';
    at.engine.before = () => undefined;
    at.engine.stepMs = 2_000_000;
    const late = await runBackup(at, attached(windows, { requireConsistency: true }), {
      each: (event) => {
        if (event.type === 'state' && event.phase === 'cleaning') at.engine.stepMs = 2000;
      },
    });
    expect(late.result.failure?.code).toBe('FREEZE_FAILED');
    expect(at.engine.frozen.size).toBe(0);
    // The engine is still at it; what comes of it is taken away then.
    at.janitor.start();
    await eventually('a clean engine', () => at.engine.leftovers().length === 0 && at.journal.openEntries().length === 0);
  });
});

describe('checkpoints of earlier image transfers', () => {
  it('go on to serve after an attachment where the engine keeps them', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}, { format: 'raw' }]);
    const transferred = await runBackup(at, backupOf(vm, { transport: 'image-transfer' }));
    const checkpointId = transferred.awaiting!.checkpointId;
    const between = await runBackup(at, attached(vm, { base: baseOf(transferred) }));
    // Older than the point, so what changed since then holds all that changes after the point.
    expect(between.awaiting?.checkpointId).toBe(checkpointId);
    expect(between.result.outcome).toBe('success');
    expect(at.engine.checkpointsOf(vm)).toEqual([checkpointId]);
    const next = await runBackup(at, backupOf(vm, { base: baseOf(between, 'p2') }));
    expect(modesOf(next)).toEqual({ web_disk1: 'incremental', web_disk2: 'digest-compare cbt-raw' });
    const task = at.worker.tasks.map((t) => t.backupDisk!).find((t) => t.readScope === 'READ_SCOPE_CHANGED');
    expect(task?.basePointId).toBe('p2');
    expect(at.engine.checkpointsOf(vm)).toEqual([next.awaiting!.checkpointId]);
    expectClean(at);
  });

  it('are let go where the engine drops them at the detach, and the next image transfer reads in full', async () => {
    await using at = await bench();
    at.engine.detachWipesCheckpoints = true;
    const vm = at.engine.addVm('web', [{}, {}]);
    const transferred = await runBackup(at, backupOf(vm, { transport: 'image-transfer' }));
    const excludedDiskIds = [vm.attachments[1]!.diskId];
    const between = await runBackup(at, attached(vm, { base: baseOf(transferred), excludedDiskIds }));
    expect(between.awaiting?.checkpointId).toBe('');
    expect(codesOf(between)).toContain('cbt-detached');
    // What is left of the checkpoint covers a disk that the new point does not have.
    expect(at.engine.checkpointsOf(vm)).toEqual([]);
    const next = await runBackup(at, backupOf(vm, { base: baseOf(between, 'p2') }));
    expect(modesOf(next)).toEqual({ web_disk1: 'full cbt-no-checkpoint', web_disk2: 'full cbt-new-disk' });
    expectClean(at);
  });

  it('of other jobs and products are left alone', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    const diskIds = [vm.attachments[0]!.diskId];
    const checkpoint = (id: string, description: string) => ({
      id,
      description,
      parentId: undefined,
      state: 'created',
      createdAt: undefined,
    });
    vm.checkpoints.push(
      { ...checkpoint('foreign', 'other product'), diskIds },
      { ...checkpoint('weekly', 'tidemark job=weekly session=1'), diskIds },
    );
    await runBackup(at, attached(vm));
    expect(at.engine.checkpointsOf(vm)).toEqual(['foreign', 'weekly']);
  });
});

describe('when no image service can be reached', () => {
  const unreachable = (task: StartTask__Output) =>
    task.backupDisk?.imageTransfer ? { failure: TestErrors.IMAGE_UNREACHABLE({}) } : { readBytes: 3 };

  it.each([6, 7])('level 4.%i: the run goes on by attachment, says so, and leaves nothing of the first way', async (minor) => {
    await using at = await bench({ level: { major: 4, minor } });
    const vm = at.engine.addVm('web', [{}, {}]);
    const base = baseOf(await runBackup(at, backupOf(vm)));
    at.worker.answer = unreachable;
    const run = await runBackup(at, backupOf(vm, { base }));
    expect(run.result.outcome).toBe('warning');
    expect(run.notes.find((n) => n.code === 'transport-fallback')).toMatchObject({
      message: expect.stringContaining('neither host nor proxy'),
    });
    expect(modesOf(run)).toEqual({ web_disk1: 'digest-compare cbt-attachment', web_disk2: 'digest-compare cbt-attachment' });
    expect(run.awaiting?.disks[0]?.transport).toBe('disk-attachment');
    expect(at.engine.checkpointsOf(vm)).toEqual([base.checkpointId]);
    expectClean(at);
  });

  it('as the engine finds no image daemon that serves the disk, it goes the same way', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    at.engine.failingTransfers = 3;
    const run = await runBackup(at, backupOf(vm));
    expect(run.awaiting?.disks[0]?.transport).toBe('disk-attachment');
    expectClean(at);
  });

  it('and the engine does not let go of what it began, the first failure stands, without hours of trying', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    at.engine.failingTransfers = 100;
    at.engine.ticketsStuck = true;
    at.engine.before = (call) => {
      // As an engine whose host has lost its daemon: the transfer neither starts nor ends.
      if (call !== 'transfers.find') return;
      for (const transfer of at.engine.transfersById.values()) transfer.phase = 'finalizing_failure';
    };
    const since = quick.now();
    const run = await runBackup(at, backupOf(vm));
    expect(run.result).toMatchObject({ outcome: 'failed', failure: { code: 'TRANSFER_NOT_STARTED' } });
    expect(quick.now() - since).toBeLessThan(45 * 60_000);
    expect(at.engine.calls).not.toContain('snapshots.create');
    expect(at.engine.calls.filter((call) => call === 'transfers.create')).toHaveLength(1);
  });

  it('and no worker VM can attach, the first failure stands', async () => {
    const engine = newEngine();
    await using at = await startBench({ engine });
    const vm = engine.addVm('web', [{}]);
    at.worker.answer = unreachable;
    const run = await runBackup(at, backupOf(vm));
    expect(run.result).toMatchObject({ outcome: 'failed', failure: { code: 'IMAGE_UNREACHABLE' } });
    expect(engine.calls).not.toContain('snapshots.create');
    expectClean(at);
  });

  it('and the job wants image transfer only, it fails', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    at.worker.answer = unreachable;
    const run = await runBackup(at, backupOf(vm, { transport: 'image-transfer' }));
    expect(run.result.failure?.code).toBe('IMAGE_UNREACHABLE');
    expectClean(at);
  });
});

describe('a backup by attachment that goes wrong', () => {
  it.each<[string, string, number, string]>([
    ['the disk is in another data centre', 'Disk and the VM are in different data centers', 409, 'ATTACH_OTHER_DATA_CENTER'],
    ['the worker has no controller', 'The VirtIO-SCSI controller of VM is disabled', 409, 'ATTACH_NO_CONTROLLER'],
    ['the snapshot cannot be used', 'The snapshot is not in status ok', 409, 'ATTACH_SNAPSHOT_UNUSABLE'],
    ['the disk may not be attached', 'VM is the hosted engine', 409, 'ATTACH_NOT_ALLOWED'],
    ['something else is refused', 'quota', 409, 'ENGINE_REFUSED'],
  ])('because %s ends with its own code and a clean engine', async (_name, detail, httpStatus, code) => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}, {}]);
    at.engine.before = (call) => {
      if (call === 'diskAttachments.add') throw EngineErrors.ENGINE_REFUSED({ operation: 'POST', httpStatus, detail });
    };
    const run = await runBackup(at, attached(vm));
    expect(run.result).toMatchObject({ outcome: 'failed', failure: { code }, leftForJanitor: [] });
    expectClean(at);
  });

  it('because a lock does not go ends with a delay as advice', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    at.engine.before = (call) => {
      if (call === 'diskAttachments.add') throw EngineErrors.ENGINE_CONFLICT({ operation: 'POST', detail: 'Disk is locked' });
    };
    const run = await runBackup(at, attached(vm));
    expect(run.result.failure).toMatchObject({ code: 'ATTACH_DISK_LOCKED', retry: 'after-delay' });
    expect(run.phases).toContain('transferring(disk-locked)');
    expectClean(at);
  });

  it('in the engine while it takes the snapshot: with the reason from its events', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    at.engine.failingSnapshots = 1;
    const run = await runBackup(at, attached(vm));
    expect(run.result.failure).toMatchObject({
      code: 'SNAPSHOT_FAILED',
      message: expect.stringContaining('Failed to create the snapshot'),
    });
    expectClean(at);
  });

  it('goes on after a hot plug that failed once, and gives up when it never works', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    at.engine.failingPlugs = 2;
    expect((await runBackup(at, attached(vm))).result.outcome).toBe('success');
    at.engine.failingPlugs = 100;
    const run = await runBackup(at, attached(vm));
    expect(run.result.failure?.code).toBe('ATTACH_PLUG_FAILED');
    expectClean(at);
  });

  it('takes the disk off although the guest holds on to it for a while, and merges at the third try', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    at.engine.failingUnplugs = 3;
    at.engine.failingMerges = 2;
    const run = await runBackup(at, attached(vm));
    expect(run.result.outcome).toBe('success');
    expectClean(at);
  });

  it('ends well, with a warning, when the engine no longer lets us take the disk off', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    at.engine.before = (call) => {
      if (call === 'diskAttachments.detach')
        throw EngineErrors.ENGINE_PERMISSION_MISSING({ operation: call, detail: 'CONFIGURE_VM_STORAGE' });
    };
    const run = await runBackup(at, attached(vm));
    expect(run.result.outcome).toBe('warning');
    expect(run.notes.find((n) => n.code === 'engine-not-clean')?.message).toContain('CONFIGURE_VM_STORAGE');
    at.engine.before = () => undefined;
    at.janitor.start();
    await eventually('a clean engine', () => at.engine.leftovers().length === 0 && at.journal.openEntries().length === 0);
  });

  it.each(['snapshots.create', 'diskAttachments.add', 'diskAttachments.detach', 'diskAttachments.unplug', 'snapshots.remove'])(
    'goes on after a lost answer to %s',
    async (lost) => {
      await using at = await bench();
      const vm = at.engine.addVm('web', [{}]);
      let times = 0;
      at.engine.after = (call) => {
        if (call === lost && ++times === 1) throw EngineErrors.ENGINE_UNAVAILABLE({ engine: 'fake', problem: 'reset' });
      };
      const run = await runBackup(at, attached(vm));
      expect(times).toBeGreaterThan(0);
      expect(run.result.outcome).toBe('success');
      expectClean(at);
    },
  );

  it('goes on over an engine restart of minutes', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    at.worker.answer = async () => {
      void at.engine.restart(240_000);
      await quick.sleep(60_000);
      return { readBytes: 9 };
    };
    expect((await runBackup(at, attached(vm))).result.outcome).toBe('success');
    expectClean(at);
  });

  it('because the host does not commit leaves nothing', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    const run = await runBackup(at, attached(vm), { verdict: () => false });
    expect(run.result.failure?.code).toBe('POINT_NOT_COMMITTED');
    expectClean(at);
  });

  it('leaves a merge that does not end to the janitor, with a warning', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    at.engine.failingMerges = 100_000;
    const run = await runBackup(at, attached(vm));
    expect(run.result).toMatchObject({ outcome: 'warning', leftForJanitor: [expect.stringContaining('snapshot')] });
    at.engine.failingMerges = 0;
    at.janitor.start();
    await eventually('a clean engine', () => at.engine.leftovers().length === 0 && at.journal.openEntries().length === 0);
  });
});

describe('cancelling a backup by attachment', () => {
  it.each([
    ['while the snapshot is made', 'starting'],
    ['while it reads', 'transferring'],
    ['while it awaits the commit', 'committing'],
  ])('%s ends it cancelled with a clean engine', async (_name, phase) => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}, {}]);
    at.worker.answer = () => (phase === 'transferring' ? 'hang' : { readBytes: 1 });
    const request = attached(vm, { requireConsistency: true });
    const run = await runBackup(at, request, {
      verdict: () => undefined,
      each: async (event) => {
        if (event.type !== 'state' || event.phase !== phase) return;
        if (phase === 'transferring') await eventually('tasks', () => at.worker.tasks.length > 0);
        at.protection.cancel(request.operationId);
      },
    });
    expect(run.result).toMatchObject({ outcome: 'cancelled', failure: { code: 'CANCELLED' }, leftForJanitor: [] });
    if (phase === 'transferring') expect(at.worker.cancelled.length).toBeGreaterThan(0);
    expectClean(at);
  });
});
