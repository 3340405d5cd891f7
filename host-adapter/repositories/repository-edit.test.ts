/** Gateways and access keys of a repository, changed while it is in use: the REST API over fake movers. */
import fs from 'node:fs';
import path from 'node:path';
import { loginWithCli, runCliIn } from '../testing/cli-user';
import type { FakeMover } from '../testing/fake-mover';
import type { FakePlugin } from '../testing/fake-plugin';
import { FakeRepository } from '../testing/fake-repository';
import { until } from '../testing/fake-process';
import { TestInstallation } from '../testing/test-installation';

const loadMs = 120_000;

describe('a repository in use', () => {
  const repository = new FakeRepository('repository-2');
  let at: TestInstallation;
  let plugin: FakePlugin;
  let east: FakeMover;
  let west: FakeMover;

  beforeAll(async () => {
    at = new TestInstallation();
    await at.start();
    await at.login();
    ({ plugin } = await at.furnish());
    east = await at.addMover(repository, 'east');
    west = await at.addMover(repository, 'west');
    const cloud = { name: 'cloud', location: 's3:https://s3.example/backup', key: { kind: 'passphrase', secret: 'a long passphrase' } };
    const access = { accessKeyId: 'ID', secretAccessKey: 'planted-first' };
    expect((await at.api('POST', '/repositories', { ...cloud, access, gateways: ['east'] })).status).toBe(201);
    repository.accessSecrets.add('planted-first').add('planted-second').add('planted-third');
    await at.api('POST', '/jobs', { name: 'clouds', repository: 'cloud', selector: { include: ['web1'] } });
    await loginWithCli(at);
  });
  afterAll(async () => {
    for (const mover of [east, west]) await mover.stop();
    await at.remove();
  });

  const edit = (change: object, name = 'cloud') => at.api('PATCH', `/repositories/${name}`, change);
  const key = (secretAccessKey: string) => ({ access: { accessKeyId: 'ID', secretAccessKey } });
  const way = async () => (await at.api('GET', '/repositories/cloud/path?vm=web1')).body;
  const run = (...argv: string[]) => runCliIn(at.folder, argv);
  /** Does something while a backup is in the middle of its transfer, and resolves with its session once it ended. */
  const during = async (work: () => Promise<void>) => {
    let release = () => {};
    const held = new Promise<void>((resolve) => (release = resolve));
    plugin.at = (moment) => (moment === 'transferring' ? held : Promise.resolve());
    const { id } = (await at.api('POST', '/jobs/clouds/run', {})).body as { id: string };
    const state = async () => (await at.api('GET', `/sessions/${id}`)).body.tasks[0]?.state as string;
    await until(async () => (await state()) === 'transferring', loadMs);
    try {
      await work();
    } finally {
      release();
      plugin.at = () => Promise.resolve();
    }
    return until(async () => ((await at.api('GET', `/sessions/${id}`)).body.endedAt ? at.ended(id) : undefined), loadMs);
  };

  it('refuses an access key that does not do, names the field, and takes one that does; a running backup ends well', async () => {
    const ended = await during(async () => {
      const refused = await edit(key('planted-wrong'));
      expect(refused).toMatchObject({ status: 400, body: { code: 'REPOSITORY_ACCESS_REFUSED', field: 'access' } });
      expect(refused.body.message).toContain('the server refuses the access key. Nothing is changed');
      expect(east.accessSecret).toBe('planted-first');
      expect(await edit(key('planted-second'))).toMatchObject({ status: 200, body: { problems: [], state: 'available' } });
      expect(east.accessSecret).toBe('planted-second');
    });
    expect(ended).toMatchObject({ state: 'success', tasks: [{ attempt: 1 }] });
  });

  it('opens the repository with the new key at a gateway that is added, and at one that was away', async () => {
    expect(west.isAttached).toBe(false);
    expect(await edit({ addGateways: ['west'] })).toMatchObject({ status: 200, body: { gateways: [east.id, west.id], problems: [] } });
    expect([west.isAttached, west.accessSecret]).toEqual([true, 'planted-second']);
    await at.lose(west);
    await until(async () => (await at.api('GET', `/movers/${west.id}`)).body.state === 'lost', loadMs);
    expect(await edit(key('planted-third'))).toMatchObject({ status: 200, body: { problems: [] } });
    expect([east.accessSecret, west.accessSecret]).toEqual(['planted-third', 'planted-second']);
    west = west.reborn(true);
    const { control } = at.endpoints;
    await west.start(() => control);
    await until(() => west.accessSecret === 'planted-third', loadMs);
  });

  it('lets a gateway that is taken away end what it carries', async () => {
    await until(async () => (await way()).passed.length === 1 && (await way()).passed[0].why !== 'it is not connected', loadMs);
    let carrier = east;
    let other = west;
    const ended = await during(async () => {
      const [session] = [...repository.sessions.values()].filter(({ state }) => state === 'OPEN');
      if (session?.owner === west.id) [carrier, other] = [west, east];
      expect((await edit({ removeGateways: [carrier.id] })).body).toMatchObject({ gateways: [other.id] });
      expect(await way()).toMatchObject({ moverId: other.id, reason: 'gateway-only', passed: [] });
      expect(carrier.isAttached).toBe(true);
    });
    expect(ended).toMatchObject({ state: 'success', tasks: [{ attempt: 1, path: { moverId: carrier.id, before: [] } }] });
    await until(() => !carrier.isAttached, loadMs);
    expect((await edit({ gateways: ['east', 'west'] })).body).toMatchObject({ gateways: [east.id, west.id] });
  });

  it('prefers the gateway that the administrator prefers, for one cluster or for all', async () => {
    const preferred = async (...preferredGateways: object[]) => (await edit({ preferredGateways })).body;
    const clusterName = 'fast';
    for (const vm of plugin.vms) Object.assign(vm, { clusterId: 'target-1', clusterName });
    expect(await preferred({ gateway: 'west' })).toMatchObject({ preferredGateways: [{ moverId: west.id, cluster: null }] });
    expect(await way()).toMatchObject({ moverId: west.id, reason: 'gateway-preferred', message: 'Gateway west is preferred.' });
    await preferred({ gateway: 'west' }, { gateway: 'east', cluster: clusterName });
    expect(await way()).toMatchObject({ moverId: east.id, message: `Gateway east is preferred for cluster ${clusterName}.` });
    expect((await at.api('GET', '/repositories/cloud/path')).body).toMatchObject({ moverId: west.id });
    expect((await run('repository', 'show', 'cloud')).out).toMatch(new RegExp(`preferred: +${west.id}, ${east.id} for ${clusterName}\n`));
    expect(await preferred({ gateway: 'west', cluster: 'nowhere' })).toMatchObject({ code: 'TARGET_NOT_FOUND', field: 'cluster' });
    await edit({ removeGateways: ['east'] });
    expect((await at.api('GET', '/repositories/cloud')).body).toMatchObject({ preferredGateways: [{ moverId: west.id }] });
    expect(await preferred()).toMatchObject({ preferredGateways: [] });
  });

  it('says which field is wrong', async () => {
    const refusals: [object, string, string?][] = [
      [{ removeGateways: ['west'] }, 'removeGateways'],
      [{ removeGateways: ['east'] }, 'removeGateways'],
      [{ gateways: null }, 'gateways'],
      [{ gateways: [], addGateways: ['east'] }, 'gateways'],
      [{ preferredGateways: [{ gateway: 'east' }] }, 'preferredGateways'],
      [{ addGateways: [] }, 'addGateways'],
      [key('x'), 'access', 'main'],
    ];
    for (const [change, field, name] of refusals)
      expect(await edit(change, name)).toMatchObject({ status: 400, body: { code: 'ARGUMENT_INVALID', field } });
    expect((await edit({ addGateways: ['nowhere'] })).body).toMatchObject({ code: 'MOVER_NOT_FOUND' });
    expect((await at.api('GET', '/repositories/cloud')).body).toMatchObject({ gateways: [west.id] });
    expect((await edit({ gateways: [] })).body).toMatchObject({ gateways: [] });
    expect((await edit({ addGateways: ['east'] })).body).toMatchObject({ code: 'ARGUMENT_INVALID', field: 'addGateways' });
  });

  it('is changed on the command line, with the secret in a file', async () => {
    const file = path.join(at.folder, 'access');
    fs.writeFileSync(file, 'ID\nplanted-wrong\n', { mode: 0o600 });
    const refused = await run('repository', 'edit', 'cloud', '--access-key-file', file);
    expect(refused).toMatchObject({ code: 2, err: expect.stringContaining('REPOSITORY_ACCESS_REFUSED') });
    fs.writeFileSync(file, 'ID\nplanted-second\n');
    const done = await run('repository', 'edit', 'cloud', '--access-key-file', file, '--gateway', 'east', '--prefer-gateway', 'east');
    expect(done).toMatchObject({ code: 0, out: expect.stringContaining('the access key was tried and is in use') });
    fs.rmSync(file);
    expect(east.accessSecret).toBe('planted-second');
    expect((await at.api('GET', '/repositories/cloud')).body).toMatchObject({
      gateways: [east.id],
      preferredGateways: [{ cluster: null }],
    });
    expect(await run('repository', 'edit', 'cloud', '--gateway', 'any', '--add-gateway', 'east')).toMatchObject({ code: 2 });
    expect(await run('repository', 'edit', 'cloud', '--gateway', 'any', '--gateway', 'east')).toMatchObject({ code: 2 });
    // One that cannot be opened is told, and the change holds.
    repository.accessSecrets.delete('planted-second');
    const told = await run('repository', 'edit', 'cloud', '--add-gateway', 'west');
    expect(told).toMatchObject({ code: 3, err: expect.stringMatching(/west could not follow: .*REPOSITORY_LOCATION_INVALID/) });
    for (const name of fs.readdirSync(at.folder, { recursive: true, encoding: 'utf8' })) {
      const each = path.join(at.folder, name);
      if (fs.statSync(each).isFile()) expect([name, fs.readFileSync(each).includes('planted-')]).toEqual([name, false]);
    }
  });

  it('that had only its own mover gets a key for its first gateway', async () => {
    const shared = new FakeRepository('repository-3');
    const [vault, mount] = [await at.addMover(shared, 'vault', false), await at.addMover(shared, 'mount')];
    const own = { name: 'bucket', location: 's3:https://s3.example/own', key: { kind: 'passphrase', secret: 'a long passphrase' } };
    await at.api('POST', '/repositories', { ...own, ...key('planted-own'), mover: 'vault' });
    expect((await edit({ addGateways: ['mount'] }, 'bucket')).body).toMatchObject({ code: 'ARGUMENT_INVALID', field: 'access' });
    expect((await edit({ addGateways: ['mount'], ...key('planted-own') }, 'bucket')).body).toMatchObject({
      gateways: [mount.id],
      problems: [],
    });
    expect([mount.isAttached, mount.accessSecret, shared.secrets.size]).toEqual([true, 'planted-own', 2]);
    expect((await edit({ gateways: null }, 'bucket')).body).toMatchObject({ gateways: null, moverId: vault.id });
    await until(() => !mount.isAttached);
    // What the server kept for the gateway is not given to the mover any more.
    expect(await edit(key('planted-later'), 'bucket')).toMatchObject({ status: 200, body: { problems: [] } });
    expect(vault.accessSecret).toBe('planted-later');
    await vault.stop();
    const again = vault.reborn();
    const { control } = at.endpoints;
    await again.start(() => control);
    await until(() => again.isAttached, loadMs);
    expect(again.accessSecret).toBe('planted-later');
    for (const mover of [again, mount]) await mover.stop();
  });
});
