import fs from 'node:fs';
import path from 'node:path';
import { randomUUID } from 'node:crypto';
import { PlatformStore } from '../platforms/platform-store';
import { EngineServer } from '../testing/engine-server';
import { pluginFixture } from '../testing/plugin-fixture';

const settings = { deadlineMs: 120_000 };

async function put(engine: EngineServer, changes: object = {}) {
  return {
    platformId: randomUUID(),
    name: 'lab',
    url: engine.url,
    username: 'admin@internal',
    password: 'right',
    caFingerprint: engine.fingerprint,
    ...changes,
  };
}

describe('IdentityService', () => {
  it('tells the host who the plug-in is, and others nothing', async () => {
    await using plugin = await pluginFixture();
    const info = await (await plugin.identity()).call('GetPluginInfo', {}, settings);
    expect(info).toMatchObject({ pluginId: 'ovirt', displayName: 'oVirt', process: { instanceId: 'i', version: '0.1.0' } });
    await expect((await plugin.identity('worker')).call('GetPluginInfo', {}, settings)).rejects.toMatchObject({ code: 'ROLE_NOT_ALLOWED' });
  });
});

describe('PlatformService', () => {
  it('inspects, connects, lists, tests and forgets an engine', async () => {
    await using engine = await EngineServer.start();
    await using plugin = await pluginFixture();
    const client = await plugin.platform();
    const inspected = await client.call('InspectPlatform', { url: `${engine.url}/` }, settings);
    expect(inspected).toMatchObject({ url: engine.url, caFingerprint: engine.fingerprint });
    expect(engine.logins).toBe(0);
    const request = await put(engine, { caFingerprint: inspected.caFingerprint.toLowerCase() });
    const { platform } = await client.call('PutPlatform', request, settings);
    expect(platform).toMatchObject({
      platformId: request.platformId,
      name: 'lab',
      url: engine.url,
      engineVersion: '4.5.7-1.el9',
      caFingerprint: engine.fingerprint,
      unavailable: null,
    });
    await client.call('PutPlatform', { ...request, name: 'renamed', password: '' }, settings);
    expect((await client.call('ListPlatforms', {}, settings)).platforms).toMatchObject([{ name: 'renamed', username: 'admin@internal' }]);
    const { findings } = await client.call('TestPlatform', { platformId: request.platformId }, settings);
    expect(findings.find((finding) => finding.check === 'login')).toMatchObject({ passed: true });
    await client.call('RemovePlatform', { platformId: request.platformId }, settings);
    await client.call('RemovePlatform', { platformId: request.platformId }, settings);
    expect((await client.call('ListPlatforms', {}, settings)).platforms).toEqual([]);
    await expect(client.call('TestPlatform', { platformId: request.platformId }, settings)).rejects.toMatchObject({
      code: 'PLATFORM_NOT_FOUND',
    });
    expect(engine.logouts).toBeGreaterThan(0);
  });

  it('keeps nothing when the login or the certificate is wrong, and never logs or stores the password in the clear', async () => {
    await using engine = await EngineServer.start();
    await using plugin = await pluginFixture();
    const client = await plugin.platform();
    const wrong = client.call('PutPlatform', await put(engine, { password: 'planted-secret' }), settings);
    await expect(wrong).rejects.toMatchObject({ code: 'ENGINE_LOGIN_REFUSED', retry: 'after-operator', status: 'FAILED_PRECONDITION' });
    const logins = engine.logins;
    const other = await EngineServer.start().then(async (second) => [second, second.fingerprint] as const);
    await other[0].stop();
    await expect(client.call('PutPlatform', await put(engine, { caFingerprint: other[1] }), settings)).rejects.toMatchObject({
      code: 'ENGINE_CERTIFICATE_CHANGED',
      meta: { found: engine.fingerprint, expected: other[1] },
    });
    expect(engine.logins).toBe(logins);
    expect((await client.call('ListPlatforms', {}, settings)).platforms).toEqual([]);
    engine.password = 'planted-secret';
    await client.call('PutPlatform', await put(engine, { password: 'planted-secret' }), settings);
    const files = fs.readdirSync(plugin.dataFolder).map((name) => path.join(plugin.dataFolder, name));
    for (const file of files) {
      expect(fs.readFileSync(file, 'utf8')).not.toContain('planted-secret');
      expect(fs.statSync(file).mode & 0o077).toBe(0);
    }
    expect(JSON.stringify(plugin.log.lines)).not.toContain('planted-secret');
    expect(new PlatformStore(plugin.dataFolder).load()[0]?.password.reveal()).toBe('planted-secret');
  });

  it('refuses an engine that is connected already, also under another address', async () => {
    await using engine = await EngineServer.start('127.0.0.1');
    await using plugin = await pluginFixture();
    const client = await plugin.platform();
    const first = await put(engine);
    await client.call('PutPlatform', first, settings);
    await expect(client.call('PutPlatform', await put(engine), settings)).rejects.toMatchObject({
      code: 'PLATFORM_EXISTS',
      meta: { platformId: first.platformId },
    });
    const alias = engine.url.replace('127.0.0.1', 'localhost');
    await expect(client.call('PutPlatform', await put(engine, { url: alias }), settings)).rejects.toMatchObject({
      code: 'PLATFORM_EXISTS',
    });
    await expect(client.call('PutPlatform', { ...first, url: alias }, settings)).resolves.toMatchObject({ platform: { url: alias } });
  });

  it('refuses an old engine, bad input, and to forget what is in use', async () => {
    await using engine = await EngineServer.start();
    await using plugin = await pluginFixture();
    const client = await plugin.platform();
    engine.routes.set('GET /', () => ({ product_info: { version: { major: '4', minor: '3', build: '10', full_version: '4.3.10' } } }));
    await expect(client.call('PutPlatform', await put(engine), settings)).rejects.toMatchObject({ code: 'ENGINE_TOO_OLD' });
    await expect(client.call('PutPlatform', await put(engine, { platformId: 'x' }), settings)).rejects.toMatchObject({
      code: 'ARGUMENT_INVALID',
      meta: { field: 'platform_id' },
    });
    await expect(client.call('PutPlatform', await put(engine, { username: 'admin' }), settings)).rejects.toMatchObject({
      meta: { field: 'username' },
    });
    await expect(client.call('InspectPlatform', { url: 'http://engine' }, settings)).rejects.toMatchObject({
      code: 'PLATFORM_URL_INVALID',
    });
    engine.routes.set('GET /', () => ({ product_info: { version: { major: '4', minor: '5', build: '0', full_version: '4.5.0' } } }));
    const request = await put(engine);
    await client.call('PutPlatform', request, settings);
    plugin.use.reason = '1 operation is running';
    await expect(client.call('RemovePlatform', { platformId: request.platformId }, settings)).rejects.toMatchObject({
      code: 'PLATFORM_IN_USE',
    });
  });

  it('names missing permits per profile', async () => {
    await using engine = await EngineServer.start();
    await using plugin = await pluginFixture();
    engine.routes.set('GET /users/*/permissions', () => ({ permission: [{ id: 'p', role: { id: 'R' } }] }));
    engine.routes.set('GET /roles/*', () => ({
      id: 'R',
      name: 'Backup',
      permits: { permit: ['login', 'backup_disk', 'edit_disk_properties'].map((name) => ({ name })) },
    }));
    const client = await plugin.platform();
    const request = await put(engine);
    await client.call('PutPlatform', request, settings);
    const { findings } = await client.call('TestPlatform', { platformId: request.platformId }, settings);
    const of = (check: string) => findings.find((finding) => finding.check === check);
    expect(of('perm:BACKUP_DISK')).toMatchObject({ passed: true });
    expect(of('perm:CREATE_VM')).toMatchObject({ passed: false });
    expect(of('profile:backup-only')).toMatchObject({ passed: true });
    expect(of('profile:backup+restore')).toMatchObject({ passed: false, advice: expect.stringContaining('CREATE_DISK') });
  });
});
