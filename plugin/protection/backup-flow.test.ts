import { CommonErrors } from '../../common/errors/common-errors';
import { defineErrors } from '../../common/errors/define-errors';
import { EngineErrors } from '../engine/engine-errors';
import { eventually } from '../testing/eventually';
import type { FakeVm } from '../testing/fake-rows';
import { backupOf, newEngine, quick, runBackup, startBench } from '../testing/protection-bench';
import type { Bench, Run } from '../testing/protection-bench';
import type { BasePoint } from './requests';

/** What a worker answers; declared by the worker process. */
const TestErrors = defineErrors({
  CHANGED_EXTENTS_UNAVAILABLE: {
    kind: 'operational',
    retry: 'full-backup',
    status: 'FAILED_PRECONDITION',
    message: () => 'no dirty context',
  },
  TICKET_EXPIRED: { kind: 'operational', retry: 'fresh-ticket', status: 'UNAVAILABLE', message: () => 'the ticket is gone' },
});

const modes = [
  ['live', { major: 4, minor: 6 }, 'up'],
  ['cold', { major: 4, minor: 6 }, 'down'],
  ['hybrid', { major: 4, minor: 7 }, 'up'],
  ['hybrid and down', { major: 4, minor: 7 }, 'down'],
] as const;

async function bench(level: { major: number; minor: number } = { major: 4, minor: 6 }, options: Parameters<typeof startBench>[0] = {}) {
  const engine = options.engine ?? newEngine();
  engine.level = level;
  return await startBench({ ...options, engine });
}

function baseOf(run: Run, pointId = 'p1'): BasePoint {
  return { pointId, checkpointId: run.awaiting?.checkpointId ?? '', diskIds: run.awaiting?.disks.map((d) => d.disk.diskId) ?? [] };
}

function expectClean(at: Bench, vm: FakeVm, checkpoints: readonly string[]): void {
  expect(at.engine.leftovers()).toEqual([]);
  expect(at.journal.openEntries()).toEqual([]);
  expect(at.engine.checkpointsOf(vm)).toEqual(checkpoints);
}

const modesOf = (run: Run) => Object.fromEntries(run.awaiting?.disks.map((d) => [d.disk.name, `${d.mode} ${d.reason}`.trim()]) ?? []);

