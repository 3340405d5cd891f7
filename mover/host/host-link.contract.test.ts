import { Server } from '@grpc/grpc-js';
import { CommonErrors } from '../../common/errors/common-errors';
import { loggerTo } from '../../common/log/logger';
import { serve } from '../../common/rpc/serve';
import { createAuthority, issueIdentity } from '../../common/tls/authority';
import { mutualServerCredentials } from '../../common/tls/credentials';
import { ProcessIdentity } from '../../common/tls/identity';
import { loadService } from '../../proto/loader';
import type { CertificateServiceDefinition } from '../../proto/gen/tidemark/host/v1/CertificateService';
import type { MoverRegistryServiceDefinition } from '../../proto/gen/tidemark/host/v1/MoverRegistryService';
import { temporaryFolder } from '../testing/test-mover';
import { HostLink } from './host-link';
import { KnownTicketKeys } from './known-ticket-keys';

const registry = loadService('tidemark/host/v1/mover_registry_service.proto', 'tidemark.host.v1.MoverRegistryService').service;
const certificates = loadService('tidemark/host/v1/certificate_service.proto', 'tidemark.host.v1.CertificateService').service;

async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 120_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`${what} did not happen in time`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test('registers, keeps its lease, follows the keys that sign tickets, and registers again when the host forgot it', async () => {
  using scratch = temporaryFolder();
  const logger = loggerTo(() => undefined);
  const authority = await createAuthority('test');
  const make = async (role: 'host' | 'mover') =>
    new ProcessIdentity(await issueIdentity(authority, { role, id: `${role}-1` }, ['127.0.0.1']), undefined);
  const registrations: { controlEndpoint: string; dataEndpoints: string[] }[] = [];
  let beats = 0;
  const foreign: string[] = [];
  let forgotten = false;
  let keys = ['first key'];
  const server = new Server();
  serve<MoverRegistryServiceDefinition>(
    server,
    registry,
    {
      RegisterMover: {
        roles: ['mover'],
        unary: async (request) => {
          registrations.push(request);
          forgotten = false;
          return { leaseId: `lease-${registrations.length}`, leaseDuration: { seconds: 0, nanos: 300_000_000 }, ticketPublicKeysPem: keys };
        },
      },
      MoverHeartbeat: {
        roles: ['mover'],
        unary: async ({ leaseId }) => {
          beats += 1;
          if (forgotten) throw CommonErrors.LEASE_LOST({ leaseId });
          if (leaseId !== `lease-${registrations.length}`) foreign.push(leaseId);
          return { leaseDuration: { seconds: 0, nanos: 300_000_000 }, ticketPublicKeysPem: keys };
        },
      },
    },
    { logger, domain: 'host' },
  );
  const trust = (await make('mover')).material.trustBundlePem;
  serve<CertificateServiceDefinition>(
    server,
    certificates,
    {
      RenewCertificate: { roles: ['mover'], unary: async () => ({}) },
      GetTrustBundle: { roles: ['mover'], unary: async () => ({ trustBundlePem: trust }) },
    },
    { logger, domain: 'host' },
  );
  const host = await make('host');
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', mutualServerCredentials(host), (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  const known = new KnownTicketKeys(scratch.folder);
  const link = new HostLink(
    {
      hostEndpoint: `127.0.0.1:${port}`,
      process: { instanceId: 'i', bootId: 'b', version: '0', protocols: ['tidemark.mover.v1'] },
      addresses: ['127.0.0.1'],
      endpoints: () => ({ controlEndpoint: '127.0.0.1:1', dataEndpoints: ['127.0.0.1:2'] }),
    },
    await make('mover'),
    known,
    logger,
  );
  await link.start();
  try {
    await until('registration', () => registrations.length > 0 && beats > 1);
    expect(registrations[0]).toMatchObject({ controlEndpoint: '127.0.0.1:1', dataEndpoints: ['127.0.0.1:2'] });
    expect(known.publicKeysPem).toEqual(['first key']);
    keys = ['first key', 'second key'];
    await until('the new key', () => known.publicKeysPem.length === 2);
    // A mover that starts while its host is down goes on with the keys it knew.
    expect(new KnownTicketKeys(scratch.folder).publicKeysPem).toEqual(keys);
    const before = registrations.length;
    forgotten = true;
    await until('registration anew', () => registrations.length > before);
    expect(foreign).toEqual([]);
  } finally {
    await link.stop();
    server.forceShutdown();
  }
});
