import fs from 'node:fs';
import { CommonErrors } from '../../common/errors/common-errors';
import type { Service } from '../../common/lifecycle/lifecycle';
import type { Logger } from '../../common/log/logger';
import { RpcClient } from '../../common/rpc/call';
import { createCertificateRequest } from '../../common/tls/certificate-request';
import { enrol } from '../../common/tls/enrolment';
import { ProcessIdentity } from '../../common/tls/identity';
import { loadService } from '../../proto/loader';
import type { ProcessInfo } from '../../proto/gen/tidemark/common/v1/ProcessInfo';
import type { WorkerEnrolmentServiceDefinition } from '../../proto/gen/tidemark/worker/v1/WorkerEnrolmentService';
import type { WorkerServiceDefinition } from '../../proto/gen/tidemark/worker/v1/WorkerService';
import type { WorkerConfig } from '../config';

const protoFile = 'tidemark/worker/v1/worker_service.proto';
const checkRenewalEveryMs = 60_000;

/**
 * The stored identity, or a new one by the one-time token. Throws CONFIGURATION_INVALID when there is neither, ENROLMENT_TOKEN_INVALID,
 * TRUST_FINGERPRINT_MISMATCH, PEER_UNAVAILABLE (after some tries).
 */
export async function obtainIdentity(config: WorkerConfig, info: ProcessInfo): Promise<ProcessIdentity> {
  const stored = ProcessIdentity.load(config.dataFolder);
  if (stored) return stored;
  const token = readToken(config);
  const endpoint = config.plugin.enrolmentEndpoint;
  if (token === undefined || endpoint === undefined) {
    throw CommonErrors.CONFIGURATION_INVALID({
      problems: '- plugin.enrolmentEndpoint, plugin.enrolmentTokenFile: both are needed until this worker is enrolled',
    });
  }
  return enrol({
    endpoint,
    token,
    server: 'plugin',
    process: info,
    addresses: config.addresses,
    identityFolder: config.dataFolder,
    apply: async (credentials, application) => {
      const service = loadService(protoFile, 'tidemark.worker.v1.WorkerEnrolmentService').service;
      const client = new RpcClient<WorkerEnrolmentServiceDefinition>(service, endpoint, credentials);
      try {
        const reply = await client.call('Enrol', { application }, { deadlineMs: 20_000, attempts: 5 });
        return reply.certificate;
      } finally {
        client.close();
      }
    },
  });
}

function readToken(config: WorkerConfig): string | undefined {
  const { enrolmentToken, enrolmentTokenFile } = config.plugin;
  if (enrolmentToken !== undefined || enrolmentTokenFile === undefined) return enrolmentToken;
  try {
    return fs.readFileSync(enrolmentTokenFile, 'utf8').trim();
  } catch (cause) {
    throw CommonErrors.CONFIGURATION_INVALID(
      { problems: `- plugin.enrolmentTokenFile: ${(cause as NodeJS.ErrnoException).code ?? 'cannot be read'}` },
      { cause },
    );
  }
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
