import { X509Certificate } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { credentials } from '@grpc/grpc-js';
import { Agent, request } from 'undici';
import { RpcClient } from '../../common/rpc/call';
import { CertificateKeeper } from '../../common/tls/certificate-keeper';
import { trustedClientCredentials } from '../../common/tls/credentials';
import { HostCertificates } from '../../common/tls/host-certificates';
import type { ProcessIdentity } from '../../common/tls/identity';
import { createToken, parseToken } from '../../common/tls/token';
import { fingerprintsOf, splitPem, trustStateOf } from '../../common/tls/trust-state';
import { verifyTicket } from '../../common/tickets/ticket';
import type { EnrolmentServiceDefinition } from '../../proto/gen/tidemark/host/v1/EnrolmentService';
import type { MoverRegistryServiceDefinition } from '../../proto/gen/tidemark/host/v1/MoverRegistryService';
import type { PluginRegistryServiceDefinition } from '../../proto/gen/tidemark/host/v1/PluginRegistryService';
import type { RefusalServiceDefinition } from '../../proto/gen/tidemark/host/v1/RefusalService';
import { loadService } from '../../proto/loader';
import { enrolStranger, hostClient, quick, quiet, until } from '../testing/fake-process';
import { TestInstallation } from '../testing/test-installation';

const hello = (contract: string) => ({ instanceId: contract, bootId: 'b', protocols: [contract], hostName: contract, version: '1' });

/** A mover or plug-in that does nothing but its heartbeats and what they order. */
class Peer {
  readonly #issuer: HostCertificates;
  readonly #keeper: CertificateKeeper;
  readonly #movers;
  readonly #plugins;
  leaseId = '';
  ticketKeys: string[] = [];

  constructor(
    readonly identity: ProcessIdentity,
    endpoint: string,
  ) {
    this.#issuer = new HostCertificates(endpoint, identity, ['127.0.0.1']);
    this.#keeper = new CertificateKeeper(identity, this.#issuer, quiet);
    this.#movers = hostClient<MoverRegistryServiceDefinition>('mover_registry_service', 'MoverRegistryService', endpoint, identity);
    this.#plugins = hostClient<PluginRegistryServiceDefinition>('plugin_registry_service', 'PluginRegistryService', endpoint, identity);
  }

  async start(): Promise<this> {
    await this.#keeper.start();
    await this.register();
    return this;
  }

