import { EngineErrors } from '../engine/engine-errors';
import type { ReadZeroRanges } from '../image-service/read-zero-ranges';
import { eventually } from '../testing/eventually';
import { MemoryJournalFile } from '../testing/memory-journal-file';
import { Mortal } from '../testing/mortal';
import { addWorkerVm, backupOf, newEngine, runBackup, startBench } from '../testing/protection-bench';
import type { Bench, BenchOptions, Run } from '../testing/protection-bench';

const gib = 1024 ** 3;

/** A VM with two disks of a GiB, and a worker VM. */
async function bench(options: BenchOptions = {}) {
  const engine = options.engine ?? newEngine();
  engine.level = { major: 4, minor: 6 };
  const workerVms = options.workerVms ?? [addWorkerVm(engine)];
  const at = await startBench({ workers: 0, ...options, engine, workerVms });
  const vm = [...engine.vmsById.values()].find((one) => one.vm.name === 'web') ?? engine.addVm('web', [{}, {}]);
  return Object.assign(at, { vm, workerVms, diskIds: vm.attachments.map((a) => a.diskId) });
}

const plugged = (at: Awaited<ReturnType<typeof bench>>) => backupOf(at.vm, { transport: 'disk-attachment' });
const notesOf = (run: Run) => run.notes.filter(({ code }) => code === 'attachment-read-whole').map(({ message }) => message);
const rangesOf = (at: Bench, diskId: string | undefined) =>
  at.worker.tasks.find((task) => task.backupDisk?.diskId === diskId)?.backupDisk?.attachedDisk?.zeroRanges;

function expectClean(at: Bench): void {
  expect(at.engine.leftovers()).toEqual([]);
  expect(at.journal.openEntries()).toEqual([]);
}

it('tells the worker what the image service knows to be zero, by transfers that are over before the disk is attached', async () => {
  await using at = await bench();
  const [first = '', second = ''] = at.diskIds;
  at.engine.zeroRanges.set(first, [
    { start: 0, length: 1024 ** 2 },
    { start: gib / 2, length: gib / 2 },
  ]);
  const asked: unknown[] = [];
  at.engine.before = (call, args) => {
    if (call === 'transfers.create') asked.push(args[0]);
    if (call !== 'diskAttachments.add') return;
    const { diskId } = args[1] as { diskId: string };
    const running = [...at.engine.transfersById.values()].filter((t) => t.diskId === diskId && t.phase !== 'finished_success');
    expect(running).toEqual([]);
  };
  const run = await runBackup(at, plugged(at));
  expect(run.result.outcome).toBe('success');
  expect(rangesOf(at, first)).toEqual([
    { startBytes: '0', lengthBytes: String(1024 ** 2) },
    { startBytes: String(gib / 2), lengthBytes: String(gib / 2) },
  ]);
  expect(rangesOf(at, second)).toEqual([]);
  expect(notesOf(run)).toEqual([]);
  expect(asked).toHaveLength(2);
  for (const one of asked) {
    expect(one).toMatchObject({ direction: 'download', format: 'raw', volumeId: expect.stringContaining('volume/') });
    expect(one).not.toHaveProperty('diskId');
  }
  expectClean(at);
});

const troubles: readonly [string, ReadZeroRanges, RegExp, number][] = [
  ['cannot be reached', () => Promise.resolve({ problem: 'host1:54322: ECONNREFUSED', away: true }), /ECONNREFUSED/, 1],
  ['fails', () => Promise.resolve({ problem: 'the image service answers 500', away: false }), /answers 500/, 2],
  ['serves another size', () => Promise.resolve({ ranges: [{ start: 0, length: gib }], sizeBytes: gib + 512 }), /1073742336 bytes/, 2],
];

it.each(troubles)('reads all of a disk, and says why, when the image service %s', async (_, readZeroRanges, why, tries) => {
  let asked = 0;
  await using at = await bench({ readZeroRanges: (...args) => ((asked += 1), readZeroRanges(...args)) });
  const run = await runBackup(at, { ...plugged(at), diskParallel: 1 });
  expect(run.result.outcome).toBe('success');
  expect(notesOf(run)).toEqual([expect.stringMatching(why), expect.stringMatching(why)]);
  for (const diskId of at.diskIds) expect(rangesOf(at, diskId)).toEqual([]);
  // One that nobody can reach is not waited for again.
  expect(asked).toBe(tries);
  expectClean(at);
});

it('reads all of a disk when the engine refuses the transfer, or cannot start it', async () => {
  await using at = await bench();
  at.engine.failingTransfers = 1;
  let refused = 0;
  at.engine.before = (call) => {
    if (call !== 'transfers.create' || at.engine.failingTransfers > 0) return;
    refused += 1;
    throw EngineErrors.ENGINE_REFUSED({ operation: 'POST', detail: 'no permission for it', httpStatus: 400 });
  };
  const run = await runBackup(at, { ...plugged(at), diskParallel: 1 });
  expect(run.result.outcome).toBe('success');
  expect(refused).toBe(1);
  expect(notesOf(run)).toEqual([expect.stringMatching(/transfer/i), expect.stringMatching(/no permission/)]);
  expectClean(at);
});