describe('a backup', () => {
  it('asks again for the end of a transfer when the engine forgot that it was asked', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    let forgotten = 0;
    at.engine.after = (call, [id]) => {
      if (call !== 'transfers.finalize' || forgotten > 0) return;
      forgotten += 1;
      at.engine.transfersById.get(id as string)!.phase = 'transferring';
    };
    const run = await runBackup(at, backupOf(vm));
    expect([run.result.outcome, forgotten]).toEqual(['success', 1]);
    expectClean(at, vm, [run.awaiting!.checkpointId]);
  });

  it.each(modes)('%s: full, then incremental, then mixed, and an engine as before', async (_name, level, status) => {
    await using at = await bench(level);
    const vm = at.engine.addVm('web', [{}, { format: 'raw', sparse: false }], status);
    const first = await runBackup(at, backupOf(vm));
    expect(first.result).toMatchObject({ outcome: 'success', leftForJanitor: [] });
    expect(modesOf(first)).toEqual({ web_disk1: 'full first-backup', web_disk2: 'full cbt-raw' });
    expect(first.phases).toEqual(['preparing', 'starting', 'transferring', 'committing', 'cleaning']);
    expect(first.awaiting).toMatchObject({ vmName: 'web', consistency: status === 'down' ? 'offline' : 'crash' });
    expectClean(at, vm, [first.awaiting!.checkpointId]);

    const second = await runBackup(at, backupOf(vm, { base: baseOf(first) }));
    expect(second.result.outcome).toBe('success');
    expect(modesOf(second)).toEqual({ web_disk1: 'incremental', web_disk2: 'digest-compare cbt-raw' });
    const tasks = at.worker.tasks.slice(2).map((t) => t.backupDisk!);
    expect(tasks.find((t) => t.readScope === 'READ_SCOPE_CHANGED')).toMatchObject({
      basePointId: 'p1',
      diskId: vm.attachments[0]!.diskId,
      baseDiskId: vm.attachments[0]!.diskId,
    });
    expect(tasks.find((t) => t.readScope === 'READ_SCOPE_ALLOCATED')).toMatchObject({ basePointId: '', diskId: vm.attachments[1]!.diskId });
    expectClean(at, vm, [second.awaiting!.checkpointId]);

    const added = at.engine.addDisk({ name: 'added' });
    vm.attachments.push({ ...vm.attachments[0]!, diskId: added.id, bootable: false });
    const third = await runBackup(at, backupOf(vm, { base: baseOf(second, 'p2') }));
    expect(modesOf(third)).toEqual({ web_disk1: 'incremental', web_disk2: 'digest-compare cbt-raw', added: 'full cbt-new-disk' });
    expect(third.result.outcome).toBe('success');
    expectClean(at, vm, [third.awaiting!.checkpointId]);
  });

  it('keeps the configuration of the VM, without masked passwords, and never logs it', async () => {
    await using at = await bench();
    at.engine.tagNames.add('gold');
    const vm = at.engine.addVm('web', [{}]);
    vm.tags.push('gold');
    const run = await runBackup(at, backupOf(vm));
    const kept = JSON.parse(run.awaiting!.configuration) as Record<string, unknown>;
    expect(kept).toMatchObject({
      format: 'tidemark-ovirt-vm',
      version: 1,
      ovf: '<ovf:Envelope/>',
      tags: ['gold'],
      vm: { name: 'web', clusterName: 'Default' },
    });
    expect(kept['attributes']).toMatchObject({ memory: '1073741824', initialization: { host_name: 'web' } });
    expect(JSON.stringify(kept)).not.toContain('******');
    expect(at.file.text + JSON.stringify(at.lines)).not.toMatch(/ovf:Envelope|planted-ticket|\/images\/[0-9a-f]/);
  });

  it('forces a full on demand, and sends the marks and disks that the engine gets', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    const first = await runBackup(at, backupOf(vm));
    const request = backupOf(vm, { base: baseOf(first), forceFull: true });
    const run = await runBackup(at, request);
    expect(modesOf(run)).toEqual({ web_disk1: 'full forced-full' });
    expect(run.result.outcome).toBe('success');
    expect(vm.backups.at(-1)).toMatchObject({
      description: `tidemark job=nightly session=${request.sessionId}`,
      fromCheckpointId: undefined,
    });
  });

  it('leaves out what cannot be captured and says so', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [
      {},
      { shareable: true, name: 'shared' },
      { storageType: 'lun', name: 'lun', status: undefined },
      { name: 'scratch' },
    ]);
    const run = await runBackup(at, backupOf(vm, { excludedDiskIds: [vm.attachments[3]!.diskId] }));
    expect(run.result.outcome).toBe('partial');
    expect(run.notes.map((n) => n.code).sort()).toEqual(expect.arrayContaining(['disk-direct-lun', 'disk-excluded', 'disk-shareable']));
    expect(modesOf(run)).toEqual({ web_disk1: 'full first-backup' });
    expect(JSON.parse(run.awaiting!.configuration)).toMatchObject({
      disks: [{ leftOut: '' }, { leftOut: 'disk-shareable' }, { leftOut: 'disk-direct-lun' }, { leftOut: 'disk-excluded' }],
    });
  });

  it('skips a VM that cannot be backed up, with the reason', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('engine', [{}]);
    vm.vm.origin = 'managed_hosted_engine';
    const run = await runBackup(at, backupOf(vm));
    expect(run.result).toMatchObject({
      outcome: 'skipped',
      failure: { code: 'VM_CANNOT_BE_BACKED_UP', meta: { reason: 'vm-hosted-engine' } },
    });
    expect(vm.backups).toEqual([]);
  });

  it('waits, with a reason, for a locked disk', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{ status: 'locked' }]);
    const run = await runBackup(at, backupOf(vm), {
      each: (event) => {
        if (event.type === 'state' && event.waitingReason === 'disk-locked')
          at.engine.disksById.get(vm.attachments[0]!.diskId)!.status = 'ok';
      },
    });
    expect(run.phases).toContain('preparing(disk-locked)');
    expect(run.result.outcome).toBe('success');
  });

  it('waits for a worker before it touches the engine, and fails when none comes', async () => {
    await using at = await bench(undefined, { workers: 0 });
    const vm = at.engine.addVm('web', [{}]);
    const run = await runBackup(at, backupOf(vm));
    expect(run.phases).toContain('preparing(worker-none)');
    expect(run.result).toMatchObject({ outcome: 'failed', failure: { code: 'WORKER_NONE', retry: 'same-request' } });
    expect(vm.backups).toEqual([]);
  });

  it('has a VM once at a time and knows its platform and VM', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    at.worker.answer = () => 'hang';
    const first = backupOf(vm);
    await at.protection.startBackup(first, 'f');
    await at.protection.startBackup(first, 'f');
    await expect(at.protection.startBackup(first, 'other')).rejects.toMatchObject({ code: 'REQUEST_ID_REUSED' });
    await expect(at.protection.startBackup(backupOf(vm), 'g')).rejects.toMatchObject({ code: 'VM_BUSY' });
    await expect(at.protection.startBackup(backupOf(vm, { vm: { platformId: 'nowhere', vmId: 'x' } }), 'h')).rejects.toMatchObject({
      code: 'PLATFORM_NOT_FOUND',
    });
    await expect(at.protection.startBackup(backupOf(vm, { vm: { platformId: 'platform1', vmId: 'x' } }), 'i')).rejects.toMatchObject({
      code: 'VM_NOT_FOUND',
    });
  });

  it('ends with a note when the proxy was used', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    at.worker.answer = () => ({ readBytes: 1, imagePath: 'IMAGE_PATH_PROXY' });
    const run = await runBackup(at, backupOf(vm));
    expect(run.notes.map((n) => n.code)).toContain('net-path-proxy');
    expect(run.result.outcome).toBe('success');
  });
});

