/** The client's every road that backup and restore take, against the lab's strict engine. */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Secret } from '../../common/log/redact';
import { startProgram } from '../testing/child-process';
import type { RunningProgram } from '../testing/child-process';
import { eventually } from '../testing/eventually';
import { quietLogger } from '../testing/quiet-logger';
import { finalPhases } from './backups';
import { Engine } from './engine';
import { engineCorrelationId } from './engine-session';
import { inspectEngine } from './engine-trust';
import { finishedTransferPhases } from './image-transfers';
import { systemClock } from '../operations/clock';
import { Patience } from '../protection/patience';

const plan = {
  vms: [
    {
      name: 'web',
      cluster: 'Level46',
      nics: 1,
      tags: ['gold'],
      disks: [
        { name: 'web-system', sizeMib: 32, format: 'cow' },
        { name: 'web-data', sizeMib: 16, format: 'raw' },
      ],
    },
  ],
};
/** Of a machine that has other things to do. */
const patienceMs = 150_000;
const patience = new Patience(systemClock);

let folder: string;
let lab: RunningProgram;
let engine: Engine;

beforeAll(async () => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-engine-'));
  const readyFile = path.join(folder, 'lab.json');
  const seedFile = path.join(folder, 'seed.json');
  fs.writeFileSync(seedFile, JSON.stringify(plan));
  lab = startProgram('lab/main.js', [
    '--data-dir',
    path.join(folder, 'lab'),
    '--seed-file',
    seedFile,
    '--clock-factor',
    '20',
    '--ready-file',
    readyFile,
  ]);
  await eventually('the lab is up', () => fs.existsSync(readyFile) || lab.child.exitCode !== null);
  if (!fs.existsSync(readyFile)) throw new Error(`the lab did not start:\n${lab.errors()}`);
  const access = JSON.parse(fs.readFileSync(readyFile, 'utf8')) as { engineUrl: string; user: string; password: string };
  const inspection = await inspectEngine(access.engineUrl);
  engine = Engine.connect({ ...inspection, username: access.user, password: new Secret(access.password) }, quietLogger().logger);
});

afterAll(async () => {
  await engine.close();
  await lab.end();
  fs.rmSync(folder, { recursive: true, force: true });
});

async function web() {
  const vm = await engine.vms.findByName('web', { with: ['diskAttachments', 'nics', 'tags', 'snapshots'] });
  const diskOf = (name: string) => vm!.diskAttachments!.find((attachment) => attachment.disk?.name === name)!.diskId;
  return { vm: vm!, system: diskOf('web-system'), data: diskOf('web-data') };
}

/** Ends transfers and backup as a run does; returns the last phases. */
async function endTransfer(id: string): Promise<void> {
  await engine.transfers.finalize(id);
  await eventually(
    'the transfer ends',
    async () => finishedTransferPhases.includes((await engine.transfers.find(id))?.phase ?? 'finished_success'),
    patienceMs,
  );
  expect((await engine.transfers.find(id))?.phase).toBe('finished_success');
}

async function endBackup(vmId: string, id: string): Promise<void> {
  await engine.backups.finalize(vmId, id);
  await engine.backups.finalize(vmId, id);
  await eventually(
    'the backup ends',
    async () => finalPhases.includes((await engine.backups.find(vmId, id))?.phase ?? 'unknown'),
    patienceMs,
  );
  expect((await engine.backups.find(vmId, id))?.phase).toBe('succeeded');
}

