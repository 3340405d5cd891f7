/** Wrong input and damage: a typed error that names the problem, the documented exit code, and nothing lost. Planted secrets reach no log. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { eventually } from '../harness/child';
import { Site } from '../harness/site';
import type { Session, Task } from '../harness/site';

const planted = 'planted-cloud-init-7c1d';
const wrongPassword = 'planted-wrong-password-52e8';
const wrongFingerprint = Array.from({ length: 32 }, () => 'AA').join(':');
const plan = {
  vms: [{ name: 'small', cluster: 'Level46', nics: 1, disks: [{ name: 'small-a', sizeMib: 64, format: 'cow' }] }],
};

describe('bad input and damage', () => {
  let site: Site;
  let good: Task;
  /** What refused commands printed; no secret belongs there either. */
  const printed: string[] = [];

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
  }, 600_000);
  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  }, 600_000);

  const file = (name: string, content: string) => {
    const at = path.join(site.folder, name);
    fs.writeFileSync(at, content);
    return at;
  };
  interface Refusal {
    readonly code: string;
    readonly message: string;
    readonly field?: string;
    readonly meta?: Readonly<Record<string, unknown>>;
  }
  const refused = async (...args: string[]): Promise<Refusal & { readonly exit: number }> => {
    const result = await site.installation.tryCli(...args, '--json');
    printed.push(result.stdout, result.stderr);
    const { error } = JSON.parse(result.stdout) as { error?: Refusal };
    return { ...(error ?? { code: 'none', message: result.stdout }), exit: result.code };
  };

  it('names a wrong engine password, and keeps the one that works', async () => {
    const { engineUrl, user } = site.lab.access;
    const passwordFile = file('wrong', wrongPassword);
    const code = 'ENGINE_LOGIN_REFUSED';
    // Under another name, since an engine that is connected already is refused before anybody logs in.
    const url = engineUrl.replace('127.0.0.1', 'localhost');
    const add = ['platform', 'add', 'other', '--url', url, '--user', user, '--password-file', passwordFile];
    const added = await refused(...add, '--fingerprint', site.caFingerprint);
    expect(added).toMatchObject({ exit: 5, code, meta: { username: user, engine: new URL(url).host } });
    expect(added.message).toMatch(/refuses the login of "admin@internal".*password/);
    expect(await refused('platform', 'edit', 'lab', '--password-file', passwordFile)).toMatchObject({ exit: 5, code });
    expect((await site.installation.tryCli('platform', 'test', 'lab')).code).toBe(0);
  });

  it('refuses an engine twice, and one whose CA is not the confirmed one', async () => {
    const { engineUrl, user, passwordFile } = site.lab.access;
    const add = ['platform', 'add', 'other', '--url', engineUrl, '--user', user, '--password-file', passwordFile];
    expect(await refused(...add, '--fingerprint', site.caFingerprint)).toMatchObject({ exit: 5, code: 'PLATFORM_EXISTS' });
    const changed = { exit: 5, code: 'ENGINE_CERTIFICATE_CHANGED', meta: { expected: wrongFingerprint, found: site.caFingerprint } };
    expect(await refused(...add, '--fingerprint', wrongFingerprint)).toMatchObject(changed);
    expect(await refused('platform', 'edit', 'lab', '--fingerprint', wrongFingerprint)).toMatchObject(changed);
    expect((await site.installation.json<{ items: unknown[] }>('platform', 'list')).items).toHaveLength(1);
  });

  it('names a server that is no engine, and an address that is none', async () => {
    const add = ['platform', 'add', 'other', '--user', 'a@b', '--password-file', file('pw', 'x'), '--fingerprint', 'AA', '--url'];
    expect(await refused(...add, 'https://127.0.0.1:9/ovirt-engine')).toMatchObject({ exit: 7, code: 'ENGINE_UNAVAILABLE' });
    expect(await refused(...add, 'http://engine')).toMatchObject({ exit: 2, code: 'PLATFORM_URL_INVALID' });
  });

  it.each([
    ['vm show nobody', 4, 'VM_UNKNOWN', 'VM "nobody"'],
    ['vm preflight nobody', 4, 'VM_UNKNOWN', 'VM "nobody"'],
    ['point show nothing', 4, 'POINT_UNKNOWN', 'restore point "nothing"'],
    ['job run nothing', 4, 'JOB_NOT_FOUND', 'job "nothing"'],
    ['repository verify nothing', 4, 'REPOSITORY_UNKNOWN', 'repository "nothing"'],
    ['job create bad/name --repository main --vm *', 2, 'ARGUMENT_INVALID', 'name: '],
    ['job create two --repository nowhere --vm *', 4, 'REPOSITORY_UNKNOWN', 'repository "nowhere"'],
    ['job create three --repository main --vm * --schedule never', 2, 'SCHEDULE_INVALID', 'schedule "never"'],
    ['job create small --repository main --vm *', 5, 'NAME_TAKEN', '"small"'],
    ['repository add main --location /nowhere --no-encryption', 5, 'NAME_TAKEN', '"main"'],
    ['repository add new --location /nowhere', 2, 'USAGE', '--passphrase-file FILE, --key-file FILE, --no-encryption'],
    ['restore disk x y', 2, 'USAGE', '--to-file'],
    ['restore disk x y --to-file /nowhere/x', 4, 'POINT_UNKNOWN', 'restore point "x"'],
    ['vm show', 2, 'USAGE', 'missing required argument'],
    ['vm list --no-such-option', 2, 'USAGE', '--no-such-option'],
  ])('answers "%s" with exit code %i', async (command, exit, code, names) => {
    const answer = await refused(...command.split(' '));
    expect(answer).toMatchObject({ exit, code });
    expect(answer.message).toContain(names);
  });

  it('says that the server is not there, and that the login is not valid', async () => {
    const ca = path.join(site.installation.dataDir, 'ca.pem');
    const passwordFile = file('wrong-login', wrongPassword);
    const login = (server: string) => refused('login', '--server', server, '--ca', ca, '--password-file', passwordFile);
    expect(await login('https://127.0.0.1:9')).toMatchObject({ exit: 7, code: 'SERVER_UNREACHABLE' });
    const { console: server } = JSON.parse(fs.readFileSync(path.join(site.installation.dataDir, 'endpoints.json'), 'utf8')) as {
      console: string;
    };
    expect(await login(server)).toMatchObject({ exit: 6, code: 'LOGIN_REFUSED' });
    expect((await site.installation.tryCli('job', 'list')).code).toBe(0);
  });

  it('refuses a repository path that is a file, cannot be a folder, or is not absolute', async () => {
    const invalid = { exit: 2, code: 'REPOSITORY_LOCATION_INVALID', field: 'location' };
    const afile = file('afile', 'x');
    expect(await refused('repository', 'add', 'r2', '--location', afile, '--no-encryption')).toMatchObject(invalid);
    expect(await refused('repository', 'add', 'r2', '--location', afile, '--attach')).toMatchObject(invalid);
    expect(await refused('repository', 'add', 'r2', '--location', '/proc/nothing/r2', '--no-encryption')).toMatchObject(invalid);
    expect(await refused('repository', 'add', 'r2', '--location', 'relative/path', '--no-encryption')).toMatchObject(invalid);
    expect(fs.readFileSync(afile, 'utf8')).toBe('x');
    const read = ['point', 'read', '--repository', afile, '--point', 'x', '--disk', 'y', '--out', path.join(site.folder, 'none')];
    expect(await refused(...read)).toMatchObject({ exit: 2, code: 'REPOSITORY_LOCATION_INVALID' });
    expect(await refused('repository', 'add', 'r2', '--location', '/nowhere', '--attach')).toMatchObject({
      exit: 4,
      code: 'REPOSITORY_NOT_FOUND',
    });
  });

  it('refuses a folder that holds something else', async () => {
    const folder = path.join(site.folder, 'other');
    fs.mkdirSync(folder);
    fs.writeFileSync(path.join(folder, 'mine.txt'), 'mine');
    expect(await refused('repository', 'add', 'r2', '--location', folder, '--no-encryption')).toMatchObject({
      exit: 5,
      code: 'REPOSITORY_LOCATION_NOT_EMPTY',
    });
    expect(fs.readdirSync(folder)).toEqual(['mine.txt']);
  });

  it('waits and says so while the file system is full, and goes on when it is not', async () => {
    const full = path.join(site.folder, 'full');
    fs.mkdirSync(full);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', full]);
    try {
      await site.installation.cli('repository', 'add', 'tight', '--location', path.join(full, 'r'), '--no-encryption');
      await site.installation.cli('job', 'create', 'tight', '--repository', 'tight', '--vm', 'small');
      const { id } = await site.session('job', 'run', 'tight', '--no-watch');
      const shown = () => site.session('session', 'show', id);
      // Everything there is lies below the hard mark.
      await eventually('the run to wait for room', 240_000, async () => (await shown()).tasks[0]?.waitingReason === 'repo-full');
      expect((await shown()).endedAt).toBeNull();
      execFileSync('mount', ['-o', 'remount,size=512m', full]);
      const ended = await eventually('the end of the run', 240_000, async () => {
        const session = await shown();
        return session.endedAt ? session : undefined;
      });
      expect([ended.state, ended.tasks[0]?.failure]).toEqual(['success', null]);
      await site.installation.cli('job', 'remove', 'tight');
      await site.installation.cli('repository', 'remove', 'tight');
    } finally {
      await eventually('unmount', 240_000, () => {
        execFileSync('umount', [full], { stdio: 'ignore' });
        return true;
      });
    }
  }, 600_000);

  it('ends runs when a connected engine has another CA, until an administrator confirms it', async () => {
    const before = site.caFingerprint;
    await site.lab.stop();
    await site.lab.start(true);
    const found = site.caFingerprint;
    expect(found).not.toBe(before);
    const run = await site.installation.tryCli('job', 'run', 'small', '--json');
    const session = JSON.parse(run.stdout) as Session;
    const failure = session.tasks[0]?.failure;
    expect([run.code, session.state, failure?.code]).toEqual([1, 'failed', 'ENGINE_CERTIFICATE_CHANGED']);
    for (const fingerprint of [before, found]) expect(failure?.message).toContain(fingerprint);
    await eventually('the platform to be shown as lost', 240_000, async () => {
      const shown = await site.installation.json<{ unavailable: { code: string } | null }>('platform', 'show', 'lab');
      return shown.unavailable?.code === 'ENGINE_CERTIFICATE_CHANGED';
    });
    expect((await site.installation.tryCli('platform', 'test', 'lab')).code).toBe(1);
    await site.installation.cli('platform', 'edit', 'lab', '--fingerprint', found);
    expect((await site.run('small')).tasks[0]?.failure).toBeNull();
  }, 600_000);

  it('finds a damaged pack, does not restore it, and lists a damaged manifest', async () => {
    const second = (await site.run('small')).tasks[0];
    const copy = path.join(site.folder, 'damaged');
    // At one moment, as the snapshot of a file system is.
    const mover = site.installation.childPid('mover');
    process.kill(mover, 'SIGSTOP');
    execFileSync('cp', ['-a', site.repository, copy]);
    process.kill(mover, 'SIGCONT');
    // It names this mover, which is alive; a copy's lease ends by itself, which would be half a minute here.
    fs.rmSync(path.join(copy, 'writers'), { recursive: true });
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
    const damagedRead = ['point', 'read', '--repository', copy, '--disk', good.disks[0]?.diskId ?? '', '--out', out];
    expect(await refused(...damagedRead, '--point', second?.pointId ?? '')).toMatchObject({ exit: 1, code: 'MANIFEST_DAMAGED' });
    expect(await refused(...damagedRead, '--point', 'nothing')).toMatchObject({ exit: 4, code: 'POINT_NOT_FOUND' });
    // A copy has the id of the one in use.
    expect(await refused('repository', 'add', 'damaged', '--location', copy, '--attach')).toMatchObject({
      exit: 2,
      code: 'REPOSITORY_LOCATION_INVALID',
      field: 'location',
    });
    // The real one is untouched.
    expect(await site.pointDifferences(good)).toEqual([]);
    expect((await site.installation.tryCli('repository', 'verify', 'main')).code).toBe(0);
  }, 600_000);

  it('serves what is good of a damaged repository, and says what is not', async () => {
    await site.installation.cli('job', 'remove', 'small');
    await site.installation.cli('repository', 'remove', 'main');
    await site.installation.cli('repository', 'add', 'damaged', '--location', path.join(site.folder, 'damaged'), '--attach');
    const { items } = await site.installation.json<{ items: { id: string; damaged: boolean }[] }>('point', 'list', '--refresh');
    expect(items.find(({ id }) => id === good.pointId)?.damaged).toBe(false);
    expect(items.filter(({ damaged }) => damaged)).toHaveLength(1);
    const verified = await site.installation.tryCli('repository', 'verify', 'damaged', '--json');
    expect(verified.code).toBe(1);
    for (const part of ['BLOCK_CORRUPT', 'MANIFEST_DAMAGED', good.pointId]) expect(verified.stdout).toContain(part);
    const target = path.join(site.folder, 'damaged-restore.raw');
    const restored = await site.installation.tryCli('restore', 'disk', good.pointId ?? '', 'small-a', '--to-file', target, '--json');
    const session = JSON.parse(restored.stdout) as Session;
    expect([restored.code, session.tasks[0]?.failure?.code, fs.existsSync(target)]).toEqual([1, 'BLOCK_CORRUPT', false]);
    await site.installation.cli('repository', 'remove', 'damaged');
  }, 600_000);

  it('lets an empty server take over the repository', async () => {
    await site.installation.cli('repository', 'add', 'again', '--location', site.repository, '--attach');
    const { items } = await site.installation.json<{ items: { id: string }[] }>('point', 'list', '--refresh');
    expect(items.map(({ id }) => id)).toContain(good.pointId);
    const target = path.join(site.folder, 'taken-over.raw');
    const restored: Session = await site.session('restore', 'disk', good.pointId ?? '', 'small-a', '--to-file', target);
    expect(restored.tasks[0]?.failure).toBeNull();
    execFileSync('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', target, site.captureOf(good.sessionId, good.disks[0]?.diskId ?? '')]);
  }, 600_000);

  it('wrote no secret into any log or answer', () => {
    const { dataDir } = site.installation;
    const keys = fs
      .readdirSync(path.join(dataDir, 'identity'))
      .flatMap((name) => fs.readFileSync(path.join(dataDir, 'identity', name), 'utf8').match(/[A-Za-z0-9+/]{60,}/g) ?? []);
    const { token } = JSON.parse(fs.readFileSync(path.join(site.installation.folder, 'cli.json'), 'utf8')) as { token: string };
    const secrets = [
      planted,
      wrongPassword,
      token,
      ...keys,
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
      expect([log, text.includes('PRIVATE KEY')]).toEqual([log, false]);
      expect([log, /\/images\/[0-9a-f]{8}-/.test(text)]).toEqual([log, false]);
      expect([log, /<ovf:Envelope/.test(text)]).toEqual([log, false]);
    }
    for (const secret of secrets) expect(printed.filter((text) => text.includes(secret))).toEqual([]);
  });
});
