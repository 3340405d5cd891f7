import { createAuthority } from '../../common/tls/authority';
import { Secret } from '../../common/log/redact';
import { EngineServer } from '../testing/engine-server';
import { quietLogger } from '../testing/quiet-logger';
import { EngineSession } from './engine-session';
import { canonicalEngineUrl, inspectEngine } from './engine-trust';

async function connect(server: EngineServer) {
  const inspection = await inspectEngine(server.url);
  return new EngineSession({ ...inspection, username: 'admin@internal', password: new Secret('right') }, quietLogger().logger);
}

describe('trust in an engine', () => {
  it.each(['127.0.0.1', '::1'])('inspects without a login, then talks over the pinned CA on %s', async (host) => {
    await using server = await EngineServer.start(host);
    const inspection = await inspectEngine(server.url.replace('/ovirt-engine', '/ovirt-engine/api'));
    expect(inspection).toMatchObject({ url: server.url, fingerprint: server.fingerprint });
    expect(inspection.subject).toContain('test engine');
    expect(inspection.internalCaPem.trim()).toBe(server.caPem.trim());
    expect(server.logins).toBe(0);
    const session = await connect(server);
    await expect(session.request({ method: 'GET', path: '/' })).resolves.toHaveProperty('product_info');
    expect(session.lastContactAt).toBeInstanceOf(Date);
    await session.close();
    expect(server.logouts).toBe(1);
  });

  it('stops with both fingerprints, and sends no password, when the CA is another one', async () => {
    await using server = await EngineServer.start();
    const session = await connect(server);
    await session.login();
    const before = server.fingerprint;
    await server.changeAuthority();
    server.expireTokens();
    const logins = server.logins;
    await expect(session.request({ method: 'GET', path: '/' })).rejects.toMatchObject({
      code: 'ENGINE_CERTIFICATE_CHANGED',
      meta: { expected: before, found: server.fingerprint },
    });
    expect(server.logins).toBe(logins);
    await session.close();
  });

  it('pins the web server’s own CA beside the internal one when they differ', async () => {
    await using server = await EngineServer.start();
    server.internalCaPem = (await createAuthority('internal')).certificatePem;
    const inspection = await inspectEngine(server.url);
    expect(inspection.fingerprint).toBe(server.fingerprint);
    expect(inspection.internalCaPem.trim()).toBe(server.internalCaPem.trim());
    const session = await connect(server);
    await expect(session.request({ method: 'GET', path: '/' })).resolves.toHaveProperty('product_info');
    await session.close();
  });

  it('goes on after a restart of the web server', async () => {
    await using server = await EngineServer.start();
    const session = await connect(server);
    await session.login();
    await server.restart();
    await expect(session.request({ method: 'GET', path: '/' })).resolves.toHaveProperty('product_info');
    await session.close();
  });

  it('says what is wrong with an address', async () => {
    await using server = await EngineServer.start();
    const { url } = server;
    await server.stop();
    await expect(inspectEngine(url)).rejects.toMatchObject({ code: 'ENGINE_UNAVAILABLE', meta: { problem: 'ECONNREFUSED' } });
    await server.restart();
  });
});

describe('canonicalEngineUrl', () => {
  it.each([
    ['engine.example', 'https://engine.example/ovirt-engine'],
    ['https://Engine.Example:8443/', 'https://engine.example:8443/ovirt-engine'],
    [' https://engine.example/ovirt-engine/api/ ', 'https://engine.example/ovirt-engine'],
    ['https://[fd00::1]/ovirt-engine', 'https://[fd00::1]/ovirt-engine'],
  ])('%s', (typed, canonical) => {
    expect(canonicalEngineUrl(typed)).toBe(canonical);
  });

  it.each(['http://engine.example', 'https://admin:pw@engine.example', 'https://engine.example/other', 'https://', ''])(
    'refuses "%s"',
    (typed) => {
      expect(() => canonicalEngineUrl(typed)).toThrow(expect.objectContaining({ code: 'PLATFORM_URL_INVALID' }));
    },
  );
});
