import fs from 'node:fs';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { createAuthority, issueIdentity } from '../../common/tls/authority';
import { runCliIn } from '../testing/cli-user';

const task = { id: 't', vmName: 'web', totalBytes: 100, waitingReason: null, attempt: 1, counters: { readBytes: 50 } };
const counters = { plannedBytes: 0, readBytes: 1048576, transferredBytes: 0, storedBytes: 2048, zeroBytes: 0, deduplicatedBytes: 0 };
const sessionOf = (state: string) => ({
  id: 's1',
  kind: 'backup',
  jobName: 'nightly',
  subject: 'nightly',
  state,
  failure: null,
  startedAt: '2026-01-01T00:00:00.000Z',
  endedAt: '2026-01-01T00:00:05.000Z',
  counters,
  taskCount: 1,
  finishedTaskCount: 1,
  tasks: [
    {
      ...task,
      state,
      pointId: 'p1',
      createdId: null,
      failure: null,
      leftForJanitor: [],
      findings: [],
      notes: [{ code: 'net-path-proxy', severity: 'warning', message: 'came through the proxy' }],
      disks: [
        {
          diskId: 'd',
          name: 'web-a',
          sizeBytes: 1,
          mode: 'full',
          reason: 'cbt-new-disk',
          path: 'proxy',
          transport: 'image-transfer',
          workerId: 'w',
          workerName: 'east-01',
          workerHop: 'other-cluster',
          counters,
          durationMs: 1500,
        },
      ],
    },
  ],
});

