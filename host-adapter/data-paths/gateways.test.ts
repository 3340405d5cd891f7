import fs from 'node:fs';
import path from 'node:path';
import { TidemarkError } from '../../common/errors/tidemark-error';
import type { FakeMover } from '../testing/fake-mover';
import { FakeRepository, moverError } from '../testing/fake-repository';
import type { FakePlugin } from '../testing/fake-plugin';
import { until } from '../testing/fake-process';
import { TestInstallation } from '../testing/test-installation';

/** The keeper's look, and the machine's load. */
const failoverMs = 120_000;

describe('a repository behind gateways', () => {
  const repository = new FakeRepository('repository-2');
  let at: TestInstallation;
  let plugin: FakePlugin;
  let east: FakeMover;
  let west: FakeMover;
  let release: () => void;

  beforeAll(async () => {
    at = new TestInstallation();
    await at.start();
    await at.login();
    ({ plugin } = await at.furnish());
    east = await at.addMover(repository, 'east');
    west = await at.addMover(repository, 'west');
    const cloud = { name: 'cloud', location: 's3:https://s3.example/backup', key: { kind: 'passphrase', secret: 'a long passphrase' } };
    const access = { accessKeyId: 'ID', secretAccessKey: 'planted-secret' };
    expect((await at.api('POST', '/repositories', { ...cloud, access })).status).toBe(201);
    await at.api('POST', '/jobs', { name: 'clouds', repository: 'cloud', selector: { include: ['web1'] } });
  });
  afterAll(async () => {
    for (const mover of [east, west]) await mover.stop();
    await at.remove();
  });
  beforeEach(() => {
    plugin.at = () => Promise.resolve();
    plugin.operations.clear();
  });

  const run = async (): Promise<string> => (await at.api('POST', '/jobs/clouds/run', {})).body.id as string;
  const taskOf = async (id: string) => (await at.api('GET', `/sessions/${id}`)).body.tasks[0];
  const waitsFor = (id: string, reason: string) => until(async () => (await taskOf(id))?.waitingReason === reason, failoverMs);
  const end = (id: string) =>
    until(async () => ((await at.api('GET', `/sessions/${id}`)).body.endedAt ? at.ended(id) : undefined), failoverMs);
  const way = async () => (await at.api('GET', '/repositories/cloud/path?vm=web1')).body;
  /** A run whose operation stays in the middle of its transfer until `release`. */
  const runHeld = async () => {
    const held = new Promise<void>((resolve) => (release = resolve));
    plugin.at = (moment, { cancel }) =>
      moment === 'transferring'
        ? Promise.race([held, new Promise<void>((resolve) => cancel.signal.addEventListener('abort', () => resolve()))])
        : Promise.resolve();
    const id = await run();
    await until(() => plugin.running().length === 1);
    await until(async () => (await taskOf(id)).state === 'transferring');
    return id;
  };
  const revive = async (mover: FakeMover): Promise<FakeMover> => {
    const again = mover.reborn();
    const { control } = at.endpoints;
    await again.start(() => control);
    return again;
  };

  it('is opened by each of them with a key of the server, which nobody takes away', async () => {
    expect((await at.api('GET', '/repositories/cloud')).body).toMatchObject({ moverId: '', gateways: [], encrypted: true });
    const { items } = (await at.api('GET', '/repositories/cloud/keys')).body;
    expect(items).toMatchObject([{ kind: 'key-file', inUse: true }]);
    const refused = await at.api('POST', '/repositories/cloud/keys/remove', { key: items[0].id });
    expect(refused.body).toMatchObject({ code: 'REPOSITORY_KEY_OF_SERVER' });
    expect(await end(await run())).toMatchObject({ state: 'success' });
    expect([...repository.secrets]).toEqual(['a long passphrase', expect.stringMatching(/^[0-9a-f]{64}$/)]);
  });

  it('leaves no secret of it to be read in the folder of the server', () => {
    const files = fs.readdirSync(at.folder, { recursive: true, encoding: 'utf8' }).map((name) => path.join(at.folder, name));
    const contents = files.filter((file) => fs.statSync(file).isFile()).map((file) => fs.readFileSync(file));
    expect(contents.length).toBeGreaterThan(3);
    for (const secret of ['planted-secret', ...repository.secrets]) {
      expect(contents.filter((content) => content.includes(secret))).toEqual([]);
    }
  });

  it('says why each session takes its way, and takes another one while a gateway is drained', async () => {
    const before = await way();
    expect(before).toMatchObject({ moverName: expect.stringMatching(/east|west/), passed: [{ why: expect.any(String) }] });
    const drained = before.moverName === 'east' ? east : west;
    const other = before.moverName === 'east' ? 'west' : 'east';
    expect((await at.api('POST', `/movers/${drained.id}/drain`)).body).toMatchObject({
      drainingSince: expect.any(String),
      openSessionCount: 0,
    });
    expect(await way()).toMatchObject({ moverName: other, reason: 'gateway-only', passed: [{ why: 'it is being drained' }] });
    const { id } = await end(await run());
    expect((await taskOf(id)).path).toMatchObject({ moverName: other, reason: 'gateway-only', before: [] });
    expect((await taskOf(id)).path.message).toContain('it is being drained');
    await at.api('POST', `/movers/${drained.id}/resume`);
    expect(await way()).toMatchObject({ moverName: other, reason: 'gateway-affinity' });
    const { items } = (await at.api('GET', '/movers?gateway=true')).body;
    expect(items.map((one: { hostName: string; repositories: string[] }) => [one.hostName, one.repositories]).sort()).toEqual([
      ['east', ['cloud']],
      ['west', ['cloud']],
    ]);
  });

  it('waits where all are drained, and goes on when one is not', async () => {
    for (const { id } of [east, west]) await at.api('POST', `/movers/${id}/drain`);
    const id = await run();
    await waitsFor(id, 'gateway-draining');
    await at.api('POST', `/movers/${west.id}/resume`);
    expect(await end(id)).toMatchObject({ state: 'success', tasks: [{ path: { moverName: 'west' } }] });
    await at.api('POST', `/movers/${east.id}/resume`);
  });

  it('counts what each carries: the next session goes to the other one', async () => {
    const id = await runHeld();
    const { moverName } = (await taskOf(id)).path;
    expect(await way()).toMatchObject({ moverName: moverName === 'east' ? 'west' : 'east', reason: 'gateway-load' });
    expect((await at.api('DELETE', `/movers/${(await taskOf(id)).path.moverId}`)).body).toMatchObject({ code: 'IN_USE' });
    release();
    expect(await end(id)).toMatchObject({ state: 'success' });
  });

  it('hands a session over when its gateway dies, also over a restart of the server', async () => {
    const id = await runHeld();
    const { moverName } = (await taskOf(id)).path;
    const dead = moverName === 'east' ? east : west;
    const other = moverName === 'east' ? west : east;
    await at.lose(dead);
    await at.kill();
    await at.start();
    const [operation] = plugin.operations.values();
    await until(() => operation?.dataPaths.length === 1, failoverMs);
    const [session] = [...repository.sessions.values()].filter(({ state }) => state === 'OPEN');
    expect(session?.owner).toBe(other.id);
    const claims = other.ticketClaims(operation?.dataPaths[0]?.ticket ?? '');
    expect(claims).toMatchObject({ rights: ['write'], repositoryId: 'repository-2', sessionId: operation?.backup?.dataPath?.sessionId });
    expect(operation?.dataPaths[0]?.endpoints).not.toEqual(operation?.backup?.dataPath?.endpoints);
    release();
    const ended = await end(id);
    expect(ended).toMatchObject({ state: 'warning', tasks: [{ attempt: 1, path: { moverId: other.id, before: [moverName] } }] });
    const [note] = ended.tasks[0].notes.filter((one: { code: string }) => one.code === 'mover-replaced');
    expect(note).toMatchObject({
      severity: 'warning',
      message: expect.stringMatching(`from ${moverName} to ${moverName === 'east' ? 'west' : 'east'}`),
    });
    expect(repository.points.some(({ point }) => point.pointId === ended.tasks[0].pointId)).toBe(true);
    if (dead === east) east = await revive(dead);
    else west = await revive(dead);
    await until(async () => (await at.api('GET', `/movers/${dead.id}`)).body.state === 'connected');
  });

  it('waits with a reason while all are gone, and ends well when one is back', async () => {
    const id = await runHeld();
    const { moverName } = (await taskOf(id)).path;
    for (const mover of [east, west]) await at.lose(mover);
    await waitsFor(id, 'gateway-lost');
    // The one that did not have it: it takes the session over.
    if (moverName === 'east') west = await revive(west);
    else east = await revive(east);
    await until(async () => (await taskOf(id)).path.before.length === 1, failoverMs);
    release();
    expect(await end(id)).toMatchObject({ state: 'warning', tasks: [{ attempt: 1, waitingReason: null }] });
    if (moverName === 'east') east = await revive(east);
    else west = await revive(west);
    await until(async () =>
      (await at.api('GET', '/movers?gateway=true')).body.items.every((one: { state: string }) => one.state === 'connected'),
    );
  });

  it('lets new backups wait while it is full', async () => {
    east.full = west.full = true;
    const id = await run();
    await waitsFor(id, 'repo-full');
    east.full = west.full = false;
    expect(await end(id)).toMatchObject({ state: 'success', tasks: [{ attempt: 1 }] });
  });

  it.each(['INDEX_PAGE_DAMAGED', 'BLOCK_MISSING'])('reads everything again when the base has %s', async (code) => {
    plugin.failures.push(moverError(code, 'DATA_LOSS'));
    const ended = await end(await run());
    expect(ended).toMatchObject({ state: 'warning', tasks: [{ attempt: 2, notes: [{ code: 'base-damaged', severity: 'warning' }] }] });
    expect(ended.tasks[0].notes[0].message).toContain(code);
    expect([...plugin.operations.values()].map((operation) => operation.backup?.forceFull)).toEqual([false, true]);
  });

  it('prefers another gateway when a worker could not reach the first', async () => {
    plugin.failures.push(
      new TidemarkError({ code: 'MOVER_UNREACHABLE', kind: 'operational', retry: 'same-request', status: 'UNAVAILABLE' }, 'away'),
    );
    const ended = await end(await run());
    const [first, second] = [...plugin.operations.values()].map((operation) => operation.backup?.dataPath?.endpoints[0]);
    expect(first).not.toEqual(second);
    expect(ended).toMatchObject({ state: 'success', tasks: [{ attempt: 2, path: { reason: 'gateway-reach' } }] });
  });

  it('may be a folder that a gateway reaches by a mount, beside a mover of its own that comes first', async () => {
    const shared = new FakeRepository('repository-3');
    const [vault, mount] = [await at.addMover(shared, 'vault', false), await at.addMover(shared, 'mount')];
    const folder = { name: 'folder', location: '/srv/backup', encrypted: false };
    expect((await at.api('POST', '/repositories', { ...folder, gateways: ['nowhere'] })).body).toMatchObject({ code: 'MOVER_NOT_FOUND' });
    const { body } = await at.api('POST', '/repositories', { ...folder, mover: 'vault', gateways: ['mount'] });
    expect(body).toMatchObject({ location: 'directory:/srv/backup', moverId: vault.id, gateways: [mount.id] });
    const there = async () => (await at.api('GET', '/repositories/folder/path')).body;
    expect(await there()).toMatchObject({ moverName: 'vault', reason: 'repository-mover' });
    expect((await at.api('DELETE', '/movers/mount')).body).toMatchObject({ code: 'IN_USE' });
    await at.lose(vault);
    await until(async () => (await there()).moverName === 'mount', failoverMs);
    expect(await there()).toMatchObject({ reason: 'gateway-only', passed: [{ moverName: 'vault', why: 'it is not connected' }] });
    expect((await at.api('GET', '/repositories/folder')).body).toMatchObject({ state: 'available' });
    await at.lose(mount);
    await until(async () => (await there()).moverId === null, failoverMs);
    expect(await there()).toMatchObject({ reason: 'gateway-lost' });
    expect((await at.api('GET', '/repositories/folder')).body).toMatchObject({ state: 'unavailable', reason: 'gateway-lost' });
  });
});
