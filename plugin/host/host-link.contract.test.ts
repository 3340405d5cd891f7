import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createCertificateRequest } from '../../common/tls/certificate-request';
import { eventually } from '../testing/eventually';
import { FakeHost } from '../testing/fake-host';
import { enrolAtHost } from '../../common/tls/enrol-at-host';
import type { Logger } from '../../common/log/logger';
import { MemoryOutboxFile } from '../testing/memory-outbox-file';
import { quietLogger } from '../testing/quiet-logger';
import type { ConnectedWorker } from '../workers/ports';
import { EventOutbox } from './event-outbox';
import { HostLink } from './host-link';
import type { TrustingWorkers } from './worker-trust';

const info = {
  instanceId: 'instance',
  bootId: 'boot',
  version: '0.1.0',
  protocols: ['tidemark.plugin.v1'],
  capabilities: [],
  hostName: 'h',
};

const noWorkers: TrustingWorkers = { connected: () => [], updateTrust: () => undefined };

async function linked(host: FakeHost, identity = host.pluginIdentity(), workers = noWorkers) {
  const { logger, lines } = quietLogger();
  const outbox = new EventOutbox(logger, new MemoryOutboxFile());
  const running: string[] = [];
  const link = new HostLink(
    {
      hostEndpoint: host.endpoint,
      process: info,
      pluginId: 'ovirt',
      addresses: ['localhost', '127.0.0.1'],
      endpoints: () => ({ endpoint: 'p:1', workerEndpoint: 'p:1', enrolmentEndpoint: 'p:2' }),
      runningOperationIds: () => running,
      workers,
      // The leases of this host are short; a machine that stands still must not cost one.
      heartbeatDeadlineMs: 120_000,
    },
    await identity,
    outbox,
    logger,
  );
  await link.start();
  return { link, outbox, running, lines, [Symbol.asyncDispose]: () => link.stop() };
}

describe('HostLink', () => {
  it('registers, keeps its lease with the running operations, and hears when it is enabled', async () => {
    using host = await FakeHost.start();
    await using plugin = await linked(host);
    await eventually('registered', () => plugin.link.state === 'registered');
    expect(host.registrations[0]).toMatchObject({
      pluginId: 'ovirt',
      endpoint: 'p:1',
      workerEndpoint: 'p:1',
      workerEnrolmentEndpoint: 'p:2',
      process: { instanceId: 'instance' },
    });
    expect(plugin.link.enabled).toBe(false);
    plugin.running.push('operation-1');
    host.enabled = true;
    await eventually('enabled', () => plugin.link.enabled);
    await eventually('running operations', () => host.heartbeats.at(-1)?.runningOperationIds.includes('operation-1') === true);
    expect(host.registrations).toHaveLength(1);
  });

  it('registers again when the lease is lost, and when the host comes back', async () => {
    using host = await FakeHost.start();
    await using plugin = await linked(host);
    await eventually('registered', () => host.heartbeats.length > 0);
    host.forgetLease();
    await eventually('registered again', () => host.registrations.length === 2);
    host.stop();
    await eventually('lost', () => plugin.link.state === 'connecting');
    await host.restart();
    await eventually('back', () => plugin.link.state === 'registered' && host.registrations.length >= 3);
  });

  it('delivers events in order and once, over lost answers and restarts', async () => {
    using host = await FakeHost.start();
    host.breakStreamAfter = 1;
    await using plugin = await linked(host);
    const report = (index: number) =>
      plugin.outbox.report({ severity: 'warning', code: `CODE_${index}`, message: `event ${index}`, references: { platform_id: 'p' } });
    for (let index = 1; index <= 3; index += 1) report(index);
    await eventually('stored', () => host.events.length === 3);
    host.breakStreamAfter = Number.POSITIVE_INFINITY;
    await host.restart();
    for (let index = 4; index <= 250; index += 1) report(index);
    await eventually('all stored', () => host.events.length === 250);
    expect(host.events.map((event) => event.code)).toEqual(Array.from({ length: 250 }, (_, index) => `CODE_${index + 1}`));
    expect(host.events[0]).toMatchObject({ severity: 'EVENT_SEVERITY_WARNING', references: { platform_id: 'p' }, sequence: '1' });
    await eventually('acknowledged', () => plugin.outbox.pending === 0);
  });

  it('passes workers on to the host', async () => {
    using host = await FakeHost.start();
    await using plugin = await linked(host);
    const { certificateRequestPem } = await createCertificateRequest();
    const enrolled = await plugin.link.enrolWorker({ token: 't', certificateRequestPem, addresses: [] });
    expect(enrolled).toMatchObject({ workerId: 'worker-1' });
    expect(enrolled.certificate?.certificateChainPem).toContain('BEGIN CERTIFICATE');
    expect((await plugin.link.renewWorkerCertificate('worker-1', certificateRequestPem))?.trustBundlePem).toContain('BEGIN CERTIFICATE');
    host.stop();
    await expect(plugin.link.enrolWorker({ certificateRequestPem })).rejects.toMatchObject({ retry: 'same-request' });
  });

  it('renews its certificate at two thirds of its life, without losing the host', async () => {
    using host = await FakeHost.start();
    // A certificate begins five minutes in the past, so of this one two thirds are over.
    const identity = await host.pluginIdentity(60_000);
    const before = identity.material.certificateChainPem;
    await using plugin = await linked(host, Promise.resolve(identity));
    await eventually('renewed', () => host.renewals > 0);
    await eventually('replaced', () => identity.material.certificateChainPem !== before);
    expect(identity.renewAt.getTime()).toBeGreaterThan(Date.now());
    host.forgetLease();
    const { length } = host.registrations;
    await eventually('registered with the new one', () => host.registrations.length > length && plugin.link.state === 'registered');
  });

  it('follows a change of the trusted CAs', async () => {
    using host = await FakeHost.start();
    const identity = await host.pluginIdentity();
    host.trustBundlePem = `${host.trustBundlePem}${host.trustBundlePem}`;
    await using plugin = await linked(host, Promise.resolve(identity));
    await eventually('trust', () => identity.material.trustBundlePem === host.trustBundlePem);
    expect(plugin.link.state).toBe('registered');
  });

  it('obeys an order at once: trusts the CAs, renews once, and reports it', async () => {
    using host = await FakeHost.start();
    const identity = await host.pluginIdentity();
    await using plugin = await linked(host, Promise.resolve(identity));
    await eventually('a report', () => host.heartbeats.some((beat) => (beat.trust?.trustedCaFingerprints.length ?? 0) === 1));
    const before = host.heartbeats.at(-1)?.trust;
    expect(before).toMatchObject({ issuerFingerprint: before?.trustedCaFingerprints[0] });
    const second = await host.rotate();
    await eventually('both', () => host.heartbeats.at(-1)?.trust?.issuerFingerprint === second);
    expect(host.heartbeats.at(-1)?.trust?.trustedCaFingerprints).toHaveLength(2);
    expect(host.renewals).toBe(1);
    expect(host.registrations).toHaveLength(1);
    expect(plugin.link.state).toBe('registered');
  });

  it('passes trust on to workers, not more often than needed, and tells what they report', async () => {
    using host = await FakeHost.start();
    const state = { trustedCaFingerprints: ['old'], issuerFingerprint: 'old', serialNumber: '1', expiresAt: null };
    const updates: { workerId: string; trustBundlePem: string; renewCertificate: boolean }[] = [];
    const workers = {
      connected: () => [{ workerId: 'w1', trust: state } as ConnectedWorker, { workerId: 'w2', trust: undefined } as ConnectedWorker],
      updateTrust: (workerId: string, update: { trustBundlePem: string; renewCertificate: boolean }) =>
        void updates.push({ workerId, ...update }),
    };
    await using plugin = await linked(host, undefined, workers);
    await eventually('told', () => host.heartbeats.at(-1)?.workers[0]?.workerId === 'w1');
    expect(host.heartbeats.at(-1)?.workers).toHaveLength(1);
    await eventually('the first order', () => updates.length === 1);
    await host.rotate();
    await eventually('passed on', () => updates.length > 1);
    expect(updates[1]).toEqual({ workerId: 'w1', renewCertificate: true, trustBundlePem: host.trustBundlePem });
    const { length } = host.heartbeats;
    await eventually('some heartbeats', () => host.heartbeats.length > length + 5);
    expect(updates).toHaveLength(2);
    expect(plugin.link.state).toBe('registered');
  });
});

