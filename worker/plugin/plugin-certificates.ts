import type { Logger } from '../../common/log/logger';
import type { RpcClient } from '../../common/rpc/call';
import type { CertificateIssuer, CertificateKeeper } from '../../common/tls/certificate-keeper';
import type { ProcessIdentity } from '../../common/tls/identity';
import { fingerprintsOf, isAuthorityBundle, trustStateOf } from '../../common/tls/trust-state';
import type { TrustUpdate__Output } from '../../proto/gen/tidemark/worker/v1/TrustUpdate';
import type { WorkerServiceDefinition } from '../../proto/gen/tidemark/worker/v1/WorkerService';

/**
 * The plug-in as issuer of a worker's certificates. It answers no question about trust: it sends the CAs with an order, over the task stream, and
 * they are kept here until the {@link CertificateKeeper} asks.
 */
export class PluginCertificates implements CertificateIssuer {
  #told: string | undefined;

  constructor(
    private readonly identity: ProcessIdentity,
    private readonly client: RpcClient<WorkerServiceDefinition>,
    private readonly logger: Logger,
  ) {}

  async renew(certificateRequestPem: string, signal: AbortSignal) {
    const told = this.#told;
    const { certificate } = await this.client.call('RenewCertificate', { certificateRequestPem }, { deadlineMs: 20_000, signal });
    // The answer brings the CAs of now, unless others were sent in the meantime.
    if (this.#told === told) this.#told = undefined;
    return certificate;
  }

  async trustBundle(): Promise<string> {
    return this.#told ?? this.identity.material.trustBundlePem;
  }

  /** Has an order carried out; twice does no harm. A bundle that is none is not taken: it would lock the worker out for good. */
  take({ trustBundlePem, renewCertificate }: TrustUpdate__Output, keeper: Pick<CertificateKeeper, 'obey'>): void {
    if (trustBundlePem !== '' && !isAuthorityBundle(trustBundlePem)) {
      this.logger.error('the trust that the plug-in sent is not a list of certificates; it is not used', {});
      return;
    }
    if (trustBundlePem !== '') this.#told = trustBundlePem;
    const order = { trustedCaFingerprints: fingerprintsOf(trustBundlePem), renewCertificate };
    keeper.obey(order, trustStateOf(this.identity).serialNumber);
  }
}
