import { randomUUID } from 'node:crypto';
import { CommonErrors } from '../../common/errors/common-errors';
import { EngineErrors } from '../engine/engine-errors';
import { eventually } from '../testing/eventually';
import type { FakeVm } from '../testing/fake-rows';
import { backupOf, platformId, runBackup, runRestore, startBench } from '../testing/protection-bench';
import type { Bench } from '../testing/protection-bench';
import type { NewVmTarget, RestoreRequest } from './requests';

const newVm: NewVmTarget = {
  kind: 'new-vm',
  name: 'restored',
  clusterId: '',
  storageDomainId: '',
  storageDomains: new Map(),
  vnicProfiles: new Map(),
  macPolicy: 'keep-if-free',
  powerOn: false,
};

/** A backed-up VM with two disks, and the request that restores it. */
async function backedUp(at: Bench): Promise<{ vm: FakeVm; restore: (more?: Partial<RestoreRequest>) => RestoreRequest }> {
  at.engine.tagNames.add('gold');
  const vm = at.engine.addVm('web', [{}, { format: 'raw', sparse: false, name: 'data' }]);
  vm.tags.push('gold', 'gone');
  vm.vm.description = 'the web server';
  const run = await runBackup(at, backupOf(vm));
  const { disks = [], configuration = '' } = run.awaiting ?? {};
  return {
    vm,
    restore: (more = {}) => ({
      operationId: randomUUID(),
      platformId,
      sessionId: 's1',
      dataPath: { endpoints: ['mover:8445'] },
      pointId: 'p1',
      disks: disks.map((d) => d.disk),
      configuration,
      target: newVm,
      transport: 'auto',
      ...more,
    }),
  };
}

function found(at: Bench, name: string): FakeVm {
  return [...at.engine.vmsById.values()].find((v) => v.vm.name === name)!;
}

/** Nothing but the original. */
function expectUntouched(at: Bench, vm: FakeVm): void {
  expect(at.engine.leftovers()).toEqual([]);
  expect(at.journal.openEntries()).toEqual([]);
  expect([...at.engine.vmsById.keys()]).toEqual([vm.vm.id]);
  expect([...at.engine.disksById.keys()].sort()).toEqual(vm.attachments.map((a) => a.diskId).sort());
}