describe('enrolment', () => {
  const folders: string[] = [];
  const folder = () => {
    const made = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-enrol-'));
    folders.push(made);
    return made;
  };
  afterEach(() => {
    for (const made of folders.splice(0)) fs.rmSync(made, { recursive: true, force: true });
  });
  const options = (host: FakeHost, dataFolder: string, token: string | undefined, logger: Logger) => ({
    dataFolder,
    settings: { enrolmentEndpoint: host.enrolmentEndpoint, enrolmentToken: token, enrolmentPatienceMs: 150_000 },
    process: info,
    addresses: ['127.0.0.1'],
    logger,
  });

  it('enrols once with the token, and keeps the certificate', async () => {
    using host = await FakeHost.start();
    const { logger, lines } = quietLogger();
    const dataFolder = folder();
    const identity = await enrolAtHost(options(host, dataFolder, host.token, logger));
    expect(identity.self).toEqual({ role: 'plugin', id: 'plugin-1' });
    const again = await enrolAtHost({ ...options(host, dataFolder, undefined, logger), settings: { enrolmentPatienceMs: 0 } });
    expect(again.material).toEqual(identity.material);
    expect(JSON.stringify(lines)).not.toContain(host.token);
    await expect(enrolAtHost(options(host, folder(), host.token, logger))).rejects.toMatchObject({ code: 'ENROLMENT_TOKEN_INVALID' });
  });

  it('sends no token to a server with another CA, and says what is missing', async () => {
    using host = await FakeHost.start();
    using other = await FakeHost.start();
    const { logger } = quietLogger();
    await expect(enrolAtHost(options(host, folder(), other.token, logger))).rejects.toMatchObject({
      code: 'TRUST_FINGERPRINT_MISMATCH',
    });
    await expect(enrolAtHost(options(host, folder(), undefined, logger))).rejects.toMatchObject({ code: 'ENROLMENT_TOKEN_INVALID' });
  });

  it('waits for a server that is still starting', async () => {
    using host = await FakeHost.start();
    host.stop();
    const { logger } = quietLogger();
    const waiting = enrolAtHost(options(host, folder(), host.token, logger));
    await new Promise((resolve) => setImmediate(resolve));
    await host.restart();
    await expect(waiting).resolves.toMatchObject({ self: { role: 'plugin' } });
  });
});