describe('the engine client against the lab', () => {
  it('takes a full and an incremental backup of a running VM, and lets go of the older checkpoint', async () => {
    const { vm, system, data } = await web();
    expect(vm).toMatchObject({ status: 'down', customCompatibilityVersion: undefined });
    expect(vm.nics).toHaveLength(1);
    expect(vm.tags?.map((tag) => tag.name)).toEqual(['gold']);
    expect((await engine.vms.get(vm.id, { ovf: true })).ovf).toContain('<ovf:Envelope');
    await engine.vms.start(vm.id);
    await engine.vms.start(vm.id);
    await eventually('the VM is up', async () => (await engine.vms.get(vm.id)).status === 'up', patienceMs);

    const full = randomUUID();
    const correlationId = engineCorrelationId(full);
    const started = await engine.backups.start(
      vm.id,
      { id: full, description: 'tidemark job=a session=1', diskIds: [system, data] },
      { correlationId },
    );
    expect(started.id).toBe(full);
    await eventually('ready', async () => (await engine.backups.find(vm.id, full))?.phase === 'ready', patienceMs);
    const ready = await engine.backups.find(vm.id, full);
    expect(ready).toMatchObject({
      description: 'tidemark job=a session=1',
      hostId: expect.any(String),
      toCheckpointId: expect.any(String),
    });
    expect((await engine.backups.disks(vm.id, full)).map((disk) => disk.backupMode)).toEqual(['full', 'full']);
    await expect(engine.backups.start(vm.id, { id: randomUUID(), description: 'second', diskIds: [system] })).rejects.toMatchObject({
      code: 'ENGINE_CONFLICT',
    });

    const transfer = await engine.transfers.create({ direction: 'download', diskId: system, backupId: full, format: 'raw' });
    await eventually('URLs', async () => (await engine.transfers.find(transfer.id))?.transferUrl !== undefined, patienceMs);
    expect((await engine.transfers.list()).map((one) => [one.id, one.diskId])).toContainEqual([transfer.id, system]);
    await expect(engine.backups.finalize(vm.id, full)).rejects.toMatchObject({ code: 'ENGINE_CONFLICT' });
    await endTransfer(transfer.id);
    await endBackup(vm.id, full);
    expect((await engine.events.byCorrelationId(correlationId)).length).toBeGreaterThan(0);

    const second = randomUUID();
    const from = ready!.toCheckpointId!;
    await engine.backups.start(vm.id, {
      id: second,
      description: 'tidemark job=a session=2',
      diskIds: [system, data],
      fromCheckpointId: from,
    });
    await eventually('ready', async () => (await engine.backups.find(vm.id, second))?.phase === 'ready', patienceMs);
    const modes = (await engine.backups.disks(vm.id, second)).map((disk) => [disk.name, disk.backupMode]).sort();
    expect(modes).toEqual([
      ['web-data', 'full'],
      ['web-system', 'incremental'],
    ]);
    await endBackup(vm.id, second);
    expect((await engine.checkpoints.list(vm.id)).map((checkpoint) => checkpoint.id)).toContain(from);
    expect((await engine.checkpoints.disks(vm.id, from)).map((disk) => disk.id)).toEqual([system]);
    await expect(engine.checkpoints.remove(vm.id, from)).resolves.toBe(true);
    await eventually(
      'the checkpoint goes',
      async () => !(await engine.checkpoints.list(vm.id)).some((checkpoint) => checkpoint.id === from),
      patienceMs,
    );
    await expect(engine.checkpoints.remove(vm.id, from)).resolves.toBe(false);
    await expect(
      engine.backups.start(vm.id, { id: randomUUID(), description: 'x', diskIds: [system], fromCheckpointId: from }),
    ).rejects.toMatchObject({ code: 'ENGINE_CHECKPOINT_UNUSABLE' });
    await engine.vms.stop(vm.id);
    await engine.vms.stop(vm.id);
    await eventually('the VM is down', async () => (await engine.vms.get(vm.id)).status === 'down', patienceMs);
  }, 600_000);

  it('makes a VM with a new disk, a NIC and a tag, and takes it away again', async () => {
    const [cluster] = await engine.clusters.list();
    const [center] = await engine.dataCenters.list();
    const domains = await engine.storageDomains.listOfDataCenter(center!.id);
    const profiles = await engine.networks.vnicProfiles();
    expect(domains[0]).toMatchObject({ type: 'data', status: 'active', storageType: expect.any(String) });
    const diskId = randomUUID();
    const disk = {
      id: diskId,
      name: 'restored',
      storageDomainId: domains[0]!.id,
      provisionedBytes: 16 * 1024 * 1024,
      format: 'cow' as const,
      sparse: true,
      incrementalBackup: true,
    };
    await engine.disks.create(disk);
    await eventually('the disk is there', async () => (await engine.disks.find(diskId))?.status === 'ok', patienceMs);
    const upload = await engine.transfers.create({ direction: 'upload', diskId, format: 'raw' });
    await eventually('URLs', async () => (await engine.transfers.find(upload.id))?.transferUrl !== undefined, patienceMs);
    await endTransfer(upload.id);

    const vm = await engine.vms.create({
      name: 'restored',
      cluster: { id: cluster!.id },
      template: { id: '00000000-0000-0000-0000-000000000000' },
    });
    await expect(
      engine.vms.create({ name: 'restored', cluster: { id: cluster!.id }, template: { id: '00000000-0000-0000-0000-000000000000' } }),
    ).rejects.toMatchObject({ code: 'ENGINE_REFUSED', meta: { httpStatus: 409 } });
    await patience.whileConflict({ deadlineMs: patienceMs }, () =>
      engine.diskAttachments.add(vm.id, { diskId, interface: 'virtio_scsi', bootable: true, active: true }),
    );
    await engine.nics.add(vm.id, {
      name: 'nic1',
      interface: 'virtio',
      plugged: true,
      linked: true,
      ...(profiles[0] ? { vnicProfileId: profiles[0].id } : {}),
    });
    await engine.tags.ensure('gold');
    await engine.tags.assign(vm.id, 'gold');
    await engine.tags.assign(vm.id, 'gold');
    const made = await engine.vms.get(vm.id, { with: ['diskAttachments', 'nics', 'tags'] });
    expect(made.diskAttachments).toMatchObject([
      {
        diskId,
        bootable: true,
        active: true,
        interface: 'virtio_scsi',
        disk: { provisionedBytes: disk.provisionedBytes, incrementalBackup: true },
      },
    ]);
    expect(made.nics).toMatchObject([{ name: 'nic1', macAddress: expect.any(String) }]);
    expect(made.tags?.map((tag) => tag.name)).toEqual(['gold']);
    expect(await engine.affinityGroups.list(cluster!.id)).toEqual(expect.any(Array));

    const snapshot = await engine.snapshots.create(vm.id, { description: 'tidemark test', diskIds: [diskId] });
    await eventually('the snapshot is there', async () => (await engine.snapshots.find(vm.id, snapshot.id))?.status === 'ok', patienceMs);
    expect((await engine.disks.volumes(diskId)).length).toBe(2);
    await patience.whileConflict({ deadlineMs: patienceMs }, () => engine.snapshots.remove(vm.id, snapshot.id));
    await eventually('the snapshot goes', async () => (await engine.snapshots.find(vm.id, snapshot.id)) === undefined, patienceMs);

    await patience.whileConflict({ deadlineMs: patienceMs }, () => engine.vms.remove(vm.id));
    await eventually(
      'the VM goes',
      async () => (await engine.vms.find(vm.id)) === undefined && (await engine.disks.find(diskId)) === undefined,
      patienceMs,
    );
    await expect(engine.vms.remove(vm.id)).resolves.toBe(false);
    await expect(engine.disks.remove(diskId)).resolves.toBe(false);
  }, 600_000);

  it('gives the disk of a cancelled upload up, and finds nothing where nothing is', async () => {
    const [center] = await engine.dataCenters.list();
    const [domain] = await engine.storageDomains.listOfDataCenter(center!.id);
    const diskId = randomUUID();
    await engine.disks.create({
      id: diskId,
      name: 'half',
      storageDomainId: domain!.id,
      provisionedBytes: 1024 * 1024,
      format: 'raw',
      sparse: true,
    });
    await eventually('the disk is there', async () => (await engine.disks.find(diskId))?.status === 'ok', patienceMs);
    const upload = await engine.transfers.create({ direction: 'upload', diskId, format: 'raw' });
    await engine.transfers.cancel(upload.id);
    await eventually('disk and transfer go', async () => (await engine.disks.find(diskId)) === undefined, patienceMs);
    const nobody = randomUUID();
    await expect(engine.vms.find(nobody)).resolves.toBeUndefined();
    await expect(engine.transfers.find(nobody)).resolves.toBeUndefined();
    await expect(engine.vms.get(nobody)).rejects.toMatchObject({ code: 'ENGINE_NOT_FOUND' });
    await expect(engine.jobs.byCorrelationId('tidemark-none')).resolves.toEqual([]);
    await expect(engine.templates.list()).resolves.toEqual(expect.arrayContaining([expect.objectContaining({ name: 'Blank' })]));
  }, 600_000);
});
