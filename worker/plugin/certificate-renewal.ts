import { X509Certificate } from 'node:crypto';
import { CommonErrors } from '../../common/errors/common-errors';
import type { Service } from '../../common/lifecycle/lifecycle';
import type { Logger } from '../../common/log/logger';
import type { RpcClient } from '../../common/rpc/call';
import { createCertificateRequest } from '../../common/tls/certificate-request';
import type { ProcessIdentity } from '../../common/tls/identity';
import { fingerprintsOf, sameAuthorities, splitPem } from '../../common/tls/trust-state';
import type { TrustUpdate__Output } from '../../proto/gen/tidemark/worker/v1/TrustUpdate';
import type { WorkerServiceDefinition } from '../../proto/gen/tidemark/worker/v1/WorkerService';

const checkEveryMs = 60_000;
/** A renewal that was ordered is tried again sooner than one that is merely due. */
const orderedRetryMs = 5_000;

/**
 * Keeps the worker's identity fresh: asks for a new certificate when two thirds of the old one's life are over or the plug-in says so, and takes
 * the CAs that it is told to trust. Keeps trying; connections under way go on with what they have.
 */
export class CertificateRenewal implements Service {
  readonly name = 'certificate renewal';
  /** Called after certificate or trust changed. */
  onChanged: () => void = () => undefined;
  private timer: NodeJS.Timeout | undefined;
  private retry: NodeJS.Timeout | undefined;
  private renewing = false;
  private ordered = false;
  /** Counts bundles taken, so that a renewal under way does not bring back an older one. */
  private bundles = 0;

  constructor(
    private readonly identity: ProcessIdentity,
    private readonly client: RpcClient<WorkerServiceDefinition>,
    private readonly logger: Logger,
    private readonly now: () => number = Date.now,
  ) {}

  async start(): Promise<void> {
    this.timer = setInterval(() => void this.renewIfDue(), checkEveryMs);
    this.timer.unref();
    void this.renewIfDue();
  }

  async stop(): Promise<void> {
    clearInterval(this.timer);
    clearTimeout(this.retry);
  }

  /** Obeying twice does no harm. A bundle that is none is not taken: it would lock the worker out for good. */
  updateTrust({ trustBundlePem, renewCertificate }: TrustUpdate__Output): void {
    if (trustBundlePem !== '' && !isBundle(trustBundlePem)) {
      this.logger.error('the trust that the plug-in sent is not a list of certificates; it is not used', {});
      return;
    }
    if (trustBundlePem !== '') {
      this.bundles += 1;
      const known = fingerprintsOf(this.identity.material.trustBundlePem);
      if (!sameAuthorities(fingerprintsOf(trustBundlePem), known)) {
        this.identity.replace({ ...this.identity.material, trustBundlePem });
        this.logger.info('trust updated', { authorities: fingerprintsOf(trustBundlePem) });
        this.onChanged();
      }
    }
    if (!renewCertificate) return;
    this.ordered = true;
    void this.renewIfDue();
  }

  private async renewIfDue(): Promise<void> {
    if (this.renewing) return;
    while (this.ordered || this.now() >= this.identity.renewAt.getTime()) {
      const { ordered } = this;
      // An order that comes while this one is carried out is another one: the new CA may be newer than the request.
      this.ordered = false;
      this.renewing = true;
      try {
        await this.renew();
      } catch (error) {
        // The old certificate still has a third of its life, or the plug-in will be back: the next check tries again.
        this.logger.warn('certificate was not renewed', { error });
        this.ordered ||= ordered;
        if (this.ordered) this.retrySoon();
        return;
      } finally {
        this.renewing = false;
      }
    }
  }

  private async renew(): Promise<void> {
    const { bundles } = this;
    const { privateKeyPem, certificateRequestPem } = await createCertificateRequest();
    const { certificate } = await this.client.call('RenewCertificate', { certificateRequestPem }, { deadlineMs: 20_000 });
    if (!certificate) throw CommonErrors.INTERNAL({ what: 'certificate renewal' });
    const { certificateChainPem } = certificate;
    const trustBundlePem = bundles === this.bundles ? certificate.trustBundlePem : this.identity.material.trustBundlePem;
    this.identity.replace({ certificateChainPem, privateKeyPem, trustBundlePem });
    this.logger.info('certificate renewed', { renewAt: this.identity.renewAt });
    this.onChanged();
  }

  private retrySoon(): void {
    clearTimeout(this.retry);
    this.retry = setTimeout(() => void this.renewIfDue(), orderedRetryMs);
    this.retry.unref();
  }
}

function isBundle(pem: string): boolean {
  const certificates = splitPem(pem);
  try {
    return certificates.length > 0 && certificates.every((one) => new X509Certificate(one).ca);
  } catch {
    return false;
  }
}
