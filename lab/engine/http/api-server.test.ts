import { EngineOverTls, PASSWORD } from '../testing/engine-over-tls';

const LOGIN = `grant_type=password&scope=ovirt-app-api&username=admin%40internal&password=${encodeURIComponent(PASSWORD)}`;

describe('the protocol of the simulated engine', () => {
  let engine: EngineOverTls;

  beforeEach(async () => {
    engine = await EngineOverTls.open();
  });
  afterEach(async () => {
    const logged = [...engine.logged];
    await engine.close();
    expect(logged).toEqual([]);
  });

  const clusterId = (): string => engine.core.db.clusters.list()[0]?.id ?? '';
  const addVm = async (name: string): Promise<string> => {
    const answer = await engine.api('POST', '/vms', { name, cluster: { name: 'Default' }, template: { name: 'Blank' } });
    expect(answer.status).toBe(201);
    return answer.json['id'] as string;
  };

  describe('single sign-on', () => {
    it('gives a token that works until it is revoked', async () => {
      const answer = await engine.token(LOGIN);
      expect(answer.status).toBe(200);
      expect(answer.json).toMatchObject({ scope: 'ovirt-app-api', exp: '9223372036854775807', token_type: 'bearer' });
      const token = String(answer.json['access_token']);
      const headers = { Authorization: `Bearer ${token}`, Accept: 'application/json' };
      expect((await engine.send('GET', '/ovirt-engine/api', { headers })).status).toBe(200);
      const logout = await engine.send('POST', '/ovirt-engine/services/sso-logout', { body: `scope=ovirt-app-api&token=${token}` });
      expect(logout.text).toBe('{}');
      expect((await engine.send('GET', '/ovirt-engine/api', { headers })).status).toBe(401);
    });

    it.each([
      ['a wrong password', LOGIN.replace(/password=[^&]*$/, 'password=x'), 'application/json', 'access_denied'],
      ['an unknown profile', LOGIN.replace('internal', 'elsewhere'), 'application/json', 'access_denied'],
      ['a name without profile', LOGIN.replace('%40internal', ''), 'application/json', 'access_denied'],
      ['a list in Accept', LOGIN, 'application/json, */*', 'invalid_request'],
      ['another grant', LOGIN.replace('=password&', '=client_credentials&'), 'application/json', 'unsupported_grant_type'],
      ['no user', 'grant_type=password&scope=ovirt-app-api&password=x', 'application/json', 'invalid_request'],
    ])('answers 400, never 401, to %s', async (_, form, accept, code) => {
      const answer = await engine.token(form, accept);
      expect(answer.status).toBe(400);
      expect(answer.json['error_code']).toBe(code);
    });

    it('forgets an idle session', async () => {
      const token = String((await engine.token(LOGIN)).json['access_token']);
      engine.core.db.sessions.update(token, { lastUsedAt: Date.now() - 3_600_000 });
      const answer = await engine.send('GET', '/ovirt-engine/api', { headers: { Authorization: `Bearer ${token}` } });
      expect(answer.status).toBe(401);
      expect(answer.headers['www-authenticate']).toContain('RESTAPI');
      expect(answer.headers['content-type']).toContain('text/html');
    });

    it('keeps sessions over a restart and drops them on demand', async () => {
      const token = String((await engine.token(LOGIN)).json['access_token']);
      const headers = { Authorization: `Bearer ${token}` };
      await engine.server.restart(0);
      expect((await engine.send('GET', '/ovirt-engine/api/vms', { headers })).status).toBe(200);
      expect(await engine.steer('POST', '/sessions/drop')).toEqual({ dropped: 1 });
      expect((await engine.send('GET', '/ovirt-engine/api/vms', { headers })).status).toBe(401);
    });

    it('honours a cookie only with Prefer: persistent-auth', async () => {
      const first = await engine.api('GET', '/vms', undefined, { Prefer: 'persistent-auth' });
      const cookie = String(first.headers['set-cookie']?.[0]).split(';')[0] ?? '';
      const again = (headers: Record<string, string>) =>
        engine.send('GET', '/ovirt-engine/api/vms', { headers: { Cookie: cookie, ...headers } });
      expect((await again({ Prefer: 'persistent-auth' })).status).toBe(200);
      expect((await again({})).status).toBe(401);
    });
  });

  describe('shapes of answers', () => {
    it('writes integers and booleans as texts, dates as numbers, and empty collections as {}', async () => {
      const id = await addVm('web');
      const vm = (await engine.api('GET', `/vms/${id}`)).json;
      expect(vm).toMatchObject({ memory: '1073741824', delete_protected: 'false', cpu: { topology: { sockets: '1' } }, status: 'down' });
      expect(typeof vm['creation_time']).toBe('number');
      expect(vm['link']).toContainEqual({ href: `/ovirt-engine/api/vms/${id}/diskattachments`, rel: 'diskattachments' });
      expect(vm['actions']).toEqual({
        link: expect.arrayContaining([{ href: `/ovirt-engine/api/vms/${id}/start`, rel: 'start' }]) as unknown,
      });
      expect(vm).not.toHaveProperty('has_illegal_images');
      expect((await engine.api('GET', `/vms/${id}/nics`)).text).toBe('{}');
    });

    it('answers 201 with Location, 404 without a body, and 405', async () => {
      const made = await engine.api('POST', '/tags', { name: 'bronze' });
      expect([made.status, made.headers.location]).toEqual([201, `/ovirt-engine/api/tags/${String(made.json['id'])}`]);
      for (const path of ['/vms/00000000-0000-4000-8000-000000000000', '/vms/not-a-uuid', '/nowhere']) {
        const missing = await engine.api('GET', path);
        expect([missing.status, missing.text]).toEqual([404, '']);
      }
      expect((await engine.api('DELETE', '/clusters')).status).toBe(405);
    });

    it('speaks XML by default and JSON when asked by header or parameter', async () => {
      const xml = await engine.api('GET', '/tags', undefined, { Accept: '*/*' });
      expect(xml.headers['content-type']).toContain('application/xml');
      expect(xml.text).toContain('<tags><tag href=');
      expect((await engine.api('GET', '/tags?accept=application/json', undefined, { Accept: 'application/xml' })).json).toHaveProperty(
        'tag',
      );
    });

    it('echoes a cleaned Correlation-Id, or makes one', async () => {
      const sent = await engine.api('GET', '/vms', undefined, { 'Correlation-Id': 'job 7/run:2_x' });
      expect(sent.headers['correlation-id']).toBe('job7run2_x');
      expect((await engine.api('GET', '/vms')).headers['correlation-id']).toMatch(/^[0-9a-f-]{36}$/);
    });

    it('serves version 4 only', async () => {
      expect((await engine.api('GET', '/v4/vms')).status).toBe(200);
      expect((await engine.api('GET', '/v3/vms')).status).toBe(400);
      expect((await engine.api('GET', '/vms', undefined, { Version: '3' })).status).toBe(400);
    });

    it('hides the summary from filtered sessions', async () => {
      expect((await engine.api('GET', '')).json['summary']).toMatchObject({ hosts: { total: '2', active: '2' } });
      expect((await engine.api('GET', '', undefined, { Filter: 'true' })).json).not.toHaveProperty('summary');
    });
  });

  describe('strictness of requests', () => {
    it.each([
      ['an unknown field', { name: 'x', nam: 'y' }, 'Unrecognized field'],
      ['an unknown nested field', { name: 'x', parent: { idd: 'y' } }, 'Unrecognized field'],
      ['a list where an object belongs', { name: 'x', parent: [] }, 'must be an object'],
      ['an object where a text belongs', { name: {} }, 'must be a plain value'],
      ['no document', 'not json', 'not well-formed'],
      ['an empty body', '', 'needs a body'],
    ])('answers 400 to %s', async (_, body, text) => {
      const answer = await engine.api('POST', '/tags', body);
      expect(answer.status).toBe(400);
      expect(answer.json['reason']).toContain('syntactically incorrect');
      expect(answer.json['detail']).toContain(text);
      expect(answer.json['detail']).toMatch(/^\[.*\]$/);
    });

    it('answers 400 with another reason to wrong enums, numbers and ids', async () => {
      for (const body of [{ severity: 'bad' }, { custom_id: 'x' }, { vm: { id: 'not-a-uuid' } }]) {
        const answer = await engine.api('POST', '/events', body);
        expect([answer.status, answer.json['reason']]).toEqual([400, 'Invalid value']);
      }
    });

    it('names what is missing', async () => {
      const answer = await engine.api('POST', '/vms', { name: 'x' });
      expect(answer.json).toEqual({ reason: 'Incomplete parameters', detail: '[Vm [template.id|name, cluster.id|name] required for add]' });
    });

    it('is lenient on scalars', async () => {
      const body = {
        name: 'web',
        cluster: { name: 'Default' },
        template: { name: 'Blank' },
        memory: 2147483648,
        delete_protected: '1',
        stateless: false,
      };
      expect((await engine.api('POST', '/vms', body)).json).toMatchObject({ memory: '2147483648', delete_protected: 'true' });
    });

    it('wants a known content type', async () => {
      expect((await engine.api('POST', '/tags', { name: 'x' }, { 'Content-Type': 'text/plain' })).status).toBe(415);
    });

    it('uses both fault shapes', async () => {
      const id = await addVm('web');
      const old = await engine.api('POST', `/vms/${id}/stop`, {});
      expect([old.status, old.json['status']]).toEqual([409, 'failed']);
      expect(old.json['fault']).toMatchObject({ reason: 'Operation Failed', detail: expect.stringMatching(/^\[.+\]$/) as unknown });
      const bare = await engine.api('POST', `/vms/${id}/backups`, {});
      expect(bare.json).toMatchObject({ reason: 'Incomplete parameters' });
    });

    it('refuses what the account may not do', async () => {
      await engine.steer('POST', '/users/admin@internal/permits', { revoked: ['TAG_MANAGEMENT'] });
      const answer = await engine.api('POST', '/tags', { name: 'x' });
      expect([answer.status, answer.headers['x-lab-fault']]).toEqual([403, 'USER_NOT_AUTHORIZED_TO_PERFORM_ACTION']);
      await engine.steer('POST', '/users/admin@internal/permits', { revoked: [] });
      expect((await engine.api('POST', '/tags', { name: 'x' })).status).toBe(201);
    });
  });

  describe('parameters', () => {
    it('takes them from the query before the matrix, and a bare name as true', async () => {
      for (const name of ['a', 'b', 'c']) {
        await addVm(name);
      }
      const names = async (path: string): Promise<unknown[]> =>
        ((await engine.api('GET', path)).json['vm'] as { name: string }[]).map((vm) => vm.name);
      expect(await names('/vms;max=2')).toEqual(['a', 'b']);
      expect(await names('/vms;max=2?max=1')).toEqual(['a']);
      expect(await names('/vms?search=name%3D*%20sortby%20name%20desc%20page%202&max=2')).toEqual(['a']);
      const vm = ((await engine.api('GET', '/vms;all-content')).json['vm'] as Record<string, unknown>[])[0];
      expect(vm).toHaveProperty('initialization.configuration.data');
    });

    it('answers 400 to a search that it does not understand', async () => {
      for (const search of ['name=', 'color=red', 'name=x page zero', '=x']) {
        expect((await engine.api('GET', `/vms?search=${encodeURIComponent(search)}`)).status).toBe(400);
      }
    });

    it('follows links, deeper ones too, with or without underscores', async () => {
      const id = await addVm('web');
      const profile = engine.core.db.vnicProfiles.list()[0]?.id ?? '';
      await engine.api('POST', `/vms/${id}/nics`, { name: 'nic1', vnic_profile: { id: profile } });
      const vm = (await engine.api('GET', `/vms/${id}?follow=nics.vnic_profile,cluster,diskattachments`)).json;
      expect(vm).toMatchObject({
        cluster: { id: clusterId(), version: { major: '4', minor: '7' } },
        nics: { nic: [{ name: 'nic1', vnic_profile: { id: profile, name: 'ovirtmgmt' } }] },
        disk_attachments: {},
      });
      expect((await engine.api('GET', `/vms/${id}?follow=nonsense`)).status).toBe(400);
    });
  });

  describe('trouble on demand', () => {
    it('fails the n-th call of a route, once', async () => {
      await engine.steer('POST', '/faults', {
        match: { route: 'GET /vms', nth: 2 },
        effect: { kind: 'fault', status: 409, detail: 'busy' },
      });
      const statuses = [];
      for (let call = 0; call < 3; call += 1) {
        statuses.push((await engine.api('GET', '/vms')).status);
      }
      expect(statuses).toEqual([200, 409, 200]);
    });

    it('drops a connection before or after the work was done', async () => {
      await engine.steer('POST', '/faults', { match: { route: 'POST /tags' }, effect: { kind: 'drop' } });
      await expect(engine.api('POST', '/tags', { name: 'x' })).rejects.toThrow();
      expect(engine.core.db.tags.find((tag) => tag.name === 'x')).toBeUndefined();
      await engine.steer('POST', '/faults', { match: { route: 'POST /tags' }, effect: { kind: 'drop', when: 'after' } });
      await expect(engine.api('POST', '/tags', { name: 'x' })).rejects.toThrow();
      expect(engine.core.db.tags.find((tag) => tag.name === 'x')).toBeDefined();
    });

    it('pretends to have forgotten who is asking', async () => {
      await engine.steer('POST', '/faults', { match: { route: '* /vms*', times: 0 }, effect: { kind: 'unauthorized' } });
      expect((await engine.api('GET', '/vms')).status).toBe(401);
      await engine.steer('DELETE', '/faults');
      expect((await engine.api('GET', '/vms')).status).toBe(200);
    });

    it('answers 503 in HTML while it restarts, and has everything afterwards', async () => {
      await addVm('web');
      const restarted = engine.server.restart(300);
      await new Promise((resolve) => setImmediate(resolve));
      const down = await engine.api('GET', '/vms');
      expect([down.status, down.headers['content-type']]).toEqual([503, 'text/html; charset=iso-8859-1']);
      await restarted;
      expect((await engine.api('GET', '/vms?search=name%3Dweb')).json['vm']).toHaveLength(1);
    });

    it('refuses rules and routes that make no sense', async () => {
      await expect(engine.steer('POST', '/faults', { match: {}, effect: { kind: 'drop' } })).rejects.toThrow('400');
      await expect(engine.steer('POST', '/faults', { match: { step: 'x' }, effect: { kind: 'explode' } })).rejects.toThrow('400');
      await expect(engine.steer('POST', '/hosts/nobody/kill')).rejects.toThrow('404');
      await expect(engine.steer('GET', '/entities/sessions')).rejects.toThrow('404');
    });
  });

  it('serves health and certificates without a login', async () => {
    expect((await engine.send('GET', '/ovirt-engine/services/health')).text).toMatch(/^DB Up!/);
    const pki = (resource: string, format: string) =>
      engine.send('GET', `/ovirt-engine/services/pki-resource?resource=${resource}&format=${format}`);
    expect((await pki('ca-certificate', 'X509-PEM-CA')).text).toContain('BEGIN CERTIFICATE');
    expect((await pki('nothing', 'X509-PEM')).status).toBe(400);
    expect((await pki('ca-certificate', 'DOC')).status).toBe(400);
  });
});
