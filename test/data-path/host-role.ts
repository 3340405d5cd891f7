/** The host's side towards a mover, as far as tests and benchmarks need it: it lets the mover register and signs tickets. */
import { createPublicKey, generateKeyPairSync, randomUUID } from 'node:crypto';
import { Server } from '@grpc/grpc-js';
import { CommonErrors } from '../../common/errors/common-errors';
import { loggerTo } from '../../common/log/logger';
import { durationToWire } from '../../common/rpc/bytes';
import { serve } from '../../common/rpc/serve';
import { signTicket } from '../../common/tickets/ticket';
import type { TicketRight } from '../../common/tickets/ticket';
import { mutualServerCredentials } from '../../common/tls/credentials';
import type { ProcessIdentity } from '../../common/tls/identity';
import { loadService } from '../../proto/loader';
import type { MoverRegistryServiceDefinition } from '../../proto/gen/tidemark/host/v1/MoverRegistryService';
import type { CertificateServiceDefinition } from '../../proto/gen/tidemark/host/v1/CertificateService';
import type { RegisterMoverRequest__Output } from '../../proto/gen/tidemark/host/v1/RegisterMoverRequest';

export class HostRole {
  private readonly server = new Server();
  private readonly key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
  port = 0;
  mover: RegisterMoverRequest__Output | undefined;

  async start(identity: ProcessIdentity): Promise<void> {
    const publicKeyPem = createPublicKey(this.key).export({ type: 'spki', format: 'pem' }).toString();
    const leaseDuration = durationToWire(30_000);
    const options = { logger: loggerTo(() => undefined), domain: 'host' };
    const { service } = loadService('tidemark/host/v1/mover_registry_service.proto', 'tidemark.host.v1.MoverRegistryService');
    serve<MoverRegistryServiceDefinition>(
      this.server,
      service,
      {
        RegisterMover: {
          roles: ['mover'],
          unary: async (request) => {
            this.mover = request;
            return { leaseId: randomUUID(), leaseDuration, ticketPublicKeysPem: [publicKeyPem] };
          },
        },
        MoverHeartbeat: { roles: ['mover'], unary: async () => ({ leaseDuration, ticketPublicKeysPem: [publicKeyPem] }) },
      },
      options,
    );
    const certificates = loadService('tidemark/host/v1/certificate_service.proto', 'tidemark.host.v1.CertificateService').service;
    const refuse = async (): Promise<never> => {
      throw CommonErrors.HOST_NOT_READY({});
    };
    serve<CertificateServiceDefinition>(
      this.server,
      certificates,
      Object.fromEntries(Object.keys(certificates).map((name) => [name, { roles: ['mover'], unary: refuse }])) as never,
      options,
    );
    this.port = await new Promise<number>((resolve, reject) =>
      this.server.bindAsync('127.0.0.1:0', mutualServerCredentials(identity), (error, port) => (error ? reject(error) : resolve(port))),
    );
  }

  ticket(
    sessionId: string,
    repositoryId: string,
    rights: readonly TicketRight[],
    pointIds: readonly string[],
    lifeMs = 30 * 24 * 3_600_000,
  ): string {
    return signTicket({ sessionId, repositoryId, rights, pointIds, expiresAt: new Date(Date.now() + lifeMs) }, this.key);
  }

  stop(): void {
    this.server.forceShutdown();
  }
}
