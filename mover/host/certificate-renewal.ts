import { toTidemarkError } from '../../common/errors/common-errors';
import type { Logger } from '../../common/log/logger';
import { pause, type RpcClient } from '../../common/rpc/call';
import { createCertificateRequest } from '../../common/tls/certificate-request';
import type { ProcessIdentity } from '../../common/tls/identity';
import type { CertificateServiceDefinition } from '../../proto/gen/tidemark/host/v1/CertificateService';

const longestSleepMs = 10 * 60_000;
const retryMs = 60_000;
const deadlineMs = 15_000;

type Certificates = Pick<RpcClient<CertificateServiceDefinition>, 'call'>;

/**
 * Renews the mover's certificate at two thirds of its life and follows changes of the trusted CAs, both without a restart. Ends when the signal
 * aborts; failures are retried.
 */
export async function keepCertificate(
  identity: ProcessIdentity,
  client: Certificates,
  addresses: readonly string[],
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    let sleepMs = Math.min(Math.max(identity.renewAt.getTime() - Date.now(), 1_000), longestSleepMs);
    try {
      if (Date.now() >= identity.renewAt.getTime()) await renew(identity, client, addresses, logger, signal);
      else await followTrust(identity, client, logger, signal);
    } catch (thrown) {
      if (signal.aborted) return;
      const error = toTidemarkError(thrown, 'renewing the certificate');
      sleepMs = Math.min(sleepMs, retryMs);
      logger.warn('the certificate could not be looked after; it is tried again', { code: error.code, message: error.message });
    }
    await pause(sleepMs, signal).catch(() => undefined);
  }
}

async function renew(
  identity: ProcessIdentity,
  client: Certificates,
  addresses: readonly string[],
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  const { privateKeyPem, certificateRequestPem } = await createCertificateRequest();
  const request = { certificateRequestPem, addresses: [...addresses] };
  const { certificate } = await client.call('RenewCertificate', request, { deadlineMs, signal });
  if (!certificate) return;
  identity.replace({ certificateChainPem: certificate.certificateChainPem, privateKeyPem, trustBundlePem: certificate.trustBundlePem });
  logger.info('certificate renewed', { validTo: identity.certificate.validTo });
}

async function followTrust(identity: ProcessIdentity, client: Certificates, logger: Logger, signal: AbortSignal): Promise<void> {
  const { trustBundlePem } = await client.call('GetTrustBundle', {}, { deadlineMs, signal });
  if (trustBundlePem === '' || trustBundlePem.trim() === identity.material.trustBundlePem.trim()) return;
  identity.replace({ ...identity.material, trustBundlePem });
  logger.info('trusted CAs changed');
}
