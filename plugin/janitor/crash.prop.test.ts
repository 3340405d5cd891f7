/**
 * Kill at every step. A step is a journal write or an engine request; its effect has happened, its answer is lost. Whatever step it was,
 * after the next start the engine is as before the run, the older checkpoint is there unless the new one was committed, the operation has a
 * final answer, and the next run succeeds.
 */
import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { eventually } from '../testing/eventually';
import type { FakeEngine } from '../testing/fake-engine';
import type { FakeVm } from '../testing/fake-rows';
import { MemoryJournalFile } from '../testing/memory-journal-file';
import { Mortal } from '../testing/mortal';
import { addWorkerVm, backupOf, newEngine, platformId, runBackup, startBench } from '../testing/protection-bench';
import type { Bench } from '../testing/protection-bench';
import type { BackupRequest, BasePoint, RestoreRequest } from '../protection/requests';
import type { WorkerVm } from '../workers/ports';

interface Scene {
  readonly engine: FakeEngine;
  readonly vm: FakeVm;
  readonly base: BasePoint;
  readonly configuration: string;
  /** With a worker in it, for disks to be attached to. */
  readonly workerVm: WorkerVm;
}

async function scene(minor: number, status: string): Promise<Scene> {
  const engine = newEngine();
  engine.level = { major: 4, minor };
  const vm = engine.addVm('web', [{}, { format: 'raw' }], status);
  const workerVm = addWorkerVm(engine);
  await using at = await startBench({ engine });
  const run = await runBackup(at, backupOf(vm));
  const { checkpointId = '', disks = [], configuration = '' } = run.awaiting ?? {};
  return { engine, vm, base: { pointId: 'p1', checkpointId, diskIds: disks.map((d) => d.disk.diskId) }, configuration, workerVm };
}

