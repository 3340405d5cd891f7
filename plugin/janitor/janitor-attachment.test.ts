/** What a killed backup by attachment leaves: disks on worker VMs, snapshots, a guest that stands still. */
import { EngineErrors } from '../engine/engine-errors';
import { eventually } from '../testing/eventually';
import type { FakeVm } from '../testing/fake-rows';
import type { JournalEntry } from '../journal/records';
import { MemoryJournalFile } from '../testing/memory-journal-file';
import { addWorkerVm, backupOf, newEngine, platformId, runBackup, startBench } from '../testing/protection-bench';
import type { Bench } from '../testing/protection-bench';

/** Runs a backup by attachment until a call of the engine, or until both disks are read, then kills the process. */
async function killed(at: { call?: string; requireConsistency?: boolean } = {}) {
  const engine = newEngine();
  const workerVm = addWorkerVm(engine);
  const file = new MemoryJournalFile();
  const dead = await startBench({ engine, file, workers: 0, workerVms: [workerVm] });
  const vm = engine.addVm('web', [{}, {}]);
  dead.worker.answer = () => 'hang';
  if (at.call !== undefined) engine.after = (call) => call === at.call && dead.mortal.kill();
  const request = backupOf(vm, { transport: 'disk-attachment', requireConsistency: at.requireConsistency === true });
  await dead.protection.startBackup(request, 'f');
  await eventually('the moment', () => dead.mortal.dead || dead.worker.tasks.length === 2);
  dead.mortal.kill();
  await dead[Symbol.asyncDispose]();
  engine.after = () => undefined;
  const restart = () => startBench({ engine, file, workers: 0, workerVms: [workerVm] });
  return { engine, file, vm, worker: engine.vmsById.get(workerVm.vmId)!, restart, operationId: request.operationId };
}

const ended = { outcome: 'success' as const, createdId: '', disks: [], leftForJanitor: [] };

const isClean = (at: Bench, worker: FakeVm) =>
  at.engine.leftovers().length === 0 && at.journal.openEntries().length === 0 && worker.attachments.length === 1;