describe('restoring a VM', () => {
  it('makes it anew with disks, NICs, tags and description, and leaves the original alone', async () => {
    await using at = await startBench();
    const { vm, restore } = await backedUp(at);
    const run = await runRestore(at, restore());
    const made = found(at, 'restored');
    expect(run.result).toMatchObject({ outcome: 'success', createdId: made.vm.id, leftForJanitor: [] });
    expect(made.vm).toMatchObject({ description: 'the web server', status: 'down' });
    expect(made.attachments.map((a) => [a.bootable, a.interface, a.active])).toEqual([
      [true, 'virtio_scsi', true],
      [false, 'virtio_scsi', true],
    ]);
    const disks = made.attachments.map((a) => at.engine.disksById.get(a.diskId)!);
    expect(disks.map((d) => [d.name, d.format, d.sparse, d.status])).toEqual([
      ['web_disk1', 'cow', true, 'ok'],
      ['data', 'raw', false, 'ok'],
    ]);
    expect(made.tags).toEqual(['gold']);
    // The original has the address, so the copy got another one.
    expect(run.notes.map((n) => n.code).sort()).toEqual(['mac-changed', 'tags-missing']);
    expect(made.nics).toMatchObject([{ name: 'nic1', vnicProfileId: 'profile1' }]);
    expect(made.nics[0]!.macAddress).not.toBe(vm.nics[0]!.macAddress);
    expect(run.progress.map((p) => p.diskName).sort()).toEqual(expect.arrayContaining(['data', 'web_disk1']));
    expect(vm.attachments).toHaveLength(2);
    expect(at.engine.leftovers()).toEqual([]);
    expect(at.journal.openEntries()).toEqual([]);
  });

  it('keeps addresses when asked to and free, refuses when taken, and draws new ones on demand', async () => {
    await using at = await startBench();
    const { vm, restore } = await backedUp(at);
    const taken = await runRestore(at, restore({ target: { ...newVm, macPolicy: 'keep' } }));
    expect(taken.result).toMatchObject({ outcome: 'failed', failure: { code: 'MAC_IN_USE' } });
    expectUntouched(at, vm);
    const fresh = await runRestore(at, restore({ target: { ...newVm, macPolicy: 'new' } }));
    expect(fresh.notes.map((n) => n.code)).toEqual(['tags-missing']);
    const address = vm.nics[0]!.macAddress;
    vm.nics = [];
    await runRestore(at, restore({ target: { ...newVm, name: 'second', macPolicy: 'keep' } }));
    expect(found(at, 'second').nics[0]!.macAddress).toBe(address);
  });

  it('maps storage domains and vNIC profiles, and starts it', async () => {
    await using at = await startBench();
    const { restore } = await backedUp(at);
    at.engine.domains.set('san', { storageType: 'iscsi', status: 'active' });
    at.engine.profiles.set('profile2', 'lan');
    const target = { ...newVm, storageDomains: new Map([['sd1', 'san']]), vnicProfiles: new Map([['profile1', '']]), powerOn: true };
    await runRestore(at, restore({ target }));
    const made = found(at, 'restored');
    expect(made.vm.status).toBe('up');
    expect(made.nics[0]).toMatchObject({ vnicProfileId: undefined });
    expect(made.attachments.map((a) => at.engine.disksById.get(a.diskId)).map((d) => [d!.storageDomainId, d!.sparse])).toEqual([
      ['san', true],
      ['san', false],
    ]);
  });

  it('names it after the original and the time when no name is given', async () => {
    await using at = await startBench();
    const { restore } = await backedUp(at);
    const run = await runRestore(at, restore({ target: { ...newVm, name: '' } }));
    expect(at.engine.vmsById.get(run.result.createdId)?.vm.name).toMatch(/^web-restored-\d{8}-\d{4}$/);
  });

  it.each<[string, Partial<NewVmTarget>, Partial<RestoreRequest>, string]>([
    ['a name that is taken', { name: 'web' }, {}, 'VM_NAME_TAKEN'],
    ['a name that is not allowed', { name: 'a b' }, {}, 'VM_NAME_INVALID'],
    ['an unknown cluster', { clusterId: 'x' }, {}, 'RESTORE_TARGET_NOT_FOUND'],
    ['an unknown storage domain', { storageDomainId: 'x' }, {}, 'RESTORE_TARGET_NOT_FOUND'],
    ['an unknown vNIC profile', { vnicProfiles: new Map([['profile1', 'x']]) }, {}, 'RESTORE_TARGET_NOT_FOUND'],
    ['a configuration that is not one', {}, { configuration: '{"version":9}' }, 'CONFIGURATION_UNREADABLE'],
    ['an unknown platform', {}, { platformId: 'x' }, 'PLATFORM_NOT_FOUND'],
  ])('refuses %s before anything is made', async (_name, target, more, code) => {
    await using at = await startBench();
    const { vm, restore } = await backedUp(at);
    const request = restore({ ...more, target: { ...newVm, ...target } });
    await expect(at.protection.startRestore(request, 'f')).rejects.toMatchObject({ code });
    expectUntouched(at, vm);
  });

  it('answers a repetition after it has ended', async () => {
    await using at = await startBench();
    const { restore } = await backedUp(at);
    const request = restore();
    await runRestore(at, request);
    await at.protection.startRestore(request, request.operationId);
    await expect(at.protection.startRestore(request, 'other')).rejects.toMatchObject({ code: 'REQUEST_ID_REUSED' });
    expect([...at.engine.vmsById.values()].filter((v) => v.vm.name === 'restored')).toHaveLength(1);
  });

  const refuse = EngineErrors.ENGINE_REFUSED({ operation: 'POST', httpStatus: 409, detail: 'no' });
  it.each(['vms.create', 'nics.add', 'disks.create', 'transfers.create', 'transfers.finalize', 'diskAttachments.add'])(
    'removes all it made when %s fails',
    async (call) => {
      await using at = await startBench();
      const { vm, restore } = await backedUp(at);
      at.engine.before = (name) => {
        if (name === call) throw refuse;
      };
      const run = await runRestore(at, restore());
      expect(run.result).toMatchObject({ outcome: 'failed', failure: { code: 'ENGINE_REFUSED' }, leftForJanitor: [] });
      expectUntouched(at, vm);
    },
  );

  it.each(['vms.create', 'disks.create', 'transfers.create', 'diskAttachments.add', 'transfers.finalize'])(
    'goes on after a lost answer to %s',
    async (lost) => {
      await using at = await startBench();
      const { restore } = await backedUp(at);
      let times = 0;
      at.engine.after = (call) => {
        if (call === lost && ++times === 1) throw EngineErrors.ENGINE_UNAVAILABLE({ engine: 'fake', problem: 'reset' });
      };
      const run = await runRestore(at, restore());
      // The real client looks for a disk or attachment by its id; the one in memory answers "exists", which is a refusal.
      if (lost === 'disks.create') expect(run.result.outcome).toBe('failed');
      else expect(run.result.outcome).toBe('success');
      expect(at.engine.leftovers()).toEqual([]);
      expect(at.journal.openEntries()).toEqual([]);
    },
  );

  it('does not wait for a disk that its own upload locks, which the engine had just made when it was killed', async () => {
    await using at = await startBench();
    const { vm, restore } = await backedUp(at);
    const asked: string[] = [];
    at.engine.after = (call) => {
      if (call !== 'transfers.create') return;
      asked.push(call);
      if (asked.length > 1) return;
      for (const transfer of at.engine.transfersById.values()) if (transfer.phase === 'initializing') transfer.phase = 'paused_system';
      throw EngineErrors.ENGINE_UNAVAILABLE({ engine: 'fake', problem: 'reset' });
    };
    const run = await runRestore(at, restore());
    expect(run.result).toMatchObject({
      outcome: 'failed',
      failure: { code: 'TRANSFER_NOT_STARTED', retry: 'same-request', meta: { phase: 'paused_system' } },
      leftForJanitor: [],
    });
    expectUntouched(at, vm);
  });

  it.each([
    ['fails', () => ({ failure: CommonErrors.PEER_UNAVAILABLE({ peer: 'mover' }) }), 'PEER_UNAVAILABLE'],
    ['is lost', (at: Bench) => (at.worker.kill(), 'hang' as const), 'WORKER_LOST'],
  ])('removes all it made when the worker %s', async (_name, answer, code) => {
    await using at = await startBench();
    const { vm, restore } = await backedUp(at);
    at.worker.answer = () => answer(at);
    const run = await runRestore(at, restore());
    expect(run.result).toMatchObject({ outcome: 'failed', failure: { code }, leftForJanitor: [] });
    expectUntouched(at, vm);
  });

  it('removes all it made when it is cancelled while it writes', async () => {
    await using at = await startBench();
    const { vm, restore } = await backedUp(at);
    at.worker.answer = () => 'hang';
    const request = restore();
    const before = at.worker.tasks.length;
    const run = await runRestore(at, request, {
      each: async (event) => {
        if (event.type !== 'state' || event.phase !== 'transferring') return;
        await eventually('tasks', () => at.worker.tasks.length > before);
        at.protection.cancel(request.operationId);
      },
    });
    expect(run.result).toMatchObject({ outcome: 'cancelled', leftForJanitor: [] });
    expect(at.worker.cancelled.length).toBeGreaterThan(0);
    expectUntouched(at, vm);
  });
});

