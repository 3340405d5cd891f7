import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitUntil } from '../hosts/testing/fleet-harness';
import { LabClient } from './lab-client';
import { endProcess, type LabProcess, startLabProcess } from './lab-process';

/** A worker VM in a whole lab with networks, through the API as a client drives it, over a kill of the lab. The program stands in for the appliance. */
const program = `
  const fs = require('node:fs');
  const drive = process.argv[process.argv.indexOf('--config-drive') + 1];
  console.log(fs.readFileSync(drive + '/openstack/latest/user_data', 'utf8'));
  process.on('SIGTERM', () => process.exit(0));
  setInterval(() => undefined, 1000);
`;
const plan = {
  clusters: [{ name: 'east', level: '4.6', hosts: ['host-1'] }],
  networks: { clusters: { east: {} } },
  storageDomains: ['data-1'],
  vms: [],
};
const text = (value: unknown): string => (typeof value === 'string' ? value : '');

describe('worker VM in a lab with networks', () => {
  const directory = mkdtempSync(join(tmpdir(), 'lab-worker-'));
  let lab: LabProcess;
  let client: LabClient;
  let vmId: string;

  const start = async (): Promise<void> => {
    lab = await startLabProcess(plan, {
      clockFactor: 20,
      directory,
      args: ['--worker-vms', 'process', '--appliance', join(directory, 'program.js')],
    });
    client = new LabClient(lab.access);
  };
  beforeAll(async () => {
    writeFileSync(join(directory, 'program.js'), program);
    await start();
  });
  afterAll(async () => {
    await endProcess(lab.child, 'SIGTERM');
    rmSync(directory, { recursive: true, force: true });
  });

  const reported = async (): Promise<string> =>
    JSON.stringify((await client.list(`/vms/${vmId}/reporteddevices`, 'reported_device')).map(({ mac, ips }) => [mac, ips]));

  it('is made as the plug-in makes it, runs its program, and is on the network', async () => {
    const disk = { name: 'image', format: 'cow', provisioned_size: '16777216', storage_domains: { storage_domain: [{ name: 'data-1' }] } };
    const image = text((await client.must('POST', '/disks', disk))['id']);
    await client.until(`/disks/${image}`, 'status', ['ok']);
    await client.must('POST', `/disks/${image}/copy`, { storage_domain: { name: 'data-1' }, disk: { name: 'system' } });
    const [copy] = await client.list('/disks?search=name%3Dsystem', 'disk');
    await client.until(`/disks/${text(copy?.['id'])}`, 'status', ['ok']);
    const vm = await client.must('POST', '/vms', {
      name: 'worker',
      cluster: { name: 'east' },
      template: { name: 'Blank' },
      os: { type: 'other_linux' },
      console: { enabled: 'true' },
      delete_protected: 'true',
    });
    vmId = text(vm['id']);
    const attachment = { disk: { id: copy?.['id'] }, interface: 'virtio_scsi', bootable: 'true', active: 'true' };
    await client.must('POST', `/vms/${vmId}/diskattachments`, attachment);
    await client.must('POST', `/vms/${vmId}/nics`, { name: 'nic1' });
    const [console] = await client.list(`/vms/${vmId}/graphicsconsoles`, 'graphics_console');
    await client.must('DELETE', `/vms/${vmId}/graphicsconsoles/${text(console?.['id'])}`);
    const custom_script = 'write_files:\n- path: /etc/tidemark/worker.json\n  content: seed-of-the-test\n';
    await client.must('POST', `/vms/${vmId}/start`, {
      use_cloud_init: 'true',
      vm: { initialization: { host_name: 'worker', custom_script } },
    });
    await client.until(`/vms/${vmId}`, 'status', ['up']);
    // The VM is up before its program says something.
    const consoleText = async (): Promise<string> => text((await client.control('GET', `/vms/worker/console`))['text']);
    await waitUntil('the program read its seed', async () => (await consoleText()).includes('seed-of-the-test'), 120_000);
    expect(await reported()).toMatch(/"address":"10\.\d+\.\d+\.\d+"/);
    expect((await client.call('DELETE', `/vms/${vmId}`)).status).toBe(409);
  });

  it('goes on while the lab is dead, and obeys the next one', async () => {
    const before = await reported();
    await endProcess(lab.child, 'SIGKILL');
    await start();
    expect((await client.must('GET', `/vms/${vmId}`))['status']).toBe('up');
    expect(await reported()).toBe(before);
    await client.control('POST', '/vms/worker/network', { cutOff: true });
    await client.control('POST', '/vms/worker/network', { cutOff: false });
    await client.must('POST', `/vms/${vmId}/shutdown`, {});
    await client.until(`/vms/${vmId}`, 'status', ['down']);
    await client.must('PUT', `/vms/${vmId}`, { delete_protected: 'false' });
    await client.must('DELETE', `/vms/${vmId}`);
    await client.until(`/vms/${vmId}`, 'status', ['absent']);
  });
});
