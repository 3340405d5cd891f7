/** A worker that is lost with disks in hand: they are begun again with another one, and nothing of the first try stays. */
import { randomUUID } from 'node:crypto';
import { addWorkerVm, backupOf, newEngine, platformId, runBackup, runRestore, startBench } from '../testing/protection-bench';
import type { Bench, Run } from '../testing/protection-bench';
import type { MemoryWorker } from '../testing/memory-worker';
import type { BackupRequest } from './requests';

/** The first worker that gets a task dies with it; the others go on. */
function loseFirst(at: Bench): () => MemoryWorker | undefined {
  let lost: MemoryWorker | undefined;
  for (const worker of at.workers) {
    worker.answer = () => {
      lost ??= worker;
      if (worker !== lost) return { readBytes: 4 };
      worker.kill();
      return 'hang';
    };
  }
  return () => lost;
}

function expectClean(at: Bench): void {
  expect(at.engine.leftovers()).toEqual([]);
  expect(at.journal.openEntries()).toEqual([]);
}

const survivors = (at: Bench, lost: MemoryWorker | undefined) => at.workers.filter((w) => w !== lost).map((w) => w.workerId);
const workersOf = (run: Run) => [...new Set(run.result.disks.map((d) => d.workerId))];

describe.each(['image-transfer', 'disk-attachment'] as const)('a worker that is lost in the middle of a %s', (transport) => {
  async function bench(count: number) {
    const engine = newEngine();
    const workerVms = Array.from({ length: count }, () => addWorkerVm(engine));
    return Object.assign(await startBench({ engine, workers: 0, workerVms }), { workerVms });
  }

  it('costs a backup nothing but time, in the same engine backup or snapshot', async () => {
    await using at = await bench(2);
    const lost = loseFirst(at);
    const vm = at.engine.addVm('web', [{}, {}, {}]);
    const request: BackupRequest = backupOf(vm, { transport });
    const run = await runBackup(at, request);
    expect(run.result).toMatchObject({ outcome: 'success', leftForJanitor: [] });
    expect(run.notes.map((n) => n.code)).toContain('worker-lost');
    expect(run.result.disks).toHaveLength(3);
    expect(workersOf(run)).toEqual(survivors(at, lost()));
    expect(at.engine.calls.filter((call) => call === 'backups.start' || call === 'snapshots.create')).toHaveLength(1);
    expectClean(at);
  });

  it('costs a restore nothing but time, and leaves no disk of the first try', async () => {
    await using at = await bench(2);
    const vm = at.engine.addVm('web', [{}, {}]);
    const { awaiting } = await runBackup(at, backupOf(vm));
    const lost = loseFirst(at);
    const run = await runRestore(at, {
      operationId: randomUUID(),
      platformId,
      sessionId: 's1',
      dataPath: { endpoints: ['mover:8445'] },
      pointId: 'p1',
      disks: awaiting!.disks.map((d) => d.disk),
      configuration: awaiting!.configuration,
      target: {
        kind: 'new-vm',
        name: 'restored',
        clusterId: '',
        storageDomainId: '',
        storageDomains: new Map(),
        vnicProfiles: new Map(),
        macPolicy: 'new',
        powerOn: false,
      },
      transport,
    });
    expect(run.result).toMatchObject({ outcome: 'success', leftForJanitor: [] });
    expect(workersOf(run)).toEqual(survivors(at, lost()));
    const restored = at.engine.vmsById.get(run.result.createdId);
    expect(restored?.attachments).toHaveLength(2);
    // The original's, the copy's, and those of the two workers.
    expect(at.engine.disksById.size).toBe(6);
    expectClean(at);
  });

  it('is the end when all workers are lost, with its own code', async () => {
    await using at = await bench(2);
    for (const worker of at.workers) worker.answer = () => (worker.kill(), 'hang');
    const vm = at.engine.addVm('web', [{}]);
    const run = await runBackup(at, backupOf(vm, { transport }));
    expect(run.result).toMatchObject({ outcome: 'failed', failure: { code: 'WORKER_LOST', retry: 'same-request' } });
    expectClean(at);
  });
});