it('does not ask when the engine itself found no image service for the disks', async () => {
  await using at = await bench();
  at.engine.failingTransfers = 3;
  const run = await runBackup(at, { ...backupOf(at.vm), diskParallel: 1 });
  expect(run.awaiting?.disks.map(({ transport }) => transport)).toEqual(['disk-attachment', 'disk-attachment']);
  expect(notesOf(run)).toHaveLength(2);
  expect(at.engine.calls.filter((call) => call === 'transfers.create')).toHaveLength(3);
  expectClean(at);
});

it('waits, and says so, while the image service does not let go of its transfer; then goes on', async () => {
  await using at = await bench();
  let refusedAttachments = 0;
  at.engine.before = (call) => {
    if (call === 'transfers.finalize' && refusedAttachments === 0) at.engine.ticketsStuck = true;
    if (call !== 'diskAttachments.add' || !at.engine.ticketsStuck) return;
    refusedAttachments += 1;
    // It was restarted.
    if (refusedAttachments === 3) at.engine.ticketsStuck = false;
  };
  const run = await runBackup(at, { ...plugged(at), diskParallel: 1 });
  expect(run.result.outcome).toBe('success');
  expect(run.phases).toContain('transferring(image-transfer-ending)');
  expectClean(at);
});

it('says whose the lock is when the image service never lets go of its transfer', async () => {
  await using at = await bench();
  at.engine.before = (call) => {
    if (call === 'transfers.finalize') at.engine.ticketsStuck = true;
  };
  const run = await runBackup(at, { ...plugged(at), diskParallel: 1 });
  const [transfer] = at.engine.transfersById.values();
  expect(run.result).toMatchObject({
    outcome: 'failed',
    failure: { code: 'ATTACH_TRANSFER_OPEN', retry: 'after-delay', message: expect.stringContaining(`${transfer?.id}`) as string },
  });
  expect(run.result.failure?.message).toContain('ovirt-imageio');
  expect(run.phases).toContain('transferring(image-transfer-ending)');
  at.engine.ticketsStuck = false;
  at.janitor.start();
  await eventually('a clean engine', () => at.journal.openEntries().length === 0);
  expectClean(at);
});

it('can be cancelled while the image service does not let go of its transfer', async () => {
  await using at = await bench();
  at.engine.before = (call) => {
    if (call === 'transfers.finalize') at.engine.ticketsStuck = true;
  };
  const request = plugged(at);
  await at.protection.startBackup(request, 'f');
  await eventually('a wait', () => at.engine.calls.includes('diskAttachments.add'));
  at.protection.cancel(request.operationId);
  await eventually('the end', () => at.registry.find(request.operationId)?.result !== undefined);
  const { result } = at.registry.get(request.operationId);
  expect(result).toMatchObject({
    outcome: 'cancelled',
    leftForJanitor: expect.arrayContaining([expect.stringMatching(/^image-transfer/)]),
  });
  at.engine.ticketsStuck = false;
  at.janitor.start();
  await eventually('a clean engine', () => at.journal.openEntries().length === 0);
  expectClean(at);
});

it('ends its transfer when the run is cancelled while it asks', async () => {
  const begun = { resolve: (): void => undefined };
  const asking = new Promise<void>((resolve) => (begun.resolve = resolve));
  await using at = await bench({
    readZeroRanges: (_, signal) => {
      begun.resolve();
      return new Promise((__, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true }));
    },
  });
  const request = plugged(at);
  await at.protection.startBackup(request, 'f');
  await asking;
  expect(at.engine.leftovers().filter((left) => left.startsWith('transfer'))).not.toEqual([]);
  at.protection.cancel(request.operationId);
  await eventually('the end', () => at.registry.find(request.operationId)?.result !== undefined);
  expect(at.registry.find(request.operationId)?.result?.outcome).toBe('cancelled');
  expect(at.worker.tasks).toEqual([]);
  expectClean(at);
});

it("is found again after a kill whose answer was lost, and nobody else's transfer of the disk is touched", async () => {
  const file = new MemoryJournalFile();
  const engine = newEngine();
  const workerVms = [addWorkerVm(engine)];
  const mortal = new Mortal();
  const dead = await bench({ engine, file, mortal, workerVms });
  const foreign: string[] = [];
  engine.after = (call, args) => {
    if (call !== 'transfers.create' || (args[0] as { volumeId?: string }).volumeId === undefined || mortal.dead) return;
    const ours = [...engine.transfersById.values()].at(-1)!;
    // Another product reads the same disk, from a snapshot of its own.
    const theirs = { ...ours, id: `foreign-${foreign.length}`, volumeId: undefined, inactivityTimeoutSeconds: 300 };
    engine.transfersById.set(theirs.id, { ...theirs, phase: 'transferring' });
    foreign.push(theirs.id);
    mortal.kill();
  };
  await dead.protection.startBackup({ ...plugged(dead), diskParallel: 1 }, 'f');
  await eventually('death', () => mortal.dead);
  await dead[Symbol.asyncDispose]();
  expect(foreign).toHaveLength(1);
  await using at = await bench({ engine, file, workerVms });
  at.janitor.start();
  await eventually('a clean journal', () => at.journal.openEntries().length === 0);
  expect(engine.leftovers()).toEqual([expect.stringMatching(/^transfer .* transferring$/)]);
  expect(engine.transfersById.get(foreign[0]!)?.phase).toBe('transferring');
});