describe('a backup that falls back to full', () => {
  it.each(modes)('%s: when the bitmap of one disk is gone', async (name, level, status) => {
    await using at = await bench(level);
    const vm = at.engine.addVm('web', [{}, {}], status);
    const first = await runBackup(at, backupOf(vm));
    at.engine.brokenBitmaps.add(`${vm.attachments[1]!.diskId}/${first.awaiting!.checkpointId}`);
    const run = await runBackup(at, backupOf(vm, { base: baseOf(first) }));
    expect(run.result.outcome).toBe('warning');
    // A live backup cannot even start: redefining the checkpoint is all or nothing.
    expect(modesOf(run)).toEqual({
      web_disk1: name === 'live' ? 'full cbt-bitmap-invalid' : 'incremental',
      web_disk2: 'full cbt-bitmap-invalid',
    });
    expectClean(at, vm, [run.awaiting!.checkpointId]);
    const next = await runBackup(at, backupOf(vm, { base: baseOf(run, 'p2') }));
    expect(modesOf(next)).toEqual({ web_disk1: 'incremental', web_disk2: 'incremental' });
    expect(next.result.outcome).toBe('success');
  });

  it('when the worker finds no changed extents, for all disks', async () => {
    await using at = await bench({ major: 4, minor: 7 });
    const vm = at.engine.addVm('web', [{}, {}]);
    const first = await runBackup(at, backupOf(vm));
    at.worker.answer = (task) =>
      task.backupDisk?.readScope === 'READ_SCOPE_CHANGED' ? { failure: TestErrors.CHANGED_EXTENTS_UNAVAILABLE({}) } : { readBytes: 5 };
    const run = await runBackup(at, backupOf(vm, { base: baseOf(first) }));
    expect(modesOf(run)).toEqual({ web_disk1: 'full cbt-bitmap-invalid', web_disk2: 'full cbt-bitmap-invalid' });
    expect(run.result.outcome).toBe('warning');
    expectClean(at, vm, [run.awaiting!.checkpointId]);
  });

  it.each([
    ['is not there any more', (vm: FakeVm) => (vm.checkpoints = []), 'cbt-no-checkpoint'],
    ['is invalid', (vm: FakeVm) => (vm.checkpoints[0]!.state = 'invalid'), 'cbt-bitmap-invalid'],
    ['does not cover the disk', (vm: FakeVm) => (vm.checkpoints[0]!.diskIds = []), 'cbt-disk-moved'],
  ])('when the checkpoint %s', async (_name, spoil, reason) => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    const first = await runBackup(at, backupOf(vm));
    spoil(vm);
    const run = await runBackup(at, backupOf(vm, { base: baseOf(first) }));
    expect(modesOf(run)).toEqual({ web_disk1: `full ${reason}` });
    expect(run.result.outcome).toBe('warning');
    expectClean(at, vm, [run.awaiting!.checkpointId]);
  });

  it('when the checkpoint vanishes between the look and the start', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    const first = await runBackup(at, backupOf(vm));
    at.engine.before = (call, args) => {
      if (call === 'backups.start' && (args[1] as { fromCheckpointId?: string }).fromCheckpointId) vm.checkpoints = [];
    };
    const run = await runBackup(at, backupOf(vm, { base: baseOf(first) }));
    expect(modesOf(run)).toEqual({ web_disk1: 'full cbt-no-checkpoint' });
    expect(run.result.outcome).toBe('warning');
  });
});

