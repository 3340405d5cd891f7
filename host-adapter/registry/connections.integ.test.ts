import { Server } from '@grpc/grpc-js';
import { ownLoopback } from '../../common/testing/loopback';
import { serve } from '../../common/rpc/serve';
import type { ProcessIdentity } from '../../common/tls/identity';
import type { RepositoryServiceDefinition } from '../../proto/gen/tidemark/mover/v1/RepositoryService';
import { loadService } from '../../proto/loader';
import { mutualServerCredentials } from '../../common/tls/credentials';
import { enrolStranger, serveOptions } from '../testing/fake-process';
import { TestInstallation } from '../testing/test-installation';
import { MoverConnections } from './mover-connections';
import type { MoverRegistry, RegisteredMover } from './mover-registry';

/** A mover that is started again on its port is reached with the first call, whatever the channel to its process of before has been through. */
describe('connections to a mover', () => {
  const at = new TestInstallation();
  let identity: ProcessIdentity;
  let port: number;
  const servers: Server[] = [];
  let bootId = 'first';

  beforeAll(async () => {
    await at.start();
    await at.login();
    const { body } = await at.api('POST', '/movers/enrolment-tokens', {});
    identity = await enrolStranger(at.endpoints.enrolment, (body as { token: string }).token);
  });
  afterAll(async () => {
    for (const server of servers) server.forceShutdown();
    await at.remove();
  });

  const start = async (on: number): Promise<number> => {
    const server = new Server();
    servers.push(server);
    const { service } = loadService('tidemark/mover/v1/repository_service.proto', 'tidemark.mover.v1.RepositoryService');
    const { GetRepository } = service;
    if (!GetRepository) throw new TypeError('no such method');
    serve<Pick<RepositoryServiceDefinition, 'GetRepository'>>(
      server,
      { GetRepository },
      { GetRepository: { roles: ['mover'], unary: async () => ({ repository: { repositoryId: bootId } }) } },
      serveOptions('mover'),
    );
    return new Promise((resolve, reject) => {
      server.bindAsync(`${ownLoopback}:${on}`, mutualServerCredentials(identity), (error, bound) =>
        error ? reject(error) : resolve(bound),
      );
    });
  };

  it('are new with its process', async () => {
    port = await start(0);
    const find = async () =>
      ({
        identity: { id: identity.self.id },
        registration: { controlEndpoint: `${ownLoopback}:${port}`, dataEndpointsJson: '[]' },
        process: { bootId },
        connected: true,
      }) as unknown as RegisteredMover;
    const connections = new MoverConnections({ find } as unknown as MoverRegistry, identity);
    const ask = async () => {
      const { repositories } = await connections.of('m');
      return (await repositories.call('GetRepository', { repositoryId: 'r' }, { deadlineMs: 60_000 })).repository?.repositoryId;
    };
    expect(await ask()).toBe('first');
    const first = await connections.of('m');
    expect(await connections.of('m')).toBe(first);
    servers[0]?.forceShutdown();
    // Fails until the channel pauses for seconds between its attempts.
    for (const end = Date.now() + 4_000; Date.now() < end;) {
      await expect(ask()).rejects.toMatchObject({ code: 'PEER_UNAVAILABLE' });
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    bootId = 'second';
    await start(port);
    expect(await ask()).toBe('second');
    connections.close();
  });
});