  async register(): Promise<void> {
    if (this.identity.self.role === 'mover') {
      const registration = { process: hello('tidemark.mover.v1'), controlEndpoint: '127.0.0.1:4', dataEndpoints: ['127.0.0.1:5'] };
      this.leaseId = (await this.#movers.call('RegisterMover', registration, { ...quick, attempts: 10 })).leaseId;
      return;
    }
    const endpoints = { endpoint: '127.0.0.1:1', workerEndpoint: '127.0.0.1:2', workerEnrolmentEndpoint: '127.0.0.1:3' };
    const registration = { process: hello('tidemark.plugin.v1'), pluginId: 'fake', ...endpoints };
    this.leaseId = (await this.#plugins.call('RegisterPlugin', registration, { ...quick, attempts: 10 })).leaseId;
  }

  /** One heartbeat; true when nothing is asked of the peer any more. */
  async beat(): Promise<boolean> {
    const trust = trustStateOf(this.identity);
    const sent = { leaseId: this.leaseId, trust };
    let order;
    if (this.identity.self.role === 'mover') {
      const reply = await this.#movers.call('MoverHeartbeat', sent, quick);
      this.ticketKeys = reply.ticketPublicKeysPem;
      order = reply.trust;
    } else order = (await this.#plugins.call('Heartbeat', sent, quick)).trust;
    this.#keeper.obey(order, trust.serialNumber);
    return order?.renewCertificate === false && order.trustedCaFingerprints.join() === trust.trustedCaFingerprints?.join();
  }

  probe() {
    return this.#plugins.call('CreateProbePaths', {}, quick);
  }

  async stop(): Promise<void> {
    await this.#keeper.stop();
    this.#issuer.close();
    this.#movers.close();
    this.#plugins.close();
  }
}

describe('rotation', () => {
  const at = new TestInstallation();
  const peers: Peer[] = [];
  let plugin: Peer;
  let mover: Peer;
  let sleeper: Peer;
  const ca = () => fs.readFileSync(path.join(at.folder, 'ca.pem'), 'utf8');
  const join = async (role: 'plugins' | 'movers') => {
    const { token } = (await at.api('POST', `/${role}/enrolment-tokens`, {})).body as { token: string };
    const made = await new Peer(await enrolStranger(at.endpoints.enrolment, token), at.endpoints.control).start();
    peers.push(made);
    return made;
  };
  const settled = (...who: Peer[]) => until(async () => (await Promise.all(who.map((peer) => peer.beat()))).every(Boolean));
  /** Whether tickets are signed with the first of the keys that the mover is told; asked while the server changes none of them. */
  const isSignedWithFirstKey = async () => {
    const verdict = await until(async () => {
      await mover.beat();
      const before = mover.ticketKeys;
      const { paths } = await plugin.probe();
      await mover.beat();
      if (before.join() !== mover.ticketKeys.join()) return undefined;
      return { good: verifyTicket(paths[0]?.dataPath?.ticket ?? '', before.slice(0, 1), new Date()) !== undefined };
    });
    return verdict.good;
  };
  const state = async () => (await at.api('GET', '/certificates/rotation')).body as Record<string, never>;
  const events = async () => ((await at.api('GET', '/events')).body as { items: { code: string; message: string }[] }).items;

  beforeAll(async () => {
    await at.start();
    await at.login();
    plugin = await join('plugins');
    mover = await join('movers');
    sleeper = await join('movers');
    await settled(plugin, mover, sleeper);
  });
  afterAll(async () => {
    for (const peer of peers) await peer.stop();
    await at.remove();
  });

  it('issues every certificate anew, the own one too, without another CA', async () => {
    const before = peers.map((peer) => peer.identity.certificate.serialNumber);
    const pinned = ca();
    const dry = await at.api('POST', '/certificates/rotate', { dryRun: true });
    expect(dry).toMatchObject({ status: 200, body: { dryRun: true, peers: [{}, {}, {}] } });
    expect(await plugin.beat()).toBe(true);
    expect((await at.api('POST', '/certificates/rotate')).status).toBe(200);
    expect(await plugin.beat()).toBe(false);
    await settled(plugin, mover, sleeper);
    expect(peers.map((peer) => peer.identity.certificate.serialNumber)).not.toEqual(expect.arrayContaining(before));
    expect(ca()).toBe(pinned);
    expect(await state()).toMatchObject({ missing: [], overlap: null });
  });

  describe('of the CA', () => {
    let oldCa: string;
    let oldSerial: string;

    it('begins with two CAs, for all who are there and who are not', async () => {
      oldCa = ca();
      oldSerial = mover.identity.certificate.serialNumber;
      const dry = await at.api('POST', '/certificates/rotate-authority', { overlapDays: 3, dryRun: true });
      expect(dry).toMatchObject({ status: 200, body: { dryRun: true } });
      expect(ca()).toBe(oldCa);
      expect((await at.api('POST', '/certificates/rotate-authority', { overlapDays: 3 })).status).toBe(200);
      expect(fingerprintsOf(ca())).toHaveLength(2);
      expect(fingerprintsOf(ca())[1]).toBe(fingerprintsOf(oldCa)[0]);
      expect(await at.api('POST', '/certificates/rotate-authority', {})).toMatchObject({
        status: 409,
        body: { code: 'CA_ROTATION_RUNNING' },
      });
      expect(await state()).toMatchObject({ overlap: { endsAt: expect.any(String) } });
      expect(((await state()) as unknown as { missing: unknown[] }).missing).toHaveLength(3);
    });

    it('goes on after a kill', async () => {
      const now = ca();
      await at.kill();
      fs.rmSync(path.join(at.folder, 'ca.pem'));
      // As a kill right after the first step leaves it: the host's own certificate is still of the old CA.
      await at.start();
      expect(ca()).toBe(now);
      expect(await state()).toMatchObject({ overlap: { endsAt: expect.any(String) } });
    });

    it('is followed by those who are there; tickets are signed with a key that they know', async () => {
      for (const peer of [plugin, mover]) await peer.register();
      await settled(plugin, mover);
      expect(plugin.identity.certificate.verify(rootOf(ca(), 0))).toBe(true);
      expect(mover.ticketKeys).toHaveLength(2);
      expect(((await state()) as unknown as { missing: object[] }).missing).toMatchObject([
        { id: sleeper.identity.self.id, role: 'mover' },
      ]);
      expect(await isSignedWithFirstKey()).toBe(true);
    });

    it('keeps consoles reachable for whoever pinned the old CA, and gives them the new one', async () => {
      const dispatcher = new Agent({ connect: { ca: oldCa } });
      const headers = { authorization: `Bearer ${at.token}` };
      const answer = await request(`${at.endpoints.console}/api/v1/certificates/trust-bundle`, { dispatcher, headers });
      expect(await answer.body.json()).toEqual({ caPem: ca() });
      expect(answer.headers['tidemark-trust']).toBe(fingerprintsOf(ca()).join(','));
      await dispatcher.destroy();
    });

    it('enrols strangers with tokens that pin the new CA, and workers with such as pin the old one', async () => {
      const mine = (await at.api('POST', '/movers/enrolment-tokens', {})).body as { token: string; caFingerprint: string };
      expect(parseToken(mine.token).caFingerprint).toBe(fingerprintsOf(ca())[0]);
      const workers = (await at.api('POST', '/workers/enrolment-tokens', {})).body as { token: string; caFingerprint: string };
      expect(workers.caFingerprint).toBe(fingerprintsOf(oldCa)[0]);
      // The old pin is good at the host too.
      const service = loadService('tidemark/host/v1/enrolment_service.proto', 'tidemark.host.v1.EnrolmentService').service;
      const old = createToken(oldCa, parseToken(mine.token).secret);
      expect(parseToken(old).caFingerprint).toBe(fingerprintsOf(oldCa)[0]);
      const client = new RpcClient<EnrolmentServiceDefinition>(service, at.endpoints.enrolment, trustedClientCredentials(ca(), 'host'));
      await expect(client.call('Enrol', { application: { token: old, certificateRequestPem: 'x' } }, quick)).rejects.toMatchObject({
        code: 'ENROLMENT_TOKEN_INVALID',
      });
      client.close();
    });

    it('ends when the last one is back, with its old certificate', async () => {
      await sleeper.register();
      await settled(sleeper);
      await until(async () => {
        await Promise.all([plugin, mover, sleeper].map((peer) => peer.beat().catch(() => undefined)));
        return (await state())['overlap'] === null;
      });
      expect(fingerprintsOf(ca())).toHaveLength(1);
      await settled(plugin, mover, sleeper);
      expect(fingerprintsOf(sleeper.identity.material.trustBundlePem)).toEqual(fingerprintsOf(ca()));
      // The old ticket key goes on for a day: its tickets do.
      expect(mover.ticketKeys).toHaveLength(2);
      expect(await isSignedWithFirstKey()).toBe(true);
      expect((await events()).map((event) => event.code)).toEqual(expect.arrayContaining(['CA_ROTATION_STARTED', 'CA_ROTATION_FINISHED']));
    });

    it('refuses the old certificate from then on', async () => {
      const dispatcher = new Agent({ connect: { ca: oldCa } });
      await expect(request(`${at.endpoints.console}/api/v1/health`, { dispatcher })).rejects.toMatchObject({
        code: expect.stringMatching(/CERT/),
      });
      await dispatcher.destroy();
    });

    it('tells whoever asks without being let in why, and the administrator who it was', async () => {
      const { service } = loadService('tidemark/host/v1/refusal_service.proto', 'tidemark.host.v1.RefusalService');
      const unverified = credentials.createSsl(null, null, null, { rejectUnauthorized: false, checkServerIdentity: () => undefined });
      const client = new RpcClient<RefusalServiceDefinition>(service, at.endpoints.enrolment, unverified);
      const codeOf = async (serialNumber: string) => (await client.call('ExplainRefusal', { serialNumber }, quick)).code;
      expect(await codeOf(oldSerial)).toBe('CERTIFICATE_CA_RETIRED');
      expect(await codeOf(mover.identity.certificate.serialNumber)).toBe('CERTIFICATE_ACCEPTED');
      expect(await codeOf('0123')).toBe('CERTIFICATE_UNKNOWN');
      client.close();
      const told = (await events()).filter(({ code }) => code === 'PEER_REFUSED').map(({ message }) => message);
      expect(told).toHaveLength(2);
      expect(told.join()).toContain(`tidemark mover enrol --again ${mover.identity.self.id}`);
    });
  });
});

/** Public key of a certificate of a bundle. */
function rootOf(pem: string, index: number) {
  return new X509Certificate(splitPem(pem)[index] ?? '').publicKey;
}
