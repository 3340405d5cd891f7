/** That certificates of an old and a new CA are verified by whoever trusts either: by OpenSSL in Node, by grpc-js and by undici. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import https from 'node:https';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { Server } from '@grpc/grpc-js';
import { Agent, request } from 'undici';
import { loadService } from '../../proto/loader';
import type { CertificateServiceDefinition } from '../../proto/gen/tidemark/host/v1/CertificateService';
import type { EnrolmentServiceDefinition } from '../../proto/gen/tidemark/host/v1/EnrolmentService';
import { loggerTo } from '../log/logger';
import { RpcClient } from '../rpc/call';
import { serve } from '../rpc/serve';
import { ownLoopback } from '../testing/loopback';
import { createAuthority, crossSign, issueIdentity } from './authority';
import type { Authority } from './authority';
import { enrolmentServerCredentials, mutualClientCredentials, mutualServerCredentials, roleCheck } from './credentials';
import { diagnoseCertificates } from './diagnose';
import { enrol, fetchAuthorities } from './enrolment';
import { ProcessIdentity } from './identity';
import type { IdentityMaterial } from './identity';
import { vouchedFor } from './pinned-authority';
import { createToken, fingerprintOf } from './token';

const options = { logger: loggerTo(() => undefined), domain: 'host' };
const addresses = ['127.0.0.1', ownLoopback, 'localhost'];

describe('a CA that takes the place of another', () => {
  let older: Authority;
  let newer: Authority;
  let both: string;
  beforeAll(async () => {
    older = await createAuthority('CA 1');
    const made = await createAuthority('CA 2');
    newer = { ...made, crossCertificatePem: await crossSign(older, made) };
    both = `${newer.certificatePem}\n${older.certificatePem}\n`;
  });

  const material = async (authority: Authority, role: 'host' | 'mover' | 'worker', trust: string): Promise<IdentityMaterial> => ({
    ...(await issueIdentity(authority, { role, id: `${role}-1` }, addresses)),
    trustBundlePem: trust,
  });
  /** Which CA issued, which are trusted: every stage that a peer may be in. */
  const stages = () => ({
    'before the rotation': { issuer: older, trust: `${older.certificatePem}\n` },
    'new bundle, old certificate': { issuer: older, trust: both },
    'new bundle, new certificate': { issuer: newer, trust: both },
  });
  type Stage = keyof ReturnType<typeof stages>;
  const names: Stage[] = ['before the rotation', 'new bundle, old certificate', 'new bundle, new certificate'];
  const pairs = names.flatMap((server) => names.map((client) => [server, client] as const));

  it.each(pairs)('data port: a mover %s serves a worker %s', async (serverStage, clientStage) => {
    const serverSide = await material(stages()[serverStage].issuer, 'mover', stages()[serverStage].trust);
    const clientSide = await material(stages()[clientStage].issuer, 'worker', stages()[clientStage].trust);
    const server = tls.createServer({
      ...contextOf(serverSide),
      minVersion: 'TLSv1.3',
      requestCert: true,
      rejectUnauthorized: true,
    });
    const seen = new Promise<string>((resolve, reject) => {
      server.once('secureConnection', (socket) => {
        resolve(socket.getPeerCertificate().subjectaltname ?? '');
        socket.end('x');
      });
      server.once('tlsClientError', reject);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const socket = tls.connect({
      ...contextOf(clientSide),
      port: (server.address() as AddressInfo).port,
      host: '127.0.0.1',
      minVersion: 'TLSv1.3',
      checkServerIdentity: roleCheck('mover'),
    });
    socket.resume();
    await once(socket, 'close');
    expect(await seen).toContain('tidemark:worker:worker-1');
    server.close();
  });

  it.each(['before the rotation', 'new bundle, old certificate', 'new bundle, new certificate'] as const)(
    'gRPC: a server that goes through all stages serves a client %s',
    async (clientStage) => {
      const identity = new ProcessIdentity(await material(older, 'host', older.certificatePem), undefined);
      const { server, endpoint } = await certificateServer(identity);
      const clientSide = new ProcessIdentity(await material(stages()[clientStage].issuer, 'mover', stages()[clientStage].trust), undefined);
      for (const stage of names) {
        identity.replace(await material(stages()[stage].issuer, 'host', stages()[stage].trust));
        const client = certificateClient(endpoint, clientSide);
        expect((await client.call('GetTrustBundle', {}, { deadlineMs: 60_000 })).trustBundlePem).toBe(stages()[stage].trust);
        client.close();
      }
      server.forceShutdown();
    },
  );

  it('gRPC: an open connection goes on through the rotation, also when the old CA is dropped', async () => {
    const identity = new ProcessIdentity(await material(older, 'host', older.certificatePem), undefined);
    const { server, endpoint } = await certificateServer(identity);
    const peer = new ProcessIdentity(await material(older, 'mover', older.certificatePem), undefined);
    const client = certificateClient(endpoint, peer);
    await client.call('GetTrustBundle', {}, { deadlineMs: 60_000 });
    identity.replace(await material({ ...newer, crossCertificatePem: undefined }, 'host', newer.certificatePem));
    expect((await client.call('GetTrustBundle', {}, { deadlineMs: 60_000 })).trustBundlePem).toBe(newer.certificatePem);
    // The same client, told of the new CA, can also connect anew.
    peer.replace(await material(newer, 'mover', newer.certificatePem));
    await new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
    const again = await certificateServer(identity, Number(endpoint.split(':')[1]));
    const reply = await client.call('GetTrustBundle', {}, { deadlineMs: 60_000, attempts: 5 });
    expect(reply.trustBundlePem).toBe(newer.certificatePem);
    client.close();
    again.server.forceShutdown();
  });

  it('refuses the old certificate once the old CA is dropped, and says that this is for enrolling anew', async () => {
    const identity = new ProcessIdentity(await material(newer, 'host', newer.certificatePem), undefined);
    const { server, endpoint } = await certificateServer(identity);
    const hangsUp = 'it hangs up when it sees our certificate';
    const refused = async (who: IdentityMaterial, why: string) => {
      const late = new ProcessIdentity(who, undefined);
      const client = certificateClient(endpoint, late);
      await expect(client.call('GetTrustBundle', {}, { deadlineMs: 60_000 })).rejects.toMatchObject({ code: 'PEER_UNAVAILABLE' });
      client.close();
      expect(await diagnoseCertificates(endpoint, late, 60_000)).toMatchObject({ code: 'CERTIFICATE_NOT_ACCEPTED', meta: { why } });
    };
    // Knows the new CA by the bundle, but slept through the re-issue.
    await refused(await material(older, 'mover', both), hangsUp);
    // Knows nothing of it.
    identity.replace(await material({ ...newer, crossCertificatePem: undefined }, 'host', newer.certificatePem));
    await refused(await material(older, 'mover', older.certificatePem), 'SELF_SIGNED_CERT_IN_CHAIN');
    const expired = await issueIdentity(newer, { role: 'mover', id: 'm' }, [], -60_000);
    await refused(expired, hangsUp);
    const fine = new ProcessIdentity(await material(newer, 'mover', newer.certificatePem), undefined);
    expect(await diagnoseCertificates(endpoint, fine, 60_000)).toBeUndefined();
    expect(await diagnoseCertificates('127.0.0.1:1', fine)).toBeUndefined();
    server.forceShutdown();
  });

  it('undici: whoever pinned the old CA, the new one or both reaches a console of each stage', async () => {
    for (const stage of names) {
      const { certificateChainPem: cert, privateKeyPem: key } = await material(stages()[stage].issuer, 'host', stages()[stage].trust);
      const server = https.createServer({ cert, key }, (_request, response) => response.end('ok'));
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const pins = stages()[stage].issuer === older ? [older.certificatePem, both] : [older.certificatePem, newer.certificatePem, both];
      for (const ca of pins) {
        const dispatcher = new Agent({ connect: { ca } });
        const answer = await request(`https://127.0.0.1:${(server.address() as AddressInfo).port}/`, { dispatcher });
        expect(await answer.body.text()).toBe('ok');
        await dispatcher.destroy();
      }
      server.close();
    }
  });

  it('lets a stranger enrol with a token that pins either CA', async () => {
    for (const stage of names.slice(1)) {
      const identity = new ProcessIdentity(await material(stages()[stage].issuer, 'host', stages()[stage].trust), undefined);
      const { server, endpoint } = await enrolmentServer(identity, stages()[stage].issuer);
      const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-rotation-'));
      const pins = stages()[stage].issuer === older ? [older] : [older, newer];
      for (const pinned of pins) {
        const made = await enrol({
          endpoint,
          token: createToken(pinned.certificatePem),
          server: 'host',
          process: {},
          addresses: [],
          identityFolder: folder,
          apply: async (credentials, application) => {
            const client = new RpcClient<EnrolmentServiceDefinition>(enrolmentService, endpoint, credentials);
            return (await client.call('Enrol', { application }, { deadlineMs: 60_000 })).certificate;
          },
        });
        expect(made.self.role).toBe('host');
      }
      const foreign = await createAuthority('foreign');
      expect(vouchedFor(fingerprintOf(foreign.certificatePem), await fetchAuthorities(endpoint))).toEqual([]);
      fs.rmSync(folder, { recursive: true });
      server.forceShutdown();
    }
  });
});

