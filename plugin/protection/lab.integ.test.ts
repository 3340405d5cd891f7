/**
 * The flows against the lab's engine, whose states, locks, delays and refusals are not ours: what the engine in memory of the unit tests
 * claims must hold there too. The worker is in memory and moves no data; that the data is right is the business of `test/e2e`.
 */
import { randomUUID } from 'node:crypto';
import type { Engine } from '../engine/engine';
import { eventually } from '../testing/eventually';
import { asFake, startLabEngine } from '../testing/lab-engine';
import type { LabEngine } from '../testing/lab-engine';
import { MemoryJournalFile } from '../testing/memory-journal-file';
import { Mortal } from '../testing/mortal';
import { platformId, runBackup, runRestore, startBench } from '../testing/protection-bench';
import type { Bench, Run } from '../testing/protection-bench';
import { SteadyClock } from '../testing/steady-clock';
import type { BackupRequest } from './requests';

const plan = {
  clusters: [
    { name: 'hybrid', level: '4.7', hosts: ['host-1'] },
    { name: 'live', level: '4.6', hosts: ['host-2'] },
  ],
  vms: ['hybrid', 'live'].map((cluster) => ({
    name: cluster,
    cluster,
    memoryMib: 64,
    nics: 1,
    tags: ['gold'],
    disks: [
      { name: 'system', sizeMib: 32, format: 'cow' },
      { name: 'data', sizeMib: 16, format: 'raw', domain: 'data-2' },
      { name: 'more', sizeMib: 16, format: 'cow' },
    ],
  })),
};

/** The lab's engine hurries, so the flows look more often. */
const clock = new SteadyClock(6);

let lab: LabEngine;
let engine: Engine;

beforeAll(async () => {
  lab = await startLabEngine(plan);
  engine = lab.engine;
});

afterAll(() => lab[Symbol.asyncDispose]());

function bench(file?: MemoryJournalFile, mortal?: Mortal): Promise<Bench> {
  return startBench({ engine: asFake(engine), clock, ...(file ? { file } : {}), ...(mortal ? { mortal } : {}) });
}

function order(vmId: string, run?: Run): BackupRequest {
  return {
    operationId: randomUUID(),
    vm: { platformId, vmId },
    jobName: 'lab',
    sessionId: randomUUID(),
    dataPath: { endpoints: ['mover:1'] },
    base: run?.awaiting && { pointId: 'p', checkpointId: run.awaiting.checkpointId, diskIds: run.awaiting.disks.map((d) => d.disk.diskId) },
    forceFull: false,
    excludedDiskIds: [],
    requireConsistency: false,
    diskParallel: 3,
    transport: 'image-transfer',
  };
}

const modes = (run: Run) => Object.fromEntries(run.awaiting?.disks.map((d) => [d.disk.name, `${d.mode} ${d.reason}`.trim()]) ?? []);

it.each(['hybrid', 'live'])(
  '%s: full, incremental, a lost bitmap, a kill, and a restore',
  async (name) => {
    const { id: vmId } = (await engine.vms.findByName(name))!;
    await engine.vms.start(vmId);
    await eventually('the VM to be up', async () => (await engine.vms.find(vmId))?.status === 'up');
    const file = new MemoryJournalFile();
    let second: Run;
    {
      await using at = await bench();
      const first = await runBackup(at, order(vmId));
      expect(first.result).toMatchObject({ outcome: 'success', leftForJanitor: [] });
      expect(modes(first)).toEqual({ system: 'full first-backup', data: 'full cbt-raw', more: 'full first-backup' });
      second = await runBackup(at, order(vmId, first));
      expect(modes(second)).toEqual({ system: 'incremental', data: 'digest-compare cbt-raw', more: 'incremental' });
      expect(second.result.outcome).toBe('success');
      expect((await engine.checkpoints.list(vmId)).map((c) => c.id)).toEqual([second.awaiting?.checkpointId]);

      const lost = second.awaiting!.disks.find((d) => d.disk.name === 'more')!.disk.diskId;
      await lab.control(`/disks/${lost}/bitmaps/damage`, { checkpoint: second.awaiting!.checkpointId, how: 'inconsistent' });
      second = await runBackup(at, order(vmId, second));
      expect(second.result).toMatchObject({ outcome: 'warning', leftForJanitor: [] });
      expect(modes(second)).toMatchObject({ data: 'digest-compare cbt-raw', more: 'full cbt-bitmap-invalid' });
      expect(await lab.leftovers()).toEqual([]);
    }
    {
      const dead = await bench(file, new Mortal());
      dead.worker.answer = () => 'hang';
      await dead.protection.startBackup(order(vmId, second), 'f');
      await eventually('the tasks', () => dead.worker.tasks.length === 3);
      dead.mortal.kill();
      await dead[Symbol.asyncDispose]();
      expect((await lab.leftovers()).length).toBeGreaterThan(0);
    }
    await using at = await bench(file);
    at.janitor.start();
    await eventually('a clean engine', async () => at.journal.openEntries().length === 0 && (await lab.leftovers()).length === 0);
    expect((await engine.checkpoints.list(vmId)).map((c) => c.id)).toEqual([second.awaiting?.checkpointId]);

    const target = {
      kind: 'new-vm' as const,
      name: `${name}-copy`,
      clusterId: '',
      storageDomainId: '',
      storageDomains: new Map(),
      vnicProfiles: new Map(),
      macPolicy: 'keep-if-free' as const,
      powerOn: false,
    };
    const restore = (more: object) => ({
      operationId: randomUUID(),
      platformId,
      sessionId: randomUUID(),
      dataPath: { endpoints: ['mover:1'] },
      pointId: 'p',
      disks: second.awaiting!.disks.map((d) => d.disk),
      configuration: second.awaiting!.configuration,
      target,
      transport: 'image-transfer' as const,
      ...more,
    });
    const cancelled = restore({ target: { ...target, name: `${name}-half` } });
    const half = await runRestore(at, cancelled, {
      each: (event) => {
        if (event.type === 'progress') at.protection.cancel(cancelled.operationId);
      },
    });
    expect(half.result).toMatchObject({ outcome: 'cancelled', leftForJanitor: [] });
    expect(await engine.vms.findByName(`${name}-half`)).toBeUndefined();
    const run = await runRestore(at, restore({}));
    expect(run.result).toMatchObject({ outcome: 'success', leftForJanitor: [] });
    const made = await engine.vms.find(run.result.createdId, { with: ['diskAttachments', 'tags', 'nics'] });
    expect(made).toMatchObject({ name: `${name}-copy`, status: 'down', tags: [{ name: 'gold' }] });
    expect(made?.diskAttachments?.map((a) => [a.disk?.name, a.disk?.format, a.bootable]).sort()).toEqual([
      ['data', 'raw', false],
      ['more', 'cow', false],
      ['system', 'cow', true],
    ]);
    expect(await lab.leftovers()).toEqual([]);
  },
  480_000,
);
