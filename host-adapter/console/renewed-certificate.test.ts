import https from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import fastify from 'fastify';
import { createAuthority, issueIdentity } from '../../common/tls/authority';
import { ProcessIdentity } from '../../common/tls/identity';
import { showRenewedCertificate } from './renewed-certificate';

async function fixture() {
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
  const stop = showRenewedCertificate(app, own);
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

const closed = (socket: TLSSocket) =>
  new Promise<void>((resolve) => (socket.destroyed ? resolve() : socket.once('close', () => resolve())));

describe('the certificate of the console', () => {
  it('is kept by a connection until it is renewed, and then by none that waits', async () => {
    await using at = await fixture();
    const first = await at.get('/quick');
    const second = await at.get('/quick');
    expect(second.socket).toBe(first.socket);
    await at.renew();
    await closed(first.socket);
    const third = await at.get('/quick');
    expect([third.text, third.serial]).toEqual(['quick', at.own.certificate.serialNumber]);
    expect(third.serial).not.toBe(first.serial);
  });

  it('does not break off an answer under way; its connection ends with it', async () => {
    await using at = await fixture();
    const slow = at.get('/slow');
    while (at.gates.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    await at.renew();
    at.gates[0]?.();
    const { text, socket, serial } = await slow;
    expect(text).toBe('slow');
    expect(serial).not.toBe(at.own.certificate.serialNumber);
    await closed(socket);
    expect((await at.get('/quick')).serial).toBe(at.own.certificate.serialNumber);
  });
});
