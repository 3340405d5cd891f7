/** After a renewal at either end no connection shows an old certificate for longer than the bound, while calls under way are answered. */
import { Server } from '@grpc/grpc-js';
import type { ServerUnaryCall, ServerWritableStream, sendUnaryData } from '@grpc/grpc-js';
import net from 'node:net';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { loadService } from '../../proto/loader';
import type { RepositoryServiceDefinition } from '../../proto/gen/tidemark/mover/v1/RepositoryService';
import { RpcClient } from '../rpc/call';
import { loggerTo } from '../log/logger';
import { RpcPort } from '../rpc/rpc-port';
import { createAuthority, issueIdentity } from './authority';
import type { Authority } from './authority';
import { mutualClientCredentials } from './credentials';
import { ProcessIdentity } from './identity';

const { service } = loadService('tidemark/mover/v1/repository_service.proto', 'tidemark.mover.v1.RepositoryService');
/** Of connections that end by their time. */
const drainMs = 1_500;
/** Of those that end because of something else. */
const longMs = 600_000;
const deadlineMs = 120_000;

let authority: Authority;
const material = (role: 'host' | 'mover') => issueIdentity(authority, { role, id: `${role}-1` }, ['127.0.0.1']);
const make = async (role: 'host' | 'mover') => new ProcessIdentity(await material(role), undefined);
const shown = (identity: ProcessIdentity) => identity.certificate.serialNumber;

/** A server that tells callers which certificate it sees, a client, and a relay between them that sees connections come and go. */
async function fixture(drainMs: number) {
  const own = await make('mover');
  const peer = await make('host');
  const server = new Server();
  const gates: (() => void)[] = [];
  const handlers = Object.fromEntries(Object.keys(service).map((name) => [name, () => undefined as never]));
  server.addService(service, {
    ...handlers,
    /** The serial of the caller's certificate, as the address; `slow` ones wait to be let go. */
    GetPoint: (call: ServerUnaryCall<{ pointId: string }, unknown>, done: sendUnaryData<unknown>) => {
      const answer = () => done(null, { point: { pointId: serialOf(call) } });
      if (call.request.pointId === 'slow') gates.push(answer);
      else answer();
    },
    /** A stream that tells it once and then never ends. */
    WatchVerify: (call: ServerWritableStream<unknown, unknown>) => void call.write({ progress: { checkedBytes: '1' } }),
  });
  const options = { address: '127.0.0.1', port: 0, admits: 'ours', limits: { drainMs } } as const;
  const opened = await RpcPort.open(
    server,
    own,
    options,
    loggerTo(() => undefined),
  );
  const open = new Set<net.Socket>();
  const relay = net.createServer((socket) => {
    const onward = net.connect(opened.port, '127.0.0.1');
    open.add(socket);
    const end = () => {
      open.delete(socket);
      socket.destroy();
      onward.destroy();
    };
    for (const one of [socket, onward]) one.on('error', end).on('close', end);
    socket.pipe(onward).pipe(socket);
  });
  await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve));
  const endpoint = `127.0.0.1:${(relay.address() as AddressInfo).port}`;
  // Shared by two clients, as the host's clients of one process share them.
  const credentials = mutualClientCredentials(peer, 'mover', drainMs);
  const clients = [0, 1].map(() => new RpcClient<RepositoryServiceDefinition>(service, endpoint, credentials));
  const [client, other] = clients as [RpcClient<RepositoryServiceDefinition>, RpcClient<RepositoryServiceDefinition>];
  return {
    own,
    peer,
    client,
    other,
    open,
    gates,
    /** Serial of the client's certificate as the server sees it. */
    seen: async (by = client) => (await by.call('GetPoint', { pointId: 'x' }, { deadlineMs })).point?.pointId,
    [Symbol.asyncDispose]: async () => {
      for (const one of clients) one.close();
      opened.close();
      server.forceShutdown();
      await new Promise((resolve) => relay.close(resolve));
    },
  };
}

function serialOf(call: { getAuthContext(): { sslPeerCertificate?: { serialNumber: string } } }): string {
  return call.getAuthContext().sslPeerCertificate?.serialNumber ?? '';
}

