import fs from 'node:fs';
import path from 'node:path';
import { CommonErrors } from '../../common/errors/common-errors';
import { hasCode } from '../../common/errors/tidemark-error';
import type { Service } from '../../common/lifecycle/lifecycle';
import type { Logger } from '../../common/log/logger';
import { RpcClient, pause } from '../../common/rpc/call';
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
 * TRUST_FINGERPRINT_MISMATCH, PEER_UNAVAILABLE or HOST_UNREACHABLE (after the configured patience).
 */
export async function obtainIdentity(config: WorkerConfig, info: ProcessInfo, logger: Logger): Promise<ProcessIdentity> {
  const stored = ProcessIdentity.load(identityFolder(config));
  if (stored) return stored;
  const token = readToken(config);
  const endpoint = config.plugin.enrolmentEndpoint;
  if (token === undefined || endpoint === undefined) {
    throw CommonErrors.CONFIGURATION_INVALID({
      problems: '- plugin.enrolmentEndpoint, plugin.enrolmentTokenFile: both are needed until this worker is enrolled',
    });
  }
  const until = Date.now() + config.plugin.enrolmentPatienceMs;
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await enrolAt(endpoint, token, config, info);
    } catch (error) {
      // The plug-in may be starting, or waiting for its host.
      if (!hasCode(error, 'PEER_UNAVAILABLE', 'HOST_UNREACHABLE', 'DEADLINE_EXCEEDED') || Date.now() >= until) throw error;
      if (attempt === 0) logger.info('waiting for the plug-in to enrol', { endpoint, code: error.code });
      await pause(Math.min(200 * 2 ** attempt, 5_000));
    }
  }
}

function enrolAt(endpoint: string, token: string, config: WorkerConfig, info: ProcessInfo): Promise<ProcessIdentity> {
  return enrol({
    endpoint,
    token,
    server: 'plugin',
    process: info,
    addresses: config.addresses,
    identityFolder: identityFolder(config),
    apply: async (credentials, application) => {
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

function identityFolder(config: WorkerConfig): string {
  return path.join(config.dataFolder, 'identity');
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
