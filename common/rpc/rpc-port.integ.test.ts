/** What hangs, floods or says nothing on a port with gRPC services: bounded in number and time, told in the log, and nobody else is kept out. */
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import tls from 'node:tls';
import { Server } from '@grpc/grpc-js';
import { loadService } from '../../proto/loader';
import type { HealthDefinition } from '../../proto/gen/grpc/health/v1/Health';
import { loggerTo } from '../log/logger';
import type { LogFields } from '../log/logger';
import { createAuthority, issueIdentity } from '../tls/authority';
import type { Authority } from '../tls/authority';
import { mutualClientCredentials, trustedClientCredentials } from '../tls/credentials';
import { ProcessIdentity } from '../tls/identity';
import { RpcClient } from './call';
import { serveHealth } from './health-service';
import type { Role } from './peer';
import { RpcPort, strangersServerOptions } from './rpc-port';
import type { RpcPortLimits } from './rpc-port';

const health = loadService('grpc/health/v1/health.proto', 'grpc.health.v1.Health').service;
let authority: Authority;

async function identity(role: Role): Promise<ProcessIdentity> {
  return new ProcessIdentity(await issueIdentity(authority, { role, id: `${role}-1` }, ['127.0.0.1']), undefined);
}

/** A port with the health service, and whoever comes to it. */
class At implements AsyncDisposable {
  readonly logged: { text: string; fields: LogFields }[] = [];
  private readonly sockets: net.Socket[] = [];
  private readonly clients: RpcClient<HealthDefinition>[] = [];
  private readonly server: Server;
  port!: RpcPort;

  private constructor(private readonly admits: 'ours' | 'strangers') {
    this.server = new Server(admits === 'strangers' ? strangersServerOptions : {});
    const logger = loggerTo(() => undefined);
    serveHealth(this.server, admits === 'ours' ? ['host'] : 'anyone', { logger, domain: 'test' });
  }

  static async open(admits: 'ours' | 'strangers', limits: Partial<RpcPortLimits>): Promise<At> {
    const at = new At(admits);
    const logger = loggerTo((_level, text, fields) => at.logged.push({ text, fields }));
    at.port = await RpcPort.open(at.server, await identity('mover'), { address: '127.0.0.1', port: 0, admits, limits }, logger);
    return at;
  }

  /** TCP and nothing else; with `tlsOptions` past the handshake. */
  async dial(tlsOptions?: tls.ConnectionOptions): Promise<net.Socket & { wasClosed: Promise<void> }> {
    const where = { host: '127.0.0.1', port: this.port.port };
    const socket = tlsOptions
      ? tls.connect({ ...where, ca: authority.certificatePem, ALPNProtocols: ['h2'], ...tlsOptions })
      : net.connect(where);
    this.sockets.push(socket);
    socket.on('error', () => undefined);
    // Else nobody sees its end.
    socket.resume();
    const wasClosed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
    await Promise.race([new Promise((resolve) => socket.once(tlsOptions ? 'secureConnect' : 'connect', resolve)), wasClosed]);
    return Object.assign(socket, { wasClosed });
  }

  /** One call of a peer who may; where a handshake may take a second or two, a machine that stalls may need another try. */
  async call(): Promise<string | undefined> {
    const credentials =
      this.admits === 'ours'
        ? mutualClientCredentials(await identity('host'), 'mover')
        : trustedClientCredentials(authority.certificatePem, 'mover');
    const client = new RpcClient<HealthDefinition>(health, `127.0.0.1:${this.port.port}`, credentials);
    this.clients.push(client);
    return (await client.call('Check', {}, { deadlineMs: 120_000, attempts: 10 })).status;
  }

  codes(): Set<unknown> {
    return new Set(this.logged.filter(({ text }) => text === 'connection refused').map(({ fields }) => fields['code']));
  }

