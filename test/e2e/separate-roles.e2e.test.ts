/** Server, plug-in, mover and worker each alone, as on machines of their own: own address, own folder, own configuration, enrolled by a token. */
import fs from 'node:fs';
import path from 'node:path';
import { eventually } from '../harness/child';
import { engineClean } from '../harness/engine-state';
import type { Installation } from '../harness/installation';
import { Site } from '../harness/site';

const plan = {
  vms: [{ name: 'small', cluster: 'Level46', nics: 1, disks: [{ name: 'small-a', sizeMib: 64, format: 'cow' }] }],
};
const logLevel = 'info';

async function startRoles(installation: Installation): Promise<void> {
  await installation.startRole('plugin', {
    listen: { address: '127.0.0.3', port: 8446, enrolmentPort: 8448 },
    addresses: ['127.0.0.3'],
    logLevel,
  });
  await installation.startRole('mover', {
    listen: { address: '127.0.0.4', port: 8447, dataPort: 8445 },
    addresses: ['127.0.0.4'],
    logLevel,
  });
  await installation.startRole('worker', {
    plugin: { endpoint: '127.0.0.3:8446', enrolmentEndpoint: '127.0.0.3:8448' },
    logLevel,
  });
}

describe('roles on machines of their own', () => {
  let site: Site;

  beforeAll(async () => {
    site = await Site.start({ plan, installation: { allInOne: false, address: '127.0.0.2' }, roles: startRoles });
    await eventually('the worker', 30_000, async () => {
      const { items } = await site.installation.json<{ items: { state: string }[] }>('worker', 'list');
      return items.some((worker) => worker.state === 'connected') || undefined;
    });
  }, 180_000);
  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  }, 60_000);

  it('back up, and back up what changed', async () => {
    await site.lab.startVm('small');
    await site.dirty('small', 'small-a', 4, 20, 5);
    await site.installation.cli('job', 'create', 'small', '--repository', 'main', '--vm', 'small');
    for (const mode of ['full', 'incremental']) {
      const session = await site.run('small');
      const [task] = session.tasks;
      expect(task).toMatchObject({ state: 'success', disks: [expect.objectContaining({ mode })] });
      expect(await site.pointDifferences(task!)).toEqual([]);
      await site.dirty('small', 'small-a', 30, 2, 6);
    }
    await engineClean(site.lab);
  }, 120_000);

  it('keep nothing of one role in the folder of another', () => {
    const identities = ['plugin', 'mover', 'worker'].map((role) => {
      const file = path.join(site.installation.folder, role, 'data', 'identity', 'identity.json');
      return (JSON.parse(fs.readFileSync(file, 'utf8')) as { privateKeyPem: string }).privateKeyPem;
    });
    expect(new Set(identities).size).toBe(3);
    expect(fs.readdirSync(site.installation.dataDir)).not.toContain('plugin');
  });
});
