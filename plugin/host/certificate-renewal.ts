import { toTidemarkError } from '../../common/errors/common-errors';
import type { Logger } from '../../common/log/logger';
import { pause } from '../../common/rpc/call';
import type { RpcClient } from '../../common/rpc/call';
import { createCertificateRequest } from '../../common/tls/certificate-request';
import type { ProcessIdentity } from '../../common/tls/identity';
import type { CertificateServiceDefinition } from '../../proto/gen/tidemark/host/v1/CertificateService';
import type { EventReporter } from '../tokens';

const longestSleepMs = 10 * 60_000;
const retryMs = 60_000;
const deadlineMs = 15_000;
/** From here on a certificate that could not be renewed is worth an alarm. */
const alarmBeforeMs = 14 * 86_400_000;

/**
 * Renews the plug-in's certificate at two thirds of its life and follows changes of the trusted CAs, both without a restart. Ends when the
 * signal aborts; failures are retried, and told when the end of the certificate comes near.
 */
export async function keepCertificate(
  identity: ProcessIdentity,
  client: Pick<RpcClient<CertificateServiceDefinition>, 'call'>,
  addresses: readonly string[],
  events: EventReporter,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  let alarmed = false;
  while (!signal.aborted) {
    let sleepMs = Math.min(Math.max(identity.renewAt.getTime() - Date.now(), 1_000), longestSleepMs);
    try {
      if (Date.now() >= identity.renewAt.getTime()) {
        await renewCertificate(identity, client, addresses, signal);
        logger.info('certificate renewed', { validTo: identity.certificate.validTo });
        alarmed = false;
      } else {
        await followTrust(identity, client, logger, signal);
      }
    } catch (thrown) {
      if (signal.aborted) return;
      sleepMs = Math.min(sleepMs, retryMs);
      const error = toTidemarkError(thrown, 'renewing the certificate');
      const leftMs = Date.parse(identity.certificate.validTo) - Date.now();
      const due = Date.now() >= identity.renewAt.getTime();
      logger[due ? 'warn' : 'debug']('the certificate could not be looked after', { code: error.code, message: error.message, leftMs });
      if (due && leftMs < alarmBeforeMs && !alarmed) {
        alarmed = true;
        events.report({
          severity: 'error',
          code: 'CERTIFICATE_RENEWAL_FAILING',
          message: `The plug-in's certificate ends ${identity.certificate.validTo} and cannot be renewed: ${error.message}`,
        });
      }
    }
    await pause(sleepMs, signal).catch(() => undefined);
  }
}

/** One renewal: a new key, signed by the host, stored and used for new connections. */
export async function renewCertificate(
  identity: ProcessIdentity,
  client: Pick<RpcClient<CertificateServiceDefinition>, 'call'>,
  addresses: readonly string[],
  signal?: AbortSignal,
): Promise<void> {
  const { privateKeyPem, certificateRequestPem } = await createCertificateRequest();
  const { certificate } = await client.call(
    'RenewCertificate',
    { certificateRequestPem, addresses: [...addresses] },
    { deadlineMs, signal },
  );
  if (!certificate) return;
  identity.replace({ certificateChainPem: certificate.certificateChainPem, privateKeyPem, trustBundlePem: certificate.trustBundlePem });
}

async function followTrust(
  identity: ProcessIdentity,
  client: Pick<RpcClient<CertificateServiceDefinition>, 'call'>,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  const { trustBundlePem } = await client.call('GetTrustBundle', {}, { deadlineMs: 5_000, signal });
  if (trustBundlePem === '' || trustBundlePem.trim() === identity.material.trustBundlePem.trim()) return;
  identity.replace({ ...identity.material, trustBundlePem });
  logger.info('trusted CAs changed');
}
