/**
 * Attachment against the lab's engine, whose locks, refusals and volumes are real qemu's: snapshot, attach, detach, merge, both ways
 * mixed, a kill in the middle, and a restore. The worker is in memory and moves no data; that is the business of `test/e2e`.
 */
import { randomUUID } from 'node:crypto';
import { readZeroRanges } from '../image-service/read-zero-ranges';
import { eventually } from '../testing/eventually';
import { asFake, startLabEngine } from '../testing/lab-engine';
import type { LabEngine } from '../testing/lab-engine';
import { MemoryJournalFile } from '../testing/memory-journal-file';
import { Mortal } from '../testing/mortal';
import { platformId, runBackup, runRestore, startBench } from '../testing/protection-bench';
import type { Bench, Run } from '../testing/protection-bench';
import { SteadyClock } from '../testing/steady-clock';
import type { WorkerVm } from '../workers/ports';
import type { BackupRequest } from './requests';

const plan = {
  clusters: [{ name: 'one', level: '4.6', hosts: ['host-1', 'host-2'] }],
  vms: [
    {
      name: 'web',
      cluster: 'one',
      memoryMib: 64,
      disks: [
        { name: 'system', sizeMib: 32, format: 'cow' },
        { name: 'data', sizeMib: 16, format: 'raw' },
      ],
    },
    { name: 'tidemark-worker-one-01', cluster: 'one', memoryMib: 64, disks: [{ name: 'worker', sizeMib: 16, format: 'cow' }] },
  ],
};

/** The lab's engine hurries, so the flows look more often. */
const clock = new SteadyClock(6);

let lab: LabEngine;
let webId: string;
let workerVm: WorkerVm;

beforeAll(async () => {
  lab = await startLabEngine(plan);
  const { engine } = lab;
  const [web, worker] = await Promise.all(['web', 'tidemark-worker-one-01'].map((name) => engine.vms.findByName(name)));
  webId = web!.id;
  const cluster = await engine.clusters.find(worker!.clusterId);
  workerVm = { platformId, vmId: worker!.id, clusterId: worker!.clusterId, dataCenterId: cluster?.dataCenterId };
  for (const id of [webId, worker!.id]) await engine.vms.start(id);
  for (const id of [webId, worker!.id]) await eventually('the VMs to be up', async () => (await engine.vms.find(id))?.status === 'up');
}, 480_000);

afterAll(() => lab[Symbol.asyncDispose]());

function bench(file = new MemoryJournalFile(), mortal = new Mortal()): Promise<Bench> {
  return startBench({ engine: asFake(lab.engine), clock, file, mortal, workers: 0, workerVms: [workerVm], readZeroRanges });
}

function order(run: Run | undefined, more: Partial<BackupRequest> = {}): BackupRequest {
  return {
    operationId: randomUUID(),
    vm: { platformId, vmId: webId },
    jobName: 'lab',
    sessionId: randomUUID(),
    dataPath: { endpoints: ['mover:1'] },
    base: run?.awaiting && { pointId: 'p', checkpointId: run.awaiting.checkpointId, diskIds: run.awaiting.disks.map((d) => d.disk.diskId) },
    forceFull: false,
    excludedDiskIds: [],
    requireConsistency: false,
    diskParallel: 2,
    transport: 'disk-attachment',
    ...more,
  };
}

const modes = (run: Run) => Object.fromEntries(run.awaiting?.disks.map((d) => [d.disk.name, `${d.mode} ${d.reason}`.trim()]) ?? []);
const onWorker = async () => (await lab.engine.diskAttachments.list(workerVm.vmId)).filter((a) => a.disk?.name !== 'worker');

it('backs up by attachment between image transfers, without a trace, and the checkpoint goes on to serve', async () => {
  await using at = await bench();
  const hung: Awaited<ReturnType<typeof onWorker>>[number][] = [];
  at.worker.answer = async (task) => {
    const serial = task.backupDisk?.attachedDisk?.serial;
    if (serial !== undefined) hung.push(...(await onWorker()).filter((a) => a.diskId === serial));
    return { readBytes: 1 };
  };
  const transferred = await runBackup(at, order(undefined, { transport: 'image-transfer' }));
  expect(transferred.result).toMatchObject({ outcome: 'success' });
  const between = await runBackup(at, order(transferred));
  expect(between.result).toMatchObject({ outcome: 'success', leftForJanitor: [] });
  expect(modes(between)).toEqual({ system: 'digest-compare cbt-attachment', data: 'digest-compare cbt-attachment' });
  expect(hung).toHaveLength(2);
  for (const one of hung)
    expect(one).toMatchObject({ active: true, readOnly: true, interface: 'virtio_scsi', snapshotId: expect.any(String) });
  expect(between.awaiting?.checkpointId).toBe(transferred.awaiting?.checkpointId);
  expect(await onWorker()).toEqual([]);
  expect(await lab.leftovers()).toEqual([]);

  const next = await runBackup(at, order(between, { transport: 'image-transfer' }));
  expect(next.result.outcome).toBe('success');
  expect(modes(next)).toMatchObject({ system: 'incremental' });
  expect(await lab.leftovers()).toEqual([]);
}, 480_000);