async function gone(sockets: Iterable<net.Socket>, open: ReadonlySet<net.Socket>, withinMs = 120_000): Promise<void> {
  const watched = [...sockets];
  const until = Date.now() + withinMs;
  while (watched.some((socket) => open.has(socket))) {
    if (Date.now() > until) throw new Error(`${watched.filter((socket) => open.has(socket)).length} old connections are still open`);
    await sleep(20);
  }
}

describe('drain', () => {
  beforeAll(async () => {
    authority = await createAuthority('test');
  });

  it.each(['client', 'server'] as const)('lets the %s show its new certificate, and an idle connection go at once', async (end) => {
    await using at = await fixture(longMs);
    await at.seen();
    await at.seen(at.other);
    const before = [...at.open];
    expect(before).toHaveLength(1);
    const renewed = end === 'client' ? at.peer : at.own;
    const old = shown(renewed);
    renewed.replace(await material(end === 'client' ? 'host' : 'mover'));
    expect(shown(renewed)).not.toBe(old);
    await gone(before, at.open);
    for (const one of [at.client, at.other]) expect(await at.seen(one)).toBe(shown(at.peer));
    expect(at.open.size).toBe(1);
  });

  it.each(['client', 'server'] as const)('of the %s waits for a call under way, and takes new ones on a new connection', async (end) => {
    await using at = await fixture(longMs);
    const slow = at.client.call('GetPoint', { pointId: 'slow' }, { deadlineMs });
    while (at.gates.length === 0) await sleep(10);
    const oldSerial = shown(at.peer);
    const before = [...at.open];
    (end === 'client' ? at.peer : at.own).replace(await material(end === 'client' ? 'host' : 'mover'));
    expect(await at.seen()).toBe(shown(at.peer));
    expect(at.open.size).toBe(2);
    at.gates[0]?.();
    expect((await slow).point?.pointId).toBe(oldSerial);
    await gone(before, at.open);
  });

  it.each(['client', 'server'] as const)(
    'of the %s cuts a stream when its time is up; the caller hears that its peer is away',
    async (end) => {
      await using at = await fixture(drainMs);
      const began = at.client.stream('WatchVerify', { operationId: 'x' }, { idleTimeoutMs: deadlineMs });
      expect((await began.next()).value).toMatchObject({ progress: { checkedBytes: '1' } });
      const before = [...at.open];
      const since = Date.now();
      (end === 'client' ? at.peer : at.own).replace(await material(end === 'client' ? 'host' : 'mover'));
      await expect(began.next()).rejects.toMatchObject({ code: 'PEER_UNAVAILABLE', retry: 'same-request' });
      expect(Date.now() - since).toBeGreaterThanOrEqual(drainMs - 50);
      await gone(before, at.open);
      // And opens it again, with the certificate of now.
      const again = at.client.stream('WatchVerify', { operationId: 'x' }, { idleTimeoutMs: deadlineMs });
      expect((await again.next()).done).toBe(false);
      await again.return();
      expect(await at.seen()).toBe(shown(at.peer));
    },
  );

  it('follows renewals that come one upon the other', async () => {
    await using at = await fixture(drainMs);
    const streams = [];
    for (let round = 0; round < 4; round += 1) {
      const stream = at.client.stream('WatchVerify', { operationId: 'x' }, { idleTimeoutMs: deadlineMs });
      await stream.next();
      streams.push(stream);
      at.peer.replace(await material('host'));
      if (round % 2 === 1) at.own.replace(await material('mover'));
    }
    const before = [...at.open];
    for (const stream of streams) await expect(stream.next()).rejects.toMatchObject({ code: 'PEER_UNAVAILABLE' });
    await gone(before, at.open);
    expect(await at.seen()).toBe(shown(at.peer));
  });

  it('ends with a client that is closed while old connections are drained', async () => {
    await using at = await fixture(longMs);
    const stream = at.client.stream('WatchVerify', { operationId: 'x' }, { idleTimeoutMs: deadlineMs });
    await stream.next();
    at.peer.replace(await material('host'));
    at.client.close();
    await stream.return();
    await gone([...at.open], at.open);
  });
});