describe('the janitor', () => {
  it('takes disks off the worker before it merges the snapshot, and reports each', async () => {
    const { engine, worker, restart } = await killed();
    expect(worker.attachments).toHaveLength(3);
    await using at = await restart();
    engine.calls.length = 0;
    at.janitor.start();
    await eventually('a clean engine', () => isClean(at, worker));
    expect(engine.calls.lastIndexOf('diskAttachments.detach')).toBeLessThan(engine.calls.indexOf('snapshots.remove'));
    await eventually('the report', () => at.janitor.report().length === 3);
    expect(
      at.janitor
        .report()
        .map((one) => `${one.kind} ${one.state}`)
        .sort(),
    ).toEqual(['attachment removed', 'attachment removed', 'snapshot removed']);
    expect(at.janitor.hasPending(platformId)).toBe(false);
  });

  it('thaws a guest that was left frozen', async () => {
    const { engine, vm, worker, restart } = await killed({ call: 'vms.freezeFileSystems', requireConsistency: true });
    expect(engine.frozen.has(vm.vm.id)).toBe(true);
    await using at = await restart();
    at.janitor.start();
    await eventually('a guest that moves', () => engine.frozen.size === 0);
    await eventually('a clean engine', () => isClean(at, worker));
  });

  it('has nothing to thaw in a VM that is down by now', async () => {
    const { engine, vm, worker, restart } = await killed({ call: 'vms.freezeFileSystems', requireConsistency: true });
    vm.vm.status = 'down';
    engine.frozen.clear();
    await using at = await restart();
    at.janitor.start();
    await eventually('a clean engine', () => isClean(at, worker));
  });

  it('finds by its description a snapshot whose answer was lost, and leaves those of others alone', async () => {
    const { vm, worker, restart } = await killed({ call: 'snapshots.create' });
    const foreign = { ...vm.snapshots[0]!, id: 'foreign', description: 'before the upgrade', status: 'ok' };
    vm.snapshots.unshift(foreign);
    await using at = await restart();
    at.janitor.start();
    await eventually('only the foreign one', () => vm.snapshots.map((s) => s.type).join() === 'regular,active');
    expect(vm.snapshots[0]).toBe(foreign);
    await eventually('no entries', () => at.journal.openEntries().length === 0);
    expect(worker.attachments).toHaveLength(1);
  });

  it('leaves a disk alone that somebody else has attached to the worker since', async () => {
    const { worker, vm, restart } = await killed();
    worker.attachments = worker.attachments.map((a) => (a.snapshotId === undefined ? a : { ...a, snapshotId: 'of somebody else' }));
    await using at = await restart();
    at.janitor.start();
    await eventually('no entries', () => at.journal.openEntries().length === 0);
    expect(worker.attachments).toHaveLength(3);
    expect(vm.snapshots).toHaveLength(1);
  });

  it.each([
    ['the worker VM is gone', ({ engine, worker }: Awaited<ReturnType<typeof killed>>) => void engine.vmsById.delete(worker.vm.id)],
    ['the VM is gone, its snapshots with it', ({ engine, vm }: Awaited<ReturnType<typeof killed>>) => void engine.vmsById.delete(vm.vm.id)],
    ['the worker VM is down', ({ worker }: Awaited<ReturnType<typeof killed>>) => void (worker.vm.status = 'down')],
  ])('is through with it when %s', async (_name, change) => {
    const left = await killed();
    change(left);
    await using at = await left.restart();
    at.janitor.start();
    await eventually('no entries', () => at.journal.openEntries().length === 0 && at.engine.leftovers().length === 0);
  });

  it('calls a disk stuck that the guest never lets go of, names the worker, and goes on trying', async () => {
    const { engine, worker, restart } = await killed();
    engine.before = (call) => {
      if (call === 'diskAttachments.detach' || call === 'diskAttachments.unplug')
        throw EngineErrors.ENGINE_CONFLICT({ operation: call, detail: 'Failed to hot-unplug disk' });
    };
    await using at = await restart();
    at.janitor.start();
    await eventually('stuck', () => at.janitor.report().some((one) => one.state === 'stuck' && one.kind === 'attachment'));
    expect(at.janitor.report().find((one) => one.kind === 'attachment')?.message).toContain(worker.vm.id);
    expect(engine.calls).not.toContain('snapshots.remove');
    engine.before = () => undefined;
    await eventually('a clean engine', () => isClean(at, worker));
  });

  it('leaves a disk alone that a later run has attached, also where the clock of the machine was set back in between', async () => {
    const { file, worker, restart, operationId } = await killed();
    const [first] = file.text.split('\n').flatMap((line) => {
      const { entry } = JSON.parse(line || '{}') as { entry?: JournalEntry };
      return entry?.kind === 'attachment' && entry.state === 'created' ? [entry] : [];
    });
    const later = { ...first!, entryId: 'later', operationId: 'later', intendedAt: first!.intendedAt - 3_600_000 };
    file.text += `${JSON.stringify({ v: 1, entry: later })}\n`;
    await using at = await restart();
    const through = { resolve: (): void => undefined };
    const running = new Promise<void>((resolve) => (through.resolve = resolve));
    await at.registry.start({
      header: { operationId: 'later', kind: 'backup', sessionId: 's', platformId, fingerprint: 'f' },
      run: () => running.then(() => ended),
    });
    at.janitor.start();
    const left = () => at.journal.openEntries(operationId).filter((entry) => entry.kind === 'attachment');
    await eventually('the end of the attachments of before', () => left().length === 0);
    expect(worker.attachments.map((one) => one.diskId)).toContain(first!.objectId);
    through.resolve();
    await eventually('a clean engine', () => isClean(at, worker));
  });

  it('makes way for the next backup of the same VM on the same worker', async () => {
    const { vm, worker, restart } = await killed();
    await using at = await restart();
    const run = runBackup(at, backupOf(vm, { transport: 'disk-attachment' }));
    await eventually('a wait', () => at.engine.calls.filter((call) => call === 'diskAttachments.add').length > 4);
    at.janitor.start();
    expect((await run).result).toMatchObject({ outcome: 'warning', leftForJanitor: [] });
    expect((await run).notes.map((note) => note.code)).toContain('snapshot-left');
    await eventually('a clean engine', () => isClean(at, worker));
  });
});