it('hands on what the image service knows to be zero of the snapshot', async () => {
  await using at = await bench();
  const mib = 1024 ** 2;
  const write = (offsetMib: number, pattern: string) =>
    lab.control(`/vms/${webId}/write`, { disk: 'system', offsetBytes: offsetMib * mib, lengthBytes: mib, pattern, seed: offsetMib });
  await write(5, 'random');
  await write(20, 'random');
  const holesIn = async (run: Run, name: string) => {
    expect(run.result).toMatchObject({ outcome: 'success', leftForJanitor: [] });
    const diskId = run.awaiting?.disks.find((d) => d.disk.name === name)?.disk.diskId;
    const task = at.worker.tasks.findLast((one) => one.backupDisk?.diskId === diskId);
    return (task?.backupDisk?.attachedDisk?.zeroRanges ?? []).map((r) => [Number(r.startBytes) / mib, Number(r.lengthBytes) / mib]);
  };
  expect(await holesIn(await runBackup(at, order(undefined)), 'system')).toEqual([
    [0, 5],
    [6, 14],
    [21, 11],
  ]);
  // Through the layers that an earlier snapshot's merge left, too.
  await write(10, 'random');
  const second = await runBackup(at, order(undefined));
  expect(await holesIn(second, 'system')).toEqual([
    [0, 5],
    [6, 4],
    [11, 9],
    [21, 11],
  ]);
  // A raw file has its first page written when it is made.
  const [data = [0, 0], ...others] = await holesIn(second, 'data');
  expect([data[0]! + data[1]!, others]).toEqual([16, []]);
  expect(data[1]).toBeGreaterThan(15);
  expect(second.notes.map(({ code }) => code)).not.toContain('attachment-read-whole');
  expect(await lab.leftovers()).toEqual([]);
}, 480_000);

it('leaves nothing after a kill while disks hang on the worker, nor after a cancel', async () => {
  const file = new MemoryJournalFile();
  {
    const dead = await bench(file);
    dead.worker.answer = () => 'hang';
    await dead.protection.startBackup(order(undefined), 'f');
    await eventually('the tasks', () => dead.worker.tasks.length === 2);
    expect(await onWorker()).toHaveLength(2);
    dead.mortal.kill();
    await dead[Symbol.asyncDispose]();
    expect((await lab.leftovers()).length).toBeGreaterThan(2);
  }
  await using at = await bench(file);
  at.janitor.start();
  await eventually('a clean engine', async () => at.journal.openEntries().length === 0 && (await lab.leftovers()).length === 0);
  expect(await onWorker()).toEqual([]);

  at.worker.answer = () => 'hang';
  const request = order(undefined);
  const before = at.worker.tasks.length;
  const cancelled = await runBackup(at, request, {
    each: async (event) => {
      if (event.type !== 'state' || event.phase !== 'transferring') return;
      await eventually('a task', () => at.worker.tasks.length > before);
      at.protection.cancel(request.operationId);
    },
  });
  expect(cancelled.result).toMatchObject({ outcome: 'cancelled', leftForJanitor: [] });
  expect(await lab.leftovers()).toEqual([]);
}, 480_000);

it('restores by attachment into a VM that has its disks to itself', async () => {
  await using at = await bench();
  const saved = await runBackup(at, order(undefined));
  const run = await runRestore(at, {
    operationId: randomUUID(),
    platformId,
    sessionId: randomUUID(),
    dataPath: { endpoints: ['mover:1'] },
    pointId: 'p',
    disks: saved.awaiting!.disks.map((d) => d.disk),
    configuration: saved.awaiting!.configuration,
    target: {
      kind: 'new-vm',
      name: 'web-copy',
      clusterId: '',
      storageDomainId: '',
      storageDomains: new Map(),
      vnicProfiles: new Map(),
      macPolicy: 'new',
      powerOn: false,
    },
    transport: 'disk-attachment',
  });
  expect(run.result).toMatchObject({ outcome: 'success', leftForJanitor: [] });
  const made = await lab.engine.vms.find(run.result.createdId, { with: ['diskAttachments'] });
  expect(made?.diskAttachments?.map((a) => a.disk?.name).sort()).toEqual(['data', 'system']);
  expect(await onWorker()).toEqual([]);
  expect(await lab.leftovers()).toEqual([]);
}, 480_000);

it('reads in full by image transfer after an engine that drops checkpoints at the detach', async () => {
  await lab.control('/engine/restart', {
    downMs: 0,
    settings: { version: { major: 4, minor: 5, build: 8, detachWipesCheckpoints: true } },
  });
  await using at = await bench();
  const transferred = await runBackup(at, order(undefined, { transport: 'image-transfer' }));
  expect(transferred.awaiting?.checkpointId).not.toBe('');
  const between = await runBackup(at, order(transferred));
  expect(between.result).toMatchObject({ outcome: 'success', leftForJanitor: [] });
  expect(between.awaiting?.checkpointId).toBe('');
  expect(between.notes.map((note) => note.code)).toEqual(expect.arrayContaining(['cbt-detach-risk', 'cbt-detached']));
  expect(await lab.engine.checkpoints.list(webId)).toEqual([]);
  const next = await runBackup(at, order(between, { transport: 'image-transfer' }));
  expect(modes(next)).toMatchObject({ system: 'full cbt-no-checkpoint' });
  expect(await lab.leftovers()).toEqual([]);
}, 480_000);
