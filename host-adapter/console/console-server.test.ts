import fs from 'node:fs';
import https from 'node:https';
import path from 'node:path';
import { fakeRecoveryKey, type FakeMover } from '../testing/fake-mover';
import type { FakePlugin } from '../testing/fake-plugin';
import { until } from '../testing/fake-process';
import { TestInstallation } from '../testing/test-installation';
import { routes } from './routes';

describe('REST API', () => {
  const at = new TestInstallation();
  let plugin: FakePlugin;
  let mover: FakeMover;

  beforeAll(async () => {
    await at.start();
    await at.login();
    ({ plugin, mover } = await at.furnish());
  });
  afterAll(() => at.remove());

  it('lets nobody in without a login, on any route', async () => {
    for (const route of Object.values(routes)) {
      if ('open' in route) continue;
      const { status, body } = await at.api(route.method, route.path.replace(':id', 'x'), undefined, '');
      expect([route.path, status, body.code]).toEqual([route.path, 401, 'LOGIN_REQUIRED']);
    }
    expect(await at.api('POST', '/login', { user: 'admin', password: 'wrong' }, '')).toMatchObject({
      status: 401,
      body: { code: 'LOGIN_REFUSED' },
    });
    // Strangers cannot fill the disk: of all this the catalogue keeps the refused login alone.
    const { items } = (await at.api('GET', '/audit?limit=1000')).body as { items: { user: string; action: string; status: number }[] };
    expect(items.filter(({ user }) => user === '')).toMatchObject([{ action: 'login', status: 401 }]);
  });

  it('keeps the first password readable for its owner alone, and no password or token in the catalogue', () => {
    const file = path.join(at.folder, 'initial-admin-password');
    expect(fs.statSync(file).mode & 0o077).toBe(0);
    const password = fs.readFileSync(file, 'utf8').trim();
    for (const name of fs.readdirSync(at.folder).filter((one) => one.startsWith('catalogue'))) {
      const bytes = fs.readFileSync(path.join(at.folder, name), 'latin1');
      for (const secret of [password, at.token, 'secret-password', '"ovf"']) expect(bytes.includes(secret)).toBe(false);
    }
  });

  it('answers problems with status, code, field and correlation id', async () => {
    const invalid = await at.api('POST', '/jobs', { name: 'a/b', repository: 'main', selector: { include: ['*'] } });
    expect(invalid).toMatchObject({ status: 400, body: { code: 'ARGUMENT_INVALID', field: 'name', retry: 'never' } });
    expect(invalid.body.correlationId).toMatch(/^[\w-]+$/);
    const cases: [string, string, object | undefined, number, string][] = [
      ['GET', '/jobs/none', undefined, 404, 'JOB_NOT_FOUND'],
      ['GET', '/nowhere', undefined, 404, 'ROUTE_NOT_FOUND'],
      ['GET', '/vms?limit=0', undefined, 400, 'ARGUMENT_INVALID'],
      ['GET', '/vms/none', undefined, 404, 'VM_UNKNOWN'],
      ['POST', '/jobs', { name: 'nightly', repository: 'main', selector: { include: ['*'] } }, 409, 'NAME_TAKEN'],
      ['POST', '/jobs', { name: 'x', repository: 'none', selector: { include: ['*'] } }, 404, 'REPOSITORY_UNKNOWN'],
      ['POST', '/jobs', { name: 'x', repository: 'main', selector: { include: ['color:red'] } }, 400, 'SELECTOR_INVALID'],
      [
        'POST',
        '/jobs',
        { name: 'x', repository: 'main', selector: { include: ['*'] }, schedule: { cron: 'often' } },
        400,
        'SCHEDULE_INVALID',
      ],
      ['DELETE', '/repositories/main', undefined, 409, 'IN_USE'],
      ['POST', '/restores/file', { point: 'none', disk: 'd', path: 'relative' }, 400, 'ARGUMENT_INVALID'],
      ['POST', '/restores/vm', { point: 'none' }, 404, 'POINT_UNKNOWN'],
      ['POST', '/sessions/none/stop', undefined, 404, 'BACKUP_SESSION_NOT_FOUND'],
      ['GET', '/sessions/none/events', undefined, 404, 'BACKUP_SESSION_NOT_FOUND'],
    ];
    for (const [method, url, body, status, code] of cases) {
      expect([url, await at.api(method as 'GET', url, body)]).toMatchObject([url, { status, body: { code } }]);
    }
    const malformed = await at.server.console.app.inject({
      method: 'POST',
      url: '/api/v1/login',
      payload: '{',
      headers: { 'content-type': 'application/json' },
    });
    expect([malformed.statusCode, malformed.json()]).toMatchObject([400, { code: 'ARGUMENT_INVALID' }]);
  });

  it('describes itself: every route, every reference', async () => {
    const { body } = await at.api('GET', '/openapi.json', undefined, '');
    expect(body.openapi).toBe('3.1.0');
    const operations = Object.entries(body.paths).flatMap(([url, methods]) =>
      Object.entries(methods as Record<string, { operationId: string; parameters: { name: string; in: string }[] }>).map(
        ([method, operation]) => ({
          url,
          method,
          ...operation,
        }),
      ),
    );
    expect(operations.map((operation) => operation.operationId).sort()).toEqual(Object.keys(routes).sort());
    for (const { url, parameters } of operations) {
      const named = [...url.matchAll(/\{(\w+)\}/g)].map((match) => match[1]);
      expect(parameters.filter((parameter) => parameter.in === 'path').map((parameter) => parameter.name)).toEqual(named);
    }
    const references = [...JSON.stringify(body).matchAll(/"\$ref":"([^"]+)"/g)].map((match) => match[1] ?? '');
    expect(references.length).toBeGreaterThan(50);
    for (const reference of references) {
      const [, name] = /^#\/components\/schemas\/(\w+)$/.exec(reference) ?? [];
      expect(body.components.schemas[name ?? reference]).toBeDefined();
    }
  });

  it('answers what its shapes say', async () => {
    for (const [name, route] of Object.entries(routes)) {
      if (route.method !== 'GET' || route.path.includes(':') || !('reply' in route)) continue;
      const { status, body } = await at.api('GET', route.path);
      expect([name, status, route.reply.safeParse(body).error?.issues ?? []]).toEqual([name, 200, []]);
    }
  });

  it('makes encrypted repositories unless told otherwise, and passes keys on without keeping them', async () => {
    const add = (more: object) => at.api('POST', '/repositories', { name: 'second', location: '/srv/second', ...more });
    const key = { kind: 'key-file', secret: '0123456789abcdef'.repeat(4) };
    expect(await add({})).toMatchObject({ status: 400, body: { code: 'ARGUMENT_INVALID' } });
    expect(await add({ key, encrypted: false })).toMatchObject({ status: 400, body: { code: 'ARGUMENT_INVALID' } });
    expect(mover.givenKey).toBe('a long passphrase');

    const recovery = await at.api('POST', '/repositories/main/keys', { kind: 'recovery' });
    expect(recovery).toMatchObject({ status: 201, body: { recoveryKey: fakeRecoveryKey } });
    const file = await at.api('POST', '/repositories/main/keys', key);
    expect(file).toMatchObject({ status: 201, body: { recoveryKey: null } });
    expect(await at.api('POST', '/repositories/main/keys', { kind: 'passphrase' })).toMatchObject({ status: 400 });
    const listed = async () => (await at.api('GET', '/repositories/main/keys')).body as { items: { id: string; kind: string }[] };
    expect((await listed()).items.map(({ kind }) => kind)).toEqual(['recovery', 'key-file']);
    expect((await at.api('POST', '/repositories/main/keys/remove', { key: file.body.id })).status).toBe(204);
    expect((await listed()).items.map(({ id }) => id)).toEqual([recovery.body.id]);
    expect(await at.api('POST', '/repositories/main/keys/rotate')).toMatchObject({
      status: 200,
      body: { rotatedAt: '2023-11-14T22:13:20.000Z' },
    });
    const told = JSON.stringify([(await at.api('GET', '/audit')).body, (await at.api('GET', '/repositories')).body]);
    for (const secret of [key.secret, fakeRecoveryKey, 'a long passphrase']) expect(told).not.toContain(secret);
  });

  it('edits a job, tells the next run, and keeps an audit log without contents', async () => {
    const made = await at.api('POST', '/jobs', {
      name: 'weekly',
      repository: 'main',
      selector: { include: ['tag:prod'], exclude: ['web3'] },
      schedule: { cron: '0 3 * * 0', timeZone: 'UTC' },
    });
    expect(made).toMatchObject({ status: 201, body: { enabled: true, retention: { days: 14, minimumPoints: 3 } } });
    expect(new Date(made.body.nextRunAt).getUTCDay()).toBe(0);
    expect((await at.api('POST', '/jobs/weekly/disable')).body).toMatchObject({ enabled: false, nextRunAt: null });
    const edited = await at.api('PATCH', '/jobs/weekly', { name: 'weekend', limits: { concurrentVms: 1, disksPerVm: 1 } });
    expect(edited.body).toMatchObject({ name: 'weekend', limits: { concurrentVms: 1 }, selector: { exclude: ['web3'] } });
    const preview = await at.api('POST', '/jobs/preview', { selector: edited.body.selector });
    expect(preview.body.items.map((vm: { name: string }) => vm.name)).toEqual(['web1', 'web2']);
    expect((await at.api('DELETE', '/jobs/weekend')).status).toBe(204);
    const { items } = (await at.api('GET', '/audit?limit=4')).body;
    expect(items.map((item: { action: string; target: string; status: number }) => [item.action, item.target, item.status])).toEqual([
      ['jobRemove', 'weekend', 204],
      ['jobEdit', 'weekly', 200],
      ['jobDisable', 'weekly', 200],
      ['jobCreate', '', 201],
    ]);
    expect(JSON.stringify((await at.api('GET', '/audit')).body)).not.toContain('secret-password');
  });

  it('shows live progress over TLS, resumes behind an event, and ends', async () => {
    let release = () => {};
    const held = new Promise<void>((resolve) => (release = resolve));
    plugin.at = (moment) => (moment === 'transferring' ? held : Promise.resolve());
    const { body } = await at.api('POST', '/jobs/nightly/run', { vms: ['web1'] });
    const first = await events(at, body.id, '0', (list) => list.some((event) => event.data['state'] === 'transferring'));
    const seen = Number(first.at(-1)?.id);
    expect(first.some((event) => event.event === 'task')).toBe(true);
    release();
    const rest = await events(at, body.id, String(seen), (list) => list.at(-1)?.event === 'end');
    expect(rest.every((event) => Number(event.id) > seen)).toBe(true);
    expect(rest.at(-1)).toMatchObject({ event: 'end', data: { state: 'success', finishedTaskCount: 1 } });
  });

  it('ends a login, and changes a password', async () => {
    const password = fs.readFileSync(path.join(at.folder, 'initial-admin-password'), 'utf8').trim();
    const other = (await at.api('POST', '/login', { user: 'admin', password }, '')).body.token as string;
    expect((await at.api('POST', '/password', { currentPassword: 'wrong', newPassword: 'long enough now' })).status).toBe(401);
    expect((await at.api('POST', '/password', { currentPassword: password, newPassword: 'long enough now' })).status).toBe(204);
    expect((await at.api('GET', '/jobs', undefined, other)).status).toBe(401);
    expect((await at.api('GET', '/jobs')).status).toBe(200);
    expect((await at.api('POST', '/login', { user: 'admin', password: 'long enough now' }, '')).status).toBe(200);
    expect((await at.api('POST', '/logout')).status).toBe(204);
    expect((await at.api('GET', '/jobs')).status).toBe(401);
  });
});

interface Seen {
  readonly id: string;
  readonly event: string;
  readonly data: Record<string, unknown>;
}

/** Reads the event stream with the server's own CA until enough was seen. */
async function events(at: TestInstallation, sessionId: string, lastEventId: string, enough: (list: Seen[]) => boolean): Promise<Seen[]> {
  const list: Seen[] = [];
  let text = '';
  const request = https.get(`${at.endpoints.console}/api/v1/sessions/${sessionId}/events`, {
    ca: fs.readFileSync(path.join(at.folder, 'ca.pem')),
    headers: { authorization: `Bearer ${at.token}`, 'last-event-id': lastEventId },
  });
  request.on('response', (response) => {
    response.setEncoding('utf8');
    response.on('data', (chunk: string) => {
      text += chunk;
      for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
        const fields = Object.fromEntries(
          text
            .slice(0, end)
            .split('\n')
            .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]),
        );
        text = text.slice(end + 2);
        if (fields['data']) list.push({ id: fields['id'] ?? '', event: fields['event'] ?? '', data: JSON.parse(fields['data']) });
      }
    });
  });
  request.on('error', () => undefined);
  await until(() => enough(list));
  request.destroy();
  return list;
}
