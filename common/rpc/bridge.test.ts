import { execFile } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import v8 from 'node:v8';
import vm from 'node:vm';
import { Server } from '@grpc/grpc-js';
import { loadService } from '../../proto/loader';
import type { RepositoryServiceDefinition } from '../../proto/gen/tidemark/mover/v1/RepositoryService';
import type { SessionServiceDefinition } from '../../proto/gen/tidemark/mover/v1/SessionService';
import type { WorkerServiceDefinition } from '../../proto/gen/tidemark/worker/v1/WorkerService';
import { CommonErrors } from '../errors/common-errors';
import { loggerTo } from '../log/logger';
import { createAuthority, issueIdentity } from '../tls/authority';
import { mutualClientCredentials, mutualServerCredentials } from '../tls/credentials';
import { ProcessIdentity } from '../tls/identity';
import { RpcClient } from './call';
import { serve } from './serve';
import type { ServiceHandlers } from './serve';

const sessions = loadService('tidemark/mover/v1/session_service.proto', 'tidemark.mover.v1.SessionService').service;
const repositories = loadService('tidemark/mover/v1/repository_service.proto', 'tidemark.mover.v1.RepositoryService').service;
const workers = loadService('tidemark/worker/v1/worker_service.proto', 'tidemark.worker.v1.WorkerService').service;

const refuse = { roles: ['host'] as const, unary: async () => ({}) };
/** For calls that are answered at once. */
const deadlineMs = 120_000;
const many = 200;
let collectedCount = 0;
const collected = new FinalizationRegistry(() => (collectedCount += 1));
const held = { now: Promise.resolve() };
const logged: { text: string; fields: Record<string, unknown> }[] = [];
const options = {
  logger: loggerTo((_level, text, fields) => logged.push({ text, fields: { ...fields } })),
  domain: 'mover',
};

async function start(handlers: Partial<ServiceHandlers<SessionServiceDefinition>>) {
  const server = new Server();
  const all = { OpenSession: refuse, RenewSession: refuse, CommitSession: refuse, AbortSession: refuse, GetSession: refuse, ...handlers };
  serve<SessionServiceDefinition>(server, sessions, all, options);
  const streaming = Object.fromEntries(Object.keys(repositories).map((name) => [name, refuse])) as Record<string, unknown>;
  streaming['ListPoints'] = {
    roles: ['host'],
    serverStream: async function* (request: { vmId: string }) {
      for (let index = 0; index < 3; index += 1) yield { damaged: { pointId: String(index), message: request.vmId } };
      if (request.vmId === 'fails') throw CommonErrors.OPERATION_NOT_FOUND({ operationId: 'x' });
      if (request.vmId === 'silent') await new Promise(() => undefined);
      if (request.vmId !== 'many') return;
      for (let index = 0; index < many; index += 1) {
        const reply = { damaged: { pointId: String(index), message: 'm' } };
        collected.register(reply, index);
        yield reply;
      }
      await held.now;
    },
  };
  streaming['WatchVerify'] = {
    roles: ['host'],
    serverStream: async function* () {
      yield {};
    },
  };
  serve<RepositoryServiceDefinition>(server, repositories, streaming as never, options);
  serve<WorkerServiceDefinition>(
    server,
    workers,
    {
      RenewCertificate: { roles: ['worker'], unary: async () => ({}) },
      Connect: {
        roles: ['worker', 'host'],
        bidi: async function* (requests: AsyncIterable<{ message?: string }>) {
          for await (const request of requests) {
            if (request.message === 'drained') throw CommonErrors.LEASE_LOST({ leaseId: 'l' });
            yield { cancelTask: { taskId: request.message ?? '' } };
          }
        },
      },
    },
    options,
  );
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', mutualServerCredentials(serverIdentity), (error, bound) => (error ? reject(error) : resolve(bound))),
  );
  return { server, port };
}

let serverIdentity: ProcessIdentity;

async function fixture(handlers: Partial<ServiceHandlers<SessionServiceDefinition>>) {
  const authority = await createAuthority('test');
  const make = async (role: 'host' | 'mover' | 'worker') =>
    new ProcessIdentity(await issueIdentity(authority, { role, id: `${role}-1` }, ['localhost', '127.0.0.1']), undefined);
  serverIdentity = await make('mover');
  const { server, port } = await start(handlers);
  const clientFor = async <S>(role: 'host' | 'worker', definition = sessions) =>
    new RpcClient<S>(definition, `127.0.0.1:${port}`, mutualClientCredentials(await make(role), 'mover'));
  return {
    clientFor,
    port,
    authority,
    [Symbol.dispose]: () => server.forceShutdown(),
  };
}

