/** Server, plug-in, mover and worker each alone, as on machines of their own: own address, own folder, own configuration, enrolled by a token. */
import fs from 'node:fs';
import path from 'node:path';
import { eventually } from '../harness/child';
import { imageDifference } from '../harness/compare';
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
  let lastSessionId: string;

  /** Newest first. */
  const pointIds = async () =>
    (await site.installation.json<{ items: { id: string }[] }>('point', 'list', '--repository', 'main')).items.map(({ id }) => id);
  const everybody = async () => {
    const all = [];
    for (const noun of ['plugin', 'mover', 'worker']) {
      const { items } = await site.installation.json<{ items: { id: string; state: string }[] }>(noun, 'list');
      all.push(...items.map(({ id, state }) => ({ noun, id, state })));
    }
    return all;
  };

  beforeAll(async () => {
    site = await Site.start({ plan, installation: { allInOne: false, address: '127.0.0.2' }, roles: startRoles });
    await eventually('the worker', 240_000, async () => {
      const { items } = await site.installation.json<{ items: { state: string }[] }>('worker', 'list');
      return items.some((worker) => worker.state === 'connected') || undefined;
    });
  }, 600_000);
  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  }, 300_000);

  it('back up, and back up what changed', async () => {
    await site.lab.startVm('small');
    await site.dirty('small', 'small-a', 4, 20, 5);
    await site.installation.cli('job', 'create', 'small', '--repository', 'main', '--vm', 'small');
    for (const mode of ['full', 'incremental']) {
      const session = await site.run('small');
      const [task] = session.tasks;
      expect(task).toMatchObject({ state: 'success', disks: [expect.objectContaining({ mode })] });
      expect(await site.pointDifferences(task!)).toEqual([]);
      lastSessionId = session.id;
      await site.dirty('small', 'small-a', 30, 2, 6);
    }
    await engineClean(site.lab);
  }, 600_000);

  it('know a new server that is made from a copy of the configuration, and restore a VM with it', async () => {
    const { installation } = site;
    const [known = ''] = await pointIds();
    const before = await everybody();
    const keyFile = path.join(site.folder, 'configuration.key');
    const { recoveryKey } = await installation.json<{ recoveryKey: string }>('config', 'key', 'show-once');
    fs.writeFileSync(keyFile, `${recoveryKey}\n`, { mode: 0o600 });
    await installation.cli('config', 'backup');
    // Plug-in, mover and worker run on, and are told nothing.
    await installation.loseServer();
    fs.rmSync(installation.dataDir, { recursive: true });
    await installation.cli(
      ...['config', 'restore', '--repository', site.repository, '--configuration-key-file', keyFile, '--data-dir', installation.dataDir],
    );
    // It listens where the old one did: addresses and ports are those of its configuration.
    await installation.start();
    await eventually('everybody', 240_000, async () => {
      const now = await everybody();
      return now.every(({ state }) => state === 'connected') || undefined;
    });
    expect(await everybody()).toEqual(before);
    await eventually('the points', 240_000, async () => (await pointIds()).includes(known) || undefined);

    // It asks everybody, and waits for nobody who is busy just then.
    await eventually('a doctor without findings', 240_000, async () => {
      const { checks } = JSON.parse((await installation.tryCli('doctor', '--json')).stdout) as { checks: { passed: boolean }[] };
      const findings = checks.filter(({ passed }) => !passed);
      if (findings.length > 0) throw new Error(JSON.stringify(findings));
      return checks.length > 0;
    });
    const restored = await site.session('restore', 'vm', known, '--name', 'small-again', '--storage-domain', 'data-1', '--mac', 'new');
    expect(restored.tasks[0]?.failure).toBeNull();
    const [task] = (await site.run('small')).tasks;
    expect(task).toMatchObject({ failure: null, disks: [expect.objectContaining({ mode: 'incremental' })] });
    expect(await site.pointDifferences(task!)).toEqual([]);
    const attachments = await site.lab.entities<{ vmId: string; diskId: string }>('attachments');
    const copy = attachments.find(({ vmId }) => vmId === restored.tasks[0]?.createdId);
    const file = path.join(site.folder, 'copy.raw');
    await site.lab.control('POST', `/disks/${copy?.diskId}/dump`, { file });
    expect(await imageDifference(site.captureOf(lastSessionId, task!.disks[0]!.diskId), file)).toBeUndefined();
    await engineClean(site.lab);
  }, 900_000);

  it('keep nothing of one role in the folder of another', () => {
    const identities = ['plugin', 'mover', 'worker'].map((role) => {
      const file = path.join(site.installation.folder, role, 'data', 'identity', 'identity.json');
      return (JSON.parse(fs.readFileSync(file, 'utf8')) as { privateKeyPem: string }).privateKeyPem;
    });
    expect(new Set(identities).size).toBe(3);
    expect(fs.readdirSync(site.installation.dataDir)).not.toContain('plugin');
  });
});
