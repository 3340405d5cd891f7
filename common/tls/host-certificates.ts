import type { CertificateServiceDefinition } from '../../proto/gen/tidemark/host/v1/CertificateService';
import { loadService } from '../../proto/loader';
import { RpcClient } from '../rpc/call';
import type { CertificateIssuer } from './certificate-keeper';
import { mutualClientCredentials } from './credentials';
import type { ProcessIdentity } from './identity';

const definition = loadService('tidemark/host/v1/certificate_service.proto', 'tidemark.host.v1.CertificateService').service;

/** The host as issuer, for processes that call it themselves: plug-ins and movers. Close it when done. */
export class HostCertificates implements CertificateIssuer {
  readonly #client: RpcClient<CertificateServiceDefinition>;

  constructor(
    endpoint: string,
    identity: ProcessIdentity,
    /** Names and addresses under which the process is dialled. */
    readonly names: readonly string[],
  ) {
    this.#client = new RpcClient(definition, endpoint, mutualClientCredentials(identity, 'host'));
  }

  async renew(certificateRequestPem: string, signal: AbortSignal) {
    const request = { certificateRequestPem, addresses: [...this.names] };
    return (await this.#client.call('RenewCertificate', request, { deadlineMs: 15_000, signal })).certificate;
  }

  async trustBundle(signal: AbortSignal): Promise<string> {
    return (await this.#client.call('GetTrustBundle', {}, { deadlineMs: 5_000, signal })).trustBundlePem;
  }

  close(): void {
    this.#client.close();
  }
}
