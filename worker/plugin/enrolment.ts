import { CommonErrors } from '../../common/errors/common-errors';
import type { Service } from '../../common/lifecycle/lifecycle';
import type { Logger } from '../../common/log/logger';
import { RpcClient } from '../../common/rpc/call';
import { createCertificateRequest } from '../../common/tls/certificate-request';
import { obtainIdentity } from '../../common/tls/obtain-identity';
import type { ProcessIdentity } from '../../common/tls/identity';
import { loadService } from '../../proto/loader';
import type { ProcessInfo } from '../../proto/gen/tidemark/common/v1/ProcessInfo';
import type { WorkerEnrolmentServiceDefinition } from '../../proto/gen/tidemark/worker/v1/WorkerEnrolmentService';
import type { WorkerServiceDefinition } from '../../proto/gen/tidemark/worker/v1/WorkerService';
import type { WorkerConfig } from '../config';

const protoFile = 'tidemark/worker/v1/worker_service.proto';
const checkRenewalEveryMs = 60_000;

/** The stored identity, or a new one by the one-time token. Throws what `obtainIdentity` throws. */
export function enrolWorker(config: WorkerConfig, info: ProcessInfo, logger: Logger): Promise<ProcessIdentity> {
  return obtainIdentity({
    dataFolder: config.dataFolder,
    field: 'plugin',
    settings: config.plugin,
    server: 'plugin',
    process: info,
    addresses: config.addresses,
    logger,
    apply: async (endpoint, credentials, application) => {
      const service = loadService(protoFile, 'tidemark.worker.v1.WorkerEnrolmentService').service;
      const client = new RpcClient<WorkerEnrolmentServiceDefinition>(service, endpoint, credentials);
      try {
        // Repeated with the same certificate request, so that a lost answer is fetched again.
        return (await client.call('Enrol', { application }, { deadlineMs: 20_000, attempts: 3 })).certificate;
      } finally {
        client.close();
      }
    },
  });
}

/** Asks for a new certificate when two thirds of the old one's life are over; keeps trying. */
export class CertificateRenewal implements Service {
  readonly name = 'certificate renewal';
  private timer: NodeJS.Timeout | undefined;
  private renewing = false;

  constructor(
    private readonly identity: ProcessIdentity,
    private readonly client: RpcClient<WorkerServiceDefinition>,
    private readonly logger: Logger,
    private readonly now: () => number = Date.now,
  ) {}

  async start(): Promise<void> {
    this.timer = setInterval(() => void this.renewIfDue(), checkRenewalEveryMs);
    this.timer.unref();
    void this.renewIfDue();
  }

  async stop(): Promise<void> {
    clearInterval(this.timer);
  }

  private async renewIfDue(): Promise<void> {
    if (this.renewing || this.now() < this.identity.renewAt.getTime()) return;
    this.renewing = true;
    try {
      const { privateKeyPem, certificateRequestPem } = await createCertificateRequest();
      const { certificate } = await this.client.call('RenewCertificate', { certificateRequestPem }, { deadlineMs: 20_000 });
      if (!certificate) throw CommonErrors.INTERNAL({ what: 'certificate renewal' });
      const { certificateChainPem, trustBundlePem } = certificate;
      this.identity.replace({ certificateChainPem, privateKeyPem, trustBundlePem });
      this.logger.info('certificate renewed', { renewAt: this.identity.renewAt });
    } catch (error) {
      // The old certificate still has a third of its life; the next check tries again.
      this.logger.warn('certificate was not renewed', { error });
    } finally {
      this.renewing = false;
    }
  }
}
