import { MockAgent } from 'undici';
import { withCorrelation } from '../../common/log/correlation';
import { Secret } from '../../common/log/redact';
import { quietLogger } from '../testing/quiet-logger';
import { EngineSession, engineCorrelationId } from './engine-session';

const origin = 'https://engine.example';
const connection = {
  url: `${origin}/ovirt-engine`,
  username: 'admin@internal',
  password: new Secret('planted-password'),
  webCaPem: '',
  internalCaPem: '',
};
const json = { headers: { 'content-type': 'application/json' } };

const textOfBody = (body: unknown): string => (typeof body === 'string' ? body : '');

function fixture() {
  const agent = new MockAgent();
  agent.disableNetConnect();
  const pool = agent.get(origin);
  const log = quietLogger();
  const session = new EngineSession(connection, log.logger, agent);
  const logins: string[] = [];
  const login = (token: string) =>
    pool.intercept({ path: '/ovirt-engine/sso/oauth/token', method: 'POST' }).reply(
      200,
      ({ body }) => {
        logins.push(textOfBody(body));
        return { access_token: token, exp: '9223372036854775807', token_type: 'bearer' };
      },
      json,
    );
  return { agent, pool, session, login, logins, log };
}

describe('EngineSession', () => {
  it('logs in once and sends what the engine needs with each request', async () => {
    const { pool, session, login, logins } = fixture();
    login('t1');
    const seen: Record<string, string>[] = [];
    pool
      .intercept({ path: '/ovirt-engine/api/vms?max=5', method: 'GET' })
      .reply(
        200,
        ({ headers }) => {
          seen.push(headers as Record<string, string>);
          return { vm: [] };
        },
        json,
      )
      .times(2);
    await withCorrelation({ correlationId: 'c', operationId: '0f3c9a3e-1111-4222-8333-444455556666' }, async () => {
      await session.request({ method: 'GET', path: '/vms', query: { max: 5, search: undefined } });
      await session.request({ method: 'GET', path: '/vms', query: { max: 5 }, allContent: true });
    });
    expect(logins).toHaveLength(1);
    expect(new URLSearchParams(logins[0]).get('username')).toBe('admin@internal');
    expect(seen[0]).toMatchObject({ accept: 'application/json', version: '4', 'accept-language': 'en-US', authorization: 'Bearer t1' });
    expect(seen[0]?.['correlation-id']).toMatch(/^tidemark-[0-9A-Za-z_-]{1,27}$/);
    expect(seen[1]?.['correlation-id']).toBe(seen[0]?.['correlation-id']);
    expect(seen[0]?.['all-content']).toBeUndefined();
    expect(seen[1]?.['all-content']).toBe('true');
  });

  it('logs in again once and replays when the session ended', async () => {
    const { pool, session, login, logins } = fixture();
    login('t1');
    login('t2');
    const bodies: string[] = [];
    const path = '/ovirt-engine/api/imagetransfers';
    pool
      .intercept({ path, method: 'POST', headers: { authorization: 'Bearer t1' } })
      .reply(401, '<html>', { headers: { 'content-type': 'text/html' } });
    pool.intercept({ path, method: 'POST', headers: { authorization: 'Bearer t2' } }).reply(
      201,
      ({ body }) => {
        bodies.push(textOfBody(body));
        return { id: 'T' };
      },
      json,
    );
    await expect(session.request({ method: 'POST', path: '/imagetransfers', body: { direction: 'download' } })).resolves.toEqual({
      id: 'T',
    });
    expect(bodies).toEqual(['{"direction":"download"}']);
    expect(logins).toHaveLength(2);
  });

  it('lets go of who is cancelled while it logs in, and goes on for the others', async () => {
    const { pool, session } = fixture();
    let answer: (token: object) => void = () => undefined;
    const asked = new Promise<void>((resolve) => {
      pool.intercept({ path: '/ovirt-engine/sso/oauth/token', method: 'POST' }).reply(async () => {
        resolve();
        const data = await new Promise<object>((done) => (answer = done));
        return { statusCode: 200, data, responseOptions: json };
      });
    });
    pool.intercept({ path: '/ovirt-engine/api/vms', method: 'GET' }).reply(200, {}, json);
    const aborter = new AbortController();
    const cancelled = expect(session.request({ method: 'GET', path: '/vms', signal: aborter.signal })).rejects.toMatchObject({
      code: 'CANCELLED',
    });
    const other = session.request({ method: 'GET', path: '/vms' });
    await asked;
    aborter.abort();
    await cancelled;
    answer({ access_token: 't1', exp: '9223372036854775807', token_type: 'bearer' });
    await expect(other).resolves.toEqual({});
  });

  it('does not log in for ever when the engine refuses its own token', async () => {
    const { pool, session, login } = fixture();
    login('t1');
    login('t2');
    pool.intercept({ path: '/ovirt-engine/api/vms', method: 'GET' }).reply(401, '').times(2);
    await expect(session.request({ method: 'GET', path: '/vms' })).rejects.toMatchObject({ code: 'ENGINE_LOGIN_REFUSED' });
  });

  it('makes one login for requests at the same time', async () => {
    const { pool, session, login, logins } = fixture();
    login('t1');
    pool.intercept({ path: '/ovirt-engine/api/vms', method: 'GET' }).reply(200, {}, json).times(5);
    await Promise.all(Array.from({ length: 5 }, () => session.request({ method: 'GET', path: '/vms' })));
    expect(logins).toHaveLength(1);
  });

  it.each([
    ['an object', { error_code: 'access_denied', error: 'Cannot authenticate user' }],
    ['an array, as old engines do', [{ error_code: 'access_denied', error: 'Cannot authenticate user' }]],
  ])('reports a refused login from %s, with the hint for Keycloak, and does not try again at once', async (_name, body) => {
    const { pool, session, log, login } = fixture();
    pool.intercept({ path: '/ovirt-engine/sso/oauth/token', method: 'POST' }).reply(400, body, json);
    const refused = expect(session.login()).rejects;
    await refused.toMatchObject({ code: 'ENGINE_LOGIN_REFUSED', retry: 'after-operator', meta: { username: 'admin@internal' } });
    // Nothing is intercepted any more: a second login would fail in another way.
    const again = await session.request({ method: 'GET', path: '/vms' }).catch((error: unknown) => error as Error);
    expect(again).toMatchObject({ code: 'ENGINE_LOGIN_REFUSED' });
    expect((again as Error).message).toContain('admin@ovirt@internalsso');
    expect(JSON.stringify([again, log.lines]) + (again as Error).message).not.toContain('planted-password');
    login('t1');
    await expect(session.login()).resolves.toBeUndefined();
  });

  it('takes a login service that fails as an engine that is away', async () => {
    const { pool, session } = fixture();
    pool.intercept({ path: '/ovirt-engine/sso/oauth/token', method: 'POST' }).reply(400, { error_code: 'server_error', error: 'x' }, json);
    await expect(session.login()).rejects.toMatchObject({ code: 'ENGINE_UNAVAILABLE' });
    pool
      .intercept({ path: '/ovirt-engine/sso/oauth/token', method: 'POST' })
      .reply(503, '<html>', { headers: { 'content-type': 'text/html' } });
    await expect(session.login()).rejects.toMatchObject({ code: 'ENGINE_UNAVAILABLE' });
  });

  it('names a late answer, a cancelled request and an answer that is not JSON', async () => {
    const { pool, session, login } = fixture();
    login('t1');
    const path = '/ovirt-engine/api/vms';
    pool.intercept({ path, method: 'GET' }).reply(200, {}, json).delay(2_000);
    await expect(session.request({ method: 'GET', path: '/vms', timeoutMs: 50 })).rejects.toMatchObject({ code: 'ENGINE_UNAVAILABLE' });
    const aborter = new AbortController();
    pool.intercept({ path, method: 'GET' }).reply(200, {}, json).delay(2_000);
    const cancelled = session.request({ method: 'GET', path: '/vms', signal: aborter.signal });
    aborter.abort();
    await expect(cancelled).rejects.toMatchObject({ code: 'CANCELLED' });
    pool.intercept({ path, method: 'GET' }).reply(200, '<html>', { headers: { 'content-type': 'text/html' } });
    await expect(session.request({ method: 'GET', path: '/vms' })).rejects.toMatchObject({ code: 'ENGINE_ANSWER_INVALID' });
    pool.intercept({ path, method: 'GET' }).replyWithError(Object.assign(new Error('boom'), { code: 'ECONNRESET' }));
    await expect(session.request({ method: 'GET', path: '/vms' })).rejects.toMatchObject({
      code: 'ENGINE_UNAVAILABLE',
      meta: { problem: 'ECONNRESET' },
    });
  });

  it('logs out at its end, and refuses requests afterwards', async () => {
    const { pool, session, login } = fixture();
    login('t1');
    await session.login();
    let loggedOut = '';
    pool.intercept({ path: '/ovirt-engine/services/sso-logout', method: 'POST' }).reply(
      200,
      ({ body }) => {
        loggedOut = textOfBody(body);
        return {};
      },
      json,
    );
    await session.close();
    expect(new URLSearchParams(loggedOut).get('token')).toBe('t1');
    await expect(session.request({ method: 'GET', path: '/vms' })).rejects.toMatchObject({ code: 'ENGINE_UNAVAILABLE' });
  });
});

describe('engineCorrelationId', () => {
  it('fits the engine and stays the same for the same work', () => {
    expect(engineCorrelationId('session 1', 'vm/2')).toBe('tidemark-session1-vm2');
    const long = engineCorrelationId('0f3c9a3e-1111-4222-8333-444455556666');
    expect(long).toHaveLength(36);
    expect(engineCorrelationId('0f3c9a3e-1111-4222-8333-444455556666')).toBe(long);
    expect(engineCorrelationId('0f3c9a3e-1111-4222-8333-444455556667')).not.toBe(long);
  });
});