  async until(what: string, holds: () => boolean): Promise<void> {
    for (const end = Date.now() + 120_000; !holds(); await sleep(20))
      if (Date.now() > end) throw new Error(`not seen: ${what}; ${JSON.stringify([this.port.load, ...this.logged])}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.clients) client.close();
    for (const socket of this.sockets) socket.destroy();
    this.port.close();
    await new Promise<void>((resolve) => this.server.tryShutdown(() => resolve()));
  }
}

beforeAll(async () => {
  authority = await createAuthority('test');
});

it('ends handshakes that hang, with a line in the log, and answers others meanwhile', async () => {
  await using at = await At.open('ours', { handshakeMs: 2_000 });
  const silent = await at.dial();
  const slow = await at.dial();
  // A ClientHello of 512 bytes that never comes whole.
  slow.write(Buffer.from([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]));
  const drip = setInterval(() => slow.write(Buffer.from([0])), 50);
  expect(await at.call()).toBe('SERVING');
  await Promise.all([silent.wasClosed, slow.wasClosed]);
  clearInterval(drip);
  await at.until('no handshake is left', () => at.port.load.handshakes === 0);
  const reasons = at.logged.map(({ fields }) => fields['reason']);
  expect(reasons).toContain('ERR_TLS_HANDSHAKE_TIMEOUT');
});

it('of many handshakes that hang keeps the newest, and lets peers of ours in', async () => {
  await using at = await At.open('ours', { handshakes: 8, handshakeMs: 600_000 });
  const many = [];
  for (let i = 0; i < 40; i++) many.push(await at.dial());
  await Promise.all(many.slice(0, 32).map(({ wasClosed }) => wasClosed));
  expect(at.port.load.handshakes).toBeLessThanOrEqual(8);
  expect(await at.call()).toBe('SERVING');
  expect(at.codes()).toContain('TOO_MANY_HANDSHAKES');
});

it('refuses peers of ours beyond the limit, and not those that are there', async () => {
  await using at = await At.open('ours', { connections: 2 });
  const { certificateChainPem: cert, privateKeyPem: key } = (await identity('worker')).material;
  expect(await at.call()).toBe('SERVING');
  const idle = await at.dial({ cert, key });
  await at.until('both are in', () => at.port.load.connections === 2);
  await (
    await at.dial({ cert, key })
  ).wasClosed;
  expect(at.codes()).toContain('TOO_MANY_CONNECTIONS');
  idle.destroy();
  await at.until('there is room', () => at.port.load.connections < 2);
  expect(await at.call()).toBe('SERVING');
});

it('lets nobody in without a certificate, a role or HTTP/2', async () => {
  await using at = await At.open('ours', {});
  await (
    await at.dial({})
  ).wasClosed;
  const { certificateChainPem: cert, privateKeyPem: key } = (await identity('host')).material;
  await (
    await at.dial({ cert, key, ALPNProtocols: [] })
  ).wasClosed;
  const stranger = await issueIdentity(await createAuthority('other'), { role: 'host', id: 'host-1' }, ['127.0.0.1']);
  await (
    await at.dial({ cert: stranger.certificateChainPem, key: stranger.privateKeyPem })
  ).wasClosed;
  await at.until('a line', () => at.codes().has('HANDSHAKE'));
  const client = new RpcClient<HealthDefinition>(
    health,
    `127.0.0.1:${at.port.port}`,
    mutualClientCredentials(await identity('worker'), 'mover'),
  );
  await expect(client.call('Check', {}, { deadlineMs: 120_000, attempts: 10 })).rejects.toMatchObject({ code: 'ROLE_NOT_ALLOWED' });
  client.close();
  await at.until('no handshake is left', () => at.port.load.handshakes === 0);
});

it('of strangers on an enrolment port the oldest goes first', async () => {
  await using at = await At.open('strangers', { connections: 3, strangerMs: 600_000 });
  const silent = [];
  for (let i = 0; i < 5; i++) silent.push(await at.dial({}));
  await Promise.all(silent.slice(0, 2).map(({ wasClosed }) => wasClosed));
  expect(await at.call()).toBe('SERVING');
  expect(at.codes()).toContain('TOO_MANY_CONNECTIONS');
});

it('no stranger stays on an enrolment port longer than its time', async () => {
  await using at = await At.open('strangers', { strangerMs: 1_000 });
  const silent = [];
  for (let i = 0; i < 3; i++) silent.push(await at.dial({}));
  await Promise.all(silent.map(({ wasClosed }) => wasClosed));
  await at.until('all are gone', () => at.port.load.connections === 0);
  expect(at.codes()).toContain('TOO_LONG');
});