describe('the command line', () => {
  let server: https.Server;
  let folder: string;
  let ending = 'success';
  let streams = 0;
  const seen: { method: string; url: string; token: string; body: unknown }[] = [];

  beforeAll(async () => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-cli-'));
    const authority = await createAuthority('cli test');
    const identity = await issueIdentity(authority, { role: 'host', id: 'h' }, ['localhost', '127.0.0.1']);
    fs.writeFileSync(path.join(folder, 'ca.pem'), authority.certificatePem);
    fs.writeFileSync(path.join(folder, 'other.pem'), (await createAuthority('other')).certificatePem);
    fs.writeFileSync(path.join(folder, 'password'), 'correct\n');
    server = https.createServer({ cert: identity.certificateChainPem, key: identity.privateKeyPem }, (request, response) => {
      let text = '';
      request.on('data', (chunk: Buffer) => (text += chunk.toString()));
      request.on('end', () => {
        const body: unknown = text === '' ? undefined : JSON.parse(text);
        const url = (request.url ?? '').replace('/api/v1', '');
        seen.push({ method: request.method ?? '', url, token: request.headers.authorization ?? '', body });
        const reply = (status: number, value?: object) => {
          response.writeHead(status, { 'content-type': 'application/json' }).end(value ? JSON.stringify(value) : undefined);
        };
        if (url === '/login') {
          const { password } = body as { password: string };
          return password === 'correct'
            ? reply(200, { token: 'bearer-1', user: 'admin', expiresAt: 'later' })
            : reply(401, { code: 'LOGIN_REFUSED', message: 'User or password is wrong.' });
        }
        if (url.startsWith('/vms/preflight')) {
          const finding = {
            code: 'disk-shareable',
            severity: 'warning',
            message: 'a disk is shareable',
            advice: 'back it up inside the guest',
          };
          return reply(200, { items: [{ vmName: 'web', canBackUp: true, retryLater: false, disks: [], findings: [finding] }] });
        }
        if (url.startsWith('/vms/')) return reply(404, { code: 'VM_NOT_FOUND', message: 'There is no VM nobody.' });
        if (url.startsWith('/vms')) {
          const second = url.includes('pageToken');
          const vm = {
            name: second ? 'web2' : 'web',
            status: 'up',
            clusterName: 'east',
            diskCount: 1,
            provisionedBytes: 1024,
            protection: { state: 'protected', pointCount: 2, lastPointAt: null },
          };
          return reply(200, { items: [vm], nextPageToken: second ? null : 'next' });
        }
        if (url === '/jobs' && request.method === 'POST') return reply(201, { ...(body as object), nextRunAt: null });
        if (url === '/jobs/nightly/run') return reply(202, sessionOf('running'));
        if (url === '/sessions/s1/events') {
          streams += 1;
          response.writeHead(200, { 'content-type': 'text/event-stream' });
          response.write(`: keep\n\nid: ${streams}\nevent: task\ndata: ${JSON.stringify({ ...task, state: 'transferring' })}\n\n`);
          // The first stream breaks; the second must begin behind what was seen.
          if (streams % 2 === 1) return response.destroy();
          return response.end(`id: 9\nevent: end\ndata: {}\n\n`);
        }
        if (url === '/sessions/s1') return reply(200, sessionOf(ending));
        if (url === '/repositories') return reply(409, { code: 'REPOSITORY_EXISTS', message: 'There is one.' });
        return reply(500, { code: 'INTERNAL', message: 'no route' });
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  });
  afterAll(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    fs.rmSync(folder, { recursive: true });
  });
  beforeEach(() => {
    seen.length = 0;
    streams = 0;
    ending = 'success';
  });

  const url = () => `https://127.0.0.1:${(server.address() as AddressInfo).port}`;

  const run = (...argv: string[]) => runCliIn(folder, argv);
  const login = (...extra: string[]) =>
    run('login', '--server', url(), '--ca', path.join(folder, 'ca.pem'), '--password-file', path.join(folder, 'password'), ...extra);

  it('asks to log in first', async () => {
    expect(await run('job', 'list')).toMatchObject({ code: 2, err: expect.stringContaining('tidemark login') });
  });

  it('logs in, keeps the token from other users, and sends it', async () => {
    expect((await login()).code).toBe(0);
    expect(fs.statSync(path.join(folder, 'cli.json')).mode & 0o077).toBe(0);
    await run('vm', 'show', 'nobody');
    expect(seen.at(-1)?.token).toBe('Bearer bearer-1');
  });

  it('gives 6 for a wrong password and 7 for a server of another CA', async () => {
    fs.writeFileSync(path.join(folder, 'wrong'), 'wrong');
    const wrong = await run('login', '--server', url(), '--ca', path.join(folder, 'ca.pem'), '--password-file', path.join(folder, 'wrong'));
    expect(wrong).toMatchObject({ code: 6, err: expect.stringContaining('LOGIN_REFUSED') });
    const foreign = await run(
      'login',
      '--server',
      url(),
      '--ca',
      path.join(folder, 'other.pem'),
      '--password-file',
      path.join(folder, 'password'),
    );
    expect(foreign).toMatchObject({ code: 7, err: expect.stringContaining('not signed by the CA') });
  });

  it('prints one object with --json, errors too', async () => {
    await login();
    const answer = await run('vm', 'show', 'nobody', '--json');
    expect(answer.code).toBe(4);
    expect(JSON.parse(answer.out)).toEqual({ error: { code: 'VM_NOT_FOUND', message: 'There is no VM nobody.' } });
    expect(answer.err).toBe('');
  });

  it('reads every page and aligns columns', async () => {
    await login();
    const { out, code } = await run('vm', 'list');
    expect(code).toBe(0);
    const lines = out.trimEnd().split('\n');
    expect(lines[0]).toMatch(/^VM\s+STATUS\s+CLUSTER/);
    expect(lines.slice(1).map((line) => line.split(/\s+/)[0])).toEqual(['web', 'web2']);
    expect(lines[1]?.indexOf('up')).toBe(lines[0]?.indexOf('STATUS'));
  });

  it('follows a session over a broken stream and ends with its result', async () => {
    await login();
    ending = 'warning';
    const { code, out, err } = await run('job', 'run', 'nightly');
    expect(code).toBe(3);
    expect(streams).toBe(2);
    expect(err).toContain('web: transferring 50% of 100 B');
    expect(out).toContain('cbt-new-disk');
    expect(out).toContain('east-01 (other-cluster)');
    expect(out).toContain('came through the proxy [net-path-proxy]');
    ending = 'failed';
    expect((await run('job', 'run', 'nightly', '--json')).code).toBe(1);
  });

  it('sends what a job definition says, and refuses half of a pair', async () => {
    await login();
    await run(
      'job',
      'create',
      'n',
      '--repository',
      'main',
      '--vm',
      'tag:prod',
      '--vm',
      'web',
      '--exclude',
      'name:test*',
      '--keep-days',
      '7',
      '--keep-points',
      '2',
    );
    expect(seen.at(-1)?.body).toEqual({
      name: 'n',
      repository: 'main',
      selector: { include: ['tag:prod', 'web'], exclude: ['name:test*'] },
      retention: { days: 7, minimumPoints: 2 },
    });
    expect(await run('job', 'edit', 'n', '--keep-days', '7')).toMatchObject({ code: 2 });
  });

  it.each([
    [['repository', 'add', 'r', '--location', '/x', '--no-encryption'], 5],
    [['repository', 'add', 'r', '--location', '/x'], 2],
    [['vm', 'preflight', 'web'], 3],
    [['restore', 'disk', 'p', 'd'], 2],
    [['no-such-noun'], 2],
    [['job', 'create', 'x'], 2],
    [['--help'], 0],
    [['restore', 'vm', '--help'], 0],
  ])('answers %j with exit code %i', async (argv, code) => {
    await login();
    expect((await run(...argv)).code).toBe(code);
  });
});