describe('restoring a disk', () => {
  it('makes it anew, attached to nothing', async () => {
    await using at = await startBench();
    const { restore } = await backedUp(at);
    const whole = restore();
    const run = await runRestore(at, {
      ...whole,
      disks: whole.disks.slice(0, 1),
      target: { kind: 'new-disk', storageDomainId: 'sd1', name: 'copy' },
    });
    expect(run.result.outcome).toBe('success');
    expect(at.engine.disksById.get(run.result.createdId)).toMatchObject({ name: 'copy', status: 'ok', format: 'cow' });
    expect(at.journal.openEntries()).toEqual([]);
    expect(at.worker.tasks.at(-1)?.restoreDisk).toMatchObject({ pointId: 'p1', diskId: whole.disks[0]!.diskId });
    const nowhere = { ...whole, operationId: randomUUID(), target: { kind: 'new-disk' as const, storageDomainId: 'x', name: '' } };
    await expect(at.protection.startRestore(nowhere, 'f')).rejects.toMatchObject({ code: 'RESTORE_TARGET_NOT_FOUND' });
  });

  it('is a failure, and nothing stays, when the engine does not accept what was written', async () => {
    await using at = await startBench();
    const { vm, restore } = await backedUp(at);
    at.engine.before = (call, args) => {
      if (call !== 'transfers.finalize') return;
      const transfer = at.engine.transfersById.get(String(args[0]))!;
      transfer.phase = 'finished_failure';
      at.engine.disksById.delete(transfer.diskId!);
    };
    const whole = restore();
    const run = await runRestore(at, {
      ...whole,
      disks: whole.disks.slice(0, 1),
      target: { kind: 'new-disk', storageDomainId: '', name: '' },
    });
    expect(run.result).toMatchObject({ outcome: 'failed', failure: { code: 'RESTORED_DISK_LOST' } });
    expectUntouched(at, vm);
  });
});

describe('restoring to a file', () => {
  it('is a task for a worker beside the server, without any engine', async () => {
    await using at = await startBench();
    const { restore } = await backedUp(at);
    at.engine.away = true;
    const whole = restore();
    const request = {
      ...whole,
      platformId: '',
      disks: whole.disks.slice(0, 1),
      target: { kind: 'file' as const, path: '/srv/out.qcow2', format: 'qcow2' },
    };
    const run = await runRestore(at, request);
    expect(run.result).toMatchObject({ outcome: 'success', createdId: '/srv/out.qcow2' });
    expect(at.worker.tasks.at(-1)?.restoreDisk?.localFile).toMatchObject({ path: '/srv/out.qcow2', format: 'FILE_FORMAT_QCOW2' });
  });

  it.each([
    ['out.raw', 'raw'],
    ['/srv/', 'raw'],
    ['/srv/out', 'vmdk'],
  ])('refuses %s as %s', async (path, format) => {
    await using at = await startBench();
    const { restore } = await backedUp(at);
    const request = { ...restore(), target: { kind: 'file' as const, path, format } };
    await expect(at.protection.startRestore(request, 'f')).rejects.toMatchObject({ code: 'TARGET_PATH_INVALID' });
  });
});