describe('a backup that fails', () => {
  const conflictFor = (text: string) => EngineErrors.ENGINE_CONFLICT({ operation: 'POST', detail: text });

  it.each([
    [
      'the engine refuses the backup',
      'backups.start',
      EngineErrors.ENGINE_REFUSED({ operation: 'POST', httpStatus: 400, detail: 'no' }),
      'ENGINE_REFUSED',
    ],
    [
      'a permit is missing',
      'backups.start',
      EngineErrors.ENGINE_PERMISSION_MISSING({ operation: 'POST', detail: 'BACKUP_DISK' }),
      'ENGINE_PERMISSION_MISSING',
    ],
    ['the engine never lets go of a lock', 'backups.start', conflictFor('VM is locked'), 'ENGINE_CONFLICT'],
    [
      'the transfer is refused',
      'transfers.create',
      EngineErrors.ENGINE_REFUSED({ operation: 'POST', httpStatus: 400, detail: 'no' }),
      'ENGINE_REFUSED',
    ],
    ['the disks of the backup cannot be read', 'backups.disks', EngineErrors.ENGINE_NOT_FOUND({ what: 'backup' }), 'ENGINE_NOT_FOUND'],
  ])('because %s leaves the engine clean', async (_name, call, error, code) => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}, {}]);
    at.engine.before = (name) => {
      if (name === call) throw error;
    };
    const run = await runBackup(at, backupOf(vm));
    expect(run.result).toMatchObject({ outcome: 'failed', failure: { code }, leftForJanitor: [] });
    expect(run.phases.at(-1)).toBe('cleaning');
    expectClean(at, vm, []);
  });

  it('in the engine while it starts: with the reason from its events', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    at.engine.startFailure = 'Failed to create scratch disk';
    const run = await runBackup(at, backupOf(vm));
    expect(run.result).toMatchObject({
      outcome: 'failed',
      failure: { code: 'ENGINE_BACKUP_FAILED', message: expect.stringContaining('scratch disk') },
    });
    expectClean(at, vm, []);
  });

  it('because the guest could not be frozen', async () => {
    await using at = await bench({ major: 4, minor: 7 });
    const vm = at.engine.addVm('web', [{}]);
    at.engine.startFailure = 'freeze failed';
    const run = await runBackup(at, backupOf(vm, { requireConsistency: true }));
    expect(run.result.failure?.code).toBe('FREEZE_FAILED');
    expect(vm.backups[0]?.mode).toBe('live');
    expectClean(at, vm, []);
  });

  it('because the worker is lost', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}, {}]);
    at.worker.answer = () => {
      at.worker.kill();
      return 'hang';
    };
    const run = await runBackup(at, backupOf(vm));
    expect(run.result).toMatchObject({ outcome: 'failed', failure: { code: 'WORKER_LOST', retry: 'same-request' } });
    expectClean(at, vm, []);
  });

  it('because one disk fails: the other is stopped', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{ provisionedBytes: 2 ** 31 }, {}]);
    at.worker.answer = (task) =>
      task.backupDisk?.diskId === vm.attachments[0]!.diskId ? 'hang' : { failure: CommonErrors.INTERNAL({ what: 'worker' }) };
    const run = await runBackup(at, backupOf(vm));
    expect(run.result).toMatchObject({ outcome: 'failed', failure: { code: 'INTERNAL' } });
    expect(at.worker.cancelled).toHaveLength(1);
    expectClean(at, vm, []);
  });

  it('because the host does not commit: the new checkpoint goes, the old one stays', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    const first = await runBackup(at, backupOf(vm));
    const run = await runBackup(at, backupOf(vm, { base: baseOf(first) }), { verdict: () => false });
    expect(run.result).toMatchObject({ outcome: 'failed', failure: { code: 'POINT_NOT_COMMITTED' } });
    expectClean(at, vm, [first.awaiting!.checkpointId]);
    const silent = await runBackup(at, backupOf(vm, { base: baseOf(first) }), { verdict: () => undefined });
    expect(silent.result.failure?.code).toBe('COMMIT_NOT_CONFIRMED');
    expectClean(at, vm, [first.awaiting!.checkpointId]);
  });

  it('never because of what happens after the commit', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    const first = await runBackup(at, backupOf(vm));
    const run = await runBackup(at, backupOf(vm, { base: baseOf(first) }), {
      verdict: () => {
        at.engine.before = (call) => {
          if (call.startsWith('checkpoints.') || call === 'backups.finalize')
            throw EngineErrors.ENGINE_PERMISSION_MISSING({ operation: call, detail: 'BACKUP_DISK' });
        };
        return true;
      },
    });
    expect(run.result.outcome).toBe('warning');
    expect(run.result.leftForJanitor).toHaveLength(1);
    expect(run.notes.map((n) => n.code)).toContain('engine-not-clean');
    at.engine.before = () => undefined;
    await at.janitor.sweep(600_000);
    // The committed checkpoint stays, whoever ends the backup.
    expect(at.engine.leftovers()).toEqual([]);
    expect(at.journal.openEntries()).toEqual([]);
    expect(at.engine.checkpointsOf(vm)).toContain(run.awaiting!.checkpointId);
  });
});

