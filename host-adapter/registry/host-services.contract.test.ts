import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { RpcClient } from '../../common/rpc/call';
import { verifyTicket } from '../../common/tickets/ticket';
import { createCertificateRequest } from '../../common/tls/certificate-request';
import { trustedClientCredentials } from '../../common/tls/credentials';
import type { ProcessIdentity } from '../../common/tls/identity';
import type { CertificateServiceDefinition } from '../../proto/gen/tidemark/host/v1/CertificateService';
import type { EnrolmentServiceDefinition } from '../../proto/gen/tidemark/host/v1/EnrolmentService';
import type { MoverRegistryServiceDefinition } from '../../proto/gen/tidemark/host/v1/MoverRegistryService';
import type { PluginRegistryServiceDefinition } from '../../proto/gen/tidemark/host/v1/PluginRegistryService';
import { loadService } from '../../proto/loader';
import fs from 'node:fs';
import path from 'node:path';
import { enrolStranger, hostClient, quick } from '../testing/fake-process';
import { TestInstallation } from '../testing/test-installation';

const plugins = (endpoint: string, identity: ProcessIdentity) =>
  hostClient<PluginRegistryServiceDefinition>('plugin_registry_service', 'PluginRegistryService', endpoint, identity);

describe('tidemark.host.v1', () => {
  const at = new TestInstallation();
  let identity: ProcessIdentity;
  let stranger: ProcessIdentity;
  let mover: ProcessIdentity;
  let gone: ProcessIdentity;
  const closing: { close(): void }[] = [];
  const keep = <T extends { close(): void }>(client: T): T => {
    closing.push(client);
    return client;
  };
  const token = async (role: 'plugins' | 'movers' | 'workers', body: object = {}) =>
    (await at.api('POST', `/${role}/enrolment-tokens`, body)).body.token as string;
  const process = (instanceId: string, protocols = ['tidemark.plugin.v1']) => ({
    instanceId,
    bootId: 'b',
    protocols,
    hostName: 'h',
    version: '1',
  });
  const registration = (instanceId: string) => ({
    process: process(instanceId),
    pluginId: 'fake',
    endpoint: '127.0.0.1:1',
    workerEndpoint: '127.0.0.1:2',
    workerEnrolmentEndpoint: '127.0.0.1:3',
  });

  beforeAll(async () => {
    await at.start();
    await at.login();
    identity = await enrolStranger(at.endpoints.enrolment, await token('plugins'));
    stranger = await enrolStranger(at.endpoints.enrolment, await token('plugins'));
    mover = await enrolStranger(at.endpoints.enrolment, await token('movers'));
    gone = await enrolStranger(at.endpoints.enrolment, await token('movers'));
  });
  afterAll(async () => {
    for (const client of closing) client.close();
    await at.remove();
  });

  describe('EnrolmentService', () => {
    const raw = () => {
      const service = loadService('tidemark/host/v1/enrolment_service.proto', 'tidemark.host.v1.EnrolmentService').service;
      const ca = fs.readFileSync(path.join(at.folder, 'ca.pem'), 'utf8');
      return keep(new RpcClient<EnrolmentServiceDefinition>(service, at.endpoints.enrolment, trustedClientCredentials(ca, 'host')));
    };
    const application = (text: string, certificateRequestPem: string) => ({
      application: { token: text, certificateRequestPem, process: process('i'), addresses: ['a.example'] },
    });

    it('uses a token up, and answers the same request again', async () => {
      const client = raw();
      const text = await token('movers');
      const { certificateRequestPem } = await createCertificateRequest();
      const first = await client.call('Enrol', application(text, certificateRequestPem), quick);
      const again = await client.call('Enrol', application(text, certificateRequestPem), quick);
      expect(again).toEqual(first);
      const other = await createCertificateRequest();
      await expect(client.call('Enrol', application(text, other.certificateRequestPem), quick)).rejects.toMatchObject({
        code: 'ENROLMENT_TOKEN_INVALID',
        status: 'UNAUTHENTICATED',
      });
    });

    it('lets one of many have a token', async () => {
      const client = raw();
      const text = await token('movers');
      const requests = await Promise.all([1, 2, 3, 4].map(() => createCertificateRequest()));
      const results = await Promise.allSettled(
        requests.map(({ certificateRequestPem }) => client.call('Enrol', application(text, certificateRequestPem), quick)),
      );
      expect(results.filter((result) => result.status === 'fulfilled')).toHaveLength(1);
    });

    it('refuses unknown tokens, tokens of workers, other keys and no request', async () => {
      const client = raw();
      const { certificateRequestPem } = await createCertificateRequest();
      const refused = (text: string, pem: string) => client.call('Enrol', application(text, pem), quick).catch((error: unknown) => error);
      expect(await refused('tmk1.unknown', certificateRequestPem)).toMatchObject({ code: 'ENROLMENT_TOKEN_INVALID' });
      expect(await refused(await token('workers'), certificateRequestPem)).toMatchObject({ code: 'ENROLMENT_TOKEN_INVALID' });
      const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
      const foreign = publicKey.export({ type: 'spki', format: 'pem' }).toString();
      expect(await refused(await token('movers'), foreign)).toMatchObject({
        code: 'ENROLMENT_REQUEST_INVALID',
        status: 'INVALID_ARGUMENT',
      });
    });

    it('takes a process back under its id, with a token made for it', async () => {
      const again = await token('movers', { again: mover.self.id });
      const { certificateRequestPem } = await createCertificateRequest();
      const { subjectId } = await raw().call('Enrol', application(again, certificateRequestPem), quick);
      expect(subjectId).toBe(mover.self.id);
      const { items } = (await at.api('GET', '/movers')).body as { items: { id: string }[] };
      expect(items.filter(({ id }) => id === mover.self.id)).toHaveLength(1);
      // Only for one that is there, in its own role.
      for (const id of [randomUUID(), identity.self.id]) {
        expect(await at.api('POST', '/movers/enrolment-tokens', { again: id })).toMatchObject({
          status: 403,
          body: { code: 'IDENTITY_REVOKED' },
        });
      }
    });

    it('slows down whoever guesses', async () => {
      const client = raw();
      const { certificateRequestPem } = await createCertificateRequest();
      const codes = new Set<unknown>();
      for (let attempt = 0; attempt < 25; attempt += 1) {
        const error = await client
          .call('Enrol', application(`tmk1.guess${attempt}`, certificateRequestPem), quick)
          .catch((e: unknown) => e);
        codes.add((error as { code: string }).code);
      }
      expect([...codes]).toEqual(['ENROLMENT_TOKEN_INVALID', 'ENROLMENT_THROTTLED']);
    });
  });

  describe('PluginRegistryService', () => {
    const client = () => keep(plugins(at.endpoints.control, identity));

    it('registers, renews and says whether the plug-in is enabled', async () => {
      const host = client();
      const first = await host.call('RegisterPlugin', registration('i-1'), quick);
      expect(first).toMatchObject({
        enabled: false,
        acknowledgedEventSequence: '0',
        leaseDuration: { seconds: String(at.leaseMs / 1000) },
      });
      expect((await host.call('RegisterPlugin', registration('i-1'), quick)).leaseId).toBe(first.leaseId);
      await at.api('POST', `/plugins/${identity.self.id}/enable`);
      expect(await host.call('Heartbeat', { leaseId: first.leaseId }, quick)).toMatchObject({ enabled: true });
      await expect(host.call('Heartbeat', { leaseId: 'other' }, quick)).rejects.toMatchObject({ code: 'LEASE_LOST' });
    });

    it('refuses a copied installation and a plug-in of other protocols', async () => {
      const other = await at.server.console.app.inject({
        method: 'POST',
        url: '/api/v1/plugins/enrolment-tokens',
        payload: {},
        headers: { authorization: `Bearer ${at.token}` },
      });
      expect(other.statusCode).toBe(201);
      await client().call('RegisterPlugin', registration('i-1'), quick);
      await expect(
        client().call('RegisterPlugin', { ...registration('i-1'), process: process('i-1', ['other.v9']) }, quick),
      ).rejects.toMatchObject({
        code: 'CAPABILITY_MISSING',
        message: expect.stringContaining('other.v9'),
      });
    });

    it('takes events in order, once each', async () => {
      const host = client();
      const { leaseId } = await host.call('RegisterPlugin', registration('i-1'), quick);
      const event = (sequence: number) => ({
        sequence,
        severity: 'EVENT_SEVERITY_WARNING' as const,
        code: `CODE_${sequence}`,
        message: 'm',
      });
      const stream = host.duplex('StreamEvents', { idleTimeoutMs: 60_000 });
      const replies = stream.replies[Symbol.asyncIterator]();
      await stream.send({ leaseId, events: [event(1), event(2)] });
      expect((await replies.next()).value).toMatchObject({ acknowledgedSequence: '2' });
      await stream.send({ leaseId, events: [event(1), event(2), event(3)] });
      expect((await replies.next()).value).toMatchObject({ acknowledgedSequence: '3' });
      await stream.send({ leaseId, events: [event(5)] });
      await expect(replies.next()).rejects.toMatchObject({ code: 'EVENT_SEQUENCE_GAP', meta: { expected: '4' } });
      const { items } = (await at.api('GET', '/events?severity=warning')).body;
      expect(items.map((item: { code: string }) => item.code)).toEqual(['CODE_3', 'CODE_2', 'CODE_1']);
      expect((await host.call('RegisterPlugin', registration('i-1'), quick)).acknowledgedEventSequence).toBe('3');
    });

    it('passes on a worker, and renews it only for the plug-in it came through', async () => {
      const host = client();
      const request = { requestId: 'deploy-1', lifetime: { seconds: 60, nanos: 0 } };
      const made = await host.call('CreateWorkerToken', request, quick);
      expect(await host.call('CreateWorkerToken', request, quick)).toEqual(made);
      const { certificateRequestPem } = await createCertificateRequest();
      const application = { token: made.token, certificateRequestPem, process: process('w'), addresses: [] };
      const worker = await host.call('EnrolWorker', { application }, quick);
      expect(worker.certificate?.certificateChainPem).toContain('BEGIN CERTIFICATE');
      const renewal = { workerId: worker.workerId, certificateRequestPem };
      expect((await host.call('RenewWorkerCertificate', renewal, quick)).certificate?.trustBundlePem).toContain('BEGIN');
      await expect(host.call('RenewWorkerCertificate', { ...renewal, workerId: identity.self.id }, quick)).rejects.toMatchObject({
        code: 'IDENTITY_REVOKED',
        status: 'PERMISSION_DENIED',
      });
    });
  });

  describe('workers that a plug-in starts', () => {
    const workerId = randomUUID();
    const enrol = async (host: ReturnType<typeof plugins>, text: string) => {
      const { certificateRequestPem } = await createCertificateRequest();
      const application = { token: text, certificateRequestPem, process: process('w'), addresses: [] };
      return host.call('EnrolWorker', { application }, quick);
    };

    it('enrol anew at each start under the id that the plug-in chose', async () => {
      const host = keep(plugins(at.endpoints.control, identity));
      for (const requestId of ['start-1', 'start-2']) {
        const made = await host.call('CreateWorkerToken', { requestId, workerId, lifetime: { seconds: '60', nanos: 0 } }, quick);
        expect(made.workerId).toBe(workerId);
        expect(Number(made.expiresAt?.seconds) - Date.now() / 1000).toBeLessThanOrEqual(60);
        expect((await enrol(host, made.token)).workerId).toBe(workerId);
      }
    });

    it('are not another plug-in’s, and no other process', async () => {
      const host = keep(plugins(at.endpoints.control, stranger));
      const refused = { code: 'IDENTITY_REVOKED', status: 'PERMISSION_DENIED' };
      await expect(host.call('CreateWorkerToken', { requestId: 'r', workerId }, quick)).rejects.toMatchObject(refused);
      await expect(host.call('CreateWorkerToken', { requestId: 'r', workerId: identity.self.id }, quick)).rejects.toMatchObject(refused);
      await expect(host.call('RevokeWorker', { workerId }, quick)).rejects.toMatchObject(refused);
      await expect(host.call('CreateWorkerToken', { requestId: 'r', workerId: 'no uuid' }, quick)).rejects.toMatchObject({
        code: 'ARGUMENT_INVALID',
      });
    });

    it('get nothing any more once they are revoked, nor do their unused tokens', async () => {
      const host = keep(plugins(at.endpoints.control, identity));
      const unused = await host.call('CreateWorkerToken', { requestId: 'start-3', workerId }, quick);
      await host.call('RevokeWorker', { workerId }, quick);
      await host.call('RevokeWorker', { workerId }, quick);
      await host.call('RevokeWorker', { workerId: randomUUID() }, quick);
      await expect(enrol(host, unused.token)).rejects.toMatchObject({ code: 'ENROLMENT_TOKEN_INVALID' });
      const { certificateRequestPem } = await createCertificateRequest();
      const refused = { code: 'IDENTITY_REVOKED' };
      await expect(host.call('RenewWorkerCertificate', { workerId, certificateRequestPem }, quick)).rejects.toMatchObject(refused);
      await expect(host.call('CreateWorkerToken', { requestId: 'start-4', workerId }, quick)).rejects.toMatchObject(refused);
    });

    it('are told the way to every connected mover, with tickets that only probe', async () => {
      const host = keep(plugins(at.endpoints.control, identity));
      const registry = keep(
        hostClient<MoverRegistryServiceDefinition>('mover_registry_service', 'MoverRegistryService', at.endpoints.control, mover),
      );
      const registration = {
        process: process('probed', ['tidemark.mover.v1']),
        controlEndpoint: '127.0.0.1:4',
        dataEndpoints: ['127.0.0.1:5'],
      };
      const { ticketPublicKeysPem } = await registry.call('RegisterMover', registration, quick);
      const { paths } = await host.call('CreateProbePaths', {}, quick);
      const path = paths.find((one) => one.moverId === mover.self.id);
      expect(path).toMatchObject({ name: 'h', dataPath: { endpoints: ['127.0.0.1:5'], sessionId: '' } });
      const ticket = verifyTicket(path?.dataPath?.ticket ?? '', ticketPublicKeysPem, new Date());
      expect(ticket).toMatchObject({ expired: false, claims: { rights: ['probe'], repositoryId: '' } });
    });
  });

  it('takes no process back that was revoked, and revokes none that is needed', async () => {
    expect((await at.api('POST', '/certificates/revoke', { id: gone.self.id })).status).toBe(204);
    const registry = keep(
      hostClient<MoverRegistryServiceDefinition>('mover_registry_service', 'MoverRegistryService', at.endpoints.control, gone),
    );
    const registration = { process: process('gone', ['tidemark.mover.v1']), controlEndpoint: '127.0.0.1:4', dataEndpoints: [] };
    await expect(registry.call('RegisterMover', registration, quick)).rejects.toMatchObject({ code: 'IDENTITY_REVOKED' });
    expect(await at.api('POST', '/certificates/revoke', { id: randomUUID() })).toMatchObject({ status: 404 });
  });

  it('CertificateService renews the own identity and tells the trust bundle', async () => {
    const client = keep(
      hostClient<CertificateServiceDefinition>('certificate_service', 'CertificateService', at.endpoints.control, identity),
    );
    const { certificateRequestPem } = await createCertificateRequest();
    const { certificate } = await client.call('RenewCertificate', { certificateRequestPem, addresses: [] }, quick);
    expect(certificate?.certificateChainPem.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
    expect((await client.call('GetTrustBundle', {}, quick)).trustBundlePem.trim()).toBe(
      fs.readFileSync(path.join(at.folder, 'ca.pem'), 'utf8').trim(),
    );
    await expect(client.call('RenewCertificate', { certificateRequestPem: 'x', addresses: [] }, quick)).rejects.toMatchObject({
      code: 'ENROLMENT_REQUEST_INVALID',
    });
  });

  it('MoverRegistryService is for movers alone', async () => {
    const client = keep(
      hostClient<MoverRegistryServiceDefinition>('mover_registry_service', 'MoverRegistryService', at.endpoints.control, identity),
    );
    await expect(client.call('RegisterMover', {}, quick)).rejects.toMatchObject({ code: 'ROLE_NOT_ALLOWED' });
  });
});