describe('serve and call', () => {
  it('carry a typed error with code, meta, advice and correlation id', async () => {
    using at = await fixture({
      GetSession: {
        roles: ['host'],
        unary: async () => {
          throw CommonErrors.OPERATION_NOT_FOUND({ operationId: 'abc' });
        },
      },
    });
    const client = await at.clientFor<SessionServiceDefinition>('host');
    await expect(client.call('GetSession', { sessionId: '1' }, { deadlineMs })).rejects.toMatchObject({
      code: 'OPERATION_NOT_FOUND',
      kind: 'failure',
      retry: 'never',
      status: 'NOT_FOUND',
      meta: { operationId: 'abc' },
      correlationId: expect.stringMatching(/^[\w-]+$/),
    });
    client.close();
  });

  it('answer a rejected promise and a foreign numeric code as INTERNAL, without its text', async () => {
    using at = await fixture({
      GetSession: {
        roles: ['host'],
        unary: async () => {
          await promisify(execFile)('sh', ['-c', 'exit 1']);
          return {};
        },
      },
    });
    const client = await at.clientFor<SessionServiceDefinition>('host');
    const failure = await client.call('GetSession', { sessionId: '1' }, { deadlineMs }).catch((e: unknown) => e);
    expect(failure).toMatchObject({ code: 'INTERNAL', kind: 'bug', status: 'INTERNAL' });
    expect(String((failure as Error).message)).not.toContain('sh');
    expect(logged.some((line) => line.text === 'call failed by a defect')).toBe(true);
    client.close();
  });

  it('end a call at its deadline and tell the handler', async () => {
    let [asked, told] = [0, 0];
    using at = await fixture({
      GetSession: {
        roles: ['host'],
        unary: (_request, context) =>
          new Promise((_resolve, reject) => {
            asked += 1;
            context.signal.addEventListener('abort', () => {
              told += 1;
              reject(context.signal.reason as Error);
            });
          }),
      },
    });
    const client = await at.clientFor<SessionServiceDefinition>('host');
    // On a machine that stalls a call may be over before it got there.
    for (let ms = 200; asked === 0; ms *= 2)
      await expect(client.call('GetSession', { sessionId: '1' }, { deadlineMs: ms })).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' });
    for (const end = Date.now() + deadlineMs; told < asked && Date.now() < end;) await sleep(10);
    expect(told).toBe(asked);
    client.close();
  });

  it.each([undefined, 0, -1, Number.NaN, Number.POSITIVE_INFINITY])('refuse a call whose deadline is %s', async (bad) => {
    using at = await fixture({});
    const client = await at.clientFor<SessionServiceDefinition>('host');
    await expect(client.call('GetSession', {}, { deadlineMs: bad } as never)).rejects.toThrow('needs a deadline');
    client.close();
  });

  it('refuse a role that the method does not name', async () => {
    using at = await fixture({});
    const client = await at.clientFor<SessionServiceDefinition>('worker');
    await expect(client.call('GetSession', { sessionId: '1' }, { deadlineMs })).rejects.toMatchObject({
      code: 'ROLE_NOT_ALLOWED',
      meta: { role: 'worker' },
    });
    client.close();
  });

  it('refuse a server of another role and a client of another CA', async () => {
    using at = await fixture({});
    const own = new ProcessIdentity(await issueIdentity(at.authority, { role: 'host', id: 'h' }, []), undefined);
    const wrongServer = new RpcClient<SessionServiceDefinition>(sessions, `127.0.0.1:${at.port}`, mutualClientCredentials(own, 'plugin'));
    await expect(wrongServer.call('GetSession', {}, { deadlineMs })).rejects.toMatchObject({ status: 'UNAVAILABLE' });
    wrongServer.close();
    const foreign = await createAuthority('foreign');
    const stranger = new ProcessIdentity(
      { ...(await issueIdentity(foreign, { role: 'host', id: 'h' }, [])), trustBundlePem: at.authority.certificatePem },
      undefined,
    );
    const client = new RpcClient<SessionServiceDefinition>(sessions, `127.0.0.1:${at.port}`, mutualClientCredentials(stranger, 'mover'));
    await expect(client.call('GetSession', {}, { deadlineMs })).rejects.toMatchObject({
      status: expect.stringMatching(/UNAVAILABLE|DEADLINE/),
    });
    client.close();
  });

  it('repeat a call only on advice', async () => {
    let calls = 0;
    using at = await fixture({
      GetSession: {
        roles: ['host'],
        unary: async () => {
          calls += 1;
          if (calls < 3) throw CommonErrors.HOST_NOT_READY({});
          return { pointId: 'p' };
        },
      },
      RenewSession: {
        roles: ['host'],
        unary: async () => {
          calls += 1;
          throw CommonErrors.OPERATION_NOT_FOUND({ operationId: '1' });
        },
      },
    });
    const client = await at.clientFor<SessionServiceDefinition>('host');
    await expect(client.call('GetSession', {}, { deadlineMs, attempts: 3 })).resolves.toMatchObject({ pointId: 'p' });
    calls = 0;
    await expect(client.call('RenewSession', {}, { deadlineMs, attempts: 3 })).rejects.toMatchObject({ code: 'OPERATION_NOT_FOUND' });
    expect(calls).toBe(1);
    client.close();
  });

  it('stream replies, errors and a silent end', async () => {
    using at = await fixture({});
    const client = await at.clientFor<RepositoryServiceDefinition>('host', repositories);
    const read = async (vmId: string, idleTimeoutMs: number) => {
      const ids: string[] = [];
      for await (const reply of client.stream('ListPoints', { vmId }, { idleTimeoutMs })) ids.push(reply.damaged?.pointId ?? '');
      return ids;
    };
    await expect(read('fine', deadlineMs)).resolves.toEqual(['0', '1', '2']);
    await expect(read('fails', deadlineMs)).rejects.toMatchObject({ code: 'OPERATION_NOT_FOUND' });
    await expect(read('silent', 300)).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' });
    client.close();
  });

  it('keep nothing of what was sent while a stream is open', async () => {
    using at = await fixture({});
    v8.setFlagsFromString('--expose-gc');
    const collectGarbage = vm.runInNewContext('gc') as () => void;
    let release = () => {};
    held.now = new Promise<void>((resolve) => (release = resolve));
    const client = await at.clientFor<RepositoryServiceDefinition>('host', repositories);
    let seen = 0;
    for await (const _ of client.stream('ListPoints', { repositoryId: 'r', vmId: 'many' }, { idleTimeoutMs: deadlineMs })) {
      seen += 1;
      if (seen < 3 + many) continue;
      for (const end = Date.now() + deadlineMs; collectedCount < many * 0.9 && Date.now() < end; await sleep(10)) collectGarbage();
      release();
    }
    expect(collectedCount).toBeGreaterThan(many * 0.9);
    client.close();
  });

  it('carry both directions of a stream', async () => {
    using at = await fixture({});
    const client = await at.clientFor<WorkerServiceDefinition>('worker', workers);
    const duplex = client.duplex('Connect', { idleTimeoutMs: deadlineMs });
    await duplex.send({ heartbeat: { residentMemoryBytes: '1' } });
    await duplex.send({ heartbeat: { residentMemoryBytes: '2' } });
    duplex.endSending();
    const tasks: string[] = [];
    for await (const reply of duplex.replies) tasks.push(reply.cancelTask?.taskId ?? '');
    expect(tasks).toEqual(['heartbeat', 'heartbeat']);
    client.close();
  });

  it('carry an error that a handler throws while it reads a stream', async () => {
    using at = await fixture({});
    const client = await at.clientFor<WorkerServiceDefinition>('worker', workers);
    const duplex = client.duplex('Connect', { idleTimeoutMs: deadlineMs });
    await duplex.send({ drained: {} });
    const read = async () => {
      for await (const _reply of duplex.replies) throw new TypeError('nothing is answered');
    };
    await expect(read()).rejects.toMatchObject({ code: 'LEASE_LOST' });
    client.close();
  });

  it('follow a renewed certificate without a new server', async () => {
    using at = await fixture({});
    const before = serverIdentity.certificate.serialNumber;
    serverIdentity.replace(await issueIdentity(at.authority, { role: 'mover', id: 'mover-1' }, ['127.0.0.1']));
    expect(serverIdentity.certificate.serialNumber).not.toBe(before);
    const client = await at.clientFor<SessionServiceDefinition>('host');
    await expect(client.call('GetSession', {}, { deadlineMs })).resolves.toBeDefined();
    client.close();
  });
});