describe('a backup goes on', () => {
  it('over an engine restart of minutes', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    at.worker.answer = async () => {
      void at.engine.restart(240_000);
      await quick.sleep(60_000);
      return { readBytes: 9 };
    };
    const run = await runBackup(at, backupOf(vm));
    expect(run.result.outcome).toBe('success');
    expectClean(at, vm, [run.awaiting!.checkpointId]);
  });

  it.each(['backups.start', 'transfers.create', 'transfers.finalize', 'backups.finalize', 'checkpoints.remove'])(
    'after a lost answer to %s',
    async (lost) => {
      await using at = await bench();
      const vm = at.engine.addVm('web', [{}]);
      const first = await runBackup(at, backupOf(vm));
      let times = 0;
      at.engine.after = (call) => {
        if (call === lost && ++times === 1) throw EngineErrors.ENGINE_UNAVAILABLE({ engine: 'fake', problem: 'reset' });
      };
      const run = await runBackup(at, backupOf(vm, { base: baseOf(first) }));
      expect(times).toBeGreaterThan(0);
      expect(run.result.outcome).toBe('success');
      expectClean(at, vm, [run.awaiting!.checkpointId]);
      expect(vm.backups).toHaveLength(2);
    },
  );

  it('with a fresh transfer when the ticket is gone', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    at.worker.answer = () => (at.worker.tasks.length === 1 ? { failure: TestErrors.TICKET_EXPIRED({}), readBytes: 3 } : { readBytes: 9 });
    const run = await runBackup(at, backupOf(vm));
    expect(run.result.outcome).toBe('success');
    expect(new Set(at.worker.tasks.map((t) => t.backupDisk?.imageTransfer?.transferUrl)).size).toBe(2);
    expectClean(at, vm, [run.awaiting!.checkpointId]);
  });

  it('when transfers cannot start for a moment, without taking it for a lost bitmap', async () => {
    await using at = await bench({ major: 4, minor: 7 });
    const vm = at.engine.addVm('web', [{}]);
    const first = await runBackup(at, backupOf(vm));
    at.engine.failingTransfers = 1;
    const run = await runBackup(at, backupOf(vm, { base: baseOf(first) }));
    expect(modesOf(run)).toEqual({ web_disk1: 'incremental' });
    expect(run.result.outcome).toBe('success');
  });

  it('although the engine forgets finished transfers and backups at once', async () => {
    await using at = await bench();
    at.engine.forgetful = true;
    const vm = at.engine.addVm('web', [{}]);
    const run = await runBackup(at, backupOf(vm));
    expect(run.result.outcome).toBe('success');
    expectClean(at, vm, [run.awaiting!.checkpointId]);
  });

  it('until the snapshot of a hybrid backup is merged, also at the third try', async () => {
    await using at = await bench({ major: 4, minor: 7 });
    at.engine.failingMerges = 2;
    const vm = at.engine.addVm('web', [{}]);
    const run = await runBackup(at, backupOf(vm));
    expect(run.result.outcome).toBe('success');
    expectClean(at, vm, [run.awaiting!.checkpointId]);
  });

  it('and lets go only of checkpoints of its own job', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    const checkpoint = (id: string, description: string) => ({
      id,
      description,
      parentId: undefined,
      state: 'created',
      createdAt: undefined,
      diskIds: [],
    });
    vm.checkpoints.push(
      checkpoint('foreign', 'other product'),
      checkpoint('weekly', 'tidemark job=weekly session=1'),
      checkpoint('stale', 'tidemark job=nightly session=0'),
    );
    const run = await runBackup(at, backupOf(vm));
    expect(run.result.outcome).toBe('success');
    expect(at.engine.checkpointsOf(vm)).toEqual(['foreign', 'weekly', run.awaiting!.checkpointId]);
  });
});

