import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LabClient, type Json } from './lab-client';
import { endProcess, type LabProcess, startLabProcess } from './lab-process';

/** kill -9 of the lab in the middle of things: VMs and their data go on, and the next start picks up where it was. */
const plan = {
  clusters: [
    { name: 'Level46', level: '4.6', hosts: ['host-1'] },
    { name: 'Level47', level: '4.7', hosts: ['host-2'] },
  ],
  vms: [
    { name: 'live', cluster: 'Level46', disks: [{ name: 'live-disk', sizeMib: 64, format: 'cow' as const }] },
    { name: 'hybrid', cluster: 'Level47', disks: [{ name: 'hybrid-disk', sizeMib: 64, format: 'cow' as const }] },
  ],
};

describe('kill -9 of the lab', () => {
  const directory = mkdtempSync(join(tmpdir(), 'lab-crash-'));
  let lab: LabProcess;
  let client: LabClient;

  const up = async (): Promise<void> => {
    lab = await startLabProcess(plan, { clockFactor: 20, directory });
    client = new LabClient(lab.access);
  };
  const crash = async (): Promise<void> => {
    await endProcess(lab.child, 'SIGKILL');
    await up();
  };
  const vmNamed = async (name: string): Promise<{ path: string; diskId: string }> => {
    const vm = (await client.list(`/vms?search=name%3D${name}&follow=diskattachments`, 'vm'))[0] as Json & {
      disk_attachments: { disk_attachment: { id: string }[] };
    };
    return { path: `/vms/${String(vm['id'])}`, diskId: vm.disk_attachments.disk_attachment[0]?.id ?? '' };
  };
  const startBackup = async (vm: { path: string; diskId: string }, from?: string): Promise<string> => {
    const body = { disks: { disk: [{ id: vm.diskId }] }, ...(from === undefined ? {} : { from_checkpoint_id: from }) };
    const backup = await client.must('POST', `${vm.path}/backups`, body);
    return `${vm.path}/backups/${String(backup['id'])}`;
  };
  const download = async (diskId: string, backup: string): Promise<string> => {
    const body = {
      disk: { id: diskId },
      backup: { id: backup.split('/').at(-1) },
      direction: 'download',
      format: 'raw',
      timeout_policy: 'cancel',
    };
    return `/imagetransfers/${String((await client.must('POST', '/imagetransfers', body))['id'])}`;
  };

  beforeAll(up);
  afterAll(async () => {
    await endProcess(lab.child, 'SIGTERM');
    rmSync(directory, { recursive: true, force: true });
  });

  it('keeps addresses, a running VM, its live backup and the transfer, which then end well', async () => {
    const before = lab.access;
    const vm = await vmNamed('live');
    await client.must('POST', `${vm.path}/start`, {});
    await client.until(vm.path, 'status', ['up']);
    const backup = await startBackup(vm);
    const checkpoint = String((await client.until(backup, 'phase', ['ready']))['to_checkpoint_id']);
    const transfer = await download(vm.diskId, backup);
    const url = String((await client.until(transfer, 'phase', ['transferring']))['transfer_url']);

    await crash();
    expect(lab.access).toMatchObject({ apiUrl: before.apiUrl, controlUrl: before.controlUrl, password: before.password });
    expect((await client.must('GET', vm.path))['status']).toBe('up');
    expect((await client.must('GET', backup))['phase']).toBe('ready');
    expect((await client.must('GET', `/disks/${vm.diskId}`))['status']).toBe('locked');
    expect((await client.image(`${url}/extents`)).status).toBe(200);
    expect((await client.call('POST', `${backup}/finalize`, {})).status).toBe(409);
    await client.must('POST', `${transfer}/finalize`, {});
    await client.until(transfer, 'phase', ['finished_success']);
    await client.must('POST', `${backup}/finalize`, {});
    await client.until(backup, 'phase', ['succeeded']);

    const second = await startBackup(vm, checkpoint);
    await client.until(second, 'phase', ['ready']);
    expect((await client.list(`${second}/disks`, 'disk'))[0]?.['backup_mode']).toBe('incremental');
    await client.must('POST', `${second}/finalize`, {});
    await client.until(second, 'phase', ['succeeded']);
    expect((await client.must('GET', `/disks/${vm.diskId}`))['status']).toBe('ok');
    expect((await client.control('GET', '/state'))['locks']).toEqual([]);
  });

  it('finishes the snapshot removal of a hybrid backup', async () => {
    const vm = await vmNamed('hybrid');
    await client.must('POST', `${vm.path}/start`, {});
    await client.until(vm.path, 'status', ['up']);
    const backup = await startBackup(vm);
    await client.until(backup, 'phase', ['ready']);
    await client.control('POST', '/faults', { match: { step: 'snapshot.merge' }, effect: { kind: 'delay', ms: 10_000 } });
    await client.must('POST', `${backup}/finalize`, {});
    await client.until(backup, 'phase', ['finalizing']);

    await crash();
    await client.until(backup, 'phase', ['succeeded']);
    expect(await client.list(`${vm.path}/snapshots`, 'snapshot')).toHaveLength(1);
    expect((await client.must('GET', `/disks/${vm.diskId}`))['status']).toBe('ok');
    expect((await client.control('GET', '/state'))['locks']).toEqual([]);
  });

  it('forgets nothing of an upload that was running, and cancels it with its disk', async () => {
    const domain = (await client.list('/storagedomains', 'storage_domain'))[0];
    const disk = await client.must('POST', '/disks', {
      name: 'upload',
      format: 'raw',
      provisioned_size: 8 * 1024 ** 2,
      storage_domains: { storage_domain: [{ id: domain?.['id'] }] },
    });
    const diskPath = `/disks/${String(disk['id'])}`;
    await client.until(diskPath, 'status', ['ok']);
    const made = await client.must('POST', '/imagetransfers', { disk: { id: disk['id'] }, direction: 'upload', format: 'raw' });
    const transfer = `/imagetransfers/${String(made['id'])}`;
    await client.until(transfer, 'phase', ['transferring']);

    await crash();
    expect((await client.must('GET', transfer))['phase']).toBe('transferring');
    await client.must('POST', `${transfer}/cancel`, {});
    await client.until(transfer, 'phase', ['finished_failure', 'finished_cleanup']);
    await client.until(diskPath, 'status', ['absent']);
  });
});
