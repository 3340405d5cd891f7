/** A repository in a bucket of a real S3 server (Ceph's RADOS gateway), over the whole road and read without any server of ours. */
import fs from 'node:fs';
import path from 'node:path';
import { eventually } from '../harness/child';
import { imageDifference } from '../harness/compare';
import { engineClean } from '../harness/engine-state';
import { inTheMiddle } from '../harness/middle';
import { BucketServer } from '../harness/s3-server';
import { Site } from '../harness/site';
import type { Session, Task } from '../harness/site';

const plan = {
  vms: [{ name: 'small', cluster: 'Level46', nics: 1, disks: [{ name: 'small-a', sizeMib: 128, format: 'cow' }] }],
};

describe('a repository in a bucket', () => {
  let site: Site;
  let bucket: BucketServer;
  let access: BucketServer['access'];
  let keyFile: string;
  let passphraseFile: string;
  const passphrase = 'planted passphrase of the bucket';
  let full: Task;
  const location = () => bucket.location('site');
  const readOffline = async (task: Task): Promise<string | undefined> => {
    const disk = task.disks[0]!;
    const out = path.join(site.folder, `${task.pointId}.raw`);
    await site.installation.cli(
      ...['point', 'read', '--repository', location(), '--access-key-file', keyFile, '--passphrase-file', passphraseFile],
      ...['--point', task.pointId ?? '', '--disk', disk.diskId, '--out', out],
    );
    return await imageDifference(site.captureOf(task.sessionId, disk.diskId), out);
  };

  beforeAll(async () => {
    site = await Site.start({ plan });
    bucket = await BucketServer.start(path.join(site.folder, 's3'));
    ({ access, keyFile } = bucket);
    passphraseFile = path.join(site.folder, 'passphrase');
    fs.writeFileSync(passphraseFile, `${passphrase}\n`, { mode: 0o600 });
    await site.lab.startVm('small');
    await site.dirty('small', 'small-a', 4, 40, 5);
  }, 900_000);
  afterAll(async () => {
    await site[Symbol.asyncDispose]();
    await bucket.stop();
  }, 900_000);

  const refused = async (...args: string[]) => {
    const result = await site.installation.tryCli('repository', 'add', 'cloud', '--no-encryption', ...args, '--json');
    return { exit: result.code, code: (JSON.parse(result.stdout) as { error?: { code: string } }).error?.code };
  };

  it('is refused without a key, with a wrong one, and in a bucket that is not there', async () => {
    const wrong = path.join(site.folder, 'wrong');
    fs.writeFileSync(wrong, `${access.accessKeyId}\nplanted-wrong-secret\n`);
    expect(await refused('--location', location())).toEqual({ exit: 2, code: 'REPOSITORY_ACCESS_MISSING' });
    const invalid = { exit: 2, code: 'REPOSITORY_LOCATION_INVALID' };
    expect(await refused('--location', location(), '--access-key-file', wrong)).toEqual(invalid);
    expect(await refused('--location', `s3:${access.endpoint}/nothing-here?region=default`, '--access-key-file', keyFile)).toEqual(invalid);
  });

  it('takes a full and an incremental backup, which the offline reader reads', async () => {
    const encryption = ['--passphrase-file', passphraseFile];
    const added = await site.installation.tryCli(
      'repository',
      'add',
      'cloud',
      '--location',
      location(),
      '--access-key-file',
      keyFile,
      ...encryption,
    );
    expect(added).toMatchObject({ code: 0, stdout: expect.stringMatching(/recovery key: ([0-9A-Z]{5}-){12}[0-9A-Z]{5}/) as string });
    await site.installation.cli('job', 'create', 'cloud', '--repository', 'cloud', '--vm', 'small');
    full = (await site.run('cloud')).tasks[0]!;
    expect(full).toMatchObject({ state: 'success', disks: [expect.objectContaining({ mode: 'full' })] });
    await site.dirty('small', 'small-a', 60, 4, 6);
    const [incremental] = (await site.run('cloud')).tasks;
    expect(incremental).toMatchObject({ state: 'success', disks: [expect.objectContaining({ mode: 'incremental' })] });
    expect(incremental!.disks[0]!.counters.storedBytes).toBeLessThan(6 * 1024 * 1024);
    for (const task of [full, incremental!]) expect(await readOffline(task)).toBeUndefined();
    await engineClean(site.lab);
  }, 900_000);

  it('is served again after a restart of the mover, verifies, and shows no key anywhere', async () => {
    site.installation.kill('mover');
    const verified = await eventually('verify', 240_000, async () => {
      const session: Session = await site.session('repository', 'verify', 'cloud');
      return session.state === 'success' ? session : undefined;
    });
    expect(verified.state).toBe('success');
    const [next] = (await site.run('cloud')).tasks;
    expect(next).toMatchObject({ state: 'success', disks: [expect.objectContaining({ mode: 'incremental' })] });
    const files = fs.readdirSync(site.installation.dataDir, { recursive: true, encoding: 'utf8' });
    for (const name of files) {
      const content = contentOf(path.join(site.installation.dataDir, name));
      if (content === undefined) continue;
      expect([name, content.includes(access.secretAccessKey), content.includes(passphrase)]).toEqual([name, false, false]);
    }
  }, 900_000);

  it('goes over to another access key while a backup runs, and gets its first gateway', async () => {
    const edit = (...args: string[]) => site.installation.tryCli('repository', 'edit', 'cloud', ...args, '--json');
    const wrong = path.join(site.folder, 'wrong');
    const second = await bucket.addKey();
    await site.dirty('small', 'small-a', 0, 100, 7);
    const [vm] = await site.lab.entities<{ hostId?: string }>('vms');
    const middle = {
      hostId: vm?.hostId ?? '',
      start: async () => (await site.run('cloud', '--full', '--no-watch')).id,
      show: (sessionId: string) => site.session('session', 'show', sessionId),
      moreThanBytes: 8 * 1024 * 1024,
    };
    const id = await inTheMiddle(site.lab, middle, async () => {
      const refused = await edit('--access-key-file', wrong);
      expect([refused.code, JSON.parse(refused.stdout)]).toMatchObject([
        2,
        { error: { code: 'REPOSITORY_ACCESS_REFUSED', field: 'access' } },
      ]);
      expect(await edit('--access-key-file', second)).toMatchObject({ code: 0 });
      await bucket.removeFirstKey();
    });
    const session = await eventually('the end of the session', 240_000, async () => {
      const found = await site.session('session', 'show', id);
      return found.endedAt === null ? undefined : found;
    });
    expect(session).toMatchObject({ state: 'success', tasks: [{ attempt: 1, failure: null }] });

    const gateway = await site.installation.startGateway('west');
    expect(JSON.parse((await edit('--add-gateway', gateway)).stdout)).toMatchObject({
      error: { code: 'ARGUMENT_INVALID', field: 'access' },
    });
    const added = await edit('--add-gateway', gateway, '--access-key-file', second);
    expect([added.code, JSON.parse(added.stdout)]).toMatchObject([0, { gateways: [gateway], problems: [] }]);
    const found = await site.installation.json<{ reason: string; passed: { moverId: string; why: string }[] }>(
      'repository',
      'path',
      'cloud',
    );
    expect(found).toMatchObject({
      reason: 'repository-mover',
      passed: [{ moverId: gateway, why: expect.stringContaining('comes first') as string }],
    });
    keyFile = second;
    expect(await readOffline(session.tasks[0]!)).toBeUndefined();
    await engineClean(site.lab);
  }, 900_000);
});

/** Undefined for what is no file, or was one a moment ago. */
function contentOf(file: string): Buffer | undefined {
  try {
    return fs.readFileSync(file);
  } catch (error) {
    if (['ENOENT', 'EISDIR', 'ENXIO'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}