/** Runs until the fatal step or to the end; answers how many steps there were. */
async function runUntilDead(
  { engine, workerVm }: Pick<Scene, 'engine' | 'workerVm'>,
  file: MemoryJournalFile,
  fatal: number,
  start: (at: Bench) => Promise<string>,
): Promise<{ steps: number; operationId: string; died: boolean; committed: boolean }> {
  const mortal = new Mortal(fatal);
  const at = await startBench({ engine, file, mortal, workerVms: [workerVm] });
  let operationId = '';
  let committed = false;
  try {
    void start(at).then((id) => (operationId = id));
    await eventually('start or death', () => mortal.dead || operationId !== '');
    for (;;) {
      if (mortal.dead) break;
      const operation = at.registry.find(operationId);
      if (operation?.result) break;
      if (operation && operation.currentPhase === 'committing' && !committed) {
        try {
          operation.conclude(true);
          committed = true;
        } catch {
          // Not awaiting yet: a restore commits by itself, a backup comes to it.
        }
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    return { steps: mortal.steps, operationId, died: mortal.dead, committed };
  } finally {
    mortal.kill();
    await at[Symbol.asyncDispose]();
  }
}

async function expectRecovered(at: Bench, operationId: string, died: boolean): Promise<void> {
  at.janitor.start();
  await eventually('a clean engine', () => at.engine.leftovers().length === 0 && at.journal.openEntries().length === 0);
  const operation = at.registry.find(operationId);
  if (died && operation) expect(operation.result).toBeDefined();
}

describe('a plug-in that is killed at any step', () => {
  it.each([
    [6, 'up'],
    [6, 'down'],
    [7, 'up'],
  ])(
    'of a backup (level 4.%i, VM %s) leaves nothing behind',
    async (minor, status) => {
      const whole = await scene(minor, status);
      const { steps } = await runUntilDead(whole, new MemoryJournalFile(), Number.POSITIVE_INFINITY, backupIn(whole));
      expect(steps).toBeGreaterThan(25);
      await fc.assert(
        fc.asyncProperty(fc.integer({ min: 1, max: steps }), async (fatal) => {
          const at = await scene(minor, status);
          const file = new MemoryJournalFile();
          const { operationId, died, committed } = await runUntilDead(at, file, fatal, backupIn(at));
          await using next = await startBench({ engine: at.engine, file, workerVms: [at.workerVm] });
          await expectRecovered(next, operationId, died);
          const left = at.engine.checkpointsOf(at.vm);
          // Without a commit the base is as it was. With one, the newest at least, or none of the new ones when it was not recorded in time.
          if (!committed) expect(left).toEqual([at.base.checkpointId]);
          else expect(left.length).toBeLessThanOrEqual(2);
          const again = await runBackup(next, backupOf(at.vm, { base: at.base }));
          expect(['success', 'warning']).toContain(again.result.outcome);
          expect(at.engine.checkpointsOf(at.vm)).toEqual([again.awaiting!.checkpointId]);
        }),
        { numRuns: 25 },
      );
    },
    480_000,
  );

  it.each([
    ['up', false],
    ['up', true],
    ['down', false],
  ])(
    'of a backup by attachment (VM %s, frozen %s) leaves nothing on the worker, in the VM or standing still',
    async (status, requireConsistency) => {
      const more = { transport: 'disk-attachment', requireConsistency } as const;
      const whole = await scene(6, status);
      const { steps } = await runUntilDead(whole, new MemoryJournalFile(), Number.POSITIVE_INFINITY, backupIn(whole, more));
      expect(steps).toBeGreaterThan(35);
      await fc.assert(
        fc.asyncProperty(fc.integer({ min: 1, max: steps }), async (fatal) => {
          const at = await scene(6, status);
          const file = new MemoryJournalFile();
          const { operationId, died } = await runUntilDead(at, file, fatal, backupIn(at, more));
          await using next = await startBench({ engine: at.engine, file, workerVms: [at.workerVm] });
          await expectRecovered(next, operationId, died);
          expect(at.engine.vmsById.get(at.workerVm.vmId)?.attachments).toHaveLength(1);
          // The older checkpoint is good for both ways, whatever became of this run.
          expect(at.engine.checkpointsOf(at.vm)).toEqual([at.base.checkpointId]);
          const again = await runBackup(next, backupOf(at.vm, { base: at.base, ...more }));
          expect(again.result.outcome).toBe('success');
          expect(again.awaiting?.checkpointId).toBe(at.base.checkpointId);
        }),
        { numRuns: 25 },
      );
    },
    480_000,
  );

  it.each(['image-transfer', 'disk-attachment'] as const)(
    'of a restore by %s leaves the original and either all of the copy or nothing',
    async (transport) => {
      const whole = await scene(6, 'up');
      const { steps } = await runUntilDead(whole, new MemoryJournalFile(), Number.POSITIVE_INFINITY, restoreIn(whole, transport));
      expect(steps).toBeGreaterThan(30);
      await fc.assert(
        fc.asyncProperty(fc.integer({ min: 1, max: steps }), async (fatal) => {
          const at = await scene(6, 'up');
          const file = new MemoryJournalFile();
          const { operationId, died } = await runUntilDead(at, file, fatal, restoreIn(at, transport));
          await using next = await startBench({ engine: at.engine, file, workerVms: [at.workerVm] });
          await expectRecovered(next, operationId, died);
          const copies = [...at.engine.vmsById.values()].filter((v) => v.vm.name === 'copy');
          const disks = at.engine.disksById.size;
          expect([0, 2]).toContain(copies[0]?.attachments.length ?? 0);
          expect(disks).toBe(3 + (copies[0]?.attachments.length ?? 0));
          expect(at.vm.attachments.every((a) => at.engine.disksById.get(a.diskId)?.status === 'ok')).toBe(true);
          expect(at.engine.vmsById.get(at.workerVm.vmId)?.attachments).toHaveLength(1);
        }),
        { numRuns: 40 },
      );
    },
    480_000,
  );
});

function backupIn({ vm, base }: Scene, more: Partial<BackupRequest> = {}) {
  return async (at: Bench): Promise<string> => {
    const request = backupOf(vm, { base, ...more });
    await at.protection.startBackup(request, 'f');
    return request.operationId;
  };
}

function restoreIn({ vm, configuration }: Scene, transport: RestoreRequest['transport']) {
  return async (at: Bench): Promise<string> => {
    const request: RestoreRequest = {
      operationId: randomUUID(),
      platformId,
      sessionId: 's1',
      dataPath: { endpoints: ['mover:8445'] },
      pointId: 'p1',
      disks: vm.attachments.map((a) => {
        const disk = at.engine.disksById.get(a.diskId)!;
        return {
          diskId: disk.id,
          name: disk.name,
          sizeBytes: disk.provisionedBytes,
          format: disk.format ?? '',
          sparse: true,
          storageDomainId: 'sd1',
          interface: 'virtio_scsi',
          bootable: a.bootable,
          allocatedBytes: 0,
        };
      }),
      configuration,
      target: {
        kind: 'new-vm',
        name: 'copy',
        clusterId: '',
        storageDomainId: '',
        storageDomains: new Map(),
        vnicProfiles: new Map(),
        macPolicy: 'new',
        powerOn: true,
      },
      transport,
    };
    await at.protection.startRestore(request, 'f');
    return request.operationId;
  };
}
