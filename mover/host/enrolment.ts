import fs from 'node:fs';
import path from 'node:path';
import { CommonErrors } from '../../common/errors/common-errors';
import { hasCode } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import { RpcClient, pause } from '../../common/rpc/call';
import { enrol } from '../../common/tls/enrolment';
import { ProcessIdentity } from '../../common/tls/identity';
import { loadService } from '../../proto/loader';
import type { ProcessInfo } from '../../proto/gen/tidemark/common/v1/ProcessInfo';
import type { EnrolmentServiceDefinition } from '../../proto/gen/tidemark/host/v1/EnrolmentService';
import type { MoverConfig } from '../config';

const definition = loadService('tidemark/host/v1/enrolment_service.proto', 'tidemark.host.v1.EnrolmentService').service;
const enrolDeadlineMs = 15_000;
const retryMs = 2_000;

/**
 * The mover's certificate: the stored one, else one for the one-time token. Throws ENROLMENT_TOKEN_INVALID (also when there is neither),
 * TRUST_FINGERPRINT_MISMATCH, PEER_UNAVAILABLE after the patience.
 */
export async function obtainIdentity(config: MoverConfig, info: ProcessInfo, logger: Logger): Promise<ProcessIdentity> {
  const folder = path.join(config.dataFolder, 'identity');
  const stored = ProcessIdentity.load(folder);
  if (stored) return stored;
  const { enrolmentEndpoint, enrolmentToken, enrolmentTokenFile, enrolmentPatienceMs } = config.host;
  if (enrolmentEndpoint === undefined)
    throw CommonErrors.CONFIGURATION_INVALID({ problems: '- host.enrolmentEndpoint: is needed until the mover is enrolled' });
  const token = enrolmentToken ?? (enrolmentTokenFile === undefined ? undefined : readToken(enrolmentTokenFile));
  if (token === undefined) throw CommonErrors.ENROLMENT_TOKEN_INVALID({ why: 'none was given, and this mover has no certificate yet' });
  const until = Date.now() + enrolmentPatienceMs;
  for (;;) {
    try {
      const identity = await enrol({
        endpoint: enrolmentEndpoint,
        token,
        server: 'host',
        process: info,
        addresses: config.addresses,
        identityFolder: folder,
        apply: async (credentials, application) => {
          const client = new RpcClient<EnrolmentServiceDefinition>(definition, enrolmentEndpoint, credentials);
          try {
            // Repeated inside with the same certificate request, so that a lost answer is fetched again.
            return (await client.call('Enrol', { application }, { deadlineMs: enrolDeadlineMs, attempts: 3 })).certificate;
          } finally {
            client.close();
          }
        },
      });
      logger.info('enrolled', { endpoint: enrolmentEndpoint, moverId: identity.self.id });
      return identity;
    } catch (error) {
      if (!hasCode(error, 'PEER_UNAVAILABLE', 'HOST_NOT_READY', 'ENROLMENT_THROTTLED') || Date.now() + retryMs > until) throw error;
      logger.warn('the server cannot be reached for enrolment; trying again', { endpoint: enrolmentEndpoint, code: error.code });
      await pause(error.retryDelayMs ?? retryMs);
    }
  }
}

function readToken(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8').trim();
  } catch (error) {
    throw CommonErrors.CONFIGURATION_INVALID({ problems: `- host.enrolmentTokenFile: ${file} cannot be read` }, { cause: error });
  }
}