describe('cancelling a backup', () => {
  it.each([
    ['while it waits for a locked disk', 'preparing(disk-locked)'],
    ['while the engine starts it', 'starting'],
    ['while it transfers', 'transferring'],
    ['while it awaits the commit', 'committing'],
  ])('%s ends it cancelled with a clean engine', async (_name, phase) => {
    for (const level of [
      { major: 4, minor: 6 },
      { major: 4, minor: 7 },
    ]) {
      await using at = await bench(level);
      const vm = at.engine.addVm('web', [{}, {}]);
      if (phase.includes('locked')) at.engine.disksById.get(vm.attachments[0]!.diskId)!.status = 'locked';
      at.worker.answer = () => (phase === 'transferring' ? 'hang' : { readBytes: 1 });
      const request = backupOf(vm);
      const run = await runBackup(at, request, {
        verdict: () => undefined,
        each: async (event) => {
          const name = event.type === 'state' && (event.waitingReason === '' ? event.phase : `${event.phase}(${event.waitingReason})`);
          if (name !== phase) return;
          if (phase === 'transferring') await eventually('tasks', () => at.worker.tasks.length > 0);
          at.protection.cancel(request.operationId);
        },
      });
      expect(run.result).toMatchObject({ outcome: 'cancelled', failure: { code: 'CANCELLED' }, leftForJanitor: [] });
      if (phase.includes('locked')) at.engine.disksById.get(vm.attachments[0]!.diskId)!.status = 'ok';
      expectClean(at, vm, []);
      at.protection.cancel(request.operationId);
    }
  });

  it('after the commit changes nothing', async () => {
    await using at = await bench();
    const vm = at.engine.addVm('web', [{}]);
    const request = backupOf(vm);
    const run = await runBackup(at, request, {
      each: (event) => {
        if (event.type === 'state' && event.phase === 'cleaning') at.protection.cancel(request.operationId);
      },
    });
    expect(run.result.outcome).toBe('success');
    expectClean(at, vm, [run.awaiting!.checkpointId]);
  });
});
