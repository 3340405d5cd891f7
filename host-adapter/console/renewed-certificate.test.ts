import https from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import fastify from 'fastify';
import { createAuthority, issueIdentity } from '../../common/tls/authority';
import { ProcessIdentity } from '../../common/tls/identity';
import { showRenewedCertificate } from './renewed-certificate';

async function fixture(drainMs: number) {
  const authority = await createAuthority('test');
  const issue = () => issueIdentity(authority, { role: 'host', id: 'h' }, ['127.0.0.1']);
  const own = new ProcessIdentity(await issue(), undefined);
  const { privateKeyPem: key, certificateChainPem: cert } = own.material;
  const app = fastify({ https: { key, cert }, forceCloseConnections: true, keepAliveTimeout: 60_000 });
  const gates: (() => void)[] = [];
  app.get('/quick', async () => 'quick');
  app.get('/slow', async () => {
    await new Promise<void>((resolve) => gates.push(resolve));
    return 'slow';
  });
  const stop = showRenewedCertificate(app, own, drainMs);
  await app.listen({ host: '127.0.0.1', port: 0 });
  const { port } = app.server.address() as AddressInfo;
  const agent = new https.Agent({ keepAlive: true, ca: authority.certificatePem, maxCachedSessions: 0 });
  const get = (path: string) =>
    new Promise<{ text: string; socket: TLSSocket; serial: string }>((resolve, reject) => {
      https
        .get({ host: '127.0.0.1', port, path, agent }, (answer) => {
          const socket = answer.socket as TLSSocket;
          const serial = socket.getPeerCertificate().serialNumber;
          let text = '';
          answer.on('data', (chunk: Buffer) => (text += chunk.toString())).on('end', () => resolve({ text, socket, serial }));
        })
        .on('error', reject);
    });
  return {
    own,
    gates,
    get,
    renew: async () => own.replace(await issue()),
    [Symbol.asyncDispose]: async () => {
      stop();
      agent.destroy();
      await app.close();
    },
  };
}

const pause = (delayMs: number) => new Promise<void>((resolve) => setTimeout(resolve, delayMs));
const closed = (socket: TLSSocket) =>
  new Promise<void>((resolve) => (socket.destroyed ? resolve() : socket.once('close', () => resolve())));

describe('the certificate of the console', () => {
  it('is new on new connections at once; an old one goes on for a while, then ends with an answer', async () => {
    const drainMs = 1_500;
    await using at = await fixture(drainMs);
    const first = await at.get('/quick');
    // Under way before, so that a machine that stalls cannot end the connection meanwhile.
    const slow = at.get('/slow');
    while (at.gates.length === 0) await pause(5);
    await at.renew();
    // The old connection is taken, so this is a new one.
    const beside = await at.get('/quick');
    expect(beside.serial).toBe(at.own.certificate.serialNumber);
    expect(beside.serial).not.toBe(first.serial);
    await pause(drainMs + 200);
    at.gates[0]?.();
    const last = await slow;
    expect([last.text, last.socket]).toEqual(['slow', first.socket]);
    await closed(first.socket);
    const after = await at.get('/quick');
    expect(after.socket).toBe(beside.socket);
    expect(after.socket.destroyed).toBe(false);
  });

  it('stays on a connection whose time is not up', async () => {
    await using at = await fixture(600_000);
    const first = await at.get('/quick');
    await at.renew();
    const second = await at.get('/quick');
    expect(second.socket).toBe(first.socket);
    const third = await at.get('/quick');
    expect(third.socket).toBe(first.socket);
  });
});
