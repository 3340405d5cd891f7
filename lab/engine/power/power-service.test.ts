import { EngineBench, type BenchOptions } from '../testing/engine-bench';
import { FakeFleet } from '../testing/fake-fleet';

describe('power of machines in the simulated engine', () => {
  let fleet: FakeFleet;
  let bench: EngineBench;

  const open = async (options: BenchOptions = {}): Promise<void> => {
    fleet = new FakeFleet();
    bench = await EngineBench.open(fleet, options);
  };
  afterEach(() => bench.close());

  const act = async (vmId: string, action: string, body: object = {}): Promise<string> => {
    const answer = await bench.call('POST', `/vms/${vmId}/${action}`, { ...body });
    return `${String(answer.status)} ${String(answer.refusal ?? 'accepted')}`;
  };
  const statusOf = (vmId: string): string => bench.db.vms.require(vmId).status;
  const reach = (vmId: string, status: string): Promise<void> =>
    bench.until(() => statusOf(vmId) === status, `VM ${status}, is ${statusOf(vmId)}`);

  it('starts over wait_for_launch and powering_up, stops and shuts down', async () => {
    await open();
    const { vm } = await bench.addVm('web', [{}]);
    const seen = new Set<string>();
    expect(await act(vm.id, 'start')).toBe('200 accepted');
    await bench.until(() => {
      seen.add(statusOf(vm.id));
      return statusOf(vm.id) === 'up';
    }, 'up');
    expect(seen.has('wait_for_launch')).toBe(true);
    expect(bench.db.vms.require(vm.id).hostId).toBeDefined();
    expect(await act(vm.id, 'start')).toBe('409 VM_IS_RUNNING');
    expect(await act(vm.id, 'reboot')).toBe('200 accepted');
    expect(statusOf(vm.id)).toBe('reboot_in_progress');
    await reach(vm.id, 'up');
    expect(await act(vm.id, 'shutdown')).toBe('200 accepted');
    expect(statusOf(vm.id)).toBe('powering_down');
    await reach(vm.id, 'down');
    expect(fleet.calls.find((call) => call.method === 'stopVm')?.args).toEqual([vm.id, true]);
    expect(await act(vm.id, 'stop')).toBe('409 VM_IS_NOT_RUNNING');
    await bench.startVm(vm.id);
    await act(vm.id, 'stop', { force: true });
    await reach(vm.id, 'down');
    expect(fleet.calls.filter((call) => call.method === 'stopVm').at(-1)?.args).toEqual([vm.id, false]);
  });

  it('returns to down when the host cannot start it', async () => {
    await open();
    const { vm } = await bench.addVm('web', [{}]);
    fleet.failNext('startVm', 'QEMU_REFUSED');
    await act(vm.id, 'start');
    await bench.until(() => bench.eventCodes().includes(54), 'failure');
    expect(statusOf(vm.id)).toBe('down');
    expect(bench.core.locks.list()).toEqual([]);
  });

  it('refuses to start without boot disk, host, or with locked disks', async () => {
    await open();
    const { vm, disks } = await bench.addVm('web', [{ bootable: false }]);
    expect(await act(vm.id, 'start')).toBe('409 NO_BOOTABLE_DISK');
    await bench.call('PUT', `/vms/${vm.id}/diskattachments/${disks[0]?.id ?? ''}`, { bootable: true });
    bench.db.disks.update(disks[0]?.id ?? '', { status: 'locked' });
    expect(await act(vm.id, 'start')).toBe('409 DISKS_LOCKED');
    bench.db.disks.update(disks[0]?.id ?? '', { status: 'ok' });
    for (const id of bench.hostIds) bench.db.hosts.update(id, { status: 'maintenance' });
    expect(await act(vm.id, 'start')).toBe('409 NO_HOST_FITS');
    expect(bench.core.locks.list()).toEqual([]);
  });

  it('suspends and comes back, and migrates to the other host', async () => {
    await open();
    const { vm } = await bench.addVm('web', [{}], 'up');
    await act(vm.id, 'suspend');
    expect(statusOf(vm.id)).toBe('suspended');
    await act(vm.id, 'start');
    expect(statusOf(vm.id)).toBe('restoring_state');
    await reach(vm.id, 'up');
    const before = bench.db.vms.require(vm.id).hostId;
    expect(await act(vm.id, 'migrate')).toBe('200 accepted');
    expect(statusOf(vm.id)).toBe('migrating');
    await reach(vm.id, 'up');
    expect(bench.db.vms.require(vm.id).hostId).not.toBe(before);
  });

  it('notices that a process died', async () => {
    await open();
    const { vm } = await bench.addVm('web', [{}], 'up');
    fleet.crashVm(vm.id);
    await reach(vm.id, 'down');
    expect(bench.eventCodes()).toContain(119);
    expect(bench.db.vms.require(vm.id).hostId).toBeUndefined();
  });

  it('freezes and thaws only what is up, and says when the agent does not answer', async () => {
    await open();
    const { vm } = await bench.addVm('web', [{}], 'up');
    expect(await act(vm.id, 'freezefilesystems')).toBe('200 accepted');
    expect(await act(vm.id, 'thawfilesystems')).toBe('200 accepted');
    fleet.failNext('freeze', 'FREEZE_FAILED');
    expect((await bench.call('POST', `/vms/${vm.id}/freezefilesystems`)).detail).toBe('[]');
    expect(bench.eventCodes()).toContain(10769);
    await act(vm.id, 'stop');
    await reach(vm.id, 'down');
    expect(await act(vm.id, 'freezefilesystems')).toBe('409 VM_IS_NOT_UP');
  });

  it('after a restart takes over what runs and notices what died meanwhile', async () => {
    await open();
    const [alive, dead] = [await bench.addVm('alive', [{}], 'up'), await bench.addVm('dead', [{}], 'up')];
    fleet.vms.delete(dead.vm.id);
    await bench.restart();
    expect([statusOf(alive.vm.id), statusOf(dead.vm.id)]).toEqual(['up', 'down']);
    fleet.crashVm(alive.vm.id);
    await reach(alive.vm.id, 'down');
    expect(bench.eventCodes().filter((code) => code === 119)).toHaveLength(2);
  });
});
