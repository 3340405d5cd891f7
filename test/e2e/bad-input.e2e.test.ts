/** Wrong input and damage: a typed error that names the problem, the documented exit code, and nothing lost. Planted secrets reach no log. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { eventually } from '../harness/child';
import { Site } from '../harness/site';
import type { Session, Task } from '../harness/site';

const planted = 'planted-cloud-init-7c1d';
const plan = {
  vms: [{ name: 'small', cluster: 'Level46', nics: 1, disks: [{ name: 'small-a', sizeMib: 64, format: 'cow' }] }],
};

describe('bad input and damage', () => {
  let site: Site;
  let good: Task;

  beforeAll(async () => {
    site = await Site.start({ plan, settings: { retryAttempts: 1 } });
    await site.lab.startVm('small');
    await site.dirty('small', 'small-a', 4, 20, 5);
    const [vm] = (await site.lab.api<{ vm: { id: string }[] }>('GET', '/vms?search=name%3Dsmall')).vm;
    await site.lab.api('PUT', `/vms/${vm?.id}`, { initialization: { host_name: 'small', custom_script: `password: ${planted}` } });
    await site.installation.cli('job', 'create', 'small', '--repository', 'main', '--vm', 'small');
    const session = await site.run('small');
    if (!session.tasks[0]?.pointId) throw new Error(JSON.stringify(session));
    good = session.tasks[0];
  }, 180_000);
  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  }, 60_000);

  const file = (name: string, content: string) => {
    const at = path.join(site.folder, name);
    fs.writeFileSync(at, content);
    return at;
  };
  const refused = async (...args: string[]): Promise<{ exit: number; code: string; message: string }> => {
    const result = await site.installation.tryCli(...args, '--json');
    const { error } = JSON.parse(result.stdout) as { error?: { code: string; message: string } };
    return { exit: result.code, code: error?.code ?? 'none', message: error?.message ?? '' };
  };

  it('names a wrong engine password', async () => {
    const { engineUrl, user } = site.lab.access;
    const answer = await refused(
      ...['platform', 'add', 'other', '--url', engineUrl, '--user', user],
      ...['--password-file', file('wrong', 'wrong'), '--fingerprint', site.caFingerprint],
    );
    expect(answer).toMatchObject({ exit: 5, code: 'ENGINE_LOGIN_REFUSED' });
  });

  it('refuses an engine whose CA is not the confirmed one', async () => {
    const { engineUrl, user, passwordFile } = site.lab.access;
    const answer = await refused(
      'platform',
      'add',
      'other',
      '--url',
      engineUrl,
      '--user',
      user,
      '--password-file',
      passwordFile,
      '--fingerprint',
      'AA:'.repeat(31) + 'AA',
    );
    expect(answer).toMatchObject({ exit: 5, code: 'ENGINE_CERTIFICATE_CHANGED' });
  });

  it('names a server that is no engine', async () => {
    const answer = await refused(
      'platform',
      'add',
      'other',
      '--url',
      'https://127.0.0.1:9/ovirt-engine',
      '--user',
      'a@b',
      '--password-file',
      file('pw', 'x'),
      '--fingerprint',
      'AA',
    );
    expect(answer).toMatchObject({ exit: 7, code: 'ENGINE_UNAVAILABLE' });
  });

  it.each([
    [['vm', 'show', 'nobody'], 4],
    [['vm', 'preflight', 'nobody'], 4],
    [['point', 'show', 'nothing'], 4],
    [['job', 'run', 'nothing'], 4],
    [['job', 'create', 'bad/name', '--repository', 'main', '--vm', '*'], 2],
    [['job', 'create', 'two', '--repository', 'nowhere', '--vm', '*'], 4],
    [['job', 'create', 'three', '--repository', 'main', '--vm', '*', '--schedule', 'every now and then'], 2],
    [['restore', 'disk', 'x', 'y'], 2],
  ])('answers %j with exit code %i', async (args, exit) => {
    expect(await refused(...args)).toMatchObject({ exit });
  });

  it('refuses a repository path that is a file, and one that is not absolute', async () => {
    expect(await refused('repository', 'add', 'r2', '--location', file('afile', 'x'))).toMatchObject({
      exit: 2,
      code: 'REPOSITORY_LOCATION_INVALID',
    });
    expect((await refused('repository', 'add', 'r2', '--location', 'relative/path')).exit).toBe(2);
    expect(fs.readFileSync(path.join(site.folder, 'afile'), 'utf8')).toBe('x');
  });

  it('refuses a folder that holds something else', async () => {
    const folder = path.join(site.folder, 'other');
    fs.mkdirSync(folder);
    fs.writeFileSync(path.join(folder, 'mine.txt'), 'mine');
    expect(await refused('repository', 'add', 'r2', '--location', folder)).toMatchObject({
      exit: 5,
      code: 'REPOSITORY_LOCATION_NOT_EMPTY',
    });
    expect(fs.readdirSync(folder)).toEqual(['mine.txt']);
  });

  it('says so when the file system is full, and goes on when it is not', async () => {
    const full = path.join(site.folder, 'full');
    fs.mkdirSync(full);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', full]);
    try {
      await site.installation.cli('repository', 'add', 'tight', '--location', path.join(full, 'r'));
      await site.installation.cli('job', 'create', 'tight', '--repository', 'tight', '--vm', 'small');
      const first = await site.session('job', 'run', 'tight');
      // 20 MiB of random data and the engine's own overhead do not fit beside the reserve.
      expect(first.tasks[0]?.failure?.code).toBe('REPOSITORY_FULL');
      execFileSync('mount', ['-o', 'remount,size=512m', full]);
      const second = await site.session('job', 'run', 'tight');
      expect(second.tasks[0]?.failure).toBeNull();
      await site.installation.cli('job', 'remove', 'tight');
      await site.installation.cli('repository', 'remove', 'tight');
    } finally {
      await eventually('unmount', 10_000, () => {
        execFileSync('umount', [full], { stdio: 'ignore' });
        return true;
      });
    }
  }, 120_000);

  it('finds a damaged pack, does not restore it, and lists a damaged manifest', async () => {
    const second = (await site.run('small')).tasks[0];
    const copy = path.join(site.folder, 'damaged');
    execFileSync('cp', ['-a', site.repository, copy]);
    const names = fs.readdirSync(copy, { recursive: true, encoding: 'utf8' });
    const packs = names
      .filter((name) => /pack/i.test(name) && fs.statSync(path.join(copy, name)).isFile())
      .map((name) => path.join(copy, name));
    const largest = packs.sort((a, b) => fs.statSync(b).size - fs.statSync(a).size)[0] ?? '';
    const descriptor = fs.openSync(largest, 'r+');
    const middle = Math.floor(fs.statSync(largest).size / 2);
    fs.writeSync(descriptor, Buffer.alloc(4096, 0xa5), 0, 4096, middle);
    fs.closeSync(descriptor);
    const out = path.join(site.folder, 'damaged.raw');
    const read = await site.installation.tryCli(
      'point',
      'read',
      '--repository',
      copy,
      '--point',
      good.pointId ?? '',
      '--disk',
      good.disks[0]?.diskId ?? '',
      '--out',
      out,
    );
    expect(read.code).not.toBe(0);
    expect(read.stdout + read.stderr).toMatch(/BLOCK_CORRUPT|PACK_DAMAGED/);
    expect(fs.existsSync(out)).toBe(false);
    const manifest = names.find((name) => name.includes(second?.pointId ?? '?') && fs.statSync(path.join(copy, name)).isFile());
    fs.truncateSync(path.join(copy, manifest ?? ''), 40);
    const listed = await site.installation.tryCli('point', 'list', '--offline', '--repository', copy);
    expect(listed.stdout).toMatch(/damaged/i);
    expect(listed.stdout).toContain(good.pointId);
    // The real one is untouched.
    expect(await site.pointDifferences(good)).toEqual([]);
  }, 120_000);

  it('lets an empty server take over the repository', async () => {
    await site.installation.cli('job', 'remove', 'small');
    await site.installation.cli('repository', 'remove', 'main');
    await site.installation.cli('repository', 'add', 'again', '--location', site.repository, '--attach');
    const { items } = await site.installation.json<{ items: { id: string }[] }>('point', 'list', '--refresh');
    expect(items.map(({ id }) => id)).toContain(good.pointId);
    const target = path.join(site.folder, 'taken-over.raw');
    const restored: Session = await site.session('restore', 'disk', good.pointId ?? '', 'small-a', '--to-file', target);
    expect(restored.tasks[0]?.failure).toBeNull();
    execFileSync('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', target, site.captureOf(good.sessionId, good.disks[0]?.diskId ?? '')]);
  }, 60_000);

  it('wrote no secret into any log', () => {
    const secrets = [
      planted,
      site.lab.access.password,
      fs.readFileSync(path.join(site.installation.dataDir, 'initial-admin-password'), 'utf8').trim(),
    ];
    const logs = [site.installation.dataDir, site.installation.folder].flatMap((folder) =>
      fs
        .readdirSync(folder, { recursive: true, encoding: 'utf8' })
        .filter((name) => name.endsWith('.log'))
        .map((name) => path.join(folder, name)),
    );
    expect(logs.length).toBeGreaterThan(3);
    for (const log of new Set(logs)) {
      const text = fs.readFileSync(log, 'utf8');
      for (const secret of secrets) expect([log, text.includes(secret)]).toEqual([log, false]);
      expect([log, /\/images\/[0-9a-f]{8}-/.test(text)]).toEqual([log, false]);
      expect([log, /<ovf:Envelope/.test(text)]).toEqual([log, false]);
    }
  });
});
