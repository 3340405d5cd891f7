/** The server is lost: a new one made from the copy of its configuration in a repository, and an empty one that takes the repository over. */
import fs from 'node:fs';
import path from 'node:path';
import { imageDifference } from '../harness/compare';
import { eventually } from '../harness/child';
import { engineClean } from '../harness/engine-state';
import { Installation } from '../harness/installation';
import { Site } from '../harness/site';
import type { Session } from '../harness/site';

const plan = {
  vms: [{ name: 'web', cluster: 'Level46', nics: 1, disks: [{ name: 'web-a', sizeMib: 96, format: 'cow' }] }],
};
interface Point {
  readonly id: string;
  readonly vmName: string;
  readonly damaged: boolean;
}
interface Listed {
  readonly id: string;
  readonly state: string;
}

describe('a lost server', () => {
  let site: Site;
  let first: Session;
  let vault: string;
  let keyFile: string;
  let configurationKeyFile: string;

  beforeAll(async () => {
    site = await Site.start({ plan });
    vault = path.join(site.folder, 'vault');
    keyFile = path.join(site.folder, 'vault.key');
    configurationKeyFile = path.join(site.folder, 'configuration.key');
    fs.writeFileSync(keyFile, `${'5a'.repeat(32)}\n`, { mode: 0o600 });
    const { installation } = site;
    await installation.cli('repository', 'add', 'vault', '--location', vault, '--key-file', keyFile);
    // The hosts may still be coming up.
    await eventually('a host', 240_000, async () => {
      await site.lab.startVm('web');
      return true;
    });
    await site.dirty('web', 'web-a', 8, 24, 1);
    await installation.cli('job', 'create', 'all', '--repository', 'vault', '--vm', '*');
    first = await site.run('all');
  }, 600_000);
  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  }, 300_000);

  const points = async (installation: Installation) => (await installation.json<{ items: Point[] }>('point', 'list')).items;
  const logsOf = (folder: string): string =>
    fs
      .readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.log'))
      .map((name) => fs.readFileSync(path.join(folder, name), 'utf8'))
      .join('\n');

  it('is made again from a repository and its recovery keys, and goes on as if nothing had happened', async () => {
    const { installation } = site;
    expect(first.tasks.map((task) => task.failure?.message ?? task.state)).toEqual([expect.stringMatching(/success|warning/)]);
    const processes = async () => ({
      plugins: (await installation.json<{ items: Listed[] }>('plugin', 'list')).items.map(({ id }) => id),
      movers: (await installation.json<{ items: Listed[] }>('mover', 'list')).items.map(({ id }) => id),
      ca: fs.readFileSync(path.join(installation.dataDir, 'ca.pem'), 'utf8'),
    });
    const before = await processes();
    const { recoveryKey } = await installation.json<{ recoveryKey: string }>('config', 'key', 'show-once');
    fs.writeFileSync(configurationKeyFile, `${recoveryKey}\n`, { mode: 0o600 });
    await installation.cli('job', 'edit', 'all', '--schedule', '* * * * *');
    await installation.cli('config', 'backup');
    const doctor = JSON.parse((await installation.tryCli('doctor', '--json')).stdout) as { checks: { check: string; passed: boolean }[] };
    expect(doctor.checks.filter(({ check }) => check.startsWith('configuration')).map(({ passed }) => passed)).toEqual([true, true, true]);
    // The copy has the schedule. A run of now would end with the server, and what it made in the engine would be nobody's.
    await installation.cli('job', 'disable', 'all');
    await eventually('the end of all runs', 240_000, async () => {
      const { items } = await installation.json<{ items: Session[] }>('session', 'list', '--job', 'all');
      return items.every(({ endedAt }) => endedAt !== null);
    });
    await installation.stop();
    expect(logsOf(site.folder)).not.toContain(recoveryKey);
    expect(logsOf(site.folder)).not.toContain('5a'.repeat(32));
    fs.rmSync(installation.dataDir, { recursive: true });

    const restore = (...more: string[]) =>
      installation.tryCli(
        'config',
        'restore',
        '--repository',
        vault,
        '--configuration-key-file',
        configurationKeyFile,
        '--data-dir',
        installation.dataDir,
        ...more,
      );
    expect(await restore()).toMatchObject({ code: 2, stderr: expect.stringContaining('REPOSITORY_KEY_NEEDED') as string });
    fs.writeFileSync(
      `${configurationKeyFile}.wrong`,
      recoveryKey.replace(/^.{5}/, (group) => (group === '00000' ? '00104' : '00000')),
    );
    expect((await restore('--key-file', keyFile, '--configuration-key-file', `${configurationKeyFile}.wrong`)).code).not.toBe(0);
    expect(fs.existsSync(installation.dataDir)).toBe(false);
    const restored = await restore('--key-file', keyFile);
    expect(restored).toMatchObject({ code: 0, stdout: expect.stringContaining('restored-server.json') as string });
    expect((await restore('--key-file', keyFile)).code).toBe(5);

    const began = new Date().toISOString();
    await installation.start();
    expect(await processes()).toEqual(before);
    await eventually('everybody', 240_000, async () => {
      const all = [
        ...(await installation.json<{ items: Listed[] }>('plugin', 'list')).items,
        ...(await installation.json<{ items: Listed[] }>('mover', 'list')).items,
      ];
      return all.every(({ state }) => state === 'connected') || undefined;
    });
    const known = first.tasks[0]?.pointId;
    await eventually('the points', 240_000, async () => (await points(installation)).some(({ id }) => id === known) || undefined);
    await eventually('a scheduled run', 240_000, async () => {
      const { items } = await installation.json<{ items: (Session & { trigger: string; startedAt: string })[] }>(
        'session',
        'list',
        '--job',
        'all',
      );
      return (
        items.some((session) => session.trigger === 'schedule' && session.startedAt > began && /success|warning/.test(session.state)) ||
        undefined
      );
    });
    await installation.cli('job', 'edit', 'all', '--schedule', 'none');
    const disk = first.tasks[0]?.disks[0];
    const file = path.join(site.folder, 'web-a.raw');
    const session = await site.session('restore', 'disk', known ?? '', disk?.name ?? '', '--to-file', file);
    expect(session.tasks[0]?.failure).toBeNull();
    expect(await imageDifference(site.captureOf(first.id, disk?.diskId ?? ''), file)).toBeUndefined();
    await engineClean(site.lab);
  }, 600_000);

  it('is not needed: an empty server takes the repository over, and restores to a platform of its own', async () => {
    await site.installation.stop();
    const other = new Installation(path.join(site.folder, 'other'));
    try {
      await other.start();
      const { engineUrl, user, passwordFile } = site.lab.access;
      await eventually('the plug-in', 240_000, async () => {
        const { items } = await other.json<{ items: Listed[] }>('plugin', 'list');
        if (items[0]?.state !== 'connected') return undefined;
        await other.cli('plugin', 'enable', items[0].id);
        return true;
      });
      await other.cli(
        'platform',
        'add',
        'new',
        '--url',
        engineUrl,
        '--user',
        user,
        '--password-file',
        passwordFile,
        '--fingerprint',
        site.caFingerprint,
      );
      await other.cli('worker', 'policy', '--deploy-automatically', 'off');
      await other.cli('repository', 'add', 'taken', '--location', vault, '--attach', '--key-file', keyFile);
      const known = first.tasks[0]?.pointId ?? '';
      const listed = await points(other);
      expect(listed.length).toBeGreaterThan(1);
      expect(listed.find(({ id }) => id === known)).toMatchObject({ vmName: 'web', damaged: false });

      const made = JSON.parse(
        (await other.tryCli('restore', 'vm', known, '--name', 'web-copy', '--storage-domain', 'data-1', '--mac', 'new', '--json')).stdout,
      ) as Session;
      expect(made.tasks[0]?.failure).toBeNull();
      const attachments = await site.lab.entities<{ vmId: string; diskId: string }>('attachments');
      const copy = attachments.find(({ vmId }) => vmId === made.tasks[0]?.createdId);
      const file = path.join(site.folder, 'copy.raw');
      await site.lab.control('POST', `/disks/${copy?.diskId}/dump`, { file });
      expect(await imageDifference(site.captureOf(first.id, first.tasks[0]?.disks[0]?.diskId ?? ''), file)).toBeUndefined();

      // What was removed is not imported, what is damaged is listed as such.
      const second = listed.find(({ id }) => id !== known)?.id ?? '';
      await other.cli('point', 'hold', second);
      expect((await other.tryCli('point', 'remove', second)).code).toBe(5);
      await other.cli('point', 'release', second);
      await other.cli('point', 'remove', second);
      expect(await other.json('repository', 'import', 'taken')).toMatchObject({
        pointCount: listed.length - 1,
        damagedCount: 0,
        removedCount: 1,
      });
      expect(await other.json('point', 'list', '--removed')).toMatchObject({ items: [{ point: { id: second } }] });
      const offline = await other.cli('point', 'list', '--offline', '--removed', '--repository', vault, '--key-file', keyFile);
      expect(offline).toMatch(new RegExp(`${second}.*REMOVED`));
      const collect = async (...how: string[]) =>
        JSON.parse((await other.tryCli('repository', 'collect', 'taken', ...how, '--json')).stdout) as { state: string; tasks: object[] };
      const tried = await collect('--dry-run');
      expect(tried).toMatchObject({ state: 'success', tasks: [{ collection: { result: { neededBytes: expect.any(Number) as number } } }] });
      expect(await collect()).toMatchObject({ state: 'success' });
      expect(await other.json('repository', 'collect', 'taken', '--undo')).toMatchObject({ restoredPacks: expect.any(Number) as number });
      await other.cli('point', 'undo-remove', second);
      const manifest = fs.readdirSync(path.join(vault, 'points')).find((name) => name.includes(second)) ?? '';
      const bytes = fs.readFileSync(path.join(vault, 'points', manifest));
      bytes[100] = (bytes[100] as number) ^ 1;
      fs.writeFileSync(path.join(vault, 'points', manifest), bytes);
      expect(await other.json('repository', 'import', 'taken')).toMatchObject({
        pointCount: listed.length - 1,
        damagedCount: 1,
        removedCount: 0,
      });
      expect((await points(other)).find(({ id }) => id === second)?.damaged).toBe(true);
      expect((await other.tryCli('restore', 'disk', second, 'web-a', '--to-file', `${file}.2`)).code).not.toBe(0);

      const verified = JSON.parse((await other.tryCli('repository', 'verify', 'taken', '--rate', '500M', '--json')).stdout) as {
        tasks: { findings: { code: string; pointId: string }[] }[];
      };
      expect(verified.tasks[0]?.findings).toContainEqual(expect.objectContaining({ code: 'MANIFEST_DAMAGED', pointId: second }));
      expect(await other.cli('repository', 'show', 'taken')).toMatch(/last verified/);
      await engineClean(site.lab);
    } finally {
      await other.stop();
    }
  }, 900_000);
});