const v1 = 'tidemark/host/v1';
const certificateService = loadService(`${v1}/certificate_service.proto`, 'tidemark.host.v1.CertificateService').service;
const enrolmentService = loadService(`${v1}/enrolment_service.proto`, 'tidemark.host.v1.EnrolmentService').service;

function contextOf({ certificateChainPem: cert, privateKeyPem: key, trustBundlePem: ca }: IdentityMaterial) {
  return { cert, key, ca };
}

async function certificateServer(identity: ProcessIdentity, port = 0) {
  const server = new Server();
  serve<CertificateServiceDefinition>(
    server,
    certificateService,
    {
      RenewCertificate: { roles: ['mover'], unary: async () => ({}) },
      GetTrustBundle: { roles: ['mover'], unary: async () => ({ trustBundlePem: identity.material.trustBundlePem }) },
    },
    options,
  );
  return { server, endpoint: await bind(server, port, mutualServerCredentials(identity)) };
}

async function enrolmentServer(identity: ProcessIdentity, authority: Authority) {
  const server = new Server();
  serve<EnrolmentServiceDefinition>(
    server,
    enrolmentService,
    {
      Enrol: {
        roles: 'anyone',
        unary: async () => ({ certificate: await issueIdentity(authority, { role: 'host', id: 'x' }, []) }),
      },
    },
    options,
  );
  return { server, endpoint: await bind(server, 0, enrolmentServerCredentials(identity)) };
}

function certificateClient(endpoint: string, identity: ProcessIdentity) {
  return new RpcClient<CertificateServiceDefinition>(certificateService, endpoint, mutualClientCredentials(identity, 'host'));
}

function bind(server: Server, port: number, credentials: ReturnType<typeof mutualServerCredentials>): Promise<string> {
  return new Promise((resolve, reject) =>
    server.bindAsync(`${ownLoopback}:${port}`, credentials, (error, bound) => (error ? reject(error) : resolve(`${ownLoopback}:${bound}`))),
  );
}
